"""One nonlinear layer on shares: what each side does around its garbled circuits.

Values are integers modulo t, one circuit instance each; bits are little endian, wire-major. Values whose shifts differ
go through circuits of their own, batch after batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autoprivacy.protocol import garbling
from autoprivacy.protocol.circuits import Circuit, from_bits, to_bits
from autoprivacy.protocol.linear_shape import IntArray

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The values of a layer that go through one circuit: `places` are theirs in the flat output."""

    circuit: Circuit
    places: IntArray

    @property
    def client_bits(self) -> int:
        """Input bits of one instance that come from the client, each by one oblivious transfer."""
        return int(np.count_nonzero(~self.circuit.server_inputs))

    @property
    def transfers(self) -> int:
        """Oblivious transfers of the whole batch."""
        return self.client_bits * len(self.places)

    @property
    def message_bytes(self) -> int:
        """Bytes of the server's message for the batch."""
        return garbling.garbled_bytes(self.circuit, len(self.places))

    def choices(self, share: IntArray) -> NDArray[np.uint8]:
        """The client's choice bits (transfers,) for its share of the layer."""
        return to_bits(share[self.places].astype(np.uint64), self.client_bits).ravel()

    def garble(
        self, share: IntArray, mask: IntArray, zero_labels: Labels, delta: bytes, message: memoryview | None = None
    ) -> memoryview:
        """The server's message for its `share` and its fresh `mask` of the layer, written into `message` if given.

        `zero_labels` (transfers, 16) come from the transfers of the client's `choices`.
        """
        mask_bits = len(self.circuit.outputs)
        share_bits = self.circuit.inputs - self.client_bits - mask_bits
        own = [(share, share_bits), (mask, mask_bits)]
        bits = np.concatenate([to_bits(values[self.places].astype(np.uint64), width) for values, width in own])
        if message is None:
            message = memoryview(np.empty(self.message_bytes, np.uint8))
        garbling.garble(self.circuit, self._by_wire(zero_labels), bits, delta, garbling.new_start(), message)
        return message

    def evaluate(self, labels: Labels, message: garbling.Buffer) -> IntArray:
        """The client's share (instances,) of what comes out, from its labels (transfers, 16)."""
        return from_bits(garbling.evaluate(self.circuit, self._by_wire(labels), message)).astype(np.int64)

    def _by_wire(self, labels: Labels) -> Labels:
        return labels.reshape(self.client_bits, len(self.places), garbling.LABEL_BYTES)


def choices(batches: Sequence[Batch], share: IntArray) -> NDArray[np.uint8]:
    """The client's choice bits for its share (values,), batch after batch."""
    return np.concatenate([batch.choices(share) for batch in batches])


def garble(batches: Sequence[Batch], share: IntArray, mask: IntArray, zero_labels: Labels, delta: bytes) -> memoryview:
    """The server's message for its `share` and its fresh `mask` (values,), batch after batch.

    `zero_labels` come from the transfers of the client's `choices`.
    """
    parts = _cut(zero_labels, [batch.transfers for batch in batches])
    sizes = [batch.message_bytes for batch in batches]
    whole = memoryview(np.empty(sum(sizes), np.uint8))
    for batch, part, message in zip(batches, parts, _cut(whole, sizes), strict=True):
        batch.garble(share, mask, part, delta, message)
    return whole


def evaluate(batches: Sequence[Batch], labels: Labels, message: garbling.Buffer) -> IntArray:
    """The client's share (values,) of what comes out, from its labels.

    Raises:
        ProtocolError: if the server's message has the wrong length.
    """
    own = _cut(labels, [batch.transfers for batch in batches])
    messages = _cut(memoryview(message), [batch.message_bytes for batch in batches])
    share = np.zeros(sum(len(batch.places) for batch in batches), np.int64)
    for batch, part, sent in zip(batches, own, messages, strict=True):
        share[batch.places] = batch.evaluate(part, sent)
    return share


Part = TypeVar("Part", memoryview, Labels)


def _cut(whole: Part, sizes: Sequence[int]) -> list[Part]:
    """Consecutive parts of these sizes; what is too much stays with the last, which will not take it."""
    starts: list[int] = np.cumsum([0, *sizes[:-1]]).tolist()
    return [whole[start:end] for start, end in zip(starts, [*starts[1:], len(whole)], strict=True)]
