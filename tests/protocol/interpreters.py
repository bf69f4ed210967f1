"""One computation for every interpreter: what a layer does, with nothing of a layer's geometry.

The conformance suite runs it, and so do tests of noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprivacy.protocol.circuit_privacy import UNIFORM, CircuitPrivacy
from autoprivacy.protocol.he_interface import C, ClientHe, P, Packing, ServerHe, W
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.ring_he import RingServer
from autoprivacy.protocol.seal_he import SealClient, SealServer
from autoprivacy.protocol.seal_keys import SWAP, ClientKeys, ServerKeys
from autoprivacy.protocol.wire import WHOLE_LIMB, Response


def seal_pair(
    he_set: HeSet,
    packing: Packing = "coefficients",
    response: Response = WHOLE_LIMB,
    privacy: CircuitPrivacy = UNIFORM,
    *,
    noise_bound: int = 0,
    steps: Sequence[int] = (),
    keys: ClientKeys | None = None,
    server_kind: type[SealServer | RingServer] = SealServer,
) -> tuple[SealClient, SealServer | RingServer, ClientKeys]:
    """Both parties of the SEAL interpreter, with fresh keys unless `keys` are given; the server may be our own."""
    keys = keys or ClientKeys.generate(he_set)
    server_keys = ServerKeys(keys.he_set, keys.public_message(steps), steps)
    server = server_kind(he_set, server_keys, packing, response, privacy, noise_bound)
    return SealClient(he_set, keys, packing, response), server, keys


@dataclass(frozen=True, slots=True)
class Computation:
    """Two responses: one of all `inputs` times `weights`, one of no product at all.

    With slots, the first input is rotated by `steps` (0 exchanges rows), and so is the sum, which is added to itself.
    """

    inputs: tuple[IntArray, ...]
    shares: tuple[IntArray | None, ...]
    weights: tuple[IntArray, ...]
    steps: tuple[int, ...]
    positions: IntArray

    def run(self, client: ClientHe[W], server: ServerHe[W, C, P], t: int) -> tuple[IntArray, list[W], list[W]]:
        """What both shares of both responses open to, modulo t, and all that travelled."""
        requests = [client.encrypt(values) for values in self.inputs]
        received = [server.receive(sent, share) for sent, share in zip(requests, self.shares, strict=True)]
        received[0] = self._turned(server, received[0])
        products = server.weighted_sum(
            [server.to_ntt(ciphertext) for ciphertext in received],
            [server.encode_weights(values) for values in self.weights],
        )
        total = None if products is None else server.from_ntt(products)
        if total is not None and self.steps:
            total = server.add([total, self._turned(server, total), total])
        responses, opened = [], []
        for sum_or_none in (total, None):
            sent, kept = server.respond(sum_or_none, self.positions)
            responses.append(sent)
            opened.append((client.decrypt(sent, self.positions) + kept) % t)
        return np.concatenate(opened), requests, responses

    def _turned(self, server: ServerHe[W, C, P], ciphertext: C) -> C:
        for step in self.steps:
            ciphertext = server.swap_rows(ciphertext) if step == SWAP else server.rotate(ciphertext, step)
        return ciphertext
