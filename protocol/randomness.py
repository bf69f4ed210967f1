"""Secret randomness: always from the operating system."""

import os

import numpy as np
from numpy.typing import NDArray


def random_below(bound: int, count: int) -> NDArray[np.uint64]:
    """`count` uniform integers in [0, bound), bound at most 2^63; by rejection, so without bias."""
    bits = (bound - 1).bit_length()
    mask = np.uint64((1 << bits) - 1)
    found = np.empty(0, np.uint64)
    while found.size < count:
        missing = count - found.size
        words = np.frombuffer(os.urandom(8 * (missing + missing // 8 + 8)), np.uint64) & mask
        found = np.concatenate([found, words[words < bound]])
    return found[:count]
