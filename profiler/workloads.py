"""What is measured: the calls that the runtime makes, with operands as it has them; circuits of real layers."""

from collections.abc import Iterator
from functools import cache, partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.hwprofiles.samples import LINKED_CIRCUITS, LINKED_TRANSFERS, WorkDone
from autoprivacy.profiler.harness import Call, Workload
from autoprivacy.profiler.he_workloads import he_workloads
from autoprivacy.profiler.link_protocol import Command
from autoprivacy.profiler.linked_circuits import CIRCUITS, CORE_CIRCUITS, MORE_CIRCUITS, batch_bytes, batch_of
from autoprivacy.profiler.loopback import connected_sender, meter
from autoprivacy.profiler.prepared_workloads import prepared_workloads
from autoprivacy.protocol import _native, garbling, nonlinear_layer
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.nonlinear_circuits import Nonlinear
from autoprivacy.protocol.nonlinear_layer import Batch
from autoprivacy.protocol.oblivious_transfer import CorrelatedOtReceiver, CorrelatedOtSender, extension_bytes
from autoprivacy.protocol.transport import HEADER_BYTES

CORE_INSTANCES: Final = (1, 64, 512, 2048)
MORE_INSTANCES: Final = (16, 128, 1024, 8192, 65536)
LINKED_INSTANCES: Final = (16, 512, 2048, 8192)
CORE_TRANSFERS: Final = (256, 8192, 32768)
MORE_TRANSFERS: Final = (
    *(720, 1024, 1808, 2048, 4096, 5040, 12176, 16384, 24576),
    *(40016, 49152, 65536, 100016, 131072, 262144, 524288, 1 << 20),
)
"""As of most layers, some are no multiples of 128: rows of their messages then do not begin where vectors do."""
CORE_FRAMES: Final = (0, 65536, 1 << 20)
MORE_FRAMES: Final = (512, 4096, 16384, 1 << 18, 1 << 21, 1 << 22, 1 << 25)


def workloads(depth: str) -> list[Workload]:
    """Everything that a profile of this depth measures in one process; settings are distinct."""
    found = [
        *he_workloads(depth),
        *circuit_workloads(depth),
        *oblivious_transfer_workloads(depth),
        *loopback_workloads(depth),
        *linked_workloads(depth),
        *prepared_workloads(depth),
    ]
    return list({each.key: each for each in reversed(found)}.values())[::-1]


def circuit_workloads(depth: str) -> Iterator[Workload]:
    """Garbling and evaluation of whole nonlinear layers, from shares to shares."""
    for kind, batches in zip(CORE_CIRCUITS, (CORE_INSTANCES, CORE_INSTANCES[1::2]), strict=True):
        for instances in batches:
            yield from circuit_pair(kind, instances)
    if depth == "quick":
        return
    for kind in CORE_CIRCUITS:
        for instances in (*CORE_INSTANCES, *MORE_INSTANCES):
            yield from circuit_pair(kind, instances)
    for kind in MORE_CIRCUITS:
        for instances in (16, 512, *((2048, 8192) if depth == "full" else ())):
            yield from circuit_pair(kind, instances)
    for path in _native.aes_paths():
        if path not in {_native.aes_path(), "portable"} or depth == "full":
            yield from circuit_pair(CORE_CIRCUITS[1], 512, path)


def circuit_pair(kind: Nonlinear, instances: int, path: str | None = None) -> Iterator[Workload]:
    """Garbling and evaluation of a batch."""
    circuit = kind.circuit
    wires, size = instances * (circuit.inputs + len(circuit.outputs)), garbling.garbled_bytes(circuit, instances)
    for operation in ("garble", "evaluate"):
        work = WorkDone(operation, 0, 0, 1, instances * kind.and_gates, instances, bytes=size, wires=wires)
        prepare = partial(_circuit, kind, instances, path, evaluate=operation == "evaluate")
        yield Workload(work, prepare, path or _native.aes_path())


def oblivious_transfer_workloads(depth: str) -> Iterator[Workload]:
    """Oblivious-transfer extension, each side alone."""
    for count in (*CORE_TRANSFERS, *(() if depth == "quick" else MORE_TRANSFERS)):
        yield from transfer_pair(count)


def transfer_pair(count: int) -> Iterator[Workload]:
    """So many oblivious transfers, a multiple of 16, at either party."""
    for operation in ("ot_receive", "ot_send"):
        work = WorkDone(operation, 0, 0, 1, count, bytes=extension_bytes(count))
        prepare = partial(_oblivious_transfer, count, send=operation == "ot_send")
        yield Workload(work, prepare, _native.aes_path())


def loopback_workloads(depth: str) -> Iterator[Workload]:
    """Frames to another process over loopback, each answered by an empty frame."""
    for content_bytes in (*CORE_FRAMES, *(() if depth == "quick" else MORE_FRAMES)):
        yield frame_workload(content_bytes)


