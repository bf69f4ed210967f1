"""Both parties of one HE set with operands as an inference has them, set up once a process and shared by settings."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.hwprofiles.samples import WorkDone
from autoprivacy.protocol.circuit_privacy import UNIFORM, CircuitPrivacy
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet, he_set_for, least_batching_prime
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.ring_he import RingServer
from autoprivacy.protocol.rings import ring_of
from autoprivacy.protocol.seal_context import SealContext, seal_context
from autoprivacy.protocol.seal_he import SealClient, SealServer
from autoprivacy.protocol.seal_keys import SWAP, ClientKeys, ServerKeys
from autoprivacy.protocol.wire import WHOLE_LIMB, Response, ciphertext_bytes, response_bytes

STREAMED_BYTES: Final = 32 << 20
"""Weights are streamed from a pool of so many bytes: more than the second-level caches hold, about the third's."""

FLOODING_BITS: Final = 40
DISTINCT: Final = 8
"""Ciphertexts that are made; more are copies of them."""

STEPS: Final = (SWAP, 1)
"""Rotations that keys are made for."""


@dataclass(frozen=True, slots=True)
class GridSet:
    """One HE set: limb widths, bits of t, those of the special prime (for packing `slots`), limbs of a response."""

    n: int
    limb_bits: tuple[int, ...]
    t_bits: int = 16
    special_bits: int | None = None
    kept: int = 1

    @property
    def packing(self) -> Packing:
        """`slots` where there is a special prime."""
        return "coefficients" if self.special_bits is None else "slots"

    @property
    def he_set(self) -> HeSet:
        """The checked set."""
        t = 1 << self.t_bits if self.special_bits is None else least_batching_prime(self.n, 1 << self.t_bits)
        return he_set_for(self.n, self.limb_bits, t, special_bits=self.special_bits)

    @property
    def privacy(self) -> CircuitPrivacy:
        """What such a set is used with."""
        return UNIFORM if self.special_bits is None else CircuitPrivacy("flood", FLOODING_BITS)

    def work(self, operation: str, items: int = 0, *, kept: int = 0, **more: Any) -> WorkDone:  # noqa: ANN401
        """A setting of this set; decryption works on the limbs that a response keeps."""
        he_set = self.he_set
        limbs = he_set.limbs[:kept] if operation == "decrypt" else he_set.limbs
        return WorkDone(
            operation,
            self.n,
            int(np.prod(limbs, dtype=object)).bit_length(),
            1,
            items,
            limbs=len(limbs),
            limb_bits=max(limbs).bit_length(),
            t_bits=he_set.t_bits,
            special=int(he_set.special is not None),
            kept=kept,
            kernel="ring" if self.packing == "coefficients" else "seal",
            **more,
        )

    @property
    def code_path(self) -> str:
        """The instruction set of our kernels; "" for SEAL's."""
        return "" if self.packing == "slots" else ring_of(self.n, self.he_set.limbs).path

    @property
    def request_bytes(self) -> int:
        """Bytes of a ciphertext as the client sends it."""
        return ciphertext_bytes(self.n, self.he_set.limbs)

    def response_bytes(self, sent: int) -> int:
        """Bytes of a response with so many coefficients of c0."""
        return response_bytes(self.n, self.he_set.limbs, sent, Response(limbs=self.kept))


class HeParties:
    """Client and server of one set, and what an operation needs before it."""

    def __init__(self, grid: GridSet) -> None:
        self.grid = grid
        self.he_set = he_set = grid.he_set
        self.rng = np.random.default_rng(grid.n)
        response = WHOLE_LIMB if grid.kept == 1 else Response(limbs=grid.kept)
        self.keys = ClientKeys.generate(he_set)
        self.public = self.keys.public_message(self.steps)
        self.server_keys = ServerKeys(he_set, self.public, self.steps)
        self.client = SealClient(he_set, self.keys, grid.packing, response)
        kind = RingServer if grid.packing == "coefficients" else SealServer
        bound = self._noise_bound()
        self.server: Any = kind(he_set, self.server_keys, grid.packing, response, grid.privacy, bound)

    @property
    def steps(self) -> tuple[int, ...]:
        """Rotation steps that there are keys for."""
        return STEPS if self.grid.packing == "slots" else ()

    def _noise_bound(self) -> int:
        """The greatest power of two that flooding has room for: its time does not depend on it."""
        if self.grid.privacy.kind != "flood":
            return 0
        response = Response(limbs=self.grid.kept)
        for bits in range(self.he_set.q_bits, 0, -1):
            try:
                self.grid.privacy.check(self.he_set, response, 1 << bits)
            except InvalidPolicy:
                continue
            return 1 << bits
        raise InvalidPolicy(f"{self.he_set} has no room for {self.grid.privacy}")

    @cached_property
    def context(self) -> SealContext:
        """SEAL's context of the set."""
        return seal_context(self.he_set)

    @cached_property
    def values(self) -> IntArray:
        """N values modulo t."""
        return self.rng.integers(0, self.he_set.t, self.grid.n)

    @cached_property
    def small(self) -> IntArray:
        """N weights of four bits."""
        return self.rng.integers(-8, 8, self.grid.n)

    @cached_property
    def request(self) -> bytes:
        """A ciphertext as sent."""
        return self.client.encrypt(self.values)

    @cached_property
    def received(self) -> Any:  # noqa: ANN401 - a ciphertext of either server
        """A ciphertext at the server."""
        return self.server.receive(self.request, None)

    @cached_property
    def transformed(self) -> list[Any]:
        """Ciphertexts in NTT form, distinct in memory."""
        return [self.server.to_ntt(self.server.receive(self.request, None)) for _ in range(DISTINCT)]

    def inputs(self, count: int) -> list[Any]:
        """So many of them: a sum of many products reads as many places."""
        first = self.transformed
        while len(first) < count:
            one = first[len(first) % DISTINCT]
            first.append(one.copy() if isinstance(one, np.ndarray) else self.context.seal.Ciphertext(one))
        return first[:count]

    @cached_property
    def weight(self) -> Any:  # noqa: ANN401 - encoded weights of either server
        """One encoded weight polynomial."""
        return self.server.encode_weights(self.small)

    def pool(self, size: int) -> list[Any]:
        """At least `size` encoded weight polynomials, at places of their own; all settings of the set stream them."""
        one = self.weight
        array = isinstance(one, np.ndarray)
        bytes_each = one.nbytes if array else 8 * self.grid.n * len(self.he_set.limbs)
        while len(self._pool) < max(size, STREAMED_BYTES // bytes_each):
            self._pool.append(one.copy() if array else self.context.seal.Plaintext(one))
        return self._pool

    @cached_property
    def _pool(self) -> list[Any]:
        return []

    @cached_property
    def total(self) -> Any:  # noqa: ANN401 - as above
        """A sum in coefficient form."""
        return self.server.from_ntt(self.server.weighted_sum(self.transformed[:1], [self.weight]))

    @cached_property
    def words(self) -> Any:  # noqa: ANN401 - numpy's words
        """The words of a ciphertext."""
        return self.context.words(self.context.ciphertext(self._unpacked()))

    def _unpacked(self) -> Any:  # noqa: ANN401 - as above
        from autoprivacy.protocol.wire import unpack_ciphertext

        return unpack_ciphertext(self.request, self.grid.n, self.he_set.limbs)


@lru_cache(maxsize=64)
def parties(grid: GridSet) -> HeParties:
    """The parties of a set, made once a process."""
    return HeParties(grid)


Make = Callable[[HeParties], Callable[[], object]]
