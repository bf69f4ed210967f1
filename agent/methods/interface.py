"""What every method is given, and what it gives back; the contract is tests/agent/methods/test_contract.py."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from autoprivacy.agent.problem import Ints, Problem
from autoprivacy.common.errors import Refused


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A policy (layers,), its seconds and units, and how many policies the method priced; 0 where it priced none.

    `proven` says that no policy within the budget is faster, `pricing_s` how long pricing took.
    """

    policy: Ints
    latency_s: float
    penalty: int
    priced: int
    proven: bool = False
    pricing_s: float = 0.0


@dataclass(slots=True)
class Pricer:
    """Prices policies for a method, and counts; refuses beyond `most`."""

    problem: Problem
    most: int
    priced: int = 0
    best: Ints | None = field(default=None)
    best_s: float = field(default=np.inf)
    pricing_s: float = 0.0

    @property
    def left(self) -> int:
        """How many more may be priced."""
        return self.most - self.priced

    def price(self, policies: Ints, budget: int) -> tuple[np.ndarray, np.ndarray]:
        """Seconds and units (P,) of policies (P, layers); remembers the fastest within the budget."""
        if len(policies) > self.left:
            raise AssertionError(f"{len(policies)} policies asked for, {self.left} left")
        self.priced += len(policies)
        start = time.perf_counter()
        seconds, penalty = self.problem.latency(policies), self.problem.penalty(policies)
        self.pricing_s += time.perf_counter() - start
        within = np.where(penalty <= budget, seconds, np.inf)
        if len(policies) and within.min() < self.best_s:
            at = int(within.argmin())
            self.best, self.best_s = policies[at].copy(), float(within[at])
        return seconds, penalty

    def solution(self) -> Solution:
        """The fastest policy that was priced within the budget.

        Raises:
            Refused: if there was none.
        """
        return solution_found(self.problem, self.best, self.priced, self.pricing_s)


DualMethod: TypeAlias = Callable[[Problem, float, np.random.Generator, int], Solution]
"""Takes the problem, a latency budget in seconds, a generator and how many policies it may price: least penalty.

Raises:
    Refused: if it finds no policy so fast.
"""

Method: TypeAlias = Callable[[Problem, int, np.random.Generator, int], Solution]
"""Takes the problem, the budget in units, a generator, and how many policies it may price at most.

Raises:
    Refused: if it finds no policy within the budget.
"""


def solution_of(problem: Problem, policy: Ints, priced: int, *, proven: bool = False) -> Solution:
    """A solution with exact figures."""
    return Solution(
        policy.astype(np.int64),
        float(problem.latency(policy[None])[0]),
        int(problem.penalty(policy[None])[0]),
        priced,
        proven,
    )


def solution_found(problem: Problem, policy: Ints | None, priced: int, pricing_s: float) -> Solution:
    """The best policy that a method met.

    Raises:
        Refused: if it met none.
    """
    if policy is None:
        raise Refused("no policy that this method tried keeps the limit; allow a larger drop or another method")
    return replace(solution_of(problem, policy, priced), pricing_s=pricing_s)
