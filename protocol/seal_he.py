"""The SEAL interpreter: the real run [SEAL]. What travels is bytes (`wire.py`); keys are in `seal_keys.py`."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.circuit_privacy import UNIFORM, CircuitPrivacy
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.responses import Responder, check_packing, sent
from autoprivacy.protocol.rings import word_type
from autoprivacy.protocol.seal_context import refused, seal_context
from autoprivacy.protocol.seal_keys import SWAP, ClientKeys, ServerKeys, galois_element
from autoprivacy.protocol.wire import WHOLE_LIMB, Response, pack_ciphertext, unpack_ciphertext, unpack_response

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
        check_packing(he_set, packing, response)
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
        taken = sent(self._packing, positions)
        count = self._set.n if isinstance(taken, slice) else len(taken)
        words = unpack_response(response, taken, count, self._set, self._response)
        plaintext = self._decryptor.decrypt(self._context.ciphertext(words))
        return self._context.decode(plaintext, self._packing)[positions]


class SealEncoder:
    """Encodes weights; the part of a `SealServer` that needs no key."""

    def __init__(self, he_set: HeSet, packing: Packing) -> None:
        self._context, self._packing, self._limbs = seal_context(he_set), packing, len(he_set.limbs)

    def encode_weights(self, values: IntArray) -> "Seal | None":
        """A plaintext in NTT form, or None where all weights are zero (SEAL refuses transparent products)."""
        if not values.any():
            return None
        plaintext = self._context.encode(values, self._packing)
        self._context.evaluator.transform_to_ntt_inplace(plaintext, self._context.parms_ids[self._limbs])
        return plaintext


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
        self._responder = Responder(he_set, keys, packing, response, privacy, noise_bound)
        self.operations: Counter[str] = Counter()
        self._set = he_set
        self._packing = packing
        self._keys = keys
        self._context = seal_context(he_set)
        self._evaluator = self._context.evaluator
        self._encoder = SealEncoder(he_set, packing)
        self._words = word_type(he_set.limbs)

    def encode_weights(self, values: IntArray) -> "Seal | None":
        """A plaintext in NTT form, or None where all weights are zero (SEAL refuses transparent products)."""
        self.operations["encode"] += bool(values.any())
        return self._encoder.encode_weights(values)

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
        words = None if total is None else self._context.words(total).astype(self._words, copy=False)
        return self._responder.respond(words, positions)
