"""Rings Z_q[X]/(X^n + 1) for our own kernels: words (polynomials, limbs, n), each below its prime.

Where all primes are below 2^30 a word has 32 bits, which doubles what caches and vectors hold; else it has 64.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from autoprivacy.protocol import _ring
from autoprivacy.protocol.linear_shape import IntArray

RingWords: TypeAlias = NDArray[Any]
"""Words of a ring's own width: uint32 or uint64."""

_NARROW_BITS: Final = 30
_RINGS: Final = 64


class Ring(Protocol):
    """What `_ring.NarrowRing` and `_ring.WideRing` do."""

    @property
    def path(self) -> str:
        """The instruction set that is used: 'avx512', 'avx2' or 'portable'."""
        ...

    def forward(self, x: RingWords) -> RingWords:
        """NTT of polynomials (polynomials, limbs, n); bit-reversed order, which is not SEAL's business."""
        ...

    def inverse(self, x: RingWords) -> RingWords:
        """The inverse of `forward`."""
        ...

    def multiply_accumulate(self, left: Sequence[RingWords], right: Sequence[RingWords]) -> RingWords:
        """The sum of products of each left (polynomials, limbs, n) with its right (limbs, n), slot by slot."""
        ...

    def add(self, left: RingWords, right: RingWords) -> RingWords:
        """The sum, limb by limb."""
        ...

    def encode(self, values: IntArray) -> RingWords:
        """Signed integers (n,) modulo every prime, in NTT form (limbs, n)."""
        ...

    def add_plain(self, ciphertext: RingWords, plain: IntArray, t: int) -> RingWords:
        """A ciphertext (2, limbs, n) plus round(q m / t) for a plaintext m (n,) in [0, t)."""
        ...

    def encrypt_zero(self, key: RingWords, random: bytes) -> RingWords:
        """An encryption of zero (2, limbs, n) under a public key in NTT form; ValueError if bytes do not suffice."""
        ...

    def drop_limb(self, x: RingWords) -> RingWords:
        """Divided by the last prime and rounded: (polynomials, limbs - 1, n)."""
        ...


@lru_cache(_RINGS)
def ring_of(n: int, primes: tuple[int, ...], path: str = "best") -> Ring:
    """The ring of these primes, made once."""
    kind = _ring.NarrowRing if max(primes) >> _NARROW_BITS == 0 else _ring.WideRing
    return cast("Ring", kind(n, primes, path))


def word_type(primes: tuple[int, ...]) -> type[np.unsignedinteger[Any]]:
    """The type of a ring's words."""
    return np.uint32 if max(primes) >> _NARROW_BITS == 0 else np.uint64
