from itertools import product

import numpy as np
import pytest

from autoprivacy.agent.problem import UNIT, Problem, units
from tests.agent.problems import chain, residual

PROBLEMS = [chain(0), chain(1, forbid=0.2), residual(2), residual(3, forbid=0.3)]


def by_hand(problem: Problem, policy: tuple[int, ...]) -> float:
    total = problem.constant_s
    for layer, option in zip(problem.layers, policy, strict=True):
        total += float(layer.seconds[option])
    for term in problem.terms:
        total += float(term.table[tuple(of[policy[at]] for at, of in zip(term.layers, term.attributes, strict=True))])
    return total


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_batch_is_priced_as_each_policy_by_hand(problem: Problem) -> None:
    policies = list(product(*(range(layer.size) for layer in problem.layers)))
    found = problem.latency(np.array(policies))
    np.testing.assert_allclose(found, [by_hand(problem, policy) for policy in policies], rtol=1e-12)
    assert np.concatenate(list(problem.everything(100))).tolist() == [list(policy) for policy in policies]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_leaving_options_out_changes_no_other_policy(problem: Problem) -> None:
    rng = np.random.default_rng(5)
    chosen = [np.sort(rng.choice(layer.size, layer.size - 1, replace=False)) for layer in problem.layers]
    smaller = problem.kept(chosen)
    for block in smaller.everything():
        original = np.stack([keep[block[:, index]] for index, keep in enumerate(chosen)], axis=1)
        np.testing.assert_allclose(smaller.latency(block), problem.latency(original), rtol=1e-12)
        np.testing.assert_array_equal(smaller.penalty(block), problem.penalty(original))


@pytest.mark.parametrize("seed", range(20))
def test_every_budget_keeps_its_optimum_when_beaten_options_go(seed: int) -> None:
    problem = chain(seed, forbid=0.15) if seed % 2 else residual(seed, forbid=0.2)
    reduced, _ = problem.reduced()
    assert reduced.size < problem.size
    for budget in (0, 20, 60, 500):
        assert best(problem, budget) == pytest.approx(best(reduced, budget), rel=1e-12)


def best(problem: Problem, budget: int) -> float:
    found = np.inf
    for block in problem.everything():
        seconds = problem.latency(block)[problem.penalty(block) <= budget]
        found = min(found, float(seconds.min(initial=np.inf)))
    return found


def test_shares_become_whole_units() -> None:
    assert [units(share) for share in (-0.1, 0.0, UNIT, 1.01 * UNIT, 0.005)] == [0, 0, 1, 1, 500]
