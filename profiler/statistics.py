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
FORGOTTEN: Final = 0.1
"""At so much more in the logarithm of the reference operation's time, what was seen counts a factor of e less.

In spells operations do not slow down alike: some by half as much again as the reference operation
(receiving ciphertexts, in logarithms), some by a quarter less (sending transfers).
From 56 blocks of six operations on a machine that was quiet for 12 % of them (Zen 3 virtual machine, 18,000 blocks):
quiet times are 1.3 % longer than those of the quiet blocks alone, not 4.1 %; typical ones 2 % shorter to as long, not
4 % shorter to 13 % longer. Between 0.03 and 0.2 it matters little; on a quiet machine all count alike.
"""


def quiet(seconds: Sequence[float], slowdowns: Sequence[float] = ()) -> float:
    """The 5 % quantile: what an operation takes when nothing disturbs it.

    Where the reference operation's `slowdowns` beside them are known, what was seen in spells counts less (`counts`).
    """
    return float(weighted_quantile(np.asarray(seconds), counts(slowdowns or np.ones(len(seconds))), QUIET_QUANTILE))


def typical(seconds: Sequence[float], slowdowns: Sequence[float] = ()) -> float:
    """The median; what was seen in spells counts less, as with `quiet`.

    >>> typical([1.0, 1.1, 1.2, 1.3, 1.4])
    1.2
    >>> round(typical([1.0, 1.1, 1.2, 1.3, 1.4], [1.0, 1.0, 1.0, 2.0, 2.0]), 1)
    1.1
    """
    return float(weighted_quantile(np.asarray(seconds), counts(slowdowns or np.ones(len(seconds))), 0.5))


def counts(slowdowns: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """How much what was seen beside such slow-downs says of the quiet machine.

    >>> counts([0.9, 1.0, 1.1, 1.5]).round(2).tolist()
    [1.0, 1.0, 0.39, 0.02]
    """
    found: NDArray[np.float64] = np.exp(-np.maximum(0.0, np.log(slowdowns)) / FORGOTTEN)
    return found


def weighted_quantile(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Of values (..., count) with weights (..., count), the quantile (...) at `share`, interpolated linearly.

    With equal weights it is numpy's, whose own weighted quantiles do not interpolate.
    """
    if values.shape[-1] == 1:
        return values[..., 0]
    order = np.argsort(values, axis=-1)
    ordered, heavy = (np.take_along_axis(each, order, axis=-1) for each in (values, weights))
    places = np.zeros(values.shape)
    places[..., 1:] = np.cumsum((heavy[..., :-1] + heavy[..., 1:]) / 2, axis=-1)
    wanted = share * places[..., -1:]
    above = np.clip((places <= wanted).sum(axis=-1, keepdims=True), 1, values.shape[-1] - 1)
    (low, high), (start, end) = (
        [np.take_along_axis(each, at, axis=-1)[..., 0] for at in (above - 1, above)] for each in (ordered, places)
    )
    found: NDArray[np.float64] = low + (high - low) * (wanted[..., 0] - start) / (end - start)
    return found


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
    other things than the machine's spells disturb it. It is never below the quiet time. For both, what was seen in
    spells counts less.
    """
    values, weights = np.asarray(seconds, dtype=float), counts(slowdowns)
    levelled = values / np.asarray(slowdowns, dtype=float)
    drawn = rng.integers(0, len(values), (DRAWS, len(values)))
    quiet_s, quiet_low, quiet_high = _with_interval(values, weights, drawn, QUIET_QUANTILE)
    typicals = _with_interval(levelled, weights, drawn, 0.5)
    typical_s, typical_low, typical_high = (max(quiet_s, each) for each in typicals)
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
    values: NDArray[np.float64], weights: NDArray[np.float64], drawn: NDArray[np.int64], quantile: float
) -> tuple[float, float, float]:
    """A quantile, and its percentile bootstrap interval, which is made to hold it."""
    found = float(weighted_quantile(values, weights, quantile))
    estimates = weighted_quantile(values[drawn], weights[drawn], quantile)
    low, high = np.quantile(estimates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return found, min(found, float(low)), max(found, float(high))


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
