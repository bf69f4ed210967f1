"""Per-layer binary search of the tolerated penalty, as Concrete ML searches one tolerated error for a whole network.

All layers first get the same limit (or what the most accurate policy needs), the greatest that the budget holds; then,
layer after layer, what is left over.
[ConcreteML]
"""

import numpy as np

from autoprivacy.agent.methods import exact
from autoprivacy.agent.methods.interface import Pricer, Solution
from autoprivacy.agent.methods.starting import safest
from autoprivacy.agent.problem import Ints, Problem
from autoprivacy.common.errors import Refused


def solve(problem: Problem, budget: int, rng: np.random.Generator, most: int) -> Solution:  # noqa: ARG001 - a `Method`
    """The fastest options under limits per layer that binary search finds."""
    pricer = Pricer(problem, most)
    start = safest(problem, budget)
    if most:
        pricer.price(start[None], budget)
    limits = np.array([layer.penalty[option] for layer, option in zip(problem.layers, start, strict=True)], np.int64)

    def tried(wanted: Ints) -> bool:
        policy = _fastest_under(problem, wanted)
        if policy is None or pricer.left < 1:
            return False
        _, penalty = pricer.price(policy[None], budget)
        return bool(penalty[0] <= budget)

    def greatest(raised: Ints) -> None:
        """Raise the limits of some layers together as far as the budget allows."""
        nonlocal limits
        low, high = 0, budget
        while low < high:
            middle = (low + high + 1) // 2
            if tried(np.where(raised, np.maximum(limits, middle), limits)):
                low = middle
            else:
                high = middle - 1
        limits = np.where(raised, np.maximum(limits, low), limits)

    tried(limits)
    everywhere = np.ones(len(limits), bool)
    greatest(everywhere)
    for index in range(len(limits)):
        one = ~everywhere
        one[index] = True
        greatest(one)
    return pricer.solution()


def _fastest_under(problem: Problem, limits: Ints) -> Ints | None:
    """The fastest policy whose every layer keeps its own limit."""
    kept = [np.flatnonzero(layer.penalty <= limit) for layer, limit in zip(problem.layers, limits, strict=True)]
    if not all(len(options) for options in kept):
        return None
    try:
        inner = problem.kept(kept)
        found = exact.solve(inner, sum(int(layer.penalty.max()) for layer in inner.layers), np.random.default_rng(0), 0)
    except Refused:
        return None
    return np.array([options[at] for options, at in zip(kept, found.policy, strict=True)], np.int64)
