"""The ladder of gains, measured: whole private inferences between two processes, from published sets to the choice.

Per network, under circuit privacy `uniform`: Cheetah's set, steps of the ladder, the best uniform set, the choice of
the exact optimum and that of DDPG. Packing `slots` cannot run under `uniform`, so DELPHI's set runs under `flood:40`
against what is chosen under `flood:40`: only policies of one circuit privacy are compared. All policies of a group run
side by side on the same images, in random order within each image; every logit is checked against the integer
reference, every byte against the plan. On `minionn` also over an emulated WAN.

Figures: cuts are percent of the other policy's time saved, at the lower end of a distribution-free interval (95 %) of
the median over paired images; `per_layer_gain_pct` is the step from the best uniform set at 2^-40 to a set per layer,
`tolerated_error_gain_pct` the step from there to tolerated errors. `abs_prediction_error_pct` is the mean over all
policies that ran of |predicted / measured - 1|, the drift of the reference operation divided out.
`accuracy_drop_upper_points` is of the choice on all images of the confirm split.

The choice is the exact optimum of problem A at the greatest additive budget tried whose joint bound keeps 0.5 points on
the search split. Stages are kept as they finish; `--prepare` does those that need no quiet machine (searches,
accuracy). The profile is $AUTOPRIVACY_BENCHMARK_PROFILE (name or folder); without one, a --quick run takes the first
stored.
"""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoprivacy.agent.accuracy import AccuracyDrop, classify
from autoprivacy.agent.bounds import paired_upper
from autoprivacy.agent.confirmation import confirmed, run_privately
from autoprivacy.agent.confirmed import Confirmation, Verdict, verdict
from autoprivacy.agent.contenders import contender
from autoprivacy.agent.ladder import BEST_UNIFORM, Rung, ladder
from autoprivacy.agent.methods import METHODS
from autoprivacy.agent.named_policies import FLOODING
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.problem import UNIT, units
from autoprivacy.agent.searching import Search, Settings, solved
from autoprivacy.agent.servers import LocalServers, route_over
from autoprivacy.common.errors import BadInput, Refused
from autoprivacy.common.files import write_atomic
from autoprivacy.common.progress import silent
from autoprivacy.common.records import parse, record, to_json
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import MachineModel, fit
from autoprivacy.models.prediction import Deployment
from autoprivacy.networks import data, load
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.transport import Route
from benchmarks.document import RESULTS, Document, Target, commit, parse_options

NETWORKS: Final = ("minionn", "resnet20")
REPEATS: Final = 6
"""Pairs of images: the fewest with a distribution-free interval at 95 %."""
ERROR_DRAWS: Final = 5
MOST_S: Final = 25.0
"""What is predicted to take longer an image does not run: its prediction stands beside the rest."""
SENSITIVITY_IMAGES: Final = {"minionn": 1000, "resnet20": 200}
JUDGED_IMAGES: Final = 2000
BUDGETS: Final = (0.8, 0.4, 0.2, 0.1, 0.0)
"""Additive budgets that are tried, as shares of the limit."""
WAN: Final = "wan-400mbps"
"""Cheetah's WAN, emulated."""
WAN_NETWORK: Final = "minionn"

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

TARGETS: Final = {
    f"{network}_{figure}": target
    for network in NETWORKS
    for figure, target in {
        "measured_cut_vs_delphi_set_pct": Target("at least", 85),
        "measured_cut_vs_cheetah_set_pct": Target("at least", 30),
        "abs_prediction_error_pct": Target("at most", 8),
        "accuracy_drop_upper_points": Target("at most", 0.5),
    }.items()
}
RUNS: Final = Path(__file__).parent.parent / "runs" / "benchmark-headline"


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group:
    """Policies that are compared: under one circuit privacy, over one link; the choice is the first."""

    name: str
    labels: tuple[str, ...]
    policies: tuple[Policy, ...]
    link: str | None
    left_out: dict[str, str]


class Paused(Exception):  # noqa: N818 - nothing went wrong
    """The time that was asked for is spent."""


class Stages:
    """What was done before on one network with this profile, by name; a stage is kept as soon as it is done."""

    def __init__(self, network: str, about: str, left_s: float | None, *, kept: bool) -> None:
        self.file = RESULTS / f"headline.{network}.partial.json"
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
            raise Paused
        print(f"{spent_s:.0f} s: {name}", file=sys.stderr)
        return work()

    def keep(self, name: str, text: str) -> None:
        """Keep what a stage gave."""
        self._done[name] = text
        if self._kept:
            write_atomic(self.file, json.dumps({"about": self._about, "stages": self._done}).encode())


