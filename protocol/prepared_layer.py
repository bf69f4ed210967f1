"""Layers of schedule `preprocessed` [DELPHI]: circuits that are garbled before the input is known, and the clear rest.

The client masks, so all its inputs of a circuit are known ahead: tables and its labels go offline. Online the server
sends the labels of its own share, the client evaluates and sends the colours of what comes out, one bit each, and the
server, which alone knows what they stand for, decodes its new share.

A piece that `garbling.garble_pieces` makes is a head (the server's labels and the colours) and tables. Here the labels
are garbled for zeros, so they are zero labels; the server keeps the heads and only the tables travel.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from autoprivacy.common.errors import ProtocolError
from autoprivacy.networks.convolution import Geometry, convolve_exact, weight_reach
from autoprivacy.protocol import garbling
from autoprivacy.protocol.linear_shape import IntArray, LinearShape
from autoprivacy.protocol.nonlinear_layer import Batch, Labels, labels_of
from autoprivacy.protocol.share_steps import shifted

Read = Callable[[memoryview], object]
Keep = Callable[[memoryview], object]


def head_sizes(batches: Sequence[Batch]) -> list[int]:
    """Bytes of what the server keeps of every piece."""
    return [
        garbling.server_label_bytes(batch.circuit, count) + garbling.colour_bytes(batch.circuit, count)
        for batch in batches
        for count in batch.pieces
    ]


def table_sizes(batches: Sequence[Batch]) -> list[int]:
    """Bytes of the parts that `garble` makes: by batch its start, then the tables of its pieces."""
    found = []
    for batch in batches:
        found += [garbling.START_BYTES, *(garbling.table_bytes(batch.circuit, count) for count in batch.pieces)]
    return found


def label_sizes(batches: Sequence[Batch]) -> list[int]:
    """Bytes of the parts of the server's labels: one for every piece."""
    return [garbling.server_label_bytes(batch.circuit, count) for batch in batches for count in batch.pieces]


def colours_bytes(batches: Sequence[Batch]) -> int:
    """Bytes of what the client answers."""
    return (_outputs(batches) + 7) // 8


def _outputs(batches: Sequence[Batch]) -> int:
    return sum(len(batch.circuit.outputs) * batch.instances for batch in batches)


def garble(batches: Sequence[Batch], zero_labels: Labels, delta: bytes, keep: Keep) -> Iterator[memoryview]:
    """The server's tables, part after part, each overwritten by the next; `keep` gets the heads of pieces, in order."""
    for batch, part in zip(batches, labels_of(batches, zero_labels), strict=True):
        zeros = np.zeros((batch.circuit.inputs - batch.client_bits, batch.instances), np.uint8)
        made = garbling.garble_pieces(batch.circuit, part, zeros, delta, garbling.new_start())
        yield next(made)
        for piece, head in zip(made, head_sizes([batch]), strict=True):
            keep(piece[:head])
            yield piece[head:]


class Decoder:
    """The server's online part of one layer: gives its labels, then decodes the client's colours.

    Args:
        batches: the circuits.
        delta: the session's secret.
        read: fills a buffer with what `garble` kept, in that order.
    """

    def __init__(self, batches: Sequence[Batch], delta: bytes, read: Read) -> None:
        self._batches, self._read = batches, read
        self._delta = np.frombuffer(delta, np.uint64)
        self._zeros: list[NDArray[np.uint8]] = []

    def labels(self, share: IntArray) -> Iterator[memoryview]:
        """The active labels of the server's inputs for its `share` (values,), piece after piece."""
        for batch in self._batches:
            bits = batch.server_bits(share)
            zeros = np.empty((len(batch.circuit.outputs), batch.instances), np.uint8)
            self._zeros.append(zeros)
            done = 0
            for count, head_bytes in zip(batch.pieces, head_sizes([batch]), strict=True):
                head = np.empty(head_bytes, np.uint8)
                self._read(head.data)
                split = garbling.server_label_bytes(batch.circuit, count)
                chosen = slice(done, done + count)
                packed = np.unpackbits(head[split:], count=len(zeros) * count, bitorder="little")
                zeros[:, chosen] = packed.reshape(-1, count)
                labels = head[:split].view(np.uint64).reshape(len(bits), count, 2)
                # All ones where the bit is set: which it is does not show in what is done.
                labels ^= -bits[:, chosen, None].astype(np.int64).view(np.uint64) & self._delta
                yield head[:split].data
                done += count

    def decode(self, colours: bytes) -> IntArray:
        """The server's shares (moduli, values out) of what comes out, once all labels were made.

        Raises:
            ProtocolError: if bits are set beyond the last colour.
        """
        count = _outputs(self._batches)
        found = np.unpackbits(np.frombuffer(colours, np.uint8), bitorder="little")
        if len(colours) != colours_bytes(self._batches) or found[count:].any():
            raise ProtocolError(f"the peer sent malformed colours: {len(colours)} bytes where {count} bits belong")
        moduli = len(self._batches[0].kind.moduli_out)
        shares = np.zeros((moduli, sum(batch.instances for batch in self._batches)), np.int64)
        done = 0
        for batch, zeros in zip(self._batches, self._zeros, strict=True):
            bits = found[done : done + zeros.size].reshape(zeros.shape) ^ zeros
            shares[:, batch.targets] = batch.shares_of(bits)
            done += zeros.size
        return shares


def evaluate(batches: Sequence[Batch], labels: Labels, server_labels: Iterator[memoryview], read: Read) -> bytes:
    """The client's colours of what comes out, packed.

    `labels` (transfers, 16) are the client's own, `server_labels` the parts that the server's `Decoder` makes; `read`
    fills a buffer with the next part of what the server's `garble` made.
    """
    found = []
    for batch, own in zip(batches, labels_of(batches, labels), strict=True):
        start = bytearray(garbling.START_BYTES)
        read(memoryview(start))
        evaluation = garbling.Evaluation(batch.circuit, own, start)
        sizes = (garbling.piece_bytes(batch.circuit, count) for count in batch.pieces)
        buffer = np.zeros(max(sizes), np.uint8)
        for count, head in zip(batch.pieces, head_sizes([batch]), strict=True):
            piece = buffer[: garbling.piece_bytes(batch.circuit, count)]
            sent = next(server_labels)
            piece[: len(sent)] = np.frombuffer(sent, np.uint8)
            piece[len(sent) : head] = 0
            read(piece[head:].data)
            evaluation.take(piece.data)
        found.append(evaluation.bits().ravel())
    return np.packbits(np.concatenate(found), bitorder="little").tobytes()


def clear_linear(shape: LinearShape, weight: IntArray, share: IntArray, modulus: int) -> IntArray:
    """A linear layer (M, H', W') of a share (C, H, W) in [0, modulus), exactly, modulo `modulus` of at most 2^59.

    In one thread: others of the linear algebra library would wait, busily, where the peer may be at work.
    """
    room = 62 - weight_reach(weight).bit_length()
    total: IntArray = np.zeros((shape.out_channels, *shape.out_size), np.int64)
    slide: Geometry = {"stride": shape.stride, "padding": shape.padding, "groups": shape.groups}
    for place in range(0, (modulus - 1).bit_length(), room):
        digit = share >> place & (1 << room) - 1
        with _linear_algebra().limit(limits=1, user_api="blas"):
            product = convolve_exact(weight, digit[None], **slide)[0]
        total = (total + shifted(product % modulus, np.array(place), modulus)) % modulus
    return total


@cache
def _linear_algebra() -> ThreadpoolController:
    return ThreadpoolController()
