"""One nonlinear layer on shares: what each side does around its garbled circuits.

Values are integers modulo t; a circuit instance makes one value that comes out. Those whose shifts, or sizes of
windows, differ go through circuits of their own, batch after batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from autoprivacy.protocol import garbling
from autoprivacy.protocol.agreement import AgreedNonlinear
from autoprivacy.protocol.circuit_builder import Circuit
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.nonlinear_circuits import Nonlinear, width_of

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
        return self.kind.width_in * self.kind.window

    @property
    def transfers(self) -> int:
        """Oblivious transfers of the whole batch."""
        return self.client_bits * self.instances

    @property
    def message_bytes(self) -> int:
        """Bytes of the server's message for the batch."""
        return garbling.garbled_bytes(self.circuit, self.instances)

    def choices(self, share: IntArray) -> NDArray[np.uint8]:
        """The client's choice bits (transfers,) for its share of the layer."""
        return self.kind.client_bits(share[self.sources].astype(np.uint64)).ravel()

    def garble(
        self, share: IntArray, masks: IntArray, zero_labels: Labels, delta: bytes, message: memoryview | None = None
    ) -> memoryview:
        """The server's message for its `share` and its fresh `masks` of the layer, written into `message` if given.

        `masks` (moduli, values out); `zero_labels` (transfers, 16) come from the transfers of the client's `choices`.
        """
        bits = self.kind.server_bits(share[self.sources].astype(np.uint64), masks[:, self.targets].astype(np.uint64))
        if message is None:
            message = np.empty(self.message_bytes, np.uint8).data
        garbling.garble(self.circuit, self._by_wire(zero_labels), bits, delta, garbling.new_start(), message)
        return message

    def evaluate(self, labels: Labels, message: garbling.Buffer) -> IntArray:
        """The client's shares (moduli, instances) of what comes out, from its labels (transfers, 16)."""
        outputs = garbling.evaluate(self.circuit, self._by_wire(labels), message)
        return self.kind.shares_of(outputs).astype(np.int64)

    def _by_wire(self, labels: Labels) -> Labels:
        return labels.reshape(self.client_bits, self.instances, garbling.LABEL_BYTES)


def batches_of(step: AgreedNonlinear) -> tuple[Batch, ...]:
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
        kind = Nonlinear(step.modulus_in, shift, step.bits, step.moduli_out, step.relu, step.maximum, size)
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


def choices(batches: Sequence[Batch], share: IntArray) -> NDArray[np.uint8]:
    """The client's choice bits for its share (values,), batch after batch."""
    return np.concatenate([batch.choices(share) for batch in batches])


def garble(batches: Sequence[Batch], share: IntArray, masks: IntArray, zero_labels: Labels, delta: bytes) -> memoryview:
    """The server's message for its `share` (values,) and its fresh `masks` (moduli, values out), batch after batch.

    `zero_labels` come from the transfers of the client's `choices`.
    """
    parts = _cut(zero_labels, [batch.transfers for batch in batches])
    sizes = [batch.message_bytes for batch in batches]
    whole = np.empty(sum(sizes), np.uint8).data
    for batch, part, message in zip(batches, parts, _cut(whole, sizes), strict=True):
        batch.garble(share, masks, part, delta, message)
    return whole


def evaluate(batches: Sequence[Batch], labels: Labels, message: garbling.Buffer) -> IntArray:
    """The client's shares (moduli, values out) of what comes out, from its labels.

    Raises:
        ProtocolError: if the server's message has the wrong length.
    """
    own = _cut(labels, [batch.transfers for batch in batches])
    messages = _cut(memoryview(message), [batch.message_bytes for batch in batches])
    moduli = len(batches[0].kind.moduli_out)
    shares = np.zeros((moduli, sum(batch.instances for batch in batches)), np.int64)
    for batch, part, sent in zip(batches, own, messages, strict=True):
        shares[:, batch.targets] = batch.evaluate(part, sent)
    return shares


Part = TypeVar("Part", memoryview, Labels)


def _cut(whole: Part, sizes: Sequence[int]) -> list[Part]:
    """Consecutive parts of these sizes; what is too much stays with the last, which will not take it."""
    starts: list[int] = np.cumsum([0, *sizes[:-1]]).tolist()
    return [whole[start:end] for start, end in zip(starts, [*starts[1:], len(whole)], strict=True)]