def settings_of(name: str, *, quick: bool) -> Settings:
    """What is searched: everything, or a corner that takes seconds."""
    if not quick:
        return Settings(
            max_accuracy_drop=0.005, sensitivity_images=SENSITIVITY_IMAGES[name], judged_images=JUDGED_IMAGES
        )
    return Settings(
        max_accuracy_drop=0.03, weight_bits=(4, 8), activation_bits=(4, 8), sensitivity_images=200, judged_images=500
    )


@record
class Found:
    """What a search gave: the optimum at the greatest additive budget tried whose joint bound keeps the limit."""

    policy: Policy
    latency_s: float
    additive_drop: float
    drop: AccuracyDrop
    ladder: tuple[Rung, ...]


def find(search: Search) -> Found:
    """The exact optimum of problem A and its ladder; additive budgets are halved until the joint simulation agrees.

    Raises:
        Refused: if no budget of those tried does.
    """
    limit, tables = search.settings.max_accuracy_drop, search.tables()
    for share in BUDGETS:
        best = solved(search, tables, units(share * limit))
        if best is None:
            continue
        policy = search.policy(tables, best.policy, method_name="exact")
        drop = search.simulate(policy)
        if drop.upper <= limit:
            return Found(policy, best.latency_s, best.penalty * UNIT, drop, ladder(search, best, judge=False))
    raise Refused(f"no additive budget down to {BUDGETS[-1] * limit:.3%} keeps the joint drop below {limit:.2%}")


def groups_of(search: Search, stages: Stages, model: MachineModel, *, quick: bool) -> list[Group]:
    """What runs on a network; searches are stages."""
    name = search.trained.network.name
    found = _found(search, stages, f"{name} search")
    flooded = _found(search.under(FLOODING), stages, f"{name} search {FLOODING}")
    more, over = [_by_ddpg(search, found, stages)], None
    if name == WAN_NETWORK and not quick:
        deployment = Deployment(model, model, fit_link(machine_profile.find_link(WAN)))
        over = _found(search.under("uniform", DeploymentPricing(deployment)), stages, f"{name} search {WAN}")
        more.append(_other(f"chosen for {WAN}", over.policy, found.policy))
    groups = [
        _group(f"{name} uniform", found, QUICK_RUNGS if quick else UNIFORM_RUNGS, more),
        _group(f"{name} {FLOODING}", flooded, FLOODED_RUNGS[:1] if quick else FLOODED_RUNGS, []),
    ]
    if over is not None:
        here = _other("chosen for loopback", found.policy, over.policy)
        groups.append(_group(f"{name} {WAN}", over, (CHEETAH, BEST_UNIFORM), [here], link=WAN))
    return groups


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
    """What DDPG finds at the same budget; None where it finds the same, or does not exist."""
    if "ddpg" not in METHODS:
        return None
    name = f"{search.trained.network.name} ddpg"
    known = stages.get(name)
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


def measured(group: Group, search: Search, model: MachineModel, repeats: int) -> Confirmation:
    """All policies of a group, side by side."""
    link = None if group.link is None else machine_profile.find_link(group.link)
    deployment = Deployment(model, model, None if link is None else fit_link(link))
    contenders = [
        contender(search, label, policy, deployment) for label, policy in zip(group.labels, group.policies, strict=True)
    ]
    split, rng = search.data.confirm, np.random.default_rng(search.settings.seed)
    route = Route(timeout_s=600) if link is None else Route(emulated=route_over(link).emulated, timeout_s=600)
    servers = LocalServers(search.trained.network.name, route=route)
    runs = run_privately(contenders, servers, split.x[:repeats], rng=rng, progress=lambda: None)
    return confirmed(
        runs,
        split.x[:repeats],
        split.y[:repeats],
        version=commit(),
        link=group.link or "loopback",
        seed=search.settings.seed,
        reference_typical_s=model.reference_typical_s,
    )


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


def cut(found: Confirmation | None, other: str, own: str = CHOSEN) -> float | None:
    """Percent of another policy's time that a policy saves, at the lower end of its interval (or at the median)."""
    by_label = {} if found is None else {each.label: each for each in found.policies}
    if own not in by_label or other not in by_label:
        return None
    against: Verdict = verdict(by_label[own], by_label[other])
    return 100 * (1 - 1 / (against.ratio if against.ratio_low is None else against.ratio_low))


