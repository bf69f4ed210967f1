"""How long the exact optimum takes, how fast tables price policies, and what the choice is predicted to save.

Figures are per network, over loopback, circuit privacy `uniform` on both sides; LAN, WAN and `flood:40` are context.
A set of a known system is at 8 bits and the system's own t, on our runtime ("DELPHI's set", never "DELPHI"). The bound
on the confirm split is computed once, for what was chosen on the search split. `exact_s` is solving problem A from
its tables, the median of several times.

The profile is $AUTOPRIVACY_BENCHMARK_PROFILE (name or folder); without one, a --quick run takes the first stored.
"""

import os
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from autoprivacy.agent.accuracy import accuracy_drop
from autoprivacy.agent.choosing import Found, Search, Settings, run
from autoprivacy.agent.methods import exact
from autoprivacy.agent.named_policies import named_latency
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.problem import units
from autoprivacy.agent.surrogate import Surrogate
from autoprivacy.common.errors import AutoPrivacyError, BadInput
from autoprivacy.common.progress import silent
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import MachineModel, fit
from autoprivacy.models.prediction import Deployment
from autoprivacy.networks import data, load
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
BEST_UNIFORM: Final = "best uniform set with tolerated errors and widths"
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


def _cut(latency_s: float, other_s: float | str | None) -> float | None:
    """By how many percent less; None where the other has no prediction."""
    return 100 * (1 - latency_s / other_s) if isinstance(other_s, float) else None


def _network(name: str, model: MachineModel, document: Document, *, quick: bool) -> None:
    deployment = Deployment(model, model)
    settings = Settings(max_accuracy_drop=0.03 if quick else 0.005)
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
    sensitivities = search.sensitivities()
    tables = search.surrogate().with_penalties(lambda layer, option: sensitivities.drop(search.coupling, layer, option))
    baseline = search.coupling.baseline
    named = {each: named_latency(baseline, each, "uniform", deployment) for each in ("delphi", "cheetah")}
    uniform = next(
        rung.latency_s for rung in found.ladder if rung.name.startswith("best uniform set with tolerated errors and")
    )
    figures = {
        "exact_s": _exact_s(tables, found.additive_drop, 1 if quick else 3),
        "predicted_cut_vs_delphi_set_pct": _cut(found.latency_s, named["delphi"]),
        "predicted_cut_vs_cheetah_set_pct": _cut(found.latency_s, named["cheetah"]),
        "predicted_cut_vs_best_uniform_pct": _cut(found.latency_s, uniform),
        "surrogate_policies_per_s": _policies_per_s(tables),
    }
    if not quick:
        figures["accuracy_drop_upper_points"] = 100 * _confirmed(search, found)
    document.figures |= {f"{name}_{figure}": value for figure, value in figures.items() if value is not None}
    document.context[name] = {
        "latency_s": found.latency_s,
        "drop_on_search_split": vars_of(found.drop),
        "ladder": {rung.name: rung.latency_s for rung in found.ladder},
        "options": found.options,
        "options_reduced": found.options_reduced,
        "policies": found.policies_in_space,
        "named_sets_s": named,
        "unpriced": len(found.unpriced),
        "elsewhere": {} if quick else _elsewhere(search, model),
    }


def _confirmed(search: Search, found: Found) -> float:
    """The bound on the confirm split, of the policy that was chosen without it."""
    network = search.quantiser.quantise(found.policy.widths())
    agreement = agree(network, found.policy)
    return accuracy_drop(network, agreement, search.coupling.baseline, search.data.confirm, 1).upper


def _elsewhere(search: Search, model: MachineModel) -> dict[str, Any]:
    """Other links and circuit privacy: the exact optimum of problem A at the same limit."""
    found: dict[str, Any] = {}
    sensitivities = search.sensitivities()
    cases = [*((link, "uniform") for link in LINKS), (None, "flood:40")]
    for link, privacy in cases:
        made = None if link is None else fit_link(machine_profile.find_link(link))
        deployment = Deployment(model, model, made)
        settings = Settings(max_accuracy_drop=search.settings.max_accuracy_drop, circuit_privacy=privacy)
        other = Search(search.trained, search.data, DeploymentPricing(deployment), settings, silent)
        try:
            tables = other.surrogate().with_penalties(
                lambda layer, option: sensitivities.drop(search.coupling, layer, option)
            )
            best = exact.solve(tables.problem, units(settings.max_accuracy_drop), np.random.default_rng(0), 0)
        except AutoPrivacyError as error:
            found[f"{link or 'loopback'} {privacy}"] = str(error)
            continue
        baseline = search.coupling.baseline
        named = {each: named_latency(baseline, each, privacy, deployment) for each in ("delphi", "cheetah")}
        found[f"{link or 'loopback'} {privacy}"] = {"latency_s": best.latency_s, "named_sets_s": named}
    return found


def vars_of(made: Any) -> dict[str, Any]:  # noqa: ANN401 - any record
    """A record's fields."""
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


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
        _network(network, model, document, quick=options.quick)
    document.finish(options)


if __name__ == "__main__":
    main()
