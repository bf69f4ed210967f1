"""The clear interpreter: plain arithmetic modulo t. No secrecy; the yardstick of the others."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.linear_shape import IntArray


def negacyclic_product(a: IntArray, b: IntArray, t: int) -> IntArray:
    """Product of two integer polynomials (n,) modulo X^n + 1 and t, in [0, t).

    >>> negacyclic_product(np.array([0, 1]), np.array([0, 3]), 16)
    array([13,  0])
    """
    n = len(a)
    taps = int(np.count_nonzero(b))
    wide = _word_or_object(a, b, taps, t)
    # The shorter operand makes the convolution short: weights fill few coefficients.
    full = np.convolve(a.astype(wide), np.trim_zeros(b, "b").astype(wide)) if taps else np.zeros(n, wide)
    low, high = full[:n], full[n:]
    low[: len(high)] -= high
    return (low % t).astype(np.int64)


def slot_product(a: IntArray, b: IntArray, t: int) -> IntArray:
    """Products of slots modulo t, in [0, t)."""
    wide = _word_or_object(a, b, 1, t)
    return (a.astype(wide) * b.astype(wide) % t).astype(np.int64)


def _word_or_object(a: IntArray, b: IntArray, terms: int, t: int) -> type:
    """A number type in which sums of so many products are exact modulo t."""
    bound = int(np.abs(a).max()) * int(np.abs(b).max()) * terms
    # 64-bit words wrap, which a power of two does not notice.
    return np.int64 if bound < 1 << 63 or t & (t - 1) == 0 else object


class ClearHe:
    """Both parties at once; a ciphertext is its n values modulo t. Masks come from `rng`, for tests that repeat."""

    def __init__(self, n: int, t: int, rng: np.random.Generator, packing: Packing = "coefficients") -> None:
        self.operations: Counter[str] = Counter()
        self._n = n
        self._t = t
        self._rng = rng
        self._product = slot_product if packing == "slots" else negacyclic_product

    def encrypt(self, values: IntArray) -> IntArray:
        """The values modulo t."""
        self.operations["encrypt"] += 1
        return values % self._t

    def decrypt(self, response: IntArray, positions: IntArray) -> IntArray:
        """The values at `positions`."""
        self.operations["decrypt"] += 1
        return response[positions]

    def encode_weights(self, values: IntArray) -> IntArray | None:
        """The values, or None where all are zero."""
        if not values.any():
            return None
        self.operations["encode"] += 1
        return values

    def receive(self, request: IntArray, share: IntArray | None) -> IntArray:
        """The sum of both shares modulo t."""
        self.operations["receive" if share is None else "receive_add_share"] += 1
        return request if share is None else (request + share) % self._t

    def to_ntt(self, ciphertext: IntArray) -> IntArray:
        """The same values."""
        self.operations["to_ntt"] += 1
        return ciphertext

    def weighted_sum(self, ciphertexts: Sequence[IntArray], weights: Sequence[IntArray | None]) -> IntArray | None:
        """Sum of products modulo t; None where there are none."""
        total = None
        for ciphertext, weight in zip(ciphertexts, weights, strict=True):
            if weight is None:
                continue
            self.operations["multiply_accumulate"] += 1
            product = self._product(ciphertext, weight, self._t)
            total = product if total is None else (total + product) % self._t
        return total

    def from_ntt(self, ciphertext: IntArray) -> IntArray:
        """The same values."""
        self.operations["from_ntt"] += 1
        return ciphertext

    def rotate(self, ciphertext: IntArray, steps: int) -> IntArray:
        """Both rows of n/2 values rotated left."""
        self.operations["rotate"] += 1
        return np.roll(ciphertext.reshape(2, -1), -steps, axis=1).ravel()

    def swap_rows(self, ciphertext: IntArray) -> IntArray:
        """Both rows of n/2 values exchanged."""
        self.operations["swap_rows"] += 1
        return np.roll(ciphertext, self._n // 2)

    def add(self, ciphertexts: Sequence[IntArray]) -> IntArray:
        """The sum modulo t."""
        self.operations["add"] += len(ciphertexts) - 1
        total = ciphertexts[0]
        for ciphertext in ciphertexts[1:]:
            total = (total + ciphertext) % self._t
        return total

    def respond(self, total: IntArray | None, positions: IntArray) -> tuple[IntArray, IntArray]:
        """`total` masked everywhere with uniform values modulo t, and minus the mask at `positions`."""
        self.operations["respond"] += 1
        mask = self._rng.integers(0, self._t, self._n)
        unmasked = np.zeros(self._n, np.int64) if total is None else total
        return (unmasked + mask) % self._t, -mask[positions] % self._t
