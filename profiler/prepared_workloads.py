"""What schedule `preprocessed` adds: layers in the clear, labels and colours, and files of prepared material."""

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Final

import numpy as np

from autoprivacy.hwprofiles.samples import WorkDone
from autoprivacy.profiler.harness import Call, Workload
from autoprivacy.protocol import _native, garbling, prepared_layer
from autoprivacy.protocol.garbling import PIECE_BYTES
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.nonlinear_circuits import Nonlinear
from autoprivacy.protocol.nonlinear_layer import Batch
from autoprivacy.protocol.spill import Spill

CORE_SHAPES: Final = (
    LinearShape(256, 1, 1, 10, (1, 1), (1, 1), (0, 0, 0, 0), 1),
    LinearShape(32, 16, 16, 32, (3, 3), (1, 1), (1, 1, 1, 1), 1),
    LinearShape(64, 16, 16, 64, (3, 3), (1, 1), (1, 1, 1, 1), 1),
)
MORE_SHAPES: Final = (
    LinearShape(3, 32, 32, 16, (3, 3), (1, 1), (1, 1, 1, 1), 1),
    LinearShape(16, 8, 8, 16, (1, 1), (1, 1), (0, 0, 0, 0), 1),
    LinearShape(64, 32, 32, 64, (3, 3), (1, 1), (1, 1, 1, 1), 1),
)
CIRCUIT: Final = Nonlinear(1 << 16, 8, 4, (1 << 14,), masked_by="client")
CORE_INSTANCES: Final = (16, 512, 32768)
MORE_INSTANCES: Final = (4096,)
CORE_SPILL_BYTES: Final = (1 << 12, 1 << 20, 1 << 24)
MORE_SPILL_BYTES: Final = (1 << 16, 1 << 26)
MODULUS: Final = 1 << 16


def prepared_workloads(depth: str) -> Iterator[Workload]:
    """In every profile those of the core; more sizes between them from `standard` on."""
    more = depth != "quick"
    for shape in (*CORE_SHAPES, *(MORE_SHAPES if more else ())):
        products = shape.output_values * prod(shape.weight_shape[1:])
        work = WorkDone("clear_linear", 0, 0, 1, products, shape.output_values)
        yield Workload(work, partial(_clear_linear, shape))
    for instances in (*CORE_INSTANCES, *(MORE_INSTANCES if more else ())):
        labels = instances * int(np.count_nonzero(CIRCUIT.circuit.server_inputs))
        work = WorkDone("choose_labels", 0, 0, 1, labels, instances)
        yield Workload(work, partial(_choose_labels, instances), _native.aes_path())
    for count in (*CORE_SPILL_BYTES, *(MORE_SPILL_BYTES if more else ())):
        yield Workload(WorkDone("spill_write", 0, 0, 1, count), partial(_spill_write, count))
        yield Workload(WorkDone("spill_read", 0, 0, 1, count), partial(_spill_read, count))


def _clear_linear(shape: LinearShape) -> Call:
    rng = np.random.default_rng(shape.in_channels)
    weight = rng.integers(-8, 8, shape.weight_shape)
    share = rng.integers(0, MODULUS, (shape.in_channels, shape.height, shape.width))
    return partial(prepared_layer.clear_linear, shape, weight, share, MODULUS)


def _choose_labels(instances: int) -> Call:
    batch = Batch(CIRCUIT, np.arange(instances)[None], np.arange(instances))
    rng = np.random.default_rng(instances)
    share = rng.integers(0, CIRCUIT.modulus_in, instances)
    kept = np.frombuffer(rng.bytes(sum(prepared_layer.head_sizes([batch]))), np.uint8)
    colours = bytes(prepared_layer.colours_bytes([batch]))
    delta = garbling.new_delta()

    def call() -> None:
        done = 0

        def read(view: memoryview) -> None:
            nonlocal done
            view[:] = kept[done : done + len(view)].data
            done += len(view)

        decoder = prepared_layer.Decoder([batch], delta, read)
        for _ in decoder.labels(share):
            pass
        decoder.decode(colours)

    return call


def _spill_write(count: int) -> Call:
    """Over what was wiped, piece after piece, as tables come in."""
    spill, piece = Spill(), memoryview(np.random.default_rng(count).bytes(min(count, PIECE_BYTES)))

    def call() -> None:
        spill.begin()
        for start in range(0, count, len(piece)):
            spill.write(piece[: count - start])
        spill.finish()

    return call


def _spill_read(count: int) -> Call:
    spill, view = Spill(), memoryview(bytearray(count))
    spill.write(bytes(count))

    def call() -> None:
        spill.finish()
        spill.read_into(view)

    return call
