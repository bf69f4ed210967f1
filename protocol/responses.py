"""How a sum becomes a response: rerandomised, masked or flooded, switched, without its low bits (PROTOCOL's order).

It works on words, whatever multiplied them, so that every server hides its weights in the same way.
"""

import numpy as np

from autoprivacy.protocol import _ring
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.randomness import random_below, wide_noise
from autoprivacy.protocol.rings import RingWords, ring_of, word_type
from autoprivacy.protocol.seal_context import seal_context
from autoprivacy.protocol.seal_keys import ServerKeys
from autoprivacy.protocol.wire import Response, pack_response


class Responder:
    """Makes the responses of one HE set, packing, form of response and circuit privacy.

    `noise_bound` bounds every coefficient of the noise of what is given; only `flood` needs it. It is public.

    Raises:
        InvalidPolicy: if these do not fit together.
    """

    def __init__(
        self,
        he_set: HeSet,
        keys: ServerKeys,
        packing: Packing,
        response: Response,
        privacy: CircuitPrivacy,
        noise_bound: int,
    ) -> None:
        check_packing(he_set, packing, response)
        privacy.check(he_set, response, noise_bound)
        keys.check_serve(he_set)
        self._set, self._packing, self._response, self._privacy = he_set, packing, response, privacy
        self._noise_bound = noise_bound
        self._zeros = keys.zero_encryptor
        self._ring = ring_of(he_set.n, he_set.limbs)

    def respond(self, total: RingWords | None, positions: IntArray) -> tuple[bytes, IntArray]:
        """The packed response for a sum of words (2, limbs, n), and the server's share at `positions`, in [0, t).

        None stands for zero.
        """
        words = self._rerandomised(total)
        if self._privacy.kind == "uniform":
            words = self._switched(words)
            c0, share = self._masked_uniformly(words[0], positions)
        else:
            words, share = self._masked_plainly(words, positions)
            c0 = words[0][:, sent(self._packing, positions)]
        return pack_response(_wide(c0), _wide(words[1]), self._set, self._response), share

    def _rerandomised(self, total: RingWords | None) -> RingWords:
        """`total` plus an encryption of zero. Even `none` sends no transparent ciphertext."""
        if total is None:
            return self._zeros.words()
        return total if self._privacy.kind == "none" else self._ring.add(total, self._zeros.words())

    def _switched(self, words: RingWords) -> RingWords:
        """The ciphertext modulo the limbs that a response keeps."""
        for limbs in range(len(self._set.limbs), self._response.limbs, -1):
            words = ring_of(self._set.n, self._set.limbs[:limbs]).drop_limb(
                words.astype(word_type(self._set.limbs[:limbs]), copy=False)
            )
        return words

    def _masked_uniformly(self, c0: RingWords, positions: IntArray) -> tuple[RingWords, IntArray]:
        """What is sent of c0 (1, n) plus R, and the share -round(t R / q) of it."""
        he_set = self._set
        values = _wide(c0[0, sent(self._packing, positions)])
        masks = random_below(he_set.limbs[0], len(values))
        masked, share = _ring.mask_uniformly(values, masks, he_set.limbs[0], he_set.t)
        if self._packing == "slots":
            context = seal_context(he_set)
            share = context.decode(context.encode(share, "coefficients"), "slots")[positions]
        return masked[None], share

    def _masked_plainly(self, words: RingWords, positions: IntArray) -> tuple[RingWords, IntArray]:
        """The ciphertext plus flooding noise and a uniform plaintext, switched, and the share of it."""
        he_set = self._set
        if self._privacy.kind == "flood":
            exponent = self._privacy.flood_exponent(he_set.n, self._noise_bound)
            noise = wide_noise(exponent, he_set.limbs, he_set.n).astype(words.dtype)
            words = np.stack([self._ring.add(words[:1], noise[None])[0], words[1]])
        # Coefficients of a uniform plaintext are uniform, and so are its slots.
        mask = random_below(he_set.t, he_set.n).astype(np.int64)
        words = self._switched(self._ring.add_plain(words, mask, he_set.t))
        if self._packing == "slots":
            context = seal_context(he_set)
            mask = context.decode(context.encode(mask, "coefficients"), "slots")
        return words, -mask[positions] % he_set.t


def sent(packing: Packing, positions: IntArray) -> IntArray | slice:
    """Which coefficients of c0 travel: every slot depends on all of them."""
    return slice(None) if packing == "slots" else positions


def check_packing(he_set: HeSet, packing: Packing, response: Response) -> None:
    """Refuse a response or a packing that `he_set` has no room for.

    Raises:
        InvalidPolicy: naming what does not fit.
    """
    response.check(he_set)
    if packing == "slots":
        he_set.require_slots()


def _wide(words: RingWords) -> RingWords:
    return words.astype(np.uint64, copy=False)
