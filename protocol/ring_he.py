"""The server's part of packing `coefficients` on our own kernels (`rings.py`): from bytes to bytes without SEAL.

SEAL multiplies and reduces product by product; here a whole sum is accumulated and reduced once. Ciphertexts are those
of SEAL, so SEAL's client decrypts what this makes, and `SealServer` can take its place anywhere.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.circuit_privacy import UNIFORM, CircuitPrivacy
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.responses import Responder
from autoprivacy.protocol.rings import RingWords, ring_of, word_type
from autoprivacy.protocol.seal_keys import ServerKeys
from autoprivacy.protocol.wire import WHOLE_LIMB, Response, check_words, unpack_ciphertext


class RingEncoder:
    """Encodes weights; the part of a `RingServer` that needs no key."""

    def __init__(self, he_set: HeSet) -> None:
        self._ring = ring_of(he_set.n, he_set.limbs)

    def encode_weights(self, values: IntArray) -> RingWords | None:
        """A polynomial in NTT form (limbs, n), or None where all weights are zero."""
        return self._ring.encode(values) if values.any() else None


class RingServer:
    """Implements `he_interface.ServerHe`, without rotations; arguments as of `seal_he.SealServer`.

    Raises:
        InvalidPolicy: if these do not fit together, or for packing `slots`.
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
        if packing != "coefficients":
            self._refuse_rotation()
        self.operations: Counter[str] = Counter()
        self._set = he_set
        self._encoder = RingEncoder(he_set)
        self._ring = ring_of(he_set.n, he_set.limbs)
        self._words = word_type(he_set.limbs)
        self._responder = Responder(he_set, keys, packing, response, privacy, noise_bound)

    def encode_weights(self, values: IntArray) -> RingWords | None:
        """A polynomial in NTT form (limbs, n), or None where all weights are zero."""
        self.operations["encode"] += bool(values.any())
        return self._encoder.encode_weights(values)

    def receive(self, request: bytes, share: IntArray | None) -> RingWords:
        """Unpack and check a ciphertext (2, limbs, n), add the server's share.

        Raises:
            ProtocolError: if its length or content is wrong.
        """
        self.operations["receive" if share is None else "receive_add_share"] += 1
        words = unpack_ciphertext(request, self._set.n, self._set.limbs)
        check_words(words, self._set.limbs)
        ciphertext: RingWords = words.astype(self._words, copy=False)
        return ciphertext if share is None else self._ring.add_plain(ciphertext, share % self._set.t, self._set.t)

    def to_ntt(self, ciphertext: RingWords) -> RingWords:
        """The ciphertext in NTT form."""
        self.operations["to_ntt"] += 1
        return self._ring.forward(ciphertext)

    def weighted_sum(self, ciphertexts: Sequence[RingWords], weights: Sequence[RingWords | None]) -> RingWords | None:
        """Sum of products, in NTT form; None where every weight polynomial is zero."""
        pairs = [(c, w) for c, w in zip(ciphertexts, weights, strict=True) if w is not None]
        self.operations["multiply_accumulate"] += len(pairs)
        return self._ring.multiply_accumulate([c for c, _ in pairs], [w for _, w in pairs]) if pairs else None

    def from_ntt(self, ciphertext: RingWords) -> RingWords:
        """The ciphertext in coefficient form."""
        self.operations["from_ntt"] += 1
        return self._ring.inverse(ciphertext)

    def rotate(self, ciphertext: RingWords, steps: int) -> NoReturn:  # noqa: ARG002 - the interface's
        """Refused: rotations belong to packing `slots`."""
        self._refuse_rotation()

    def swap_rows(self, ciphertext: RingWords) -> NoReturn:  # noqa: ARG002 - the interface's
        """Refused, as `rotate`."""
        self._refuse_rotation()

    def _refuse_rotation(self) -> NoReturn:
        raise InvalidPolicy("these kernels have no rotations, which packing `slots` needs; use SEAL's server")

    def add(self, ciphertexts: Sequence[RingWords]) -> RingWords:
        """The sum of at least one ciphertext."""
        self.operations["add"] += len(ciphertexts) - 1
        total, *rest = ciphertexts
        for ciphertext in rest:
            total = self._ring.add(total, ciphertext)
        return total

    def respond(self, total: RingWords | None, positions: IntArray) -> tuple[bytes, IntArray]:
        """Rerandomise, mask or flood, switch, drop low bits: the packed response and the server's share in [0, t)."""
        self.operations["respond"] += 1
        return self._responder.respond(total, positions)
