"""How long the exact optimum takes, how fast tables price policies, and what the choice is predicted to save.

Figures are per network, over loopback; LAN and WAN are context. What is compared has one circuit privacy on both sides:
`uniform`, or `flood:40` where a published set cannot run under `uniform` (DELPHI's set), and then the choice is the one
that is best under `flood:40`. A set of a known system is at 8 bits and the system's own t, on our runtime ("DELPHI's
set", never "DELPHI"). The bound on the confirm split is computed once, for what was chosen on the search split.
`exact_s` is solving problem A from its tables, the median of several times.

First comes what needs no accuracy, for every network: at 8 bits, noise below 2^-40, nothing tolerated. Then networks
with a checkpoint are searched and judged, which replaces their figures. Steps, sensitivities and simulations are kept;
with --budget-s the same command goes on, and `conditions` names what is not done yet.

The profile is $AUTOPRIVACY_BENCHMARK_PROFILE (name or folder); without one, a --quick run takes the first stored.
"""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from autoprivacy.agent.accuracy import AccuracyDrop, accuracy_drop
from autoprivacy.agent.ladder import BEST_UNIFORM, Rung, ladder, published, ruled
from autoprivacy.agent.methods import exact
from autoprivacy.agent.named_policies import FLOODING
from autoprivacy.agent.options import Option
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.problem import units
from autoprivacy.agent.searching import Search, Settings
from autoprivacy.agent.surrogate import Surrogate
from autoprivacy.common.files import write_atomic
from autoprivacy.common.progress import silent
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.prediction import Deployment
from autoprivacy.networks import data, load
from autoprivacy.networks.data import Split
from autoprivacy.networks.zoo import is_trained
from autoprivacy.protocol.agreeing import agree
from benchmarks.document import RESULTS, RUNS, Document, Target, parse_options
from benchmarks.searches import FULL, QUICK, Found, benchmarked_model, find

NETWORKS: Final = ("minionn", "resnet20", "resnet32")
TARGETS: Final = {
    f"{network}_{figure}": target
    for network in NETWORKS
    for figure, target in {
        "exact_s": Target("at most", 10),
        "predicted_cut_vs_delphi_set_pct": Target("at least", 85),
        "predicted_cut_vs_cheetah_set_pct": Target("at least", 30),
        "accuracy_drop_upper_points": Target("at most", 0.5),
        "surrogate_policies_per_s": Target("at least", 1e5),
    }.items()
}
LINKS: Final = ("1gbe", "wan-100mbps")
POLICIES: Final = 100_000
FEW: Final = 200
PARTIAL: Final = RESULTS / "search.partial.json"


@dataclass(frozen=True, slots=True)
class Step:
    """Figures of one network, without its name, and their context."""

    figures: dict[str, float | None]
    context: dict[str, Any]


def _policies_per_s(tables: Surrogate) -> float:
    rng = np.random.default_rng(0)
    policies = np.stack([rng.integers(0, layer.size, POLICIES) for layer in tables.problem.layers], axis=1)
    tables.problem.latency(policies[:100])
    times = []
    for _ in range(5):
        start = time.perf_counter()
        tables.problem.latency(policies)
        times.append(time.perf_counter() - start)
    return POLICIES / float(np.median(times))


def _exact_s(tables: Surrogate, drop: float, times: int) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        exact.solve(tables.problem, units(drop), np.random.default_rng(0), 0)
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def _search(name: str, model: MachineModel, settings: Settings, folder: Path | None) -> Search:
    splits = data.splits(name)
    if not is_trained(name):  # random weights: how far tensors reach is seen on a few images
        splits = replace(splits, calibrate=_first(splits.calibrate, FEW))
    pricing = DeploymentPricing(Deployment(model, model))
    return Search(load(name), splits, pricing, settings, silent, "", (model.profile_id,), folder)


def _first(split: Split, count: int) -> Split:
    return replace(split, pixels=split.pixels[:count], y=split.y[:count])


def _unjudged(search: Search, times: int) -> Step:
    """What needs no accuracy: per layer, 8 bits and noise that fails below 2^-40, against published sets.

    `exact_s` is of the whole space with penalties written down.
    """
    whole = search.surrogate().with_penalties(_written_down)
    reduced, _ = whole.problem.reduced()
    figures: dict[str, float | None] = {
        "exact_s": _exact_s(whole, 0.005, times),
        "surrogate_policies_per_s": _policies_per_s(whole),
    }
    context: dict[str, Any] = {
        "options": [len(own) for own in search.surrogate().options],
        "options_reduced": [layer.size for layer in reduced.layers],
        "policies": float(whole.problem.size),
        "unpriced": len(whole.unpriced),
    }
    for privacy, rung_name, figure in (
        ("uniform", "Cheetah's set", "predicted_cut_vs_cheetah_set_pct"),
        (FLOODING, "DELPHI's set", "predicted_cut_vs_delphi_set_pct"),
    ):
        other = search
        if privacy != search.settings.circuit_privacy:
            settings = replace(search.settings, circuit_privacy=privacy)
            other = replace(search, settings=settings, _whole=None, _tables=None)
        best = exact.solve(other.surrogate().only(ruled(other)).problem, 0, np.random.default_rng(0), 0)
        rungs = published(other)
        rung = next(rung for rung in rungs if rung.name == rung_name)
        figures[figure] = None
        if rung.latency_s is not None and rung.circuit_privacy == privacy:
            figures[figure] = 100 * (1 - best.latency_s / rung.latency_s)
        context[privacy] = {"latency_s": best.latency_s, "ladder": _rungs(rungs)}
    return Step(figures, context)


