"""Ciphertexts on the wire: every limb packed at the width of its own prime, without a header.

| symbol | meaning |
|---|---|
| n | ring degree |
| words | residues of both polynomials of a ciphertext: (2, limbs, n), as SEAL orders them |
| d0, d1 | low bits dropped from c0 and from c1 of a response |

A request is, limb by limb, c0 then c1. A response is, limb by limb, the sent coefficients of c0, then all of c1.
"""

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import InvalidPolicy, ProtocolError
from autoprivacy.common.records import record
from autoprivacy.protocol import _native
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.transport import unpack_words

Words = NDArray[np.uint64]


@record
class Response:
    """What a response keeps: how many data limbs, and how many low bits of c0 and c1 it drops (with one limb only).

    Dropping adds at most 2^(d0 - 1) + n 2^(d1 - 1) to the noise of a coefficient: the error model weighs it.
    """

    dropped_c0: int = 0
    dropped_c1: int = 0
    limbs: int = 1

    def check(self, he_set: HeSet) -> None:
        """Refuse what `he_set` has no room for.

        Raises:
            InvalidPolicy: naming what does not fit.
        """
        if not 1 <= self.limbs <= len(he_set.limbs):
            raise InvalidPolicy(f"a response cannot keep {self.limbs} of {len(he_set.limbs)} data limbs")
        if (
            not 0
            <= min(self.dropped_c0, self.dropped_c1)
            <= max(self.dropped_c0, self.dropped_c1)
            < he_set.limb_bits[0]
        ):
            raise InvalidPolicy(
                f"dropping {self.dropped_c0} and {self.dropped_c1} bits does not fit a limb of {he_set.limb_bits[0]}"
            )
        if self.limbs > 1 and (self.dropped_c0 or self.dropped_c1):
            raise InvalidPolicy("only a response of one limb can drop low bits")
        if 4 * he_set.t > np.prod(he_set.limbs[: self.limbs], dtype=object):
            raise InvalidPolicy(f"t = {he_set.t} leaves no room in a response of {self.limbs} limbs; keep more")


WHOLE_LIMB = Response()
"""One limb with all of its bits."""


def ciphertext_bytes(n: int, primes: tuple[int, ...]) -> int:
    """Bytes of two packed polynomials modulo each prime, as a request; n is a multiple of 8."""
    return 2 * n * sum(prime.bit_length() for prime in primes) // 8


def response_bytes(n: int, limbs: tuple[int, ...], sent: int, response: Response = WHOLE_LIMB) -> int:
    """Bytes of a response with `sent` coefficients of c0: the needed ones, or all n with packing `slots`."""
    return sum(
        _packed_bytes(sent, limb.bit_length() - response.dropped_c0)
        + _packed_bytes(n, limb.bit_length() - response.dropped_c1)
        for limb in limbs[: response.limbs]
    )


def _packed_bytes(count: int, bits: int) -> int:
    return -(-count * bits // 8)


def pack_ciphertext(words: Words, primes: tuple[int, ...]) -> bytes:
    """Words (2, limbs, n) as sent."""
    return b"".join(
        _native.pack_bits(np.ascontiguousarray(words[:, i]).reshape(-1), prime.bit_length())
        for i, prime in enumerate(primes)
    )


def unpack_ciphertext(message: bytes, n: int, primes: tuple[int, ...]) -> Words:
    """The inverse of `pack_ciphertext`; words are below 2^bits, but nothing says that they are below their prime.

    Raises:
        ProtocolError: if the length is wrong.
    """
    check_length(message, ciphertext_bytes(n, primes))
    words = np.empty((2, len(primes), n), np.uint64)
    start = 0
    for i, prime in enumerate(primes):
        end = start + ciphertext_bytes(n, (prime,))
        words[:, i] = unpack_words(message[start:end], prime.bit_length(), 2 * n).reshape(2, n)
        start = end
    return words


def pack_response(c0: Words, c1: Words, he_set: HeSet, response: Response) -> bytes:
    """Coefficients of c0 (limbs, sent) and c1 (limbs, n), without their dropped bits, as sent."""
    parts = []
    for i, bits in enumerate(he_set.limb_bits[: response.limbs]):
        for residues, dropped in ((c0[i], response.dropped_c0), (c1[i], response.dropped_c1)):
            parts.append(_native.pack_bits(_drop(residues, dropped, bits), bits - dropped))
    return b"".join(parts)


def unpack_response(message: bytes, positions: IntArray | slice, sent: int, he_set: HeSet, response: Response) -> Words:
    """Words (2, limbs, n) with the `sent` coefficients of c0 at `positions`, zeros between, dropped bits restored.

    Raises:
        ProtocolError: if the length is wrong.
    """
    check_length(message, response_bytes(he_set.n, he_set.limbs, sent, response))
    words = np.zeros((2, response.limbs, he_set.n), np.uint64)
    start = 0
    for i, bits in enumerate(he_set.limb_bits[: response.limbs]):
        for part, where, count, dropped in (
            (0, positions, sent, response.dropped_c0),
            (1, slice(None), he_set.n, response.dropped_c1),
        ):
            end = start + _packed_bytes(count, bits - dropped)
            received = unpack_words(message[start:end], bits - dropped, count)
            words[part, i, where] = _restore(received, dropped, he_set.limbs[i])
            start = end
    return words


def check_length(message: bytes, expected: int) -> None:
    """Refuse a message of another length.

    Raises:
        ProtocolError: naming both lengths.
    """
    if len(message) != expected:
        raise ProtocolError(
            f"the peer sent {len(message)} bytes where {expected} belong; it runs another policy or version"
        )


def check_words(words: Words, primes: tuple[int, ...]) -> None:
    """Refuse words (2, limbs, n) of a ciphertext that are no residues, or that hide nothing.

    Raises:
        ProtocolError: naming what is wrong.
    """
    for limb, prime in enumerate(primes):
        if int(words[:, limb].max()) >= prime:
            raise ProtocolError(f"the peer sent a residue out of range: at most {prime - 1} fits limb {limb}")
    if not words[1].any():
        raise ProtocolError("the peer sent a ciphertext whose second polynomial is zero; it hides nothing")


def _drop(residues: Words, dropped: int, bits: int) -> Words:
    """Rounded to a multiple of 2^dropped, divided by it; what rounds up to 2^bits is nearest to zero modulo q."""
    if not dropped:
        return np.ascontiguousarray(residues)
    return ((residues + np.uint64(1 << (dropped - 1))) >> np.uint64(dropped)) & np.uint64((1 << (bits - dropped)) - 1)


def _restore(received: Words, dropped: int, prime: int) -> Words:
    return (received << np.uint64(dropped)) % np.uint64(prime) if dropped else received
