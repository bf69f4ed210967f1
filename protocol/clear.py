"""The clear interpreter: plain arithmetic modulo t. No secrecy; the yardstick of the others."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from autoprivacy.protocol.packing import IntArray


def negacyclic_product(a: IntArray, b: IntArray) -> IntArray:
    """Product of two integer polynomials (n,) modulo X^n + 1, exact while it fits 64 bits.

    >>> negacyclic_product(np.array([0, 1]), np.array([0, 3]))
    array([-3,  0])
    """
    n = len(a)
    full = np.convolve(a, b)
    full[: n - 1] -= full[n:]
    return full[:n]


class ClearHe:
    """Both parties at once; a ciphertext is its plaintext. Masks come from `rng`, for tests that repeat."""

    def __init__(self, n: int, t: int, rng: np.random.Generator) -> None:
        self.operations: Counter[str] = Counter()
        self._n = n
        self._t = t
        self._rng = rng

    def encrypt(self, coefficients: IntArray) -> IntArray:
        """The coefficients modulo t."""
        self.operations["encrypt"] += 1
        return coefficients % self._t

    def decrypt(self, response: IntArray, positions: IntArray) -> IntArray:
        """The values at `positions`."""
        self.operations["decrypt"] += 1
        return response[positions]

    def encode_weights(self, coefficients: IntArray) -> IntArray | None:
        """The coefficients, or None where all are zero."""
        if not coefficients.any():
            return None
        self.operations["encode"] += 1
        return coefficients

    def receive(self, request: IntArray, share: IntArray | None) -> IntArray:
        """The sum of both shares modulo t."""
        self.operations["receive" if share is None else "receive_add_share"] += 1
        return request if share is None else (request + share) % self._t

    def to_ntt(self, ciphertext: IntArray) -> IntArray:
        """The same polynomial."""
        self.operations["to_ntt"] += 1
        return ciphertext

    def weighted_sum(self, ciphertexts: Sequence[IntArray], weights: Sequence[IntArray | None]) -> IntArray | None:
        """Sum of negacyclic products modulo t; None where there are none."""
        products = [
            negacyclic_product(polynomial, weight)
            for polynomial, weight in zip(ciphertexts, weights, strict=True)
            if weight is not None
        ]
        self.operations["multiply_accumulate"] += len(products)
        return sum((product % self._t for product in products), np.zeros(self._n, np.int64)) if products else None

    def from_ntt(self, total: IntArray) -> IntArray:
        """The same polynomial."""
        self.operations["from_ntt"] += 1
        return total

    def respond(self, total: IntArray | None, positions: IntArray) -> tuple[IntArray, IntArray]:
        """`total` masked everywhere with uniform values modulo t, and minus the mask at `positions`."""
        self.operations["respond"] += 1
        mask = self._rng.integers(0, self._t, self._n)
        unmasked = np.zeros(self._n, np.int64) if total is None else total
        return (unmasked + mask) % self._t, -mask[positions] % self._t
