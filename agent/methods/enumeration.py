"""Every policy: what the exact method is proven against, on small problems only."""

from dataclasses import replace

import numpy as np

from autoprivacy.agent.methods.interface import Pricer, Solution
from autoprivacy.agent.problem import Problem, infeasible
from autoprivacy.common.errors import Refused


def solve(problem: Problem, budget: int, rng: np.random.Generator, most: int) -> Solution:  # noqa: ARG001 - a `Method`
    """The fastest policy within the budget, the first of equals; proven."""
    if problem.size > most:
        raise Refused(f"{problem.size:.3g} policies are too many to try all of them; use the method `exact`")
    pricer = Pricer(problem, most)
    for block in problem.everything():
        pricer.price(block, budget)
    if pricer.best is None:
        raise infeasible(problem, budget)
    return replace(pricer.solution(), proven=True)
