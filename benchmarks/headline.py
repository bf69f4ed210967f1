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
`accuracy_drop_upper_points` is of the choice on all images of the confirm split. `resnet32` has no checkpoint: its
accuracy costs are assumed (those of `minionn` at the same share of the depth), each policy runs on one image, and its
cuts, without intervals, have no target.

The choice is that of `search` at half a point: the joint bound on the search split keeps it. Stages are kept as they
finish; `--prepare` does those that need no quiet machine (searches, accuracy). The profile is
$AUTOPRIVACY_BENCHMARK_PROFILE (name or folder); without one, a --quick run takes the first stored.
"""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from autoprivacy.agent.confirmation import confirmed, run_privately
from autoprivacy.agent.confirmed import Confirmation, Verdict, verdict
from autoprivacy.agent.contenders import contender
from autoprivacy.agent.ladder import BEST_UNIFORM
from autoprivacy.agent.named_policies import FLOODING
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.searching import Search
from autoprivacy.agent.servers import LocalServers, route_over
from autoprivacy.common.progress import silent
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.prediction import Deployment
from autoprivacy.networks import data, load
from autoprivacy.protocol.transport import Route
from benchmarks.document import RUNS, Document, Target, commit, parse_options
from benchmarks.headline_groups import (
    CHEETAH,
    CHOSEN,
    DELPHI,
    LAYERS_RULED,
    NETWORKS,
    ONCE_NETWORK,
    ONCE_REPEATS,
    REPEATS,
    TOLERATED,
    UNIFORM_RULED,
    WAN_NETWORK,
    WAN_REPEATS,
    Group,
    Paused,
    Stages,
    file_of,
    judged,
    loopback_groups,
    once_groups,
    wan_groups,
)
from benchmarks.searches import FULL, QUICK, assume_costs, benchmarked_model

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
    model = benchmarked_model(quick=options.quick)
    profile = model.profile_id
    started = time.monotonic()
    document = Document("headline", options.quick, TARGETS)
    document.conditions |= {"load_before": os.getloadavg()[0], "profile": profile, "interleaved": "policies of a group"}

    def left_s() -> float | None:
        return None if options.budget_s is None else options.budget_s - (time.monotonic() - started)

    names = ("digits-cnn",) if options.quick else (*NETWORKS, ONCE_NETWORK)
    cases = [_case(name, model, profile, left_s(), options) for name in names]
    try:
        for case in cases:
            _measure_here(case, model, options)
        for case in cases:
            _measure_over_wan(case, model, options)
    except Paused as stage:
        print(f"stopped before {stage}; the same command goes on", file=sys.stderr)
        if not options.prepare and any(case.found for case in cases):
            _finish_in_part(cases, document, str(stage), options)
        return
    if options.prepare:
        print("prepared; the same command without --prepare measures", file=sys.stderr)
        return
    for case in cases:
        _add(case, document)
    document.finish(options)
    if not options.quick:
        for case in cases:
            file_of(case.name).unlink()


def _finish_in_part(cases: Sequence["Case"], document: Document, stage: str, options: Namespace) -> None:
    """Record what there is, and say what there is not."""
    document.conditions["complete"] = False
    document.conditions["stopped_before"] = stage
    for case in cases:
        if case.found:
            _add(case, document)
    document.finish(options)


def _measure_here(case: "Case", model: MachineModel, options: Namespace) -> None:
    """All of one network over loopback, and how accurate the choice is."""
    once = case.name == ONCE_NETWORK
    groups = once_groups if once else partial(loopback_groups, quick=options.quick)
    for group in groups(case.search, case.stages):
        case.add(group, model, options)
    if not options.quick and not once:
        case.drop = judged(case.search, case.groups[0].policies[0], case.stages)


def _measure_over_wan(case: "Case", model: MachineModel, options: Namespace) -> None:
    for group in wan_groups(case.search, case.stages, model, quick=options.quick):
        case.add(group, model, options)


@dataclass(slots=True)
class Case:
    """One network: its search, its stages, what is to run and what did, and the accuracy drop of the choice."""

    search: Search
    stages: Stages
    groups: list[Group] = field(default_factory=list)
    found: dict[str, Confirmation] = field(default_factory=dict)
    drop: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The network's."""
        return self.search.trained.network.name

    def add(self, group: Group, model: MachineModel, options: Namespace) -> None:
        """A group, run unless everything is only prepared."""
        self.groups.append(group)
        if not options.prepare:
            repeats = ONCE_REPEATS if self.name == ONCE_NETWORK else REPEATS if group.link is None else WAN_REPEATS
            repeats = 2 if options.quick else repeats
            self.found[group.name] = _measured(group, self.search, model, self.stages, repeats)


def _case(name: str, model: MachineModel, profile: str, left_s: float | None, options: Namespace) -> Case:
    stages = Stages(name, f"{profile} {load(name).hash}", left_s, kept=not options.quick, prepares=options.prepare)
    search = _search(name, model, quick=options.quick)
    if name == ONCE_NETWORK:
        assume_costs(search, _search(WAN_NETWORK, model, quick=options.quick))
    return Case(search, stages)


def _search(name: str, model: MachineModel, *, quick: bool) -> Search:
    return Search(
        load(name),
        data.splits(name),
        DeploymentPricing(Deployment(model, model)),
        QUICK if quick else FULL,
        silent,
        "",
        (model.profile_id,),
        None if quick else RUNS / name,
    )


def _add(case: Case, document: Document) -> None:
    """One network's figures and context."""
    found = case.found
    document.figures |= figures_of(case.name, found, case.drop)
    document.context[case.name] = {
        "accuracy": case.drop if case.name != ONCE_NETWORK else "no checkpoint: costs assumed, nothing judged",
        "cut_at_2^-40_vs_cheetah_set_pct": {group: cut(each, CHEETAH, LAYERS_RULED) for group, each in found.items()},
        "measured": {group: json.loads(to_json(each)) for group, each in found.items()},
        "left_out": {group.name: group.left_out for group in case.groups},
        "policies": {
            group.name: {
                label: json.loads(to_json(policy.layers))
                for label, policy in zip(group.labels, group.policies, strict=True)
            }
            for group in case.groups
        },
    }


def _measured(group: Group, search: Search, model: MachineModel, stages: Stages, repeats: int) -> Confirmation:
    known = stages.get(group.name)
    if known is None:
        known = to_json(stages.timed(group.name, lambda: measured(group, search, model, repeats)))
        stages.keep(group.name, known)
    return parse(Confirmation, known, source=group.name)


if __name__ == "__main__":
    main()
