"""The SEAL interpreter: the real run [SEAL]. What travels is bytes (`wire.py`); keys are in `seal_keys.py`."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.circuit_privacy import UNIFORM, CircuitPrivacy, scaled_round
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.randomness import random_below, wide_noise
from autoprivacy.protocol.seal_context import refused, seal_context
from autoprivacy.protocol.seal_keys import SWAP, ClientKeys, ServerKeys, galois_element
from autoprivacy.protocol.wire import (
    WHOLE_LIMB,
    Response,
    Words,
    pack_ciphertext,
    pack_response,
    unpack_ciphertext,
    unpack_response,
)
from autoprivacy.protocol.zero_encryption import add_modulo

if TYPE_CHECKING:
    Seal = Any  # the binding ships no types


class SealClient:
    """Implements `he_interface.ClientHe` for one HE set, one packing and one form of response."""

    def __init__(
        self,
        he_set: HeSet,
        keys: ClientKeys,
        packing: Packing = "coefficients",
        response: Response = WHOLE_LIMB,
    ) -> None:
        _check(he_set, packing, response)
        self.operations: Counter[str] = Counter()
        self._set = he_set
        self._packing = packing
        self._response = response
        self._context = context = seal_context(he_set)
        secret = keys.secret_for(context)
        self._encryptor = context.seal.Encryptor(context.context, secret)
        self._decryptor = context.seal.Decryptor(context.context, secret)

    def encrypt(self, values: IntArray) -> bytes:
        """A packed symmetric encryption of n integers modulo t."""
        self.operations["encrypt"] += 1
        ciphertext = self._encryptor.encrypt_symmetric(self._context.encode(values, self._packing))
        return pack_ciphertext(self._context.words(ciphertext), self._set.limbs)

    def decrypt(self, response: bytes, positions: IntArray) -> IntArray:
        """The values at `positions` of a packed response, in [0, t).

        Raises:
            ProtocolError: if its length or content is wrong.
        """
        self.operations["decrypt"] += 1
        sent = _sent(self._packing, positions)
        count = self._set.n if isinstance(sent, slice) else len(sent)
        words = unpack_response(response, sent, count, self._set, self._response)
        plaintext = self._decryptor.decrypt(self._context.ciphertext(words))
        return self._context.decode(plaintext, self._packing)[positions]


class SealServer:
    """Implements `he_interface.ServerHe` for one HE set, one packing, one circuit privacy and one form of response.

    `noise_bound` bounds every coefficient of the noise of what `respond` is given; only `flood` needs it. It is public.

    Raises:
        InvalidPolicy: if these do not fit together.
    """

    def __init__(
        self,
        he_set: HeSet,
        keys: ServerKeys,
        packing: Packing = "coefficients",
        response: Response = WHOLE_LIMB,
        privacy: CircuitPrivacy = UNIFORM,
        noise_bound: int = 0,
    ) -> None:
        _check(he_set, packing, response)
        privacy.check(he_set, response, noise_bound)
        if he_set.key_parameters != keys.he_set.key_parameters:
            raise InvalidPolicy(f"keys of {keys.he_set} cannot serve {he_set}")
        self.operations: Counter[str] = Counter()
        self._set = he_set
        self._packing = packing
        self._response = response
        self._privacy = privacy
        self._noise_bound = noise_bound
        self._keys = keys
        self._context = seal_context(he_set)
        self._evaluator = self._context.evaluator
        self._primes = np.array(he_set.limbs, np.uint64)[:, None]

    def encode_weights(self, values: IntArray) -> "Seal | None":
        """A plaintext in NTT form, or None where all weights are zero (SEAL refuses transparent products)."""
        if not values.any():
            return None
        self.operations["encode"] += 1
        plaintext = self._context.encode(values, self._packing)
        self._evaluator.transform_to_ntt_inplace(plaintext, self._context.parms_ids[len(self._set.limbs)])
        return plaintext

    def receive(self, request: bytes, share: IntArray | None) -> "Seal":
        """Unpack and check a ciphertext, add the server's share.

        Raises:
            ProtocolError: if its length or content is wrong.
        """
        self.operations["receive" if share is None else "receive_add_share"] += 1
        ciphertext = self._context.ciphertext(unpack_ciphertext(request, self._set.n, self._set.limbs))
        if share is not None:
            self._evaluator.add_plain_inplace(ciphertext, self._context.encode(share, self._packing))
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
                if total is None:
                    total = product
                else:
                    self._evaluator.add_inplace(total, product)
            except RuntimeError as error:
                raise refused("multiply", error) from None
        return total

    def from_ntt(self, ciphertext: "Seal") -> "Seal":
        """The ciphertext in coefficient form."""
        self.operations["from_ntt"] += 1
        return self._evaluator.transform_from_ntt(ciphertext)

    def rotate(self, ciphertext: "Seal", steps: int) -> "Seal":
        """Both rows of slots rotated left; the client must have sent a key for `steps`."""
        self.operations["rotate"] += 1
        return self._automorphism(ciphertext, steps)

    def swap_rows(self, ciphertext: "Seal") -> "Seal":
        """Both rows of slots exchanged; the client must have sent a key for `SWAP`."""
        self.operations["swap_rows"] += 1
        return self._automorphism(ciphertext, SWAP)

    def _automorphism(self, ciphertext: "Seal", step: int) -> "Seal":
        if step not in self._keys.steps:
            raise InvalidPolicy(f"no Galois key for step {step}; the keys serve {self._keys.steps}")
        try:
            return self._evaluator.apply_galois(
                ciphertext, galois_element(self._set.n, step), self._keys.galois(self._set)
            )
        except RuntimeError as error:
            raise refused("rotate", error) from None

    def add(self, ciphertexts: "Sequence[Seal]") -> "Seal":
        """The sum of at least one ciphertext."""
        self.operations["add"] += len(ciphertexts) - 1
        total, *rest = ciphertexts
        try:
            for place, ciphertext in enumerate(rest):
                if place:
                    self._evaluator.add_inplace(total, ciphertext)
                else:
                    total = self._evaluator.add(total, ciphertext)
        except RuntimeError as error:
            raise refused("add", error) from None
        return total

    def respond(self, total: "Seal | None", positions: IntArray) -> tuple[bytes, IntArray]:
        """Rerandomise, mask or flood, switch, drop low bits: the packed response and the server's share in [0, t)."""
        self.operations["respond"] += 1
        words = self._rerandomised(total)
        if self._privacy.kind == "uniform":
            words = self._switched(words)
            c0, share = self._masked_uniformly(words[0], positions)
        else:
            words, share = self._masked_plainly(words, positions)
            c0 = words[0][:, _sent(self._packing, positions)]
        return pack_response(c0, words[1], self._set, self._response), share

    def _rerandomised(self, total: "Seal | None") -> Words:
        """Words of `total` plus an encryption of zero. Even `none` sends no transparent ciphertext."""
        if total is None:
            return self._keys.zero_encryptor.words()
        words = self._context.words(total)
        if self._privacy.kind == "none":
            return words
        return add_modulo(words, self._keys.zero_encryptor.words(), self._primes)

    def _switched(self, words: Words) -> Words:
        """The ciphertext modulo the limbs that a response keeps."""
        if self._response.limbs == len(self._set.limbs):
            return words
        return self._switch(self._context.ciphertext(words))

    def _switch(self, ciphertext: "Seal") -> Words:
        self._evaluator.mod_switch_to_inplace(ciphertext, self._context.parms_ids[self._response.limbs])
        return self._context.words(ciphertext)

    def _masked_uniformly(self, c0: Words, positions: IntArray) -> tuple[Words, IntArray]:
        """What is sent of c0 (1, n) plus R, and the share -round(t R / q) of it."""
        he_set, prime = self._set, self._primes[:1]
        sent = c0[:, _sent(self._packing, positions)]
        mask = random_below(he_set.limbs[0], sent.shape[1])
        share = -scaled_round(mask, he_set.t, he_set.limbs[0]) % he_set.t
        if self._packing == "slots":
            share = self._context.decode(self._context.encode(share, "coefficients"), "slots")[positions]
        return add_modulo(sent, mask[None], prime), share

    def _masked_plainly(self, words: Words, positions: IntArray) -> tuple[Words, IntArray]:
        """The ciphertext plus flooding noise and a uniform plaintext, switched, and the share of it."""
        he_set = self._set
        if self._privacy.kind == "flood":
            exponent = self._privacy.flood_exponent(he_set.n, self._noise_bound)
            noise = wide_noise(exponent, he_set.limbs, he_set.n)
            words = np.stack([add_modulo(words[0], noise, self._primes), words[1]])
        mask = random_below(he_set.t, he_set.n).astype(np.int64)
        ciphertext = self._context.ciphertext(words)
        self._evaluator.add_plain_inplace(ciphertext, self._context.encode(mask, self._packing))
        return self._switch(ciphertext), -mask[positions] % he_set.t


def _sent(packing: Packing, positions: IntArray) -> IntArray | slice:
    """Which coefficients of c0 travel: every slot depends on all of them."""
    return slice(None) if packing == "slots" else positions


def _check(he_set: HeSet, packing: Packing, response: Response) -> None:
    response.check(he_set)
    if packing == "slots":
        he_set.require_slots()
