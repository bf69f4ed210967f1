"""A first policy that terms allow, and the policies that differ from one in one layer or in two that a term couples."""

from itertools import combinations

import numpy as np

from autoprivacy.agent.methods import exact
from autoprivacy.agent.problem import Ints, Problem, infeasible
from autoprivacy.common.errors import Refused


def safest(problem: Problem, budget: int) -> Ints:
    """A policy (layers,) of least penalty that terms allow, the fastest of these.

    Raises:
        Refused: if it passes the budget.
    """
    least = [np.flatnonzero(layer.penalty == layer.penalty.min()) for layer in problem.layers]
    only = problem.kept(least)
    try:
        total = int(only.penalty(np.zeros((1, len(least)), np.int64))[0])
        if total > budget:
            raise infeasible(problem, budget)
        found = exact.solve(only, total, np.random.default_rng(0), 0).policy
    except Refused:
        if sum(int(layer.penalty.min()) for layer in problem.layers) > budget:
            raise
        return exact.solve(problem, budget, np.random.default_rng(0), 0).policy
    return np.array([options[at] for options, at in zip(least, found, strict=True)], np.int64)


def neighbours(problem: Problem, policy: Ints) -> Ints:
    """Policies (P, layers) with another option in one layer; options of equal penalty and attributes come once each."""
    found = []
    for index, layer in enumerate(problem.layers):
        changed = np.repeat(policy[None], layer.size, axis=0)
        changed[:, index] = np.arange(layer.size)
        found.append(np.delete(changed, policy[index], axis=0))
    return np.concatenate(found)


def coupled_pairs(problem: Problem) -> tuple[tuple[int, int], ...]:
    """Layers that a term which forbids something couples: one alone may not be able to move."""
    pairs = {pair for term in problem.terms if term.forbids for pair in combinations(sorted(set(term.layers)), 2)}
    return tuple(sorted(pairs))
