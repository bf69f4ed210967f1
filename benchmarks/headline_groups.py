"""What the benchmark `headline` compares: searches, groups of policies, accuracy; each a stage that is kept."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoprivacy.agent.accuracy import AccuracyDrop, classify
from autoprivacy.agent.bounds import paired_upper
from autoprivacy.agent.ladder import BEST_UNIFORM
from autoprivacy.agent.named_policies import FLOODING, fitting_policy
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.problem import units
from autoprivacy.agent.searching import Search, solved
from autoprivacy.common.errors import Refused
from autoprivacy.common.files import write_atomic
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.prediction import Deployment
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.named_sets import NAMED_SETS
from autoprivacy.protocol.policy import Policy
from benchmarks.document import RESULTS
from benchmarks.searches import Found, find

NETWORKS: Final = ("minionn", "resnet20")
REPEATS: Final = 12
"""Pairs of images over loopback: the interval leaves out the two that differ most either way."""
WAN_REPEATS: Final = 6
"""Over the WAN, which hardly varies: the fewest with a distribution-free interval at 95 %."""
ERROR_DRAWS: Final = 5
MOST_S: Final = 25.0
"""What is predicted to take longer an image does not run: its prediction stands beside the rest."""
WAN: Final = "wan-400mbps"
"""Cheetah's WAN, emulated."""
WAN_NETWORK: Final = "minionn"
ONCE_NETWORK: Final = "resnet32"
"""Has no checkpoint: its accuracy costs are assumed, its policies run on one image, and nothing is judged."""
ONCE_REPEATS: Final = 1

CHOSEN: Final = "per layer with tolerated errors and widths"
DDPG: Final = "chosen by ddpg"
CHEETAH: Final = "Cheetah's set"
UNIFORM_RULED: Final = "best uniform set at 2^-40"
LAYERS_RULED: Final = "per layer at 2^-40"
TOLERATED: Final = "per layer with tolerated errors"
DELPHI: Final = "DELPHI's set, as published"
UNIFORM_RUNGS: Final = (CHEETAH, UNIFORM_RULED, LAYERS_RULED, TOLERATED, BEST_UNIFORM)
QUICK_RUNGS: Final = (CHEETAH, BEST_UNIFORM)
FLOODED_RUNGS: Final = (DELPHI, "DELPHI's n and data limbs, best packing")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group:
    """Policies that are compared: under one circuit privacy, over one link; the choice is the first."""

    name: str
    labels: tuple[str, ...]
    policies: tuple[Policy, ...]
    link: str | None
    left_out: dict[str, str]


def file_of(network: str) -> Path:
    """Where stages of a network are kept until all is done."""
    return RESULTS / f"headline.{network}.partial.json"


class Paused(Exception):  # noqa: N818 - nothing went wrong
    """The time that was asked for is spent."""


class Stages:
    """What was done before on one network with this profile, by name; a stage is kept as soon as it is done."""

    def __init__(self, network: str, about: str, left_s: float | None, *, kept: bool, prepares: bool) -> None:
        self.prepares = prepares
        self.file = file_of(network)
        self._kept, self._about, self._done = kept, about, dict[str, str]()
        self._left_s, self._started = left_s, time.monotonic()
        if kept and self.file.exists():
            found = json.loads(self.file.read_text(encoding="utf-8"))
            self._done = found["stages"] if found["about"] == about else {}

    def get(self, name: str) -> str | None:
        """What a stage gave."""
        return self._done.get(name)

    def timed(self, name: str, work: Callable[[], T]) -> T:
        """Do the work of a stage, and say so.

        Raises:
            Paused: if the budget is spent.
        """
        spent_s = time.monotonic() - self._started
        if self._left_s is not None and spent_s > self._left_s:
            raise Paused(name)
        print(f"{spent_s:.0f} s: {name}", file=sys.stderr, flush=True)
        return work()

    def keep(self, name: str, text: str) -> None:
        """Keep what a stage gave."""
        self._done[name] = text
        if self._kept:
            write_atomic(self.file, json.dumps({"about": self._about, "stages": self._done}).encode())


def loopback_groups(search: Search, stages: Stages, *, quick: bool) -> Iterator[Group]:
    """What runs over loopback, a search at a time."""
    name = search.trained.network.name
    found = _found(search, stages, f"{name} search")
    more = [_by_ddpg(search, found, stages)]
    yield _group(f"{name} uniform", found, QUICK_RUNGS if quick else UNIFORM_RUNGS, more)
    flooded = _found(search.under(FLOODING), stages, f"{name} search {FLOODING}")
    yield _group(f"{name} {FLOODING}", flooded, FLOODED_RUNGS[:1] if quick else FLOODED_RUNGS, [])


