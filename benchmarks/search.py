"""How long the exact optimum takes, how fast tables price policies, and what the choice is predicted to save.

Figures are per network, over loopback; LAN and WAN are context. What is compared has one circuit privacy on both sides:
`uniform`, or `flood:40` where a published set cannot run under `uniform` (DELPHI's set), and then the choice is the one
that is best under `flood:40`. A set of a known system is at 8 bits and the system's own t, on our runtime ("DELPHI's
set", never "DELPHI"). The bound on the confirm split is computed once, for what was chosen on the search split.
`exact_s` is solving problem A from its tables, the median of several times.

The profile is $AUTOPRIVACY_BENCHMARK_PROFILE (name or folder); without one, a --quick run takes the first stored.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from autoprivacy.agent.accuracy import AccuracyDrop, accuracy_drop
from autoprivacy.agent.choosing import Found, run
from autoprivacy.agent.ladder import BEST_UNIFORM, Rung, ladder, published, ruled
from autoprivacy.agent.methods import exact
from autoprivacy.agent.named_policies import FLOODING
from autoprivacy.agent.options import Option
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.problem import units
from autoprivacy.agent.searching import Search, Settings
from autoprivacy.agent.surrogate import Surrogate
from autoprivacy.common.errors import BadInput
from autoprivacy.common.progress import silent
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import MachineModel, fit
from autoprivacy.models.prediction import Deployment
from autoprivacy.networks import data, load
from autoprivacy.networks.zoo import is_trained
from autoprivacy.protocol.agreeing import agree
from benchmarks.document import Document, Target, parse_options

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
RUNS: Final = Path(__file__).parent.parent / "runs" / "benchmark-search"


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


def _network(name: str, model: MachineModel, document: Document, *, quick: bool) -> None:
    deployment = Deployment(model, model)
    settings = Settings(max_accuracy_drop=0.005)
    if quick:
        settings = Settings(
            max_accuracy_drop=0.03,
            weight_bits=(4, 8),
            activation_bits=(4, 8),
            sensitivity_images=200,
            judged_images=500,
        )
    folder = None if quick else RUNS / name
    search = Search(
        load(name), data.splits(name), DeploymentPricing(deployment), settings, silent, "", (model.profile_id,), folder
    )
    found = run(search)
    flooded_search = search.under(FLOODING)
    flooded = run(flooded_search)
    tables = search.tables()
    figures = {
        "exact_s": _exact_s(tables, found.additive_drop, 1 if quick else 3),
        "predicted_cut_vs_delphi_set_pct": _cut("DELPHI's set", found, flooded),
        "predicted_cut_vs_cheetah_set_pct": _cut("Cheetah's set", found, flooded),
        "predicted_cut_vs_best_uniform_pct": _cut(BEST_UNIFORM, found, flooded),
        "surrogate_policies_per_s": _policies_per_s(tables),
    }
    if not quick:
        figures["accuracy_drop_upper_points"] = 100 * _confirmed(search, found).upper
    document.figures |= {f"{name}_{figure}": value for figure, value in figures.items() if value is not None}
    document.context[name] = {
        "uniform": _told(found),
        FLOODING: _told(flooded) | ({} if quick else {"confirm_split": asdict(_confirmed(flooded_search, flooded))}),
        "options": found.options,
        "options_reduced": found.options_reduced,
        "policies": found.policies_in_space,
        "unpriced": len(found.unpriced),
        "links": {} if quick else {link: _over(link, search, found.additive_drop, model) for link in LINKS},
    }


def _untrained(name: str, model: MachineModel, document: Document) -> None:
    """A network without a checkpoint: nothing is known of its accuracy, so nothing is given up.

    8 bits, and noise that fails below 2^-40, per layer; `exact_s` is of the whole space with penalties written down.
    """
    search = Search(load(name), data.splits(name), DeploymentPricing(Deployment(model, model)), Settings(), silent)
    whole = search.surrogate().with_penalties(_written_down)
    figures = {"exact_s": _exact_s(whole, 0.005, 3), "surrogate_policies_per_s": _policies_per_s(whole)}
    context: dict[str, Any] = {
        "accuracy": "no checkpoint: 8 bits, noise below 2^-40, exact_s at penalties written down"
    }
    for privacy, rung_name, figure in (
        ("uniform", "Cheetah's set", "predicted_cut_vs_cheetah_set_pct"),
        (FLOODING, "DELPHI's set", "predicted_cut_vs_delphi_set_pct"),
    ):
        other = (
            search if privacy == "uniform" else replace(search, settings=Settings(circuit_privacy=privacy), _whole=None)
        )
        best = exact.solve(other.surrogate().only(ruled(other)).problem, 0, np.random.default_rng(0), 0)
        rungs = published(other)
        rung = next(rung for rung in rungs if rung.name == rung_name)
        if rung.latency_s is not None and rung.circuit_privacy == privacy:
            figures[figure] = 100 * (1 - best.latency_s / rung.latency_s)
        context[privacy] = {"latency_s": best.latency_s, "ladder": _rungs(rungs)}
    document.figures |= {f"{name}_{figure}": value for figure, value in figures.items()}
    document.context[name] = context


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


def _over(link: str, search: Search, additive_drop: float, model: MachineModel) -> dict[str, Any]:
    """Another link: the exact optimum of problem A at the additive drop that was found to hold, and its ladder."""
    deployment = Deployment(model, model, fit_link(machine_profile.find_link(link)))
    other = search.under("uniform", DeploymentPricing(deployment))
    best = exact.solve(other.tables().problem, units(additive_drop), np.random.default_rng(0), 0)
    return {"latency_s": best.latency_s, "ladder": _rungs(ladder(other, best, judge=False))}


def main() -> None:
    """Search every network."""
    options = parse_options(__doc__)
    named = os.environ.get("AUTOPRIVACY_BENCHMARK_PROFILE")
    stored = list(machine_profile.stored())
    if named is None and not (options.quick and stored):
        raise BadInput("no profile: set AUTOPRIVACY_BENCHMARK_PROFILE to this machine's (`autoprivacy profile`)")
    model = fit(machine_profile.find(named) if named else machine_profile.read(stored[0]))
    document = Document("search", options.quick, TARGETS)
    for network in ("digits-cnn",) if options.quick else NETWORKS:
        if is_trained(network):
            _network(network, model, document, quick=options.quick)
        else:
            _untrained(network, model, document)
    document.finish(options)


if __name__ == "__main__":
    main()
