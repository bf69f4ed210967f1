"""Small pure functions on lists of seconds.

>>> quiet([5.0, 1.0, 2.0, 3.0, 4.0])
1.2
>>> typical([5.0, 1.0, 2.0, 3.0, 4.0])
3.0
"""

from collections.abc import Sequence

import numpy as np

QUIET_QUANTILE = 0.05


def quiet(seconds: Sequence[float]) -> float:
    """The 5 % quantile: what an operation takes when nothing disturbs it."""
    return float(np.quantile(np.asarray(seconds), QUIET_QUANTILE))


def typical(seconds: Sequence[float]) -> float:
    """The median."""
    return float(np.median(np.asarray(seconds)))


def quiet_interval(
    seconds: Sequence[float], rng: np.random.Generator, *, level: float = 0.95, draws: int = 400
) -> tuple[float, float]:
    """Percentile bootstrap interval of the quiet time at `level`, from resampled blocks."""
    values = np.asarray(seconds)
    resampled = values[rng.integers(0, len(values), (draws, len(values)))]
    estimates = np.quantile(resampled, QUIET_QUANTILE, axis=1)
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def median_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float] | None:
    """Distribution-free interval of the median from order statistics; None where there are too few values.

    >>> median_interval(range(1, 11))
    (2.0, 9.0)
    """
    from scipy.stats import binom

    ordered = np.sort(np.asarray(values, dtype=float))
    # P(X_(r+1) > median) = P(Binomial(N, 1/2) <= r): leave out as many at each end as (1 - level) / 2 allows.
    outside = int(binom.ppf((1 - level) / 2, len(ordered), 0.5)) - 1
    while outside + 1 < len(ordered) / 2 and binom.cdf(outside + 1, len(ordered), 0.5) <= (1 - level) / 2:
        outside += 1
    if outside < 0:
        return None
    return float(ordered[outside]), float(ordered[-1 - outside])
