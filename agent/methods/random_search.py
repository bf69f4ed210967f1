"""Random: policies drawn with options of random penalty limits, so that draws fall on both sides of the budget."""

import numpy as np

from autoprivacy.agent.methods.interface import Pricer, Solution
from autoprivacy.agent.methods.starting import safest
from autoprivacy.agent.problem import Ints, Problem

_AT_ONCE = 1024


def solve(problem: Problem, budget: int, rng: np.random.Generator, most: int) -> Solution:
    """The fastest of `most` draws within the budget, the most accurate policy being the first."""
    pricer = Pricer(problem, most)
    start = safest(problem, budget)
    pricer.price(start[None][: pricer.left], budget)
    order = [np.argsort(layer.penalty, kind="stable") for layer in problem.layers]
    while pricer.left:
        pricer.price(_drawn(problem, start, order, rng, min(_AT_ONCE, pricer.left)), budget)
    return pricer.solution()


def _drawn(problem: Problem, start: Ints, order: list[Ints], rng: np.random.Generator, count: int) -> Ints:
    """Draws (count, layers): up to a penalty rank that a draw has in common; coupled layers often stay as they were."""
    found = np.empty((count, len(problem.layers)), np.int64)
    reach = rng.random(count)
    stays = rng.random(found.shape) < rng.random((count, 1))
    for index, layer in enumerate(problem.layers):
        ranks = (rng.random(count) * np.maximum(1, reach * layer.size)).astype(np.int64)
        found[:, index] = order[index][ranks]
    return np.where(stays, start, found)