def prediction_error(found: Sequence[Confirmation]) -> float:
    """Mean percent over policies, drift divided out."""
    errors = [
        abs(each.total.predicted_s * one.drift / each.total.measured_s - 1) for one in found for each in one.policies
    ]
    return 100 * float(np.mean(errors))


def figures_of(name: str, found: dict[str, Confirmation], drop: dict[str, Any]) -> dict[str, float]:
    """Those of one network."""
    uniform, flooded = found.get(f"{name} uniform"), found.get(f"{name} {FLOODING}")
    own = [each for each in (uniform, flooded) if each is not None]
    figures = {
        "measured_cut_vs_delphi_set_pct": cut(flooded, DELPHI),
        "measured_cut_vs_cheetah_set_pct": cut(uniform, CHEETAH),
        "measured_cut_vs_best_uniform_pct": cut(uniform, BEST_UNIFORM),
        "tolerated_error_gain_pct": cut(uniform, LAYERS_RULED, TOLERATED),
        "per_layer_gain_pct": cut(uniform, UNIFORM_RULED, LAYERS_RULED),
        "abs_prediction_error_pct": prediction_error(own) if own else None,
        "accuracy_drop_upper_points": 100 * drop["upper"] if drop else None,
    }
    return {f"{name}_{figure}": value for figure, value in figures.items() if value is not None}


def main() -> None:
    """Search, judge and measure, network by network."""
    options = parse_options(__doc__, prepare="do only what needs no quiet machine")
    model, profile = _model(options)
    networks = ("digits-cnn",) if options.quick else NETWORKS
    started = time.monotonic()
    document = Document("headline", options.quick, TARGETS)
    document.conditions |= {"load_before": os.getloadavg()[0], "profile": profile, "interleaved": "policies of a group"}
    try:
        for name in networks:
            left_s = None if options.budget_s is None else options.budget_s - (time.monotonic() - started)
            stages = Stages(name, f"{profile} {load(name).hash}", left_s, kept=not options.quick)
            _network(name, model, stages, document, options)
    except Paused:
        print("stopped; the same command goes on", file=sys.stderr)
        return
    if options.prepare:
        print("prepared; the same command without --prepare measures", file=sys.stderr)
        return
    document.finish(options)


def _network(name: str, model: MachineModel, stages: Stages, document: Document, options: Namespace) -> None:
    search = Search(
        load(name),
        data.splits(name),
        DeploymentPricing(Deployment(model, model)),
        settings_of(name, quick=options.quick),
        silent,
        "",
        (model.profile_id,),
        None if options.quick else RUNS / name,
    )
    groups = groups_of(search, stages, model, quick=options.quick)
    repeats = 2 if options.quick else REPEATS
    found = {
        group.name: _measured(group, search, model, stages, repeats) for group in ([] if options.prepare else groups)
    }
    drop = {} if options.quick else judged(search, groups[0].policies[0], stages)
    document.figures |= figures_of(name, found, drop)
    document.context[name] = {
        "accuracy": drop,
        "measured": {group: json.loads(to_json(each)) for group, each in found.items()},
        "left_out": {group.name: group.left_out for group in groups},
        "policies": {
            group.name: {
                label: json.loads(to_json(policy.layers))
                for label, policy in zip(group.labels, group.policies, strict=True)
            }
            for group in groups
        },
    }


def _measured(group: Group, search: Search, model: MachineModel, stages: Stages, repeats: int) -> Confirmation:
    known = stages.get(group.name)
    if known is None:
        known = to_json(stages.timed(group.name, lambda: measured(group, search, model, repeats)))
        stages.keep(group.name, known)
    return parse(Confirmation, known, source=group.name)


def _model(options: Namespace) -> tuple[MachineModel, str]:
    named = os.environ.get("AUTOPRIVACY_BENCHMARK_PROFILE")
    stored = list(machine_profile.stored())
    if named is None and not (options.quick and stored):
        raise BadInput("no profile: set AUTOPRIVACY_BENCHMARK_PROFILE to this machine's (`autoprivacy profile`)")
    profile = machine_profile.find(named) if named else machine_profile.read(stored[0])
    return fit(profile), profile.header.id


if __name__ == "__main__":
    main()
