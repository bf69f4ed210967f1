from dataclasses import replace

import numpy as np
import pytest

from autoprivacy.agent import togo
from autoprivacy.agent.problem import Problem, Term
from autoprivacy.agent.togo import ToGo, forbidding, to_go
from autoprivacy.common.errors import Refused
from tests.agent.problems import chain, residual

PROBLEMS = [chain(0), chain(1, forbid=0.2), residual(2), residual(3, forbid=0.3)]


def of_seconds(problem: Problem) -> ToGo:
    return to_go([layer.seconds for layer in problem.layers], problem.terms)


def of_penalty(problem: Problem) -> ToGo:
    return to_go([layer.penalty.astype(float) for layer in problem.layers], forbidding(problem.terms))


def summed(found: ToGo, policies: np.ndarray) -> np.ndarray:
    """What the excess of every layer adds up to, with the least; infinite from where a policy has no completion."""
    total = np.full(len(policies), found.least)
    for index in range(policies.shape[1]):
        total += np.take_along_axis(found.excess(index, policies), policies[:, [index]], axis=1)[:, 0]
    return total


@pytest.mark.parametrize("problem", PROBLEMS)
def test_excesses_add_up_to_what_a_policy_takes(problem: Problem) -> None:
    policies = np.concatenate(list(problem.everything()))
    seconds = problem.latency(policies)
    allowed = np.isfinite(seconds)
    np.testing.assert_allclose(summed(of_seconds(problem), policies)[allowed] + problem.constant_s, seconds[allowed])
    np.testing.assert_array_equal(summed(of_penalty(problem), policies)[allowed], problem.penalty(policies)[allowed])
    assert np.isinf(summed(of_penalty(problem), policies)[~allowed]).all()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_least_is_that_of_all_completions(problem: Problem) -> None:
    policies = np.concatenate(list(problem.everything()))
    seconds = problem.latency(policies)
    found = of_seconds(problem)
    assert found.least + problem.constant_s == pytest.approx(seconds.min())
    for index in range(len(problem.layers)):
        start = policies[np.isfinite(seconds)][7, : index + 1]
        same = (policies[:, : index + 1] == start).all(axis=1)
        one = policies[same][:1]
        before = (policies[:, :index] == start[:index]).all(axis=1)
        excess = found.excess(index, one)[0, start[index]]
        assert excess == pytest.approx(seconds[same].min() - seconds[before].min())


def test_terms_may_name_layers_in_any_order() -> None:
    problem = residual(4)
    turned = tuple(Term(term.layers[::-1], term.attributes[::-1], np.transpose(term.table)) for term in problem.terms)
    policies = np.concatenate(list(problem.everything()))[::17]
    for index in range(len(problem.layers)):
        np.testing.assert_allclose(
            of_seconds(replace(problem, terms=turned)).excess(index, policies),
            of_seconds(problem).excess(index, policies),
        )


def test_too_dense_a_coupling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(togo, "MOST_ENTRIES", 8)
    with pytest.raises(Refused, match="use the method exact"):
        of_seconds(residual(2))
