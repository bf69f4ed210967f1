"""What learning is judged by: regret to the exact optimum over seeds, calls until near it, and paired differences."""

from collections.abc import Sequence

import numpy as np

from autoprivacy.agent.problem import Floats
from autoprivacy.common.records import record
from autoprivacy.profiler.statistics import coverage_of_median_interval, median_interval


@record
class Median:
    """A median over seeds with its distribution-free interval, which covers it with probability `coverage`.

    Both ends are None where there are too few seeds for 95 %.
    """

    median: float
    low: float | None
    high: float | None
    coverage: float
    seeds: int


def median_over(values: Sequence[float]) -> Median:
    """The median of one value a seed.

    >>> median_over([3.0, 1.0, 2.0, 5.0, 4.0, 6.0, 7.0, 8.0, 10.0, 9.0])
    Median(median=5.5, low=2.0, high=9.0, coverage=0.978515625, seeds=10)
    """
    found = median_interval(values)
    low, high = (None, None) if found is None else found
    return Median(float(np.median(values)), low, high, coverage_of_median_interval(len(values)), len(values))


def regret_pct(cost: float, optimum: float) -> float:
    """By how many percent a cost is above the optimum."""
    return 100 * (cost / optimum - 1)


def calls_until(costs: Sequence[float] | Floats, goal: float) -> int | None:
    """How many policies were priced until one cost at most `goal`; None if none did.

    >>> calls_until([3.0, 2.0, 1.5, 2.0], 2.0)
    2
    """
    reached = np.flatnonzero(np.asarray(costs) <= goal)
    return int(reached[0]) + 1 if len(reached) else None
