"""What is measured: the calls that the runtime makes, with operands as it has them.

Weighted sums take their weights from a pool of tiles, so that they come from the second-level cache or beyond, as in an
inference. Circuits are those of real layers.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import numpy as np

from autoprivacy.profiler.harness import Workload
from autoprivacy.profiler.loopback import connected_sender
from autoprivacy.protocol import garbling
from autoprivacy.protocol.he_set import HeSet, he_set_for
from autoprivacy.protocol.nonlinear_circuits import Nonlinear
from autoprivacy.protocol.nonlinear_layer import Batch
from autoprivacy.protocol.oblivious_transfer import CorrelatedOtReceiver, CorrelatedOtSender
from autoprivacy.protocol.ring_he import RingServer
from autoprivacy.protocol.rings import RingWords
from autoprivacy.protocol.seal_he import SealClient
from autoprivacy.protocol.seal_keys import ClientKeys, ServerKeys
from autoprivacy.protocol.transport import HEADER_BYTES

HE_GRID = ((1024, 26), (2048, 26), (2048, 53), (4096, 26), (4096, 53))
"""Ring degree and modulus bits. Wider than what is chosen from: models are fitted to more than they answer."""

CIRCUITS = ((16, 8, 4, 14), (20, 10, 8, 18))
"""Bits in, shift, activation bits, bits out."""

INSTANCES = (1, 16, 128, 512, 1024)
WEIGHT_POOL = 64
Call = Callable[[], object]


def workloads() -> list[Workload]:
    """Everything that a quick profile measures in one process."""
    return [*he_workloads(), *circuit_workloads(), *oblivious_transfer_workloads(), *loopback_workloads()]


def he_workloads() -> Iterator[Workload]:
    """HE operations on the grid, as in `he_interface.ClientHe` and `ServerHe`."""
    for n, q_bits in HE_GRID:
        he_set = he_set_for(n, (q_bits,), 1 << 16)
        make = partial(Workload, n=n, q_bits=q_bits, values=0)
        yield make("encrypt", items=0, prepare=partial(_encrypt, he_set))
        yield make("receive", items=0, prepare=partial(_receive, he_set, with_share=False))
        yield make("receive_add_share", items=0, prepare=partial(_receive, he_set, with_share=True))
        yield make("to_ntt", items=0, prepare=partial(_transform, he_set, back=False))
        yield make("from_ntt", items=0, prepare=partial(_transform, he_set, back=True))
        for products in (1, 8):
            yield make("weighted_sum", items=products, prepare=partial(_weighted_sum, he_set, products))
        for sent in (8, n // 2):
            yield make("respond", items=sent, prepare=partial(_respond, he_set, sent))
            yield make("decrypt", items=sent, prepare=partial(_decrypt, he_set, sent))


def circuit_workloads() -> Iterator[Workload]:
    """Garbling and evaluation of whole nonlinear layers, from shares to shares."""
    for bits_in, shift, activation_bits, bits_out in CIRCUITS:
        circuit = Nonlinear(1 << bits_in, shift, activation_bits, (1 << bits_out,))
        for instances in INSTANCES:
            make = partial(Workload, n=0, q_bits=0, items=instances * circuit.and_gates, values=instances)
            prepare = partial(_circuit, bits_in, shift, activation_bits, bits_out, instances)
            yield make("garble", prepare=partial(prepare, evaluate=False))
            yield make("evaluate", prepare=partial(prepare, evaluate=True))


def oblivious_transfer_workloads() -> Iterator[Workload]:
    """Oblivious-transfer extension, each side alone."""
    for count in (256, 2048, 8192, 16384, 32768):
        yield Workload("ot_receive", 0, 0, count, 0, partial(_oblivious_transfer, count, send=False))
        yield Workload("ot_send", 0, 0, count, 0, partial(_oblivious_transfer, count, send=True))


def loopback_workloads() -> Iterator[Workload]:
    """Frames to another process over loopback, each answered by an empty frame."""
    for content_bytes in (0, 4096, 65536, 1 << 18, 1 << 20, 1 << 21):
        items = content_bytes + 2 * HEADER_BYTES
        yield Workload("transfer", 0, 0, items, 0, partial(connected_sender, content_bytes), calls=2)


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
