"""One nonlinear layer on shares: what each side does around its garbled circuits.

Values are integers modulo t; a circuit instance makes one value that comes out. Those whose shifts, or sizes of
windows, differ go through circuits of their own, batch after batch. What the server sends is made, and what comes is
evaluated, in pieces: neither side holds the tables of a layer.

Here the server masks and the client decodes (schedule `online`); the other way round is in `prepared_layer.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from autoprivacy.protocol import garbling
from autoprivacy.protocol.agreement import AgreedNonlinear
from autoprivacy.protocol.circuit_builder import Circuit
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.nonlinear_circuits import Nonlinear, Party, width_of

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The values of a layer that go through one circuit, many instances at once.

    `sources` (window, instances) are the places of an instance's inputs in the flat value that enters, `targets`
    (instances,) that of its result in the flat value that comes out.
    """

    kind: Nonlinear
    sources: IntArray
    targets: IntArray

    @property
    def circuit(self) -> Circuit:
        """The circuit of one instance."""
        return self.kind.circuit

    @property
    def instances(self) -> int:
        """How many circuits there are."""
        return len(self.targets)

    @property
    def client_bits(self) -> int:
        """Input bits of one instance that come from the client, each by one oblivious transfer."""
        return self.kind.client_inputs

    @property
    def transfers(self) -> int:
        """Oblivious transfers of the whole batch."""
        return self.client_bits * self.instances

    @property
    def message_bytes(self) -> int:
        """Bytes of the server's message for the batch, if it masks."""
        return garbling.garbled_bytes(self.circuit, self.instances)

    @property
    def pieces(self) -> list[int]:
        """Instances of every piece."""
        return [count for _, count in garbling.pieces(self.circuit, self.instances)]

    def choices(self, share: IntArray, masks: IntArray | None = None) -> NDArray[np.uint8]:
        """The client's choice bits (transfers,) for its share of the layer, and its masks if it masks."""
        return self.kind.client_bits(share[self.sources].astype(np.uint64), self._masks(masks)).ravel()

    def server_bits(self, share: IntArray, masks: IntArray | None = None) -> NDArray[np.uint8]:
        """The server's bits (inputs, instances), likewise."""
        return self.kind.server_bits(share[self.sources].astype(np.uint64), self._masks(masks))

    def _masks(self, masks: IntArray | None) -> NDArray[np.uint64] | None:
        return None if masks is None else masks[:, self.targets].astype(np.uint64)

    def garble(self, share: IntArray, masks: IntArray, zero_labels: Labels, delta: bytes) -> memoryview:
        """The server's whole message for its `share` and its fresh `masks` (moduli, values out) of the layer.

        `zero_labels` (transfers, 16) come from the transfers of the client's `choices`.
        """
        message = np.empty(self.message_bytes, np.uint8).data
        bits = self.server_bits(share, masks)
        garbling.garble(self.circuit, self.by_wire(zero_labels), bits, delta, garbling.new_start(), message)
        return message

    def evaluate(self, labels: Labels, message: garbling.Buffer) -> IntArray:
        """The client's shares (moduli, instances) of what comes out, from its labels (transfers, 16)."""
        return self.shares_of(garbling.evaluate(self.circuit, self.by_wire(labels), message))

    def shares_of(self, bits: NDArray[np.uint8]) -> IntArray:
        """The shares (moduli, instances) that bits (outputs, instances) stand for."""
        return self.kind.shares_of(bits).astype(np.int64)

    def by_wire(self, labels: Labels) -> Labels:
        """Labels (transfers, 16) as circuits take them."""
        return labels.reshape(self.client_bits, self.instances, garbling.LABEL_BYTES)


