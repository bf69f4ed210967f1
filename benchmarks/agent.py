"""How close the agent comes to the exact optimum, beside random and TPE in the same environment, at equal calls.

Problem A: least predicted latency at an additive drop of half a point, over loopback, circuit privacy `uniform`. Every
seed gets `CALLS` policies to price. `ddpg_regret_pct` is by how much the best of them is slower than the exact optimum,
the median over seeds, `ddpg_regret_upper_pct` the upper end of its order-statistic interval, `random_regret_pct` the
median regret of one random episode; the best of as many random episodes, and the paired difference, are context.
`transfer_calls_ratio`: calls until within 1 % of the optimum on another link, of agents that begin as those that
learned over loopback, over those of agents that begin anew (medians; who never comes so near counts all calls).

`resnet32` has no checkpoint: prices and couplings are its own, accuracy costs are assumed, those measured on minionn's
layer at the same share of the depth: it tells how an agent copes with 34 coupled layers. Problem B, where whole
policies are simulated, is on small networks.

The profile is $AUTOPRIVACY_BENCHMARK_PROFILE (name or folder); without one, a --quick run takes the first stored. A
full run is kept in runs/benchmarks and goes on there.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from autoprivacy.agent.choosing import choose
from autoprivacy.agent.environment import Environment, within_drop
from autoprivacy.agent.joint import beat
from autoprivacy.agent.judging import calls_until, median_over, regret_pct
from autoprivacy.agent.methods import exact, tpe
from autoprivacy.agent.methods.random_search import random_episodes
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.problem import Problem, units
from autoprivacy.agent.searching import Search, Settings
from autoprivacy.agent.training import Training, trained
from autoprivacy.common.files import write_atomic
from autoprivacy.common.progress import silent
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.prediction import Deployment
from autoprivacy.networks import data, zoo
from benchmarks.document import RUNS, Document, Target, parse_options
from benchmarks.searches import assume_costs, benchmarked_model

NETWORKS: Final = ("minionn", "resnet32")
TARGETS: Final = {
    "minionn_ddpg_regret_pct": Target("at most", 1),
    "resnet32_ddpg_regret_pct": Target("at most", 2),
    **{f"{network}_ddpg_s": Target("at most", 300) for network in NETWORKS},
}
CALLS: Final = 1000
SEEDS: Final = 10
TPE_SEEDS: Final = {"minionn": 3, "resnet32": 1}
"""TPE takes minutes where an agent takes seconds; each of its runs has as many calls."""

LINKS: Final = ("1gbe", "wan-100mbps")
NEAR: Final = 1.01
JOINT_NETWORKS: Final = ("digits-cnn", "lenet5")
JOINT_SIMULATED: Final = 20
JOINT_WIDER: Final = 2
SETTINGS: Final = Settings(max_accuracy_drop=0.005)


def _search(name: str, deployment: Deployment, settings: Settings, folder: Path | None) -> Search:
    return Search(zoo.load(name), data.splits(name), DeploymentPricing(deployment), settings, silent, folder=folder)


class OutOfTimeError(Exception):
    """The budget is used up; what was made is kept."""


@dataclass(slots=True)
class Once:
    """Makes what is not kept yet, until the time is up; at least one piece a run, so that every run gets on."""

    until: float
    made: int = 0

    def __call__(self, file: Path | None, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was made before, if its file is there."""
        if file is not None and file.exists():
            kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return kept
        if self.made and time.monotonic() > self.until:
            raise OutOfTimeError
        self.made += 1
        return _made(file, make)


