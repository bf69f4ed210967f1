"""The SEAL interpreter: the real run [SEAL].

A ciphertext travels as its coefficients, packed at the width of the prime. SEAL's serialised layout (stable and
documented: a 16-byte header, parms_id, sizes, a nested header, little-endian words) is the way to coefficients that the
binding has no accessor for.
"""

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import ProtocolError
from autoprivacy.protocol import _native
from autoprivacy.protocol.counting import request_bytes, response_bytes
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.packing import IntArray
from autoprivacy.protocol.randomness import random_below
from autoprivacy.protocol.transport import unpack_words

if TYPE_CHECKING:
    Seal = Any  # the binding ships no types

Words = NDArray[np.uint64]
_HEADER_BYTES: Final = 16
_PARMS_ID: Final = slice(16, 48)
_PLAINTEXT_WORDS: Final = 88
_CIPHERTEXT_WORDS: Final = 113


def _header(size: int) -> bytes:
    """SEAL's header: magic, its own size, version 4.x, no compression, size of the whole object."""
    return struct.pack("<HBBBBHQ", 0xA15E, _HEADER_BYTES, 4, 4, 0, 0, size)


class SealContext:
    """A SEAL context of one HE set, and conversions between its objects and arrays of words."""

    def __init__(self, he_set: HeSet) -> None:
        import seal

        parameters = seal.EncryptionParameters(seal.scheme_type.bfv)
        parameters.set_poly_modulus_degree(he_set.n)
        parameters.set_coeff_modulus([seal.Modulus(he_set.q)])
        parameters.set_plain_modulus(seal.Modulus(he_set.t))
        self.he_set = he_set
        self.seal = seal
        self.context: Seal = seal.SEALContext(parameters, True, seal.sec_level_type.tc128)  # noqa: FBT003 - SEAL's own signature
        if not self.context.parameters_set():
            raise ProtocolError(f"SEAL refuses {he_set}: {self.context.parameter_error_message()}")
        self.parms_id = self.context.first_parms_id()

    @cached_property
    def _parms_id_bytes(self) -> bytes:
        return struct.pack("<4Q", *self.parms_id)

    def rebind(self, serialised: bytes) -> bytes:
        """A key of the same (n, q) made for another t: SEAL binds them only through parms_id."""
        return serialised[: _PARMS_ID.start] + self._parms_id_bytes + serialised[_PARMS_ID.stop :]

    def plaintext(self, coefficients: IntArray) -> "Seal":
        """A plaintext of n signed or unsigned integers, taken modulo t."""
        words = (coefficients % self.he_set.t).astype("<u8").tobytes()
        inner = _header(_HEADER_BYTES + 8 + len(words)) + struct.pack("<Q", len(coefficients)) + words
        body = bytes(32) + struct.pack("<Qd", len(coefficients), 1.0) + inner
        made = self.seal.Plaintext()
        made.load_bytes(self.context, _header(_HEADER_BYTES + len(body)) + body)
        return made

    def coefficients(self, plaintext: "Seal") -> IntArray:
        """The n coefficients of a plaintext (SEAL leaves out leading zeros)."""
        words = np.frombuffer(plaintext.to_bytes(), "<u8", offset=_PLAINTEXT_WORDS)
        found = np.zeros(self.he_set.n, np.int64)
        found[: len(words)] = words
        return found

    def ciphertext(self, words: Words) -> "Seal":
        """A ciphertext of two polynomials in coefficient form, given as 2n words below q.

        Raises:
            ProtocolError: if SEAL finds a word out of range.
        """
        n = self.he_set.n
        if not words[n:].any():
            raise ProtocolError("the peer sent a ciphertext whose second polynomial is zero; it hides nothing")
        inner = _header(_HEADER_BYTES + 8 + 16 * n) + struct.pack("<Q", 2 * n) + words.astype("<u8").tobytes()
        body = self._parms_id_bytes + struct.pack("<BQQQdQ", 0, 2, n, 1, 1.0, 1) + inner
        made = self.seal.Ciphertext()
        try:
            made.load_bytes(self.context, _header(_HEADER_BYTES + len(body)) + body)
        except (RuntimeError, ValueError) as error:
            raise ProtocolError(f"the peer sent a ciphertext that SEAL refuses: {error}") from None
        return made

    @staticmethod
    def words(ciphertext: "Seal") -> Words:
        """The 2n words of a ciphertext in coefficient form."""
        return np.frombuffer(ciphertext.to_string(), "<u8", offset=_CIPHERTEXT_WORDS)


