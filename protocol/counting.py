"""The counting interpreter: what a layer does, without doing it."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.wire import WHOLE_LIMB, Response, ciphertext_bytes, response_bytes


class CountingHe:
    """Both parties at once; a ciphertext is True.

    `bytes_up` and `bytes_down` add up what would be sent.
    """

    def __init__(self, he_set: HeSet, packing: Packing = "coefficients", response: Response = WHOLE_LIMB) -> None:
        self.operations: Counter[str] = Counter()
        self.bytes_up = 0
        self.bytes_down = 0
        self._set = he_set
        self._packing = packing
        self._response = response

    def encrypt(self, values: IntArray) -> Literal[True]:  # noqa: ARG002 - counting looks at no value
        """Count one encryption."""
        self.operations["encrypt"] += 1
        self.bytes_up += ciphertext_bytes(self._set.n, self._set.limbs)
        return True

    def decrypt(self, response: Literal[True], positions: IntArray) -> IntArray:  # noqa: ARG002 - as above
        """Count one decryption."""
        self.operations["decrypt"] += 1
        return np.zeros(len(positions), np.int64)

    def encode_weights(self, values: IntArray) -> Literal[True] | None:
        """Count one encoding, unless all are zero."""
        if not values.any():
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

    def from_ntt(self, ciphertext: Literal[True]) -> Literal[True]:
        """Count one transform."""
        self.operations["from_ntt"] += 1
        return ciphertext

    def rotate(self, ciphertext: Literal[True], steps: int) -> Literal[True]:  # noqa: ARG002 - as above
        """Count one rotation."""
        self.operations["rotate"] += 1
        return ciphertext

    def swap_rows(self, ciphertext: Literal[True]) -> Literal[True]:
        """Count one exchange of rows."""
        self.operations["swap_rows"] += 1
        return ciphertext

    def add(self, ciphertexts: Sequence[Literal[True]]) -> Literal[True]:
        """Count the additions of a sum."""
        self.operations["add"] += len(ciphertexts) - 1
        return True

    def respond(self, total: Literal[True] | None, positions: IntArray) -> tuple[Literal[True], IntArray]:  # noqa: ARG002 - as above
        """Count one response."""
        self.operations["respond"] += 1
        sent = self._set.n if self._packing == "slots" else len(positions)
        self.bytes_down += response_bytes(self._set.n, self._set.limbs, sent, self._response)
        return True, np.zeros(len(positions), np.int64)