def wan_groups(search: Search, stages: Stages, model: MachineModel, *, quick: bool) -> Iterator[Group]:
    """What runs over the emulated WAN, what is best over loopback among it."""
    name = search.trained.network.name
    if name != WAN_NETWORK or quick:
        return
    here = _found(search, stages, f"{name} search")
    deployment = Deployment(model, model, fit_link(machine_profile.find_link(WAN)))
    over = _found(search.under("uniform", DeploymentPricing(deployment)), stages, f"{name} search {WAN}")
    other = _other("chosen for loopback", here.policy, over.policy)
    yield _group(f"{name} {WAN}", over, (CHEETAH, BEST_UNIFORM), [other], link=WAN)


def once_groups(search: Search, stages: Stages) -> Iterator[Group]:
    """The choice at the additive budget, beside a published set of the same circuit privacy."""
    name = search.trained.network.name
    for privacy, label, named in (("uniform", CHEETAH, "cheetah"), (FLOODING, DELPHI, "delphi")):
        chosen = _chosen_once(search.under(privacy), stages, f"{name} search {privacy}")
        published = fitting_policy(search.coupling.baseline, NAMED_SETS[named], privacy, own_t=True).policy
        assert published is not None  # noqa: S101 - both sets have room for this network
        yield Group(f"{name} {privacy}", (CHOSEN, label), (chosen, published), None, {})


def _chosen_once(search: Search, stages: Stages, stage: str) -> Policy:
    """The exact optimum of problem A."""

    def find_policy() -> str:
        tables = search.tables()
        found = solved(search, tables, units(search.settings.max_accuracy_drop or 0.0), "exact")
        if found is None:
            raise Refused(f"no policy of {search.trained.network.name} keeps the budget")
        return to_json(search.policy(tables, found.policy, method_name="exact"))

    known = stages.get(stage)
    if known is None:
        known = stages.timed(stage, find_policy)
        stages.keep(stage, known)
    return parse(Policy, known, source=stage)


def _other(label: str, policy: Policy, than: Policy) -> tuple[str, Policy] | None:
    """A policy by its label, if it is another one."""
    return None if policy.layers == than.layers else (label, policy)


def _found(search: Search, stages: Stages, name: str) -> Found:
    known = stages.get(name)
    if known is None:
        known = to_json(stages.timed(name, lambda: find(search)))
        stages.keep(name, known)
    return parse(Found, known, source=name)


def _by_ddpg(search: Search, found: Found, stages: Stages) -> tuple[str, Policy] | None:
    """What DDPG finds at the same budget; None where it finds the same, or was not prepared (it takes minutes)."""
    name = f"{search.trained.network.name} ddpg"
    known = stages.get(name)
    if known is None and not stages.prepares:
        return None
    if known is None:
        tables = search.tables()
        solution = stages.timed(name, lambda: solved(search, tables, units(found.additive_drop), "ddpg"))
        policy = None if solution is None else search.policy(tables, solution.policy, method_name="ddpg")
        known = "" if policy is None else to_json(policy)
        stages.keep(name, known)
    if not known:
        return None
    policy = parse(Policy, known, source=name)
    return _other(DDPG, policy, found.policy)


def _group(
    name: str, found: Found, rungs: Sequence[str], more: Sequence[tuple[str, Policy] | None], link: str | None = None
) -> Group:
    chosen, left_out = {CHOSEN: found.policy}, {}
    for wanted in rungs:
        rung = next(each for each in found.ladder if each.name == wanted)
        if rung.policy is None or rung.circuit_privacy != found.policy.circuit_privacy or rung.latency_s is None:
            left_out[wanted] = rung.note or "no price on this profile"
        elif rung.latency_s > MOST_S:
            left_out[wanted] = f"predicted to take {rung.latency_s:.1f} s an image; not run"
        else:
            chosen[wanted] = rung.policy
    chosen |= dict(each for each in more if each is not None)
    return Group(name, tuple(chosen), tuple(chosen.values()), link, left_out)


def judged(search: Search, policy: Policy, stages: Stages) -> dict[str, Any]:
    """The accuracy drop of the choice on the confirm split, paired; every draw of the errors is a stage."""
    name, split, seed = search.trained.network.name, search.data.confirm, search.settings.seed + 1
    network = search.quantiser.quantise(policy.widths())
    agreement = agree(network, policy)

    def right(stage: str, which: QuantisedNetwork, agreed: Agreement | None, draw: int) -> NDArray[np.bool_]:
        known = stages.get(stage)
        if known is None:
            found = stages.timed(stage, lambda: classify(which, agreed, split.x, seed + draw) == split.y)
            known = np.packbits(found).tobytes().hex()
            stages.keep(stage, known)
        return np.unpackbits(np.frombuffer(bytes.fromhex(known), np.uint8))[: len(split.y)].astype(bool)

    before = right(f"{name} accuracy at 8 bits", search.coupling.baseline, None, 0)
    after = np.array([right(f"{name} accuracy, draw {draw}", network, agreement, draw) for draw in range(ERROR_DRAWS)])
    upper = paired_upper(before - after.mean(axis=0))
    return asdict(AccuracyDrop(float(after.mean()), float(before.mean()), upper, len(split.y), ERROR_DRAWS))