@cache
def seal_context(he_set: HeSet) -> SealContext:
    """The context of a set, made once."""
    return SealContext(he_set)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The client's keys of one (n, q), serialised; good for every t."""

    secret: bytes
    public: bytes

    @classmethod
    def generate(cls, he_set: HeSet) -> "ClientKeys":
        """Fresh keys. With one limb the key level is the data level: nothing is published above q."""
        context = seal_context(he_set)
        generator = context.seal.KeyGenerator(context.context)
        public = context.seal.PublicKey()
        generator.create_public_key(public)
        return cls(generator.secret_key().to_string(), public.to_string())

    def public_message(self, he_set: HeSet) -> bytes:
        """What the server gets: both polynomials of the public key, packed at the width of q."""
        words = np.frombuffer(self.public, "<u8", offset=_CIPHERTEXT_WORDS)
        return _native.pack_bits(words, he_set.q_bits)


def public_key_bytes(he_set: HeSet) -> int:
    """Bytes of `ClientKeys.public_message`."""
    return request_bytes(he_set.n, he_set.q_bits)


class SealClient:
    """Implements `linear_layer.ClientHe`; what travels is bytes."""

    def __init__(self, he_set: HeSet, keys: ClientKeys) -> None:
        self.operations: Counter[str] = Counter()
        self._set = he_set
        self._context = context = seal_context(he_set)
        secret = context.context.from_secret_str(context.rebind(keys.secret))
        self._encryptor = context.seal.Encryptor(context.context, secret)
        self._decryptor = context.seal.Decryptor(context.context, secret)

    def encrypt(self, coefficients: IntArray) -> bytes:
        """A packed symmetric encryption of n integers modulo t."""
        self.operations["encrypt"] += 1
        ciphertext = self._encryptor.encrypt_symmetric(self._context.plaintext(coefficients))
        return _native.pack_bits(self._context.words(ciphertext), self._set.q_bits)

    def decrypt(self, response: bytes, positions: IntArray) -> IntArray:
        """The values at `positions` of a packed response, in [0, t).

        Raises:
            ProtocolError: if its length or content is wrong.
        """
        self.operations["decrypt"] += 1
        he_set = self._set
        _check_length(response, response_bytes(he_set.n, he_set.q_bits, len(positions)))
        received = unpack_words(response, he_set.q_bits, len(positions) + he_set.n)
        words = np.zeros(2 * he_set.n, np.uint64)
        words[positions] = received[: len(positions)]
        words[he_set.n :] = received[len(positions) :]
        plaintext = self._decryptor.decrypt(self._context.ciphertext(words))
        return self._context.coefficients(plaintext)[positions]