def _made(file: Path | None, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    made = make()
    if file is not None:
        write_atomic(file, json.dumps(made).encode())
    return made


@dataclass(frozen=True, eq=False)
class Case:
    """One problem, what its seeds may price, and where results are kept."""

    problem: Problem
    budget: int
    seeds: int
    calls: int
    folder: Path | None
    once: Once

    def file(self, name: str) -> Path | None:
        """Where something is kept."""
        return None if self.folder is None else self.folder / name

    @cached_property
    def optimum_s(self) -> float:
        """The exact optimum's seconds."""
        return exact.solve(self.problem, self.budget, np.random.default_rng(0), 0).latency_s

    @cached_property
    def environment(self) -> Environment:
        """Where all methods act."""
        return within_drop(self.problem, self.budget)

    def regret_pct(self, seconds: float) -> float:
        """By how many percent it is above the optimum."""
        return regret_pct(seconds, self.optimum_s)

    def learned(self, seed: int) -> Training:
        """The agent of a seed."""
        return trained(self.environment, np.random.default_rng(seed), self.calls, file=self.file(f"seed-{seed}.npz"))


def _ddpg(case: Case, seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    run = case.learned(seed)
    took = time.perf_counter() - start
    tail = float(np.median(run.costs[-case.calls // 10 :]))
    return {"regret_pct": case.regret_pct(run.best_cost), "last_tenth_pct": case.regret_pct(tail), "wall_s": took}


def _random(case: Case, seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    costs = random_episodes(case.environment, np.random.default_rng(seed), case.calls)[1]
    return {"regret_pct": case.regret_pct(float(costs.min())), "wall_s": time.perf_counter() - start}


def _tpe(case: Case, seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    found = tpe.solve(case.problem, case.budget, np.random.default_rng(seed), case.calls)
    return {"regret_pct": case.regret_pct(found.latency_s), "wall_s": time.perf_counter() - start}


def _alone(case: Case, tpe_seeds: int) -> dict[str, Any]:
    """All methods on one problem, at equal calls."""
    methods = {"ddpg": (_ddpg, case.seeds), "random": (_random, case.seeds), "tpe": (_tpe, tpe_seeds)}
    found: dict[str, Any] = {"optimum_s": case.optimum_s, "calls": case.calls}
    for name, (solve, seeds) in methods.items():
        rows = [case.once(case.file(f"{name}-{seed}.json"), partial(solve, case, seed)) for seed in range(seeds)]
        regrets = [row["regret_pct"] for row in rows]
        found[name] = {what: [row[what] for row in rows] for what in rows[0]}
        found[name]["median_regret_pct"] = asdict(median_over(regrets))
        both = zip(found["ddpg"]["regret_pct"], regrets, strict=False)
        found[f"ddpg_less_{name}_pct"] = asdict(median_over([own - other for own, other in both]))
    del found["ddpg_less_ddpg_pct"]
    single = random_episodes(case.environment, np.random.default_rng(case.seeds), 10 * case.calls)[1]
    safest = case.environment.costs(case.environment.safest()[None])
    return found | {
        "random_episode_regret_pct": case.regret_pct(float(np.median(single))),
        "safest_regret_pct": case.regret_pct(float(safest[0])),
        "options_left": [layer.size for layer in case.environment.problem.layers],
    }


def _transfer(case: Case, other: Case) -> dict[str, Any]:
    """Calls until near the optimum of another deployment, begun anew and as the agents that learned on the first."""
    goal = NEAR * other.optimum_s
    anew: list[int | None] = []
    carried: list[int | None] = []
    for seed in range(case.seeds):
        for calls, known in ((anew, None), (carried, case.learned(seed).agent.arrays())):
            rng = np.random.default_rng(1000 + seed)
            calls.append(calls_until(trained(other.environment, rng, other.calls, begin_as=known).costs, goal))
    counted = [[each or other.calls for each in calls] for calls in (anew, carried)]
    random = [
        calls_until(random_episodes(other.environment, np.random.default_rng(1000 + seed), other.calls)[1], goal)
        for seed in range(case.seeds)
    ]
    return {
        "optimum_s": other.optimum_s,
        "anew": anew,
        "carried": carried,
        "random": random,
        "anew_median": asdict(median_over(counted[0])),
        "carried_median": asdict(median_over(counted[1])),
        "carried_less_anew": asdict(median_over([b - a for a, b in zip(*counted, strict=True)])),
    }


def _network(name: str, model: MachineModel, document: Document, once: Once, *, quick: bool) -> None:
    deployment = Deployment(model, model)
    settings = (
        replace(SETTINGS, weight_bits=(4, 8), activation_bits=(4, 8), sensitivity_images=200) if quick else SETTINGS
    )
    seeds, calls = (3, 120) if quick else (SEEDS, CALLS)
    search = _search(name, deployment, settings, None if quick else RUNS / name)
    assumed = not zoo.is_trained(name)
    if assumed:
        assume_costs(search, _search("minionn", deployment, settings, RUNS / "minionn"))
    budget = units(settings.max_accuracy_drop)
    case = Case(search.tables().problem, budget, seeds, calls, _folder(name, model, quick=quick), once)
    found = _alone(case, 1 if quick else TPE_SEEDS[name])
    transfers = {}
    for link in LINKS[:1] if quick else LINKS:
        other = Deployment(model, model, fit_link(machine_profile.find_link(link)))
        tables = search.under(settings.circuit_privacy, DeploymentPricing(other)).tables()
        there = Case(tables.problem, budget, seeds, calls, None, once)
        transfers[link] = once(case.file(f"transfer-{link}.json"), partial(_transfer, case, there))
    ratios = [each["carried_median"]["median"] / each["anew_median"]["median"] for each in transfers.values()]
    figures = {
        "ddpg_regret_pct": found["ddpg"]["median_regret_pct"]["median"],
        "ddpg_regret_upper_pct": found["ddpg"]["median_regret_pct"]["high"],
        "ddpg_s": float(np.median(found["ddpg"]["wall_s"])),
        "random_regret_pct": found["random_episode_regret_pct"],
        "transfer_calls_ratio": float(np.median(ratios)),
    }
    document.figures |= {f"{name}_{figure}": value for figure, value in figures.items() if value is not None}
    costs = "assumed: those of minionn" if assumed else "measured"
    document.context[name] = found | {"transfer": transfers, "accuracy_costs": costs}


def _folder(name: str, model: MachineModel, *, quick: bool) -> Path | None:
    """Results are of one profile."""
    return None if quick else RUNS / name / model.profile_id


def _joint(name: str, model: MachineModel, once: Once) -> dict[str, Any]:
    """Problem B: whether policies that the agent, or random episodes, met beat the repaired exact solution."""
    search = _search(name, Deployment(model, model), SETTINGS, RUNS / name)
    tables = search.tables()
    best, drop, simulated = choose(search, tables)
    environment = within_drop(tables.problem, JOINT_WIDER * max(best.penalty, units(SETTINGS.max_accuracy_drop)))

    def judged(method: str, seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        if method == "ddpg":
            run = trained(environment, rng, CALLS)
            policies, seconds = np.array(run.policies), np.array(run.costs)
        else:
            policies, seconds = random_episodes(environment, rng, CALLS)
        return asdict(beat(search, tables, best.latency_s, policies, seconds, most_simulated=JOINT_SIMULATED))

    told = {
        method: [
            once(RUNS / name / model.profile_id / f"joint-{method}-{seed}.json", partial(judged, method, seed))
            for seed in range(SEEDS)
        ]
        for method in ("ddpg", "random")
    }
    gains = {method: [100 * row["gain"] for row in rows] for method, rows in told.items()}
    paired = [own - other for own, other in zip(gains["ddpg"], gains["random"], strict=True)]
    return {
        "repaired_exact_s": best.latency_s,
        "repaired_exact_drop_upper": drop.upper,
        "simulated_by_exact": simulated,
        "simulated_at_most_by_others": JOINT_SIMULATED,
        **{f"{method}_gain_pct": asdict(median_over(values)) for method, values in gains.items()},
        "ddpg_less_random_pct": asdict(median_over(paired)),
        "seeds": told,
    }


def main() -> None:
    """Judge the agent on every network."""
    options = parse_options(__doc__)
    model = benchmarked_model(quick=options.quick)
    document = Document("agent", options.quick, TARGETS)
    once = Once(time.monotonic() + (np.inf if options.budget_s is None else options.budget_s))
    try:
        if not options.quick:  # first, for resnet32 takes longest to begin
            document.context["problem_b"] = {name: _joint(name, model, once) for name in JOINT_NETWORKS}
        for network in ("digits-cnn",) if options.quick else NETWORKS:
            _network(network, model, document, once, quick=options.quick)
    except OutOfTimeError:
        sys.exit("the time is up; the same command goes on")
    document.finish(options)


if __name__ == "__main__":
    main()