def batches_of(step: AgreedNonlinear, masked_by: Party = "server") -> tuple[Batch, ...]:
    """The circuits of a nonlinear layer: one for every shift that channels have, and size that windows have."""
    sources, targets = windows_of(step)
    channel = np.repeat(np.arange(step.shape[0]), len(targets) // step.shape[0])
    width_in = width_of(step.modulus_in)
    # Beyond the sign there is nothing left to drop.
    shifts = np.minimum(np.array(step.shifts, np.int64), width_in - 1)[channel]
    sizes = (sources >= 0).sum(axis=0)
    found = []
    for shift, size in sorted(set(zip(shifts.tolist(), sizes.tolist(), strict=True))):
        chosen = np.flatnonzero((shifts == shift) & (sizes == size))
        kind = Nonlinear(step.modulus_in, shift, step.bits, step.moduli_out, step.relu, step.maximum, size, masked_by)
        # Places that a window has come first, those beyond the border, -1, last.
        inside = -np.sort(-sources[:, chosen], axis=0)[:size]
        found.append(Batch(_shared(kind), inside, targets[chosen]))
    return tuple(found)


@lru_cache(maxsize=4096)
def _shared(kind: Nonlinear) -> Nonlinear:
    """One object for equal kinds, so that a circuit is built once."""
    return kind


def windows_of(step: AgreedNonlinear) -> tuple[IntArray, IntArray]:
    """Places that each result takes the greatest of (window, results), -1 beyond the border; and those of results."""
    places = np.arange(prod(step.shape)).reshape(step.shape)
    if step.windows is None:
        return places.reshape(1, -1), places.ravel()
    windows = step.windows
    top, left, bottom, right = windows.padding
    padded = np.pad(places, ((0, 0), (top, bottom), (left, right)), constant_values=-1)
    seen = sliding_window_view(padded, windows.kernel, axis=(1, 2))[:, :: windows.stride[0], :: windows.stride[1]]
    sources = seen.reshape(-1, prod(windows.kernel)).T
    return np.ascontiguousarray(sources), np.arange(sources.shape[1])


def choices(batches: Sequence[Batch], share: IntArray, masks: IntArray | None = None) -> NDArray[np.uint8]:
    """The client's choice bits for its share (values,), and its masks if it masks, batch after batch."""
    return np.concatenate([batch.choices(share, masks) for batch in batches])


def labels_of(batches: Sequence[Batch], labels: Labels) -> list[Labels]:
    """By batch its part of the labels (transfers, 16) of all."""
    ends = np.cumsum([batch.transfers for batch in batches]).tolist()
    parts = [labels[end - batch.transfers : end] for batch, end in zip(batches, ends, strict=True)]
    return [batch.by_wire(part) for batch, part in zip(batches, parts, strict=True)]


def part_sizes(batches: Sequence[Batch]) -> list[int]:
    """Bytes of the parts that `garble` makes: by batch its start, then its pieces."""
    found = []
    for batch in batches:
        found += [garbling.START_BYTES, *(garbling.piece_bytes(batch.circuit, count) for count in batch.pieces)]
    return found


def garble(
    batches: Sequence[Batch], share: IntArray, masks: IntArray, zero_labels: Labels, delta: bytes
) -> Iterator[memoryview]:
    """The server's message for its `share` (values,) and its fresh `masks` (moduli, values out), part after part.

    `zero_labels` come from the transfers of the client's `choices`. A part is overwritten by the next.
    """
    for batch, part in zip(batches, labels_of(batches, zero_labels), strict=True):
        bits = batch.server_bits(share, masks)
        yield from garbling.garble_pieces(batch.circuit, part, bits, delta, garbling.new_start())


def evaluate(batches: Sequence[Batch], labels: Labels, parts: Iterator[garbling.Buffer]) -> IntArray:
    """The client's shares (moduli, values out) of what comes out, from its labels and the parts of the message."""
    moduli = len(batches[0].kind.moduli_out)
    shares = np.zeros((moduli, sum(batch.instances for batch in batches)), np.int64)
    for batch, own in zip(batches, labels_of(batches, labels), strict=True):
        evaluation = garbling.Evaluation(batch.circuit, own, next(parts))
        for _ in batch.pieces:
            evaluation.take(next(parts))
        shares[:, batch.targets] = batch.shares_of(evaluation.bits())
    return shares
