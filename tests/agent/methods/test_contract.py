"""What every method promises, on chains and on residual couplings."""

import numpy as np
import pytest

from autoprivacy.agent.methods import CALLS, METHODS, exact, method
from autoprivacy.agent.methods.interface import Solution
from autoprivacy.agent.problem import Problem
from autoprivacy.common.errors import BadInput, Refused
from tests.agent.problems import chain, residual

PROBLEMS = {"chain": chain(10), "forbidding chain": chain(11, forbid=0.15), "residual": residual(12)}
MOST = {"enumeration": 10_000, "tpe": 25, "ddpg": 40}
BUDGETS = (0, 25, 60, 1000)


def solved(name: str, problem: Problem, budget: int, seed: int = 0) -> Solution | None:
    try:
        return METHODS[name](problem, budget, np.random.default_rng(seed), MOST.get(name, 1500))
    except Refused:
        return None


def best(problem: Problem, budget: int) -> float:
    found = np.inf
    for block in problem.everything():
        found = min(found, float(problem.latency(block)[problem.penalty(block) <= budget].min(initial=np.inf)))
    return found


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("name", METHODS)
def test_the_contract(name: str, kind: str, budget: int) -> None:
    problem = PROBLEMS[kind]
    found, again, optimum = solved(name, problem, budget), solved(name, problem, budget), best(problem, budget)
    if found is None:
        # A method that looks at few policies may miss what exists; only uniform may find nothing at a large budget.
        assert again is None
        assert np.isinf(optimum) or name == "uniform"
        return
    assert again is not None
    np.testing.assert_array_equal(found.policy, again.policy)
    assert found.latency_s == again.latency_s == problem.latency(found.policy[None])[0]
    assert found.penalty == problem.penalty(found.policy[None])[0] <= budget
    assert found.priced <= MOST.get(name, 1500)
    assert found.latency_s >= optimum * (1 - 1e-12)
    if found.proven:
        assert found.latency_s == pytest.approx(optimum, rel=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_exact_is_what_enumeration_finds(seed: int) -> None:
    problem = chain(seed, 3 + seed % 3, forbid=0.1) if seed % 2 else residual(seed)
    rng = np.random.default_rng(seed)
    for budget in rng.integers(0, 150, 3).tolist():
        optimum = best(problem, budget)
        found = solved("exact", problem, budget)
        assert (found is None) == np.isinf(optimum)
        if found is not None:
            assert found.proven
            assert found.latency_s == pytest.approx(optimum, rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_the_dual_is_what_enumeration_finds(seed: int) -> None:
    problem = chain(seed) if seed % 2 else residual(seed)
    policies = np.concatenate(list(problem.everything()))
    seconds, penalty = problem.latency(policies), problem.penalty(policies)
    for share in (0.0, 0.1, 0.6):
        limit = float(np.quantile(seconds[np.isfinite(seconds)], share))
        found = exact.most_accurate(problem, limit)
        assert found.latency_s <= limit
        assert found.penalty == penalty[seconds <= limit].min()
    with pytest.raises(Refused, match="the fastest is predicted"):
        exact.most_accurate(problem, 0.99 * float(seconds.min()))


def test_impossible_budgets_say_what_is_possible() -> None:
    problem = chain(3)
    raised = Problem(tuple(type(one)(one.name, one.seconds, one.penalty + 10, one.family) for one in problem.layers))
    with pytest.raises(Refused, match=r"0\.039 points.*0\.040"):
        exact.solve(raised, 39, np.random.default_rng(0), 0)


def test_methods_that_draw_price_as_many_policies() -> None:
    assert CALLS["random"] == CALLS["tpe"]
    for name in CALLS:
        found = METHODS[name](PROBLEMS["residual"], 60, np.random.default_rng(0), 30)
        assert found.priced == 30
        assert found.pricing_s > 0


def test_other_names_are_refused() -> None:
    with pytest.raises(BadInput, match="exact, enumeration"):
        method("annealing")
