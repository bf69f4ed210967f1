"""What an encrypted layer is written against: one computation, several interpreters.

| interpreter | module | what a ciphertext is |
|---|---|---|
| clear | `clear.py` | n values modulo t, in the open |
| counting | `counting.py` | nothing; operations are counted |
| SEAL | `seal_he.py` | a SEAL ciphertext |

Operations work on whole sums, so that a faster kernel can take an interpreter's place without touching a layer.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

from autoprivacy.protocol.linear_shape import IntArray

Packing = Literal["coefficients", "slots"]
W = TypeVar("W")  # what travels
C = TypeVar("C")  # a ciphertext at the server
P = TypeVar("P")  # encoded weights


class ClientHe(Protocol[W]):
    """What the client does; `operations` counts by name.

    `values` are always the n values of one plaintext in the interpreter's packing: coefficients, or slots in SEAL's
    order, which is two rows of n/2.
    """

    operations: Counter[str]

    def encrypt(self, values: IntArray) -> W:
        """A ciphertext, as sent, of n integers modulo t."""
        ...

    def decrypt(self, response: W, positions: IntArray) -> IntArray:
        """The values at `positions`, in [0, t)."""
        ...


class ServerHe(Protocol[W, C, P]):
    """What the server does; `operations` counts by name. Products multiply polynomials, or slots with slots."""

    operations: Counter[str]

    def encode_weights(self, values: IntArray) -> P | None:
        """A multiplier of n signed integers of at most t/2 each, or None where all are zero."""
        ...

    def receive(self, request: W, share: IntArray | None) -> C:
        """A checked ciphertext, with the server's own share (n integers modulo t) added."""
        ...

    def to_ntt(self, ciphertext: C) -> C:
        """The ciphertext in NTT form."""
        ...

    def weighted_sum(self, ciphertexts: Sequence[C], weights: Sequence[P | None]) -> C | None:
        """Sum of products of ciphertexts in NTT form, in NTT form; None where every weight is missing."""
        ...

    def from_ntt(self, ciphertext: C) -> C:
        """The ciphertext in coefficient form."""
        ...

    def rotate(self, ciphertext: C, steps: int) -> C:
        """Both rows of slots rotated left by 0 < steps < n/2, in coefficient form: slot i takes what i + steps held."""
        ...

    def swap_rows(self, ciphertext: C) -> C:
        """Both rows of slots exchanged, in coefficient form."""
        ...

    def add(self, ciphertexts: Sequence[C]) -> C:
        """The sum of at least one ciphertext, all in one form; counts its additions."""
        ...

    def respond(self, total: C | None, positions: IntArray) -> tuple[W, IntArray]:
        """Rerandomise and mask `total` (coefficient form; None is zero): what is sent, and the share kept, in [0, t).

        `positions` are the values that the client may learn. Of coefficients only those are sent; of slots, all n
        coefficients of the masked polynomial.
        """
        ...