def frame_workload(content_bytes: int) -> Workload:
    """One frame, and its empty answer."""
    items = content_bytes + 2 * HEADER_BYTES
    return Workload(WorkDone("transfer", 0, 0, 2, items, bytes=items), partial(connected_sender, content_bytes))


def linked_workloads(depth: str) -> Iterator[Workload]:
    """Both sides in two processes over loopback, from `standard` on: whole batches of circuits; transfers alone."""
    if depth == "quick":
        return
    core, more = range(len(CORE_CIRCUITS)), range(len(CORE_CIRCUITS), len(CIRCUITS))
    sizes = [(circuit, instances) for circuit in core for instances in LINKED_INSTANCES]
    sizes += [(circuit, instances) for circuit in more for instances in ((512, 2048) if depth == "full" else (512,))]
    for circuit, instances in sizes:
        batch = batch_of(circuit, instances)
        wires = instances * (batch.circuit.inputs + len(batch.circuit.outputs))
        gates, size = instances * batch.kind.and_gates, batch_bytes(batch)
        work = WorkDone(LINKED_CIRCUITS, 0, 0, 1, gates, instances, bytes=size, wires=wires)
        yield _linked(work, Command("circuits", circuit=circuit, instances=instances))
    for count in (*CORE_TRANSFERS, *(MORE_TRANSFERS if depth == "full" else ())):
        work = WorkDone(LINKED_TRANSFERS, 0, 0, 1, count, bytes=extension_bytes(count))
        yield _linked(work, Command("transfers", instances=count))


def _linked(work: WorkDone, command: Command) -> Workload:
    return Workload(work, lambda: partial(meter().run, command), _native.aes_path())


@cache
def _session(of: str) -> tuple[bytes, CorrelatedOtSender, CorrelatedOtReceiver]:  # noqa: ARG001 - the cache's key
    """Delta and both sides after their base transfers, once a process: for circuits, or for transfers alone.

    Both sides go on together while circuits are prepared; where one side is timed alone, labels no longer fit.
    """
    delta = garbling.new_delta()
    sender, receiver = CorrelatedOtSender(delta), CorrelatedOtReceiver()
    receiver.finish_base(sender.answer_base(receiver.offer_base()))
    return delta, sender, receiver


def _circuit(kind: Nonlinear, instances: int, path: str | None, *, evaluate: bool) -> Call:
    rng = np.random.default_rng(instances)
    sources = np.arange(kind.window * instances).reshape(kind.window, instances)
    batch = Batch(kind, sources, np.arange(instances))
    own, kept = rng.integers(0, kind.modulus_in, (2, sources.size), dtype=np.int64)
    masks = np.stack([rng.integers(0, modulus, instances, dtype=np.int64) for modulus in kind.moduli_out])
    delta, sender, receiver = _session("circuits")
    columns, labels = receiver.extend(batch.choices(own))
    zero_labels = sender.extend(columns, len(labels))
    if path is not None:
        return _circuit_on(path, batch, kept, masks, zero_labels, labels, delta, evaluate=evaluate)
    if not evaluate:
        return lambda: _drained(nonlinear_layer.garble([batch], kept, masks, zero_labels, delta))
    # Parts come in a buffer that was just written: the same place for each, as long as the longest.
    sizes = nonlinear_layer.part_sizes([batch])
    received = memoryview(rng.bytes(max(sizes)))
    return lambda: nonlinear_layer.evaluate([batch], labels, (received[:size] for size in sizes))


def _drained(parts: Iterator[memoryview]) -> None:
    for _ in parts:
        pass


def _circuit_on(
    path: str,
    batch: Batch,
    kept: IntArray,
    masks: IntArray,
    zero_labels: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    delta: bytes,
    *,
    evaluate: bool,
) -> Call:
    """The kernels alone, on another code path than the machine's best."""
    bits = batch.kind.server_bits(kept[batch.sources].astype(np.uint64), masks.astype(np.uint64))
    shape = (batch.client_bits, batch.instances, garbling.LABEL_BYTES)

    def garble() -> list[bytes]:
        start = garbling.new_start()
        parts = garbling.garble_pieces(batch.circuit, zero_labels.reshape(shape), bits, delta, start, path=path)
        return [bytes(part) for part in parts]

    if not evaluate:
        return garble
    message = b"".join(garble())
    return partial(garbling.evaluate, batch.circuit, labels.reshape(shape), message, path=path)


def _oblivious_transfer(count: int, *, send: bool) -> Call:
    """At the client with the choice bits that its shares make, as in an inference."""
    _, sender, receiver = _session("transfers")
    kind = CORE_CIRCUITS[0]
    places = np.arange(count // kind.client_inputs)
    batch = Batch(kind, places[None], places)
    share = np.random.default_rng(count).integers(0, kind.modulus_in, len(places))
    if not send:
        return lambda: receiver.extend(batch.choices(share))
    columns, _ = receiver.extend(batch.choices(share))
    return partial(sender.extend, columns, batch.transfers)
