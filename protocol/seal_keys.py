"""The keys of one (n, limbs, special): what the client holds, what it sends, what the server makes of it.

Keys serve every t. The client sends an encryption of zero modulo q (the public key) and, where a layer rotates, the
Galois keys of exactly the steps that it takes, modulo q times the special prime; all words at the width of their prime.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.seal_context import SealContext, seal_context
from autoprivacy.protocol.wire import Words, check_length, ciphertext_bytes, pack_ciphertext, unpack_ciphertext
from autoprivacy.protocol.zero_encryption import ZeroEncryptor

if TYPE_CHECKING:
    Seal = Any  # the binding ships no types


SWAP: Final = 0
"""Among rotation steps: the exchange of both rows, by SEAL's convention."""


def rotation_steps(he_set: HeSet, steps: Iterable[int]) -> tuple[int, ...]:
    """The distinct steps of rotations to the left, `SWAP` among them, that need a key.

    Raises:
        InvalidPolicy: if a step is none, or the set cannot switch keys.
    """
    found = tuple(sorted(set(steps)))
    if found and he_set.special is None:
        raise InvalidPolicy("rotations need a special prime; add one")
    if found and not 0 <= found[0] <= found[-1] < he_set.n // 2:
        raise InvalidPolicy(f"rotation steps must lie between 0 and n/2 - 1 = {he_set.n // 2 - 1}, got {found}")
    return found


def galois_element(n: int, step: int) -> int:
    """The g of a step's automorphism X -> X^g, as in SEAL: a power of 3 modulo 2n, and -1 for `SWAP`."""
    return 2 * n - 1 if step == SWAP else pow(3, step, 2 * n)


def galois_key_bytes(he_set: HeSet, steps: Iterable[int]) -> int:
    """Bytes of the Galois keys as sent: for each step and data limb, two polynomials modulo all primes."""
    return len(rotation_steps(he_set, steps)) * len(he_set.limbs) * ciphertext_bytes(he_set.n, he_set.primes)


def galois_object_bytes(he_set: HeSet, steps: Iterable[int]) -> int:
    """Bytes of the server's Galois keys in memory: for each step and data limb, two polynomials of 64-bit words."""
    return len(rotation_steps(he_set, steps)) * len(he_set.limbs) * 2 * len(he_set.primes) * he_set.n * 8


def public_message_bytes(he_set: HeSet, steps: Iterable[int] = ()) -> int:
    """Bytes of `ClientKeys.public_message`."""
    return ciphertext_bytes(he_set.n, he_set.limbs) + galois_key_bytes(he_set, steps)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The client's secret key, serialised; good for every t. `he_set` is any set with these primes."""

    he_set: HeSet
    secret: bytes

    @classmethod
    def generate(cls, he_set: HeSet) -> "ClientKeys":
        """A fresh ternary secret."""
        context = seal_context(he_set)
        return cls(he_set, context.seal.KeyGenerator(context.context).secret_key().to_string())

    def secret_for(self, context: SealContext) -> "Seal":
        """The secret key as an object of a context with the same primes, whatever its t."""
        if context.he_set.key_parameters != self.he_set.key_parameters:
            raise InvalidPolicy(f"keys of {self.he_set} cannot serve {context.he_set}")
        return context.context.from_secret_str(context.rebind(self.secret))

    def public_message(self, steps: Iterable[int] = ()) -> bytes:
        """What the server gets: a fresh public key, and Galois keys for rotations to the left by `steps`."""
        he_set, context = self.he_set, seal_context(self.he_set)
        secret = self.secret_for(context)
        zeros = context.encode(np.zeros(he_set.n, np.int64), "coefficients")
        public = context.seal.Encryptor(context.context, secret).encrypt_symmetric(zeros)
        message = pack_ciphertext(context.words(public), he_set.limbs)
        ordered = rotation_steps(he_set, steps)
        if not ordered:
            return message
        galois = context.seal.GaloisKeys()
        context.seal.KeyGenerator(context.context, secret).create_galois_keys(list(ordered), galois)
        digits = context.galois_digits(galois, _elements(he_set.n, ordered))
        return message + b"".join(pack_ciphertext(digit, he_set.primes) for digit in digits)


class ServerKeys:
    """A client's public message, unpacked and checked once, for every layer with these primes.

    `steps` are those that the client was to send keys for.

    Raises:
        ProtocolError: if its length or content is wrong.
    """

    def __init__(self, he_set: HeSet, message: bytes, steps: Iterable[int] = ()) -> None:
        self.he_set = he_set
        self.steps = rotation_steps(he_set, steps)
        check_length(message, public_message_bytes(he_set, self.steps))
        end = ciphertext_bytes(he_set.n, he_set.limbs)
        self.zero_encryptor = ZeroEncryptor(he_set, unpack_ciphertext(message[:end], he_set.n, he_set.limbs))
        self._galois_message = message[end:]
        self._galois: dict[int, Seal] = {}
        if self.steps:
            self.galois(he_set)

    def check_serve(self, he_set: HeSet) -> None:
        """Refuse a set of other primes.

        Raises:
            InvalidPolicy: naming both.
        """
        if he_set.key_parameters != self.he_set.key_parameters:
            raise InvalidPolicy(f"keys of {self.he_set} cannot serve {he_set}")

    def galois(self, he_set: HeSet) -> "Seal":
        """The Galois keys as an object for `he_set`; made once for each t, because SEAL binds keys to it."""
        if he_set.t not in self._galois:
            self._galois[he_set.t] = seal_context(he_set).galois_keys(self._galois_digits())
        return self._galois[he_set.t]

    def _galois_digits(self) -> Iterator[tuple[int, list[Words]]]:
        n, primes = self.he_set.n, self.he_set.primes
        size = ciphertext_bytes(n, primes)
        pieces = (self._galois_message[at : at + size] for at in range(0, len(self._galois_message), size))
        for element in _elements(n, self.steps):
            yield element, [unpack_ciphertext(next(pieces), n, primes) for _ in self.he_set.limbs]


def _elements(n: int, steps: Iterable[int]) -> list[int]:
    """The Galois elements of `steps`, ascending: the order in which keys are sent, and in which SEAL stores them."""
    return sorted(galois_element(n, step) for step in steps)
