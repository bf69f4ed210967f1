"""What is measured: the calls that the runtime makes, with operands as it has them.

Weighted sums take their weights from a pool of tiles, so that they come from the second-level cache or beyond, as in an
inference. Circuits are those of real layers.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from autoprivacy.hwprofiles.samples import WorkDone
from autoprivacy.profiler.harness import Workload
from autoprivacy.profiler.loopback import connected_sender
from autoprivacy.protocol import _native, garbling
from autoprivacy.protocol.he_set import HeSet, he_set_for
from autoprivacy.protocol.nonlinear_circuits import Nonlinear
from autoprivacy.protocol.nonlinear_layer import Batch
from autoprivacy.protocol.oblivious_transfer import CorrelatedOtReceiver, CorrelatedOtSender, extension_bytes
from autoprivacy.protocol.ring_he import RingServer
from autoprivacy.protocol.rings import RingWords
from autoprivacy.protocol.seal_he import SealClient
from autoprivacy.protocol.seal_keys import ClientKeys, ServerKeys
from autoprivacy.protocol.transport import HEADER_BYTES
from autoprivacy.protocol.wire import ciphertext_bytes, response_bytes

HE_GRID = ((1024, 26), (2048, 26), (2048, 53), (4096, 26), (4096, 53))
"""Ring degree and modulus bits. Wider than what is chosen from: models are fitted to more than they answer."""

CIRCUITS = ((16, 8, 4, 14), (20, 10, 8, 18))
"""Bits in, shift, activation bits, bits out."""

INSTANCES = (1, 16, 128, 512, 1024)
WEIGHT_POOL = 64
Call = Callable[[], object]


def workloads(depth: str) -> list[Workload]:  # noqa: ARG001 - one depth so far
    """Everything that a profile of this depth measures in one process."""
    return [*he_workloads(), *circuit_workloads(), *oblivious_transfer_workloads(), *loopback_workloads()]


def he_workloads() -> Iterator[Workload]:
    """HE operations on the grid, as in `he_interface.ClientHe` and `ServerHe`."""
    for n, q_bits in HE_GRID:
        he_set = he_set_for(n, (q_bits,), 1 << 16)
        request = ciphertext_bytes(n, he_set.limbs)

        def make(
            operation: str,
            prepare: Callable[[], Call],
            items: int = 0,
            he_set: HeSet = he_set,
            **more: Any,  # noqa: ANN401
        ) -> Workload:
            work = WorkDone(
                operation,
                he_set.n,
                he_set.q_bits,
                1,
                items,
                limb_bits=max(he_set.limb_bits),
                t_bits=he_set.t_bits,
                kernel="ring",
                **more,
            )
            return Workload(work, prepare)

        yield make("encrypt", partial(_encrypt, he_set), bytes=request)
        yield make("receive", partial(_receive, he_set, with_share=False), bytes=request)
        yield make("receive_add_share", partial(_receive, he_set, with_share=True), bytes=request)
        yield make("to_ntt", partial(_transform, he_set, back=False))
        yield make("from_ntt", partial(_transform, he_set, back=True))
        for products in (1, 8):
            yield make("weighted_sum", partial(_weighted_sum, he_set, products), products, state="streamed")
        for sent in (8, n // 2):
            size = response_bytes(n, he_set.limbs, sent)
            yield make("respond", partial(_respond, he_set, sent), sent, kept=1, privacy="uniform", bytes=size)
            yield make("decrypt", partial(_decrypt, he_set, sent), sent, kept=1, bytes=size)


def circuit_workloads() -> Iterator[Workload]:
    """Garbling and evaluation of whole nonlinear layers, from shares to shares."""
    for bits_in, shift, activation_bits, bits_out in CIRCUITS:
        kind = Nonlinear(1 << bits_in, shift, activation_bits, (1 << bits_out,))
        circuit = kind.circuit
        for instances in INSTANCES:
            wires = instances * (circuit.inputs + len(circuit.outputs))
            size = garbling.garbled_bytes(circuit, instances)
            prepare = partial(_circuit, bits_in, shift, activation_bits, bits_out, instances)
            for operation in ("garble", "evaluate"):
                work = WorkDone(operation, 0, 0, 1, instances * kind.and_gates, instances, bytes=size, wires=wires)
                yield Workload(work, partial(prepare, evaluate=operation == "evaluate"), _native.aes_path())


def oblivious_transfer_workloads() -> Iterator[Workload]:
    """Oblivious-transfer extension, each side alone."""
    for count in (256, 2048, 8192, 16384, 32768):
        for operation in ("ot_receive", "ot_send"):
            work = WorkDone(operation, 0, 0, 1, count, bytes=extension_bytes(count))
            prepare = partial(_oblivious_transfer, count, send=operation == "ot_send")
            yield Workload(work, prepare, _native.aes_path())


def loopback_workloads() -> Iterator[Workload]:
    """Frames to another process over loopback, each answered by an empty frame."""
    for content_bytes in (0, 4096, 65536, 1 << 18, 1 << 20, 1 << 21):
        items = content_bytes + 2 * HEADER_BYTES
        yield Workload(WorkDone("transfer", 0, 0, 2, items, bytes=items), partial(connected_sender, content_bytes))


def _parties(he_set: HeSet) -> tuple[SealClient, RingServer]:
    keys = ClientKeys.generate(he_set)
    return SealClient(he_set, keys), RingServer(he_set, ServerKeys(he_set, keys.public_message()))


def _polynomial(he_set: HeSet) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng(he_set.n).integers(0, he_set.t, he_set.n)


def _encrypt(he_set: HeSet) -> Call:
    return partial(_parties(he_set)[0].encrypt, _polynomial(he_set))


def _receive(he_set: HeSet, *, with_share: bool) -> Call:
    client, server = _parties(he_set)
    return partial(server.receive, client.encrypt(_polynomial(he_set)), _polynomial(he_set) if with_share else None)


def _transform(he_set: HeSet, *, back: bool) -> Call:
    client, server = _parties(he_set)
    ciphertext = server.receive(client.encrypt(_polynomial(he_set)), None)
    if back:
        return partial(server.from_ntt, server.to_ntt(ciphertext))
    return partial(server.to_ntt, ciphertext)


def _summed(client: SealClient, server: RingServer, he_set: HeSet) -> RingWords:
    ciphertext = server.to_ntt(server.receive(client.encrypt(_polynomial(he_set)), None))
    weight = server.encode_weights(np.random.default_rng(1).integers(-8, 8, he_set.n))
    total = server.weighted_sum([ciphertext], [weight])
    assert total is not None  # noqa: S101 - the weight is not zero
    return server.from_ntt(total)


def _weighted_sum(he_set: HeSet, products: int) -> Call:
    client, server = _parties(he_set)
    rng = np.random.default_rng(products)
    inputs = [server.to_ntt(server.receive(client.encrypt(_polynomial(he_set)), None)) for _ in range(products)]
    tiles = [server.encode_weights(rng.integers(-8, 8, he_set.n)) for _ in range(WEIGHT_POOL)]
    rows = cycle([tiles[i : i + products] for i in range(0, WEIGHT_POOL - products + 1, products)])
    return lambda: server.weighted_sum(inputs, next(rows))


def _respond(he_set: HeSet, sent: int) -> Call:
    client, server = _parties(he_set)
    return partial(server.respond, _summed(client, server, he_set), np.arange(sent))


def _decrypt(he_set: HeSet, sent: int) -> Call:
    client, server = _parties(he_set)
    positions = np.arange(sent)
    response, _ = server.respond(_summed(client, server, he_set), positions)
    return partial(client.decrypt, response, positions)


def _ot_pair(delta: bytes) -> tuple[CorrelatedOtSender, CorrelatedOtReceiver]:
    sender, receiver = CorrelatedOtSender(delta), CorrelatedOtReceiver()
    receiver.finish_base(sender.answer_base(receiver.offer_base()))
    return sender, receiver


def _circuit(bits_in: int, shift: int, activation_bits: int, bits_out: int, instances: int, *, evaluate: bool) -> Call:
    places = np.arange(instances)
    kind = Nonlinear(1 << bits_in, shift, activation_bits, (1 << bits_out,))
    batch = Batch(kind, places[None], places)
    rng = np.random.default_rng(instances)
    own, kept = rng.integers(0, 1 << bits_in, (2, instances), dtype=np.int64)
    masks = rng.integers(0, 1 << bits_out, (1, instances))
    delta = garbling.new_delta()
    sender, receiver = _ot_pair(delta)
    columns, labels = receiver.extend(batch.choices(own))
    zero_labels = sender.extend(columns, len(labels))
    if evaluate:
        return partial(batch.evaluate, labels, batch.garble(kept, masks, zero_labels, delta))
    return partial(batch.garble, kept, masks, zero_labels, delta)


def _oblivious_transfer(count: int, *, send: bool) -> Call:
    sender, receiver = _ot_pair(garbling.new_delta())
    choices = np.frombuffer(os.urandom(count), np.uint8) & np.uint8(1)
    if not send:
        return partial(receiver.extend, choices)
    columns, _ = receiver.extend(choices)
    return partial(sender.extend, columns, count)
