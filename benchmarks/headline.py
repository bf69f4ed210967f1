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

Stages are kept as they finish; `--prepare` does those that need no quiet machine (searches, accuracy). The profile is
$AUTOPRIVACY_BENCHMARK_PROFILE (name or folder); without one, a --quick run takes the first stored.
"""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from autoprivacy.agent.accuracy import accuracy_drop
from autoprivacy.agent.choosing import Found, run
from autoprivacy.agent.confirmation import confirmed, run_privately
from autoprivacy.agent.confirmed import Confirmation, Verdict, verdict
from autoprivacy.agent.contenders import contender
from autoprivacy.agent.ladder import BEST_UNIFORM
from autoprivacy.agent.methods import METHODS
from autoprivacy.agent.named_policies import FLOODING
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.problem import units
from autoprivacy.agent.searching import Search, Settings, solved
from autoprivacy.agent.servers import LocalServers, route_over
from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import write_atomic
from autoprivacy.common.progress import silent
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import MachineModel, fit
from autoprivacy.models.prediction import Deployment
from autoprivacy.networks import data, load
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.transport import Route
from benchmarks.document import RESULTS, Document, Target, commit, parse_options

NETWORKS: Final = ("minionn", "resnet20")
REPEATS: Final = 6
"""Pairs of images: the fewest with a distribution-free interval at 95 %."""
ERROR_DRAWS: Final = 5
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
PARTIAL: Final = RESULTS / "headline.partial.json"


@dataclass(frozen=True, slots=True)
class Group:
    """Policies that are compared: under one circuit privacy, over one link; the choice is the first."""

    name: str
    labels: tuple[str, ...]
    policies: tuple[Policy, ...]
    link: str | None = None


class Stages:
    """What was done before at this commit, by name; every stage is kept as soon as it is done."""

    def __init__(self, *, kept: bool) -> None:
        self._kept, self._done = kept, dict[str, str]()
        if kept and PARTIAL.exists():
            found = json.loads(PARTIAL.read_text(encoding="utf-8"))
            self._done = found["stages"] if found["commit"] == commit() else {}

    def get(self, name: str) -> str | None:
        """What a stage gave."""
        return self._done.get(name)

    def keep(self, name: str, text: str) -> None:
        """Keep what a stage gave."""
        self._done[name] = text
        if self._kept:
            write_atomic(PARTIAL, json.dumps({"commit": commit(), "stages": self._done}).encode())


def settings_of(*, quick: bool) -> Settings:
    """What is searched: everything, or a corner that takes seconds."""
    if not quick:
        return Settings(max_accuracy_drop=0.005)
    return Settings(
        max_accuracy_drop=0.03, weight_bits=(4, 8), activation_bits=(4, 8), sensitivity_images=200, judged_images=500
    )


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
        _group(f"{name} uniform", found, UNIFORM_RUNGS, more),
        _group(f"{name} {FLOODING}", flooded, FLOODED_RUNGS, []),
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
    if known is not None:
        return parse(Found, known, source=name)
    print(f"{name} ...", file=sys.stderr)
    found = run(search)
    stages.keep(name, to_json(found))
    return found


def _by_ddpg(search: Search, found: Found, stages: Stages) -> tuple[str, Policy] | None:
    """What DDPG finds at the same budget; None where it finds the same, or does not exist."""
    if "ddpg" not in METHODS:
        return None
    name = f"{search.trained.network.name} ddpg"
    known = stages.get(name)
    if known is None:
        print(f"{name} ...", file=sys.stderr)
        tables = search.tables()
        solution = solved(search, tables, units(found.additive_drop), "ddpg")
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
    chosen = {CHOSEN: found.policy}
    for wanted in rungs:
        rung = next(each for each in found.ladder if each.name == wanted)
        same = rung.policy is not None and rung.policy.circuit_privacy == found.policy.circuit_privacy
        if same and rung.policy is not None and rung.latency_s is not None:
            chosen[wanted] = rung.policy
    chosen |= dict(each for each in more if each is not None)
    return Group(name, tuple(chosen), tuple(chosen.values()), link)


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


def judged(search: Search, policy: Policy, stages: Stages, name: str) -> dict[str, Any]:
    """The accuracy drop of the choice on the confirm split."""
    known = stages.get(name)
    if known is None:
        print(f"{name} ...", file=sys.stderr)
        network = search.quantiser.quantise(policy.widths())
        drop = accuracy_drop(
            network,
            agree(network, policy),
            search.coupling.baseline,
            search.data.confirm,
            search.settings.seed + 1,
            draws=ERROR_DRAWS,
        )
        known = json.dumps(asdict(drop))
        stages.keep(name, known)
    found: dict[str, Any] = json.loads(known)
    return found


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
    started = time.monotonic()
    model, profile = _model(options)
    document = Document("headline", options.quick, TARGETS)
    document.conditions |= {"load_before": os.getloadavg()[0], "profile": profile, "interleaved": "policies of a group"}
    stages = Stages(kept=not options.quick)
    for name in ("digits-cnn",) if options.quick else NETWORKS:
        search = Search(
            load(name),
            data.splits(name),
            DeploymentPricing(Deployment(model, model)),
            settings_of(quick=options.quick),
            silent,
            "",
            (model.profile_id,),
            None if options.quick else RUNS / name,
        )
        groups = groups_of(search, stages, model, quick=options.quick)
        drop = {} if options.quick else judged(search, groups[0].policies[0], stages, f"{name} accuracy")
        found = {}
        for group in [] if options.prepare else groups:
            if options.budget_s is not None and time.monotonic() - started > options.budget_s:
                print("stopped; the same command goes on", file=sys.stderr)
                return
            known = stages.get(group.name)
            if known is None:
                print(f"{time.monotonic() - started:.0f} s: {group.name}: {', '.join(group.labels)}", file=sys.stderr)
                known = to_json(measured(group, search, model, 2 if options.quick else REPEATS))
                stages.keep(group.name, known)
            found[group.name] = parse(Confirmation, known, source=group.name)
        document.figures |= figures_of(name, found, drop)
        document.context[name] = {
            "accuracy": drop,
            "measured": {group: json.loads(to_json(each)) for group, each in found.items()},
            "policies": {
                group.name: {
                    label: json.loads(to_json(policy.layers))
                    for label, policy in zip(group.labels, group.policies, strict=True)
                }
                for group in groups
            },
        }
    if options.prepare:
        print("prepared; the same command without --prepare measures", file=sys.stderr)
        return
    document.finish(options)


def _model(options: Namespace) -> tuple[MachineModel, str]:
    named = os.environ.get("AUTOPRIVACY_BENCHMARK_PROFILE")
    stored = list(machine_profile.stored())
    if named is None and not (options.quick and stored):
        raise BadInput("no profile: set AUTOPRIVACY_BENCHMARK_PROFILE to this machine's (`autoprivacy profile`)")
    profile = machine_profile.find(named) if named else machine_profile.read(stored[0])
    return fit(profile), profile.header.id


if __name__ == "__main__":
    main()
