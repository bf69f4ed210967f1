"""Secret randomness: every draw asks the operating system, so that forked processes never repeat it.

A long draw asks for a seed of 32 bytes and expands it by ChaCha20 (libsodium), five times faster than the kernel does.
"""

import os
from typing import Final

import numpy as np
from nacl.utils import randombytes_deterministic
from numpy.typing import NDArray

BINOMIAL_BITS: Final = 42
"""SEAL's noise: 21 coins minus 21 coins [SEAL, `sample_poly_cbd`]."""


_LONGEST_DIRECT: Final = 1024
_SEED_BYTES: Final = 32


def secret_bytes(count: int) -> bytes:
    """`count` random bytes."""
    if count <= _LONGEST_DIRECT:
        return os.urandom(count)
    return randombytes_deterministic(count, os.urandom(_SEED_BYTES))


def random_below(bound: int, count: int) -> NDArray[np.uint64]:
    """`count` uniform integers in [0, bound), bound at most 2^63; by rejection, so without bias."""
    bits = (bound - 1).bit_length()
    mask = np.uint64((1 << bits) - 1)
    found = np.empty(0, np.uint64)
    while found.size < count:
        missing = count - found.size
        # A power of two rejects nothing; any other bound rejects less than half.
        drawn = missing if bound == 1 << bits else missing + missing // 8 + 8
        words = np.frombuffer(secret_bytes(8 * drawn), np.uint64) & mask
        found = np.concatenate([found, words[words < bound]])
    return found[:count]


def wide_noise(bits: int, moduli: tuple[int, ...], count: int) -> NDArray[np.uint64]:
    """`count` integers uniform in [-2^bits, 2^bits), as residues (moduli, count); moduli below 2^60.

    For noise wider than a word: drawn as 32-bit digits, which are weighted modulo each prime.
    """
    digits = np.frombuffer(secret_bytes(4 * count * (bits // 32 + 1)), "<u4").reshape(-1, count).astype(np.uint64)
    digits[-1] &= np.uint64((2 << bits % 32) - 1)
    found = np.empty((len(moduli), count), np.uint64)
    for row, modulus in enumerate(moduli):
        residues = np.full(count, -(1 << bits) % modulus, np.uint64)
        for place, digit in enumerate(digits):
            residues += _multiply(digit, (1 << 32 * place) % modulus, modulus)
            np.minimum(residues, residues - np.uint64(modulus), out=residues)
        found[row] = residues
    return found


def _multiply(values: NDArray[np.uint64], factor: int, modulus: int) -> NDArray[np.uint64]:
    """The products values * factor modulo `modulus`, for values below 2^32 and factor < modulus < 2^60.

    The quotient is below 2^32, so a double gives it up to one; words wrap, which their difference does not notice.
    """
    quotient = (values * (factor / modulus)).astype(np.uint64)
    rest = values * np.uint64(factor) - quotient * np.uint64(modulus)
    rest = np.minimum(rest, rest + np.uint64(modulus))
    return np.minimum(rest, rest - np.uint64(modulus))
