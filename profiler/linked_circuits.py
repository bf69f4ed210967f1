"""Whole batches of garbled circuits, and oblivious transfers alone, between two processes, as an inference does them.

Labels by oblivious transfer, tables as they are garbled, evaluation as they come. The base transfers are done once a
connection, before the first batch.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.protocol import garbling, nonlinear_layer
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.nonlinear_circuits import Nonlinear
from autoprivacy.protocol.nonlinear_layer import Batch
from autoprivacy.protocol.oblivious_transfer import (
    ANSWER_BYTES,
    OFFER_BYTES,
    CorrelatedOtReceiver,
    CorrelatedOtSender,
    extension_bytes,
)
from autoprivacy.protocol.transport import Channel, Kind

CORE_CIRCUITS: Final = (Nonlinear(1 << 16, 8, 4, (1 << 14,)), Nonlinear(1 << 20, 10, 8, (1 << 18,)))
"""ReLU layers of powers of two, in every profile."""

MORE_CIRCUITS: Final = (
    Nonlinear(1 << 26, 12, 8, (1 << 24,)),
    Nonlinear(65537, 6, 5, (65537,)),
    Nonlinear(2061584302081, 20, 8, (2061584302081,)),
    Nonlinear(1 << 20, 10, 4, (1 << 18,), window=4),
    Nonlinear(1 << 20, 10, 8, (1 << 18, 1 << 16)),
)
"""Wider ones, primes (DELPHI's too), 2x2 max pooling, several consumers: from `standard` on."""

CIRCUITS: Final = (*CORE_CIRCUITS, *MORE_CIRCUITS)
"""What two processes call by number."""

BATCHES: Final = {
    "quick": ((1, 512),),
    "standard": ((0, 512), (1, 512), (1, 8192)),
    "full": ((0, 512), (1, 512), (1, 8192)),
}
"""By depth, circuits and instances that every link is measured with."""

MAX_INSTANCES: Final = 1 << 16
MAX_TRANSFERS: Final = 1 << 20


@lru_cache(maxsize=32)
def batch_of(circuit: int, instances: int) -> Batch:
    """So many instances of a circuit."""
    kind = CIRCUITS[circuit]
    sources = np.arange(kind.window * instances).reshape(kind.window, instances)
    return Batch(kind, sources, np.arange(instances))


@lru_cache(maxsize=32)
def shares_of(circuit: int, instances: int) -> tuple[IntArray, IntArray]:
    """The client's and the server's share of the values that enter; the same on both sides, as nobody's values."""
    rng = np.random.default_rng((circuit, instances))
    size = CIRCUITS[circuit].window * instances
    own, kept = rng.integers(0, CIRCUITS[circuit].modulus_in, (2, size), dtype=np.int64)
    return own, kept


def batch_bytes(batch: Batch) -> int:
    """Bytes of a batch on the wire, both ways, without headers of frames."""
    return extension_bytes(batch.transfers) + garbling.garbled_bytes(batch.circuit, batch.instances)


class Garbler:
    """The server's side of one connection."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._delta = channel, garbling.new_delta()
        self._sender = CorrelatedOtSender(self._delta)
        self._rng = np.random.default_rng()
        channel.send(Kind.BASE_OT, self._sender.answer_base(channel.receive(Kind.BASE_OT, OFFER_BYTES)))

    def batch(self, circuit: int, instances: int) -> None:
        """Garble one batch, part after part."""
        batch = batch_of(circuit, instances)
        _, kept = shares_of(circuit, instances)
        masks = np.stack([self._rng.integers(0, modulus, instances) for modulus in batch.kind.moduli_out])
        zero_labels = self._labels(batch.transfers)
        parts = nonlinear_layer.garble([batch], kept, masks, zero_labels, self._delta)
        self._channel.send_parts(Kind.GARBLED, sum(nonlinear_layer.part_sizes([batch])), parts)

    def transfers(self, count: int) -> None:
        """Oblivious transfers alone."""
        self._labels(count)

    def _labels(self, count: int) -> nonlinear_layer.Labels:
        return self._sender.extend(self._channel.receive(Kind.OT_COLUMNS, extension_bytes(count)), count)


class Evaluator:
    """The client's side of one connection."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._receiver = channel, CorrelatedOtReceiver()
        self._ready = False

    def prepare(self) -> None:
        """The base transfers, unless they were done."""
        if not self._ready:
            self._channel.send(Kind.BASE_OT, self._receiver.offer_base())
            self._receiver.finish_base(self._channel.receive(Kind.BASE_OT, ANSWER_BYTES))
            self._ready = True

    def batch(self, circuit: int, instances: int) -> IntArray:
        """Evaluate one batch as it comes: the client's shares (moduli, instances) of what comes out."""
        self.prepare()
        batch = batch_of(circuit, instances)
        own, _ = shares_of(circuit, instances)
        columns, labels = self._receiver.extend(nonlinear_layer.choices([batch], own))
        self._channel.send(Kind.OT_COLUMNS, columns)
        parts = self._channel.receive_parts(Kind.GARBLED, nonlinear_layer.part_sizes([batch]))
        return nonlinear_layer.evaluate([batch], labels, parts)

    def transfers(self, count: int) -> None:
        """Oblivious transfers alone, of random choices."""
        self.prepare()
        columns, _ = self._receiver.extend(_choices(count))
        self._channel.send(Kind.OT_COLUMNS, columns)


@lru_cache(maxsize=8)
def _choices(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 2, count, dtype=np.uint8)
