"""Small pure functions on lists of seconds.

>>> quiet([5.0, 1.0, 2.0, 3.0, 4.0])
1.2
>>> typical([5.0, 1.0, 2.0, 3.0, 4.0])
3.0
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.hwprofiles.samples import Measured

QUIET_QUANTILE: Final = 0.05
LEVEL: Final = 0.95
DRAWS: Final = 400


def quiet(seconds: Sequence[float]) -> float:
    """The 5 % quantile: what an operation takes when nothing disturbs it."""
    return float(np.quantile(np.asarray(seconds), QUIET_QUANTILE))


def typical(seconds: Sequence[float]) -> float:
    """The median."""
    return float(np.median(np.asarray(seconds)))


def dispersion(seconds: Sequence[float]) -> float:
    """Interquartile range over the median.

    >>> dispersion([1.0, 2.0, 3.0, 4.0, 5.0])
    0.6666666666666666
    """
    low, middle, high = np.quantile(np.asarray(seconds), (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def outliers(seconds: Sequence[float]) -> int:
    """How many lie above the third quartile by more than 1.5 interquartile ranges [Tukey].

    >>> outliers([1.0, 2.0, 3.0, 4.0, 5.0, 8.1])
    0
    >>> outliers([1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 20.0])
    1
    """
    values = np.asarray(seconds)
    low, high = np.quantile(values, (0.25, 0.75))
    return int((values > high + 1.5 * (high - low)).sum())


def summarise(seconds: Sequence[float], slowdowns: Sequence[float], rng: np.random.Generator) -> Measured:
    """The statistics of one setting: its blocks, and the reference operation's slow-down beside each of them.

    The typical time is the median of blocks divided by that slow-down: what it takes at the machine's quiet speed when
    other things than the machine's spells disturb it. It is never below the quiet time.
    """
    values = np.asarray(seconds, dtype=float)
    levelled = values / np.asarray(slowdowns, dtype=float)
    drawn = rng.integers(0, len(values), (DRAWS, len(values)))
    quiet_s, quiet_low, quiet_high = _with_interval(values, drawn, QUIET_QUANTILE)
    typical_s, typical_low, typical_high = (max(quiet_s, each) for each in _with_interval(levelled, drawn, 0.5))
    return Measured(
        blocks=len(values),
        quiet_s=quiet_s,
        quiet_low_s=quiet_low,
        quiet_high_s=quiet_high,
        typical_s=typical_s,
        typical_low_s=typical_low,
        typical_high_s=typical_high,
        seen_median_s=float(np.median(values)),
        seen_p95_s=float(np.quantile(values, 0.95)),
        dispersion=dispersion(seconds),
        outliers=outliers(seconds),
    )


def _with_interval(
    values: NDArray[np.float64], drawn: NDArray[np.int64], quantile: float
) -> tuple[float, float, float]:
    """A quantile, and its percentile bootstrap interval, which is made to hold it."""
    found = float(np.quantile(values, quantile))
    estimates = np.quantile(values[drawn], quantile, axis=1)
    low, high = np.quantile(estimates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return found, min(found, float(low)), max(found, float(high))


def quiet_interval(
    seconds: Sequence[float], rng: np.random.Generator, *, level: float = LEVEL, draws: int = DRAWS
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
    ordered = np.sort(np.asarray(values, dtype=float))
    outside = _left_out(len(ordered), level)
    if outside < 0:
        return None
    return float(ordered[outside]), float(ordered[-1 - outside])


def coverage_of_median_interval(count: int, *, level: float = 0.95) -> float:
    """How often `median_interval` of so many values holds the median: at least `level`, as ranks are whole; else 0.

    >>> round(coverage_of_median_interval(10), 4)
    0.9785
    """
    from scipy.stats import binom

    outside = _left_out(count, level)
    return 0.0 if outside < 0 else float(1 - 2 * binom.cdf(outside, count, 0.5))


def _left_out(count: int, level: float) -> int:
    """How many order statistics an interval of the median leaves out at each end; -1: there are too few."""
    from scipy.stats import binom

    # P(X_(r+1) > median) = P(Binomial(N, 1/2) <= r): leave out as many at each end as (1 - level) / 2 allows.
    outside = int(binom.ppf((1 - level) / 2, count, 0.5)) - 1
    while outside + 1 < count / 2 and binom.cdf(outside + 1, count, 0.5) <= (1 - level) / 2:
        outside += 1
    return outside


def ratio_interval(
    first: Sequence[float],
    second: Sequence[float],
    rng: np.random.Generator,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """Percentile bootstrap interval of median(first) / median(second), each resampled by itself."""
    above, below = np.asarray(first), np.asarray(second)
    drawn = np.median(above[rng.integers(0, len(above), (draws, len(above)))], axis=1)
    drawn /= np.median(below[rng.integers(0, len(below), (draws, len(below)))], axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The median of ratios of pairs measured one after the other, and its distribution-free interval.

    >>> paired_ratio([2.0] * 6, [1.0] * 6)
    (2.0, (2.0, 2.0))
    """
    ratios = (np.asarray(first) / np.asarray(second)).tolist()
    return typical(ratios), median_interval(ratios)
