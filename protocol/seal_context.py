"""SEAL contexts, and conversions between SEAL's objects and arrays [SEAL].

SEAL's serialised layout (stable and documented: a 16-byte header, parms_id, sizes, a nested header, little-endian
words) is the way to coefficients that the binding has no accessor for.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from autoprivacy.common.errors import InvalidPolicy, ProtocolError
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import MAX_LIMB_BITS, HeSet, ntt_primes
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.wire import Words

if TYPE_CHECKING:
    Seal = Any  # the binding ships no types

_HEADER_BYTES: Final = 16
_PARMS_ID: Final = slice(16, 48)
_PLAINTEXT_WORDS: Final = 88
_CIPHERTEXT_WORDS: Final = 113
_CONTEXTS: Final = 64


def _object(body: bytes) -> bytes:
    """A serialised object: magic, the header's size, version 4.x, no compression, the size of all, then `body`."""
    return struct.pack("<HBBBBHQ", 0xA15E, _HEADER_BYTES, 4, 4, 0, 0, _HEADER_BYTES + len(body)) + body


def _array(words: bytes) -> bytes:
    return _object(struct.pack("<Q", len(words) // 8) + words)


def _dummy_special(he_set: HeSet) -> int:
    """A special prime for a set that has none: no key is ever published under it, since nothing switches keys."""
    return next(p for p in ntt_primes(he_set.n, MAX_LIMB_BITS, len(he_set.limbs) + 1) if p not in he_set.limbs)


def key_primes(he_set: HeSet) -> tuple[int, ...]:
    """The primes that SEAL is given; of two or more it takes the last one as special."""
    if he_set.special is None and len(he_set.limbs) > 1:
        return *he_set.limbs, _dummy_special(he_set)
    return he_set.primes


class SealContext:
    """A SEAL context of one HE set, and conversions between its objects and arrays of words."""

    def __init__(self, he_set: HeSet) -> None:
        import seal

        primes = key_primes(he_set)
        parameters = seal.EncryptionParameters(seal.scheme_type.bfv)
        parameters.set_poly_modulus_degree(he_set.n)
        parameters.set_coeff_modulus([seal.Modulus(prime) for prime in primes])
        parameters.set_plain_modulus(seal.Modulus(he_set.t))
        # HeSet has checked security on what is published. SEAL's own check would count a dummy prime too.
        checked = primes == he_set.primes and he_set.security != "below"
        level = seal.sec_level_type.tc128 if checked else seal.sec_level_type.none
        self.he_set = he_set
        self.key_limbs = len(primes)
        self.seal = seal
        self.context: Seal = seal.SEALContext(parameters, True, level)  # noqa: FBT003 - SEAL's own signature
        if not self.context.parameters_set():
            raise InvalidPolicy(f"SEAL refuses {he_set}: {self.context.parameter_error_message()}")
        self.evaluator: Seal = seal.Evaluator(self.context)

    @cached_property
    def parms_ids(self) -> "Mapping[int, Seal]":
        """SEAL's name of each level, by its number of limbs; a level that cannot hold t is missing."""
        found = {}
        data = self.context.key_context_data()
        while data is not None:
            found[len(data.parms().coeff_modulus())] = data.parms_id()
            data = data.next_context_data()
        return found

    @cached_property
    def _batch_encoder(self) -> "Seal":
        return self.seal.BatchEncoder(self.context)

    def _parms_id(self, limbs: int) -> bytes:
        return struct.pack("<4Q", *self.parms_ids[limbs])

    def rebind(self, key: bytes) -> bytes:
        """A serialised secret key of the same primes made for another t: SEAL binds them only through parms_id."""
        return key[: _PARMS_ID.start] + self._parms_id(self.key_limbs) + key[_PARMS_ID.stop :]

    def encode(self, values: IntArray, packing: Packing) -> "Seal":
        """A plaintext of n signed or unsigned integers, taken modulo t: its coefficients, or its slots."""
        reduced = values % self.he_set.t
        if packing == "slots":
            return self._batch_encoder.encode(reduced.astype(np.uint64))
        words = reduced.astype("<u8").tobytes()
        made = self.seal.Plaintext()
        made.load_bytes(self.context, _object(bytes(32) + struct.pack("<Qd", len(values), 1.0) + _array(words)))
        return made

    def decode(self, plaintext: "Seal", packing: Packing) -> IntArray:
        """The n coefficients or slots of a plaintext, in [0, t)."""
        if packing == "slots":
            slots: IntArray = self._batch_encoder.decode_uint64(plaintext).astype(np.int64)
            return slots
        words = np.frombuffer(plaintext.to_bytes(), "<u8", offset=_PLAINTEXT_WORDS)
        found = np.zeros(self.he_set.n, np.int64)
        found[: len(words)] = words  # SEAL leaves out leading zeros
        return found

    def serialised(self, words: Words, *, ntt: bool) -> bytes:
        """The ciphertext of words (2, limbs, n) as SEAL writes it."""
        _, limbs, n = words.shape
        sizes = struct.pack("<BQQQdQ", ntt, 2, n, limbs, 1.0, 1)
        return _object(self._parms_id(limbs) + sizes + _array(words.astype("<u8", copy=False).tobytes()))

    def ciphertext(self, words: Words, *, ntt: bool = False) -> "Seal":
        """A ciphertext of two polynomials, given as words (2, limbs, n), each below its prime.

        Raises:
            ProtocolError: if SEAL finds a word out of range, or the second polynomial is zero.
        """
        if not words[1].any():
            raise ProtocolError("the peer sent a ciphertext whose second polynomial is zero; it hides nothing")
        made = self.seal.Ciphertext()
        try:
            made.load_bytes(self.context, self.serialised(words, ntt=ntt))
        except (RuntimeError, ValueError) as error:
            raise refused("load", error) from None
        return made

    def words(self, ciphertext: "Seal") -> Words:
        """The words (2, limbs, n) of a ciphertext, in its form."""
        return np.frombuffer(ciphertext.to_string(), "<u8", offset=_CIPHERTEXT_WORDS).reshape(2, -1, self.he_set.n)

    def galois_keys(self, keys: Iterable[tuple[int, Sequence[Words]]]) -> "Seal":
        """Key-switching keys: Galois elements in ascending order, each with its digits (2, key limbs, n) in NTT form.

        Raises:
            ProtocolError: if SEAL finds a word out of range.
        """
        n, done = self.he_set.n, 0
        parts = [self._parms_id(self.key_limbs), struct.pack("<Q", n)]
        for element, digits in keys:
            index = (element - 1) // 2
            parts.append(bytes(8 * (index - done)) + struct.pack("<Q", len(digits)))
            parts.extend(self.serialised(digit, ntt=True) for digit in digits)
            done = index + 1
        parts.append(bytes(8 * (n - done)))
        try:
            return self.context.from_galois_str(_object(b"".join(parts)))
        except (RuntimeError, ValueError) as error:
            raise refused("load", error) from None

    def galois_digits(self, keys: "Seal", elements: Sequence[int]) -> Iterator[Words]:
        """The inverse of `galois_keys`: every digit (2, key limbs, n) of all `elements`, which must ascend."""
        shape = (2, self.key_limbs, self.he_set.n)
        serialised = keys.to_string()
        at, done = _PARMS_ID.stop + 8, 0
        for element in elements:
            index = (element - 1) // 2
            at += 8 * (index + 1 - done)  # counts of digits: none for elements without a key
            done = index + 1
            for _ in self.he_set.limbs:
                at += _CIPHERTEXT_WORDS
                words = np.frombuffer(serialised, "<u8", prod(shape), at)
                at += words.nbytes
                yield words.reshape(shape)


@lru_cache(_CONTEXTS)
def seal_context(he_set: HeSet) -> SealContext:
    """The context of a set, made once."""
    return SealContext(he_set)


def refused(operation: str, error: Exception) -> ProtocolError:
    """What to raise where SEAL refuses to work on something that the peer sent."""
    return ProtocolError(f"the peer sent what SEAL refuses to {operation}: {error}")
