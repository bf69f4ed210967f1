"""The best single set: one family for all layers, and within it for each layer the best of what is left to choose."""

import numpy as np

from autoprivacy.agent.methods import enumeration, exact
from autoprivacy.agent.methods.interface import Pricer, Solution
from autoprivacy.agent.problem import Problem, infeasible
from autoprivacy.common.errors import Refused

_FEW = 20_000


def solve(problem: Problem, budget: int, rng: np.random.Generator, most: int) -> Solution:
    """The fastest policy of one family within the budget."""
    pricer = Pricer(problem, most)
    families = set(problem.layers[0].family.tolist())
    for layer in problem.layers:
        families &= set(layer.family.tolist())
    for family in sorted(families)[: pricer.left]:
        kept = [np.flatnonzero(layer.family == family) for layer in problem.layers]
        try:
            inner = problem.kept(kept)
            few = inner.size <= _FEW
            found = (enumeration if few else exact).solve(inner, budget, rng, _FEW)
        except Refused:
            continue
        policy = np.array([options[at] for options, at in zip(kept, found.policy, strict=True)], np.int64)
        pricer.price(policy[None], budget)
    if pricer.best is None:
        raise infeasible(problem, budget)
    return pricer.solution()