def _judged(search: Search, model: MachineModel, *, quick: bool) -> Step:
    """The search itself, under `uniform` and under flooding, and over links."""
    found = find(search)
    flooded_search = search.under(FLOODING)
    flooded = find(flooded_search)
    figures = {
        "exact_s": _exact_s(search.tables(), found.additive_drop, 1 if quick else 3),
        "predicted_cut_vs_delphi_set_pct": _cut("DELPHI's set", found, flooded),
        "predicted_cut_vs_cheetah_set_pct": _cut("Cheetah's set", found, flooded),
        "predicted_cut_vs_best_uniform_pct": _cut(BEST_UNIFORM, found, flooded),
        "surrogate_policies_per_s": _policies_per_s(search.tables()),
    }
    context = {"uniform": _told(found), FLOODING: _told(flooded)}
    if not quick:
        confirmed = _confirmed(search, found), _confirmed(flooded_search, flooded)
        figures["accuracy_drop_upper_points"] = 100 * confirmed[0].upper
        context["confirm_split"] = dict(zip(("uniform", FLOODING), map(asdict, confirmed), strict=True))
        context["links"] = {link: _over(link, search, model, found.additive_drop) for link in LINKS}
    return Step(figures, context)


def _written_down(layer: str, option: Option) -> float:  # noqa: ARG001 - what layers cost
    """A penalty that grows with errors and falls with widths; measured of no network."""
    widths = 2.0**-option.chosen.weight_bits + 2.0**-option.chosen.activation_bits
    return 1e-4 * option.error**2 + 1e-2 * widths


def _cut(rung_name: str, *found: Found) -> float | None:
    """By how many percent less than a rung, in the first search under whose own circuit privacy it runs."""
    for each in found:
        rung = next(rung for rung in each.ladder if rung.name == rung_name)
        if rung.latency_s is not None and rung.circuit_privacy == each.policy.circuit_privacy:
            return 100 * (1 - each.latency_s / rung.latency_s)
    return None


def _told(found: Found) -> dict[str, Any]:
    return {
        "latency_s": found.latency_s,
        "drop_on_search_split": asdict(found.drop),
        "additive_drop": found.additive_drop,
        "simulated": found.simulated,
        "ladder": _rungs(found.ladder),
    }


def _rungs(ladder: Sequence[Rung]) -> list[dict[str, Any]]:
    """Rungs without their policies."""
    return [{name: value for name, value in asdict(rung).items() if name != "policy"} for rung in ladder]


def _confirmed(search: Search, found: Found) -> AccuracyDrop:
    """The drop on the confirm split, of the policy that was chosen without it."""
    network = search.quantiser.quantise(found.policy.widths())
    return accuracy_drop(network, agree(network, found.policy), search.coupling.baseline, search.data.confirm, 1)


def _over(link: str, search: Search, model: MachineModel, additive_drop: float) -> dict[str, Any]:
    """Another link: the exact optimum of problem A at the additive drop that was found to hold, and its ladder."""
    deployment = Deployment(model, model, fit_link(machine_profile.find_link(link)))
    other = search.under("uniform", DeploymentPricing(deployment))
    best = exact.solve(other.tables().problem, units(additive_drop), np.random.default_rng(0), 0)
    return {"latency_s": best.latency_s, "ladder": _rungs(ladder(other, best, judge=False))}


def _steps(*, quick: bool) -> list[tuple[str, str]]:
    """Network by network what needs no accuracy; then, where there is a checkpoint, the search."""
    networks = ("digits-cnn",) if quick else NETWORKS
    judged = [(network, "judged") for network in networks if is_trained(network)]
    return [*((network, "unjudged") for network in networks), *judged]


def main() -> None:
    """Search every network; what is done is kept, and what is not judged yet is named in the result."""
    options = parse_options(__doc__)
    load_before, started = os.getloadavg()[0], time.monotonic()
    model = benchmarked_model(quick=options.quick)
    known = {} if options.quick else _partial(model.profile_id)
    document = Document("search", options.quick, TARGETS)
    made: dict[str, Search] = {}
    missing = []
    for network, step in _steps(quick=options.quick):
        key = f"{network} {step}"
        late = options.budget_s is not None and time.monotonic() - started > options.budget_s
        if key not in known and late:
            missing.append(key)
            continue
        if key not in known:
            print(f"{time.monotonic() - started:.0f} s: {key}", file=sys.stderr)
            if network not in made:
                made = {network: _search(network, model, QUICK if options.quick else FULL, _folder(network, options))}
            search = made[network]
            found = _unjudged(search, 1) if step == "unjudged" else _judged(search, model, quick=options.quick)
            known[key] = asdict(found)
            if not options.quick:
                write_atomic(PARTIAL, json.dumps({"profile": model.profile_id, "steps": known}).encode())
        figures = known[key]["figures"].items()
        document.figures |= {f"{network}_{name}": value for name, value in figures if value is not None}
        document.context[key] = known[key]["context"]
    document.conditions |= {"load_before": load_before, "not done yet": missing, "judged_images": FULL.judged_images}
    document.finish(options)
    if not missing:
        PARTIAL.unlink(missing_ok=True)


def _folder(network: str, options: Namespace) -> Path | None:
    return None if options.quick else RUNS / network


def _partial(profile_id: str) -> dict[str, Any]:
    """Steps that were done before with this profile."""
    if not PARTIAL.exists():
        return {}
    found: dict[str, Any] = json.loads(PARTIAL.read_text(encoding="utf-8"))
    steps: dict[str, Any] = found["steps"]
    return steps if found["profile"] == profile_id else {}


if __name__ == "__main__":
    main()
