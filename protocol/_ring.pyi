"""
Polynomials modulo X^n + 1 and a product of primes: NTT, sums of products, and the steps of BFV around them.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy
from numpy.typing import NDArray


class NarrowRing:
    def __init__(self, n: int, primes: Sequence[int], path: str = 'best') -> None: ...

    @property
    def path(self) -> str:
        """The instruction set that is used: 'avx512', 'avx2' or 'portable'."""

    def forward(self, x: Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')]:
        """
        NTT of polynomials (polynomials, limbs, n), words below their prime; bit-reversed order.
        """

    def inverse(self, x: Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')]:
        """The inverse of `forward`."""

    def multiply_accumulate(self, left: Sequence[Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]], right: Sequence[Annotated[NDArray[numpy.uint32], dict(shape=(None, None), order='C', device='cpu', writable=False)]]) -> Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')]:
        """
        Sum of products of each left (polynomials, limbs, n) with its right (limbs, n), slot by slot.
        """

    def add(self, left: Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], right: Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')]:
        """
        The sum of polynomials, limb by limb; may hold fewer limbs than the ring.
        """

    def encode(self, values: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint32], dict(shape=(None, None), order='C')]:
        """Signed integers (n,) modulo every prime, in NTT form (limbs, n)."""

    def add_plain(self, ciphertext: Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], plain: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], t: int) -> Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')]:
        """
        A ciphertext (2, limbs, n) plus round(q m / t) for a plaintext m (n,) in [0, t).
        """

    def encrypt_zero(self, key: Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], random: bytes) -> Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')]:
        """
        An encryption of zero (2, limbs, n) under a public key in NTT form; randomness: n bytes and some spare, then 12 n bytes.
        """

    def drop_limb(self, x: Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')]:
        """Divided by the last prime and rounded: (polynomials, limbs - 1, n)."""

class WideRing:
    def __init__(self, n: int, primes: Sequence[int], path: str = 'best') -> None: ...

    @property
    def path(self) -> str:
        """The instruction set that is used: 'avx512', 'avx2' or 'portable'."""

    def forward(self, x: Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C')]:
        """
        NTT of polynomials (polynomials, limbs, n), words below their prime; bit-reversed order.
        """

    def inverse(self, x: Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C')]:
        """The inverse of `forward`."""

    def multiply_accumulate(self, left: Sequence[Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]], right: Sequence[Annotated[NDArray[numpy.uint64], dict(shape=(None, None), order='C', device='cpu', writable=False)]]) -> Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C')]:
        """
        Sum of products of each left (polynomials, limbs, n) with its right (limbs, n), slot by slot.
        """

    def add(self, left: Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], right: Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C')]:
        """
        The sum of polynomials, limb by limb; may hold fewer limbs than the ring.
        """

    def encode(self, values: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint64], dict(shape=(None, None), order='C')]:
        """Signed integers (n,) modulo every prime, in NTT form (limbs, n)."""

    def add_plain(self, ciphertext: Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], plain: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], t: int) -> Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C')]:
        """
        A ciphertext (2, limbs, n) plus round(q m / t) for a plaintext m (n,) in [0, t).
        """

    def encrypt_zero(self, key: Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], random: bytes) -> Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C')]:
        """
        An encryption of zero (2, limbs, n) under a public key in NTT form; randomness: n bytes and some spare, then 12 n bytes.
        """

    def drop_limb(self, x: Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint64], dict(shape=(None, None, None), order='C')]:
        """Divided by the last prime and rounded: (polynomials, limbs - 1, n)."""

def mask_uniformly(values: NDArray[numpy.uint64], masks: NDArray[numpy.uint64], q: int, t: int) -> tuple[NDArray[numpy.uint64], NDArray[numpy.int64]]:
    """
    (values + masks) modulo q, and the shares -round(t masks / q) modulo t.
    """
