"""Rounding to integers of so many bits, and steps that are powers of two.

A value is q * 2^-e: an integer q, and the exponent e of its step.
"""

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.networks.convolution import Ints

Values: TypeAlias = NDArray[np.floating[Any]]

_TRIED: Final = range(-4, 5)
"""Exponents tried, around that of the finest step at which nothing saturates."""


def signed_range(bits: int) -> tuple[int, int]:
    """The least and the greatest integer of that many bits in two's complement."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def unsigned_range(bits: int) -> tuple[int, int]:
    """The least and the greatest integer of that many bits without a sign."""
    return 0, 2**bits - 1


def to_integers(scaled: Values, low: int, high: int) -> Ints:
    """Round half up, as floor after adding a half does in the circuit, and saturate."""
    # In float64, whatever comes in: a float32 just below a half would be rounded up by the addition.
    rounded = np.floor(np.asarray(scaled, dtype=np.float64) + 0.5)
    integers: Ints = rounded.clip(low, high).astype(np.int64)
    return integers


def step_exponents(rows: Values, low: int, high: int) -> Ints:
    """For each row (R, K) the e for which rounding to q * 2^-e, q in [low, high], has the least squared error.

    Sought among the nine e around the finest step at which nothing saturates; of equals the least e. A row of zeros
    has 0.
    """
    rows = np.asarray(rows, dtype=np.float64)
    # How far the step must reach: from there, saturate a little, or take fewer of the levels.
    reach = np.maximum(rows.max(axis=1, initial=0.0) / high, -rows.min(axis=1, initial=0.0) / -low if low else 0.0)
    empty = reach == 0
    finest = np.floor(-np.log2(np.where(empty, 1.0, reach))).astype(np.int64)
    best, least = finest.copy(), np.full(len(rows), np.inf)
    for offset in _TRIED:
        scaled = np.ldexp(rows, (finest + offset)[:, None])
        rounded = np.clip(np.floor(scaled + 0.5), low, high)
        # At the common scale 2^finest errors can be compared, and neither overflow nor vanish.
        error = np.square(np.ldexp(scaled - rounded, -offset)).sum(axis=1)
        better = error < least
        best[better], least[better] = finest[better] + offset, error[better]
    best[empty] = 0
    return best


def step_exponent(values: Values, low: int, high: int) -> int:
    """`step_exponents` of all values together."""
    return int(step_exponents(np.reshape(values, (1, -1)), low, high)[0])
