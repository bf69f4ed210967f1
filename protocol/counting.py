"""The counting interpreter: what a layer does, without doing it."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from autoprivacy.protocol.packing import IntArray


class CountingHe:
    """Both parties at once; a ciphertext is True.

    `bytes_up` and `bytes_down` add up what would be sent.
    """

    def __init__(self, n: int, q_bits: int) -> None:
        self.operations: Counter[str] = Counter()
        self.bytes_up = 0
        self.bytes_down = 0
        self._n = n
        self._q_bits = q_bits

    def encrypt(self, coefficients: IntArray) -> Literal[True]:  # noqa: ARG002 - counting looks at no value
        """Count one encryption."""
        self.operations["encrypt"] += 1
        self.bytes_up += request_bytes(self._n, self._q_bits)
        return True

    def decrypt(self, response: Literal[True], positions: IntArray) -> IntArray:  # noqa: ARG002 - as above
        """Count one decryption."""
        self.operations["decrypt"] += 1
        return np.zeros(len(positions), np.int64)

    def encode_weights(self, coefficients: IntArray) -> Literal[True] | None:
        """Count one encoding, unless the tile is all zeros."""
        if not coefficients.any():
            return None
        self.operations["encode"] += 1
        return True

    def receive(self, request: Literal[True], share: IntArray | None) -> Literal[True]:
        """Count one reception."""
        self.operations["receive" if share is None else "receive_add_share"] += 1
        return request

    def to_ntt(self, ciphertext: Literal[True]) -> Literal[True]:
        """Count one transform."""
        self.operations["to_ntt"] += 1
        return ciphertext

    def weighted_sum(
        self, ciphertexts: Sequence[Literal[True]], weights: Sequence[Literal[True] | None]
    ) -> Literal[True] | None:
        """Count a sum's products; None where there are none."""
        products = sum(weight is not None for _, weight in zip(ciphertexts, weights, strict=True))
        self.operations["multiply_accumulate"] += products
        return True if products else None

    def from_ntt(self, total: Literal[True]) -> Literal[True]:
        """Count one transform."""
        self.operations["from_ntt"] += 1
        return total

    def respond(self, total: Literal[True] | None, positions: IntArray) -> tuple[Literal[True], IntArray]:  # noqa: ARG002 - as above
        """Count one response."""
        self.operations["respond"] += 1
        self.bytes_down += response_bytes(self._n, self._q_bits, len(positions))
        return True, np.zeros(len(positions), np.int64)


def request_bytes(n: int, q_bits: int) -> int:
    """Bytes of a ciphertext on its way up: both polynomials."""
    return -(-2 * n * q_bits // 8)


def response_bytes(n: int, q_bits: int, sent: int) -> int:
    """Bytes of a response: `sent` coefficients of c0 and all n of c1."""
    return -(-(sent + n) * q_bits // 8)