class SealServer:
    """Implements `linear_layer.ServerHe` with `uniform` circuit privacy; what travels is bytes."""

    def __init__(self, he_set: HeSet, public_message: bytes) -> None:
        self.operations: Counter[str] = Counter()
        self._set = he_set
        self._context = context = seal_context(he_set)
        _check_length(public_message, public_key_bytes(he_set))
        words = unpack_words(public_message, he_set.q_bits, 2 * he_set.n)
        # A public key is serialised as the ciphertext that it is, in NTT form; SEAL checks the words.
        as_ciphertext = context.ciphertext(words).to_string()
        ntt_flag = _PARMS_ID.stop
        public = context.context.from_public_str(as_ciphertext[:ntt_flag] + b"\x01" + as_ciphertext[ntt_flag + 1 :])
        self._encryptor = context.seal.Encryptor(context.context, public)
        self._evaluator = context.seal.Evaluator(context.context)

    def encode_weights(self, coefficients: IntArray) -> "Seal | None":
        """A plaintext in NTT form, or None where all weights are zero (SEAL refuses transparent products)."""
        if not coefficients.any():
            return None
        self.operations["encode"] += 1
        plaintext = self._context.plaintext(coefficients)
        self._evaluator.transform_to_ntt_inplace(plaintext, self._context.parms_id)
        return plaintext

    def receive(self, request: bytes, share: IntArray | None) -> "Seal":
        """Unpack and check a ciphertext, add the server's share.

        Raises:
            ProtocolError: if its length or content is wrong.
        """
        self.operations["receive" if share is None else "receive_add_share"] += 1
        he_set = self._set
        _check_length(request, request_bytes(he_set.n, he_set.q_bits))
        ciphertext = self._context.ciphertext(unpack_words(request, he_set.q_bits, 2 * he_set.n))
        if share is not None:
            self._evaluator.add_plain_inplace(ciphertext, self._context.plaintext(share))
        return ciphertext

    def to_ntt(self, ciphertext: "Seal") -> "Seal":
        """The ciphertext in NTT form."""
        self.operations["to_ntt"] += 1
        return self._evaluator.transform_to_ntt(ciphertext)

    def weighted_sum(self, ciphertexts: "Sequence[Seal]", weights: "Sequence[Seal | None]") -> "Seal | None":
        """Sum of products, in NTT form; None where every weight tile is zero."""
        total = None
        for ciphertext, weight in zip(ciphertexts, weights, strict=True):
            if weight is None:
                continue
            self.operations["multiply_accumulate"] += 1
            try:
                product = self._evaluator.multiply_plain(ciphertext, weight)
            except RuntimeError as error:
                raise ProtocolError(f"the peer sent a ciphertext that SEAL refuses to multiply: {error}") from None
            if total is None:
                total = product
            else:
                self._evaluator.add_inplace(total, product)
        return total

    def from_ntt(self, total: "Seal") -> "Seal":
        """The sum in coefficient form."""
        self.operations["from_ntt"] += 1
        return self._evaluator.transform_from_ntt(total)

    def respond(self, total: "Seal | None", positions: IntArray) -> tuple[bytes, IntArray]:
        """Rerandomise, mask uniformly: the packed response and the server's share in [0, t)."""
        self.operations["respond"] += 1
        he_set = self._set
        fresh = self._encryptor.encrypt_zero()
        if total is not None:
            self._evaluator.add_inplace(fresh, total)
        words = self._context.words(fresh)
        mask = random_below(he_set.q, len(positions))
        masked = (words[positions] + mask) % np.uint64(he_set.q)
        packed = _native.pack_bits(np.concatenate([masked, words[he_set.n :]]), he_set.q_bits)
        return packed, (-scaled_round(mask, he_set)) % he_set.t


def scaled_round(values: Words, he_set: HeSet) -> IntArray:
    """round(t v / q), exactly, for v in [0, q): long division, a few bits at a time.

    >>> scaled_round(np.array([0, 67104768], np.uint64), HeSet(n=1024, q=67104769, t=16))
    array([ 0, 16])
    """
    q = np.uint64(he_set.q)
    room = 63 - he_set.q_bits
    quotient = np.zeros(len(values), np.uint64)
    rest = values.astype(np.uint64)
    left = he_set.t_bits
    while left:
        step = np.uint64(min(left, room))
        rest <<= step
        digit = rest // q
        rest -= digit * q
        quotient = (quotient << step) + digit
        left -= int(step)
    return (quotient + (np.uint64(2) * rest >= q)).astype(np.int64)


def _check_length(message: bytes, expected: int) -> None:
    if len(message) != expected:
        raise ProtocolError(
            f"the peer sent {len(message)} bytes where {expected} belong; it runs another policy or version"
        )
