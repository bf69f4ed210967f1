"""Garbled circuits: half gates over many instances of one circuit.

The server garbles, the client evaluates. A wire's two labels differ by the session's secret Delta (free XOR
[FreeXOR]), whose lowest bit is 1, so that the lowest bit of a label is its colour (point and permute). AND gates
are half gates [HalfGates] of two 16-byte rows; XOR and NOT cost nothing.

**Hash.** `Hash.REKEYED`: H(x, j) = AES(start ^ j, sigma(x)) ^ sigma(x), the re-keyed hash of [GKWWY20]: every tweak j
has its own AES key, and sigma(L || R) = (L ^ R || L), a linear orthomorphism, makes it robust to the circular use that
free XOR makes of Delta. `Hash.TMMO`, an option: H(x, j) = P(P(x) ^ j) ^ P(x) with the one permutation P = AES(start, .)
of a batch [GKWY20]; its bound is weaker (docs/protocol.md). `start` is 16 bytes, of its own for every batch, and sent
with the tables.

**Order.** The instances of a batch go in stripes of 64. Table rows are ordered by stripe, then AND gate, then instance;
row r takes the tweaks 2r (garbler's half) and 2r + 1 (evaluator's half). So whole stripes, and *pieces* made of them,
can be garbled, sent and evaluated as they come, in the memory of one piece.

**Tweaks never repeat** in a session: `Starts` gives every batch the session's random 64 bits and a counter of 32 bits,
which leaves 32 bits for j (more than 2^31 AND gates in a batch are refused). docs/protocol.md has the bound for 2^40
gates.

**Once only.** A batch is evaluated on one input and never again: the labels of a second input would reveal
Delta.
"""

import os
from collections.abc import Iterator
from enum import StrEnum
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import ProtocolError
from autoprivacy.protocol import _native
from autoprivacy.protocol.circuits import Circuit

Labels = NDArray[np.uint8]
Buffer = bytes | bytearray | memoryview

LABEL_BYTES = 16
TABLE_BYTES = 32
START_BYTES = 16
MAX_AND_GATES = 2**31
"""AND gates times instances in a batch: two tweaks each, of 32 bits."""
MAX_BATCHES = 2**32
"""Batches under one random half of a start."""
PIECE_BYTES = 1 << 19
"""About what the tables of a piece take: little enough for a second-level cache; the next piece uses it again."""


def new_delta() -> bytes:
    """A fresh secret Delta, 16 bytes with the lowest bit 1; one per session, known to the garbler alone."""
    delta = bytearray(os.urandom(LABEL_BYTES))
    delta[0] |= 1
    return bytes(delta)


class Hash(StrEnum):
    """How labels are hashed; both sides use the same."""

    REKEYED = "rekeyed"
    TMMO = "tmmo"


class Starts:
    """The `start` of every batch of one session: no two batches share a tweak's key.

    A start is 64 random bits, the number of the batch (32 bits) and 32 zero bits that tweaks fill. Two sessions share
    keys only if their 64 bits agree; they have different Deltas then. A process that was forked draws new bits.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._process = -1

    def __call__(self) -> bytes:
        """The next start, 16 bytes.

        Raises:
            ProtocolError: after 2^32 batches.
        """
        with self._lock:
            if self._process != os.getpid():
                self._process, self._session, self._batches = os.getpid(), os.urandom(8), 0
            if self._batches == MAX_BATCHES:
                raise ProtocolError("2^32 batches were garbled under one Delta; start a new session")
            self._batches += 1
            return (self._batches - 1 << 32).to_bytes(8, "little") + self._session


new_start = Starts()
"""The starts of this process, for whoever keeps no `Starts` of a session; never the same twice."""


def table_bytes(circuit: Circuit, instances: int) -> int:
    """Bytes of the tables of a batch."""
    return TABLE_BYTES * circuit.and_gates * instances


def server_label_bytes(circuit: Circuit, instances: int) -> int:
    """Bytes of the active labels of the server's inputs."""
    return LABEL_BYTES * circuit.server_count * instances


def colour_bytes(circuit: Circuit, instances: int) -> int:
    """Bytes of the decoding colours, one bit for each output bit."""
    return (len(circuit.outputs) * instances + 7) // 8


def garbled_bytes(circuit: Circuit, instances: int) -> int:
    """Bytes of a whole batch on the wire: start, tables, server labels, colours (oblivious transfer is apart)."""
    return (
        START_BYTES
        + table_bytes(circuit, instances)
        + server_label_bytes(circuit, instances)
        + colour_bytes(circuit, instances)
    )


def pieces(circuit: Circuit, instances: int) -> Iterator[tuple[int, int]]:
    """First instance and number of instances of every piece of a batch; both sides cut alike."""
    stripe_bytes = TABLE_BYTES * max(1, circuit.and_gates) * _native.STRIPE
    size = _native.STRIPE * max(1, PIECE_BYTES // stripe_bytes)
    for first in range(0, instances, size):
        yield first, min(size, instances - first)


def piece_bytes(circuit: Circuit, instances: int) -> int:
    """Bytes of a piece: server labels, colours, tables."""
    return garbled_bytes(circuit, instances) - START_BYTES


def garble_pieces(
    circuit: Circuit,
    client_zero_labels: Labels,
    server_bits: NDArray[np.uint8],
    delta: bytes,
    start: bytes,
    *,
    hash_: Hash = Hash.REKEYED,
    path: str = "best",
) -> Iterator[memoryview]:
    """Garble a batch, piece after piece; joined, they are the batch's message.

    Args:
        circuit: what to garble; it says which input wires are the server's.
        client_zero_labels: (client's inputs, instances, 16), from the oblivious transfer.
        server_bits: (server's inputs, instances) of 0 and 1.
        delta: the session's secret, from `new_delta`.
        start: fresh, from `Starts`; never use one for two batches.
        hash_: how labels are hashed.
        path: the native code path, for tests and benchmarks; all give the same bytes.

    Yields:
        `start`, then parts of one buffer: what is yielded is overwritten when the next part is asked for.

    Raises:
        ValueError: if shapes do not fit, or the batch has more than `MAX_AND_GATES` AND gates.
    """
    server_bits = _checked_bits(circuit, server_bits)
    instances = server_bits.shape[1]
    seed = os.urandom(LABEL_BYTES)
    yield memoryview(start)
    cut = list(pieces(circuit, instances))
    buffer = np.empty(max((piece_bytes(circuit, count) for _, count in cut), default=0), np.uint8)
    for first, count in cut:
        piece = buffer[: piece_bytes(circuit, count)]
        circuit.program.garble_piece(
            piece, client_zero_labels, server_bits, first, count, delta, start, seed, hash_.value, path
        )
        yield piece.data


def garble(
    circuit: Circuit,
    client_zero_labels: Labels,
    server_bits: NDArray[np.uint8],
    delta: bytes,
    start: bytes,
    message: memoryview,
    *,
    hash_: Hash = Hash.REKEYED,
) -> None:
    """Garble a batch into `message`, `garbled_bytes` long; arguments as in `garble_pieces`.

    Raises:
        ValueError: if shapes do not fit, or the batch has more than `MAX_AND_GATES` AND gates.
    """
    server_bits = _checked_bits(circuit, server_bits)
    seed, instances = os.urandom(LABEL_BYTES), server_bits.shape[1]
    whole = np.frombuffer(message, np.uint8)
    whole[:START_BYTES] = np.frombuffer(start, np.uint8)
    done = START_BYTES
    for first, count in pieces(circuit, instances):
        piece = whole[done : done + piece_bytes(circuit, count)]
        circuit.program.garble_piece(
            piece, client_zero_labels, server_bits, first, count, delta, start, seed, hash_.value
        )
        done += len(piece)


def _checked_bits(circuit: Circuit, server_bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    servers = circuit.server_count
    if server_bits.ndim != 2 or server_bits.dtype != np.uint8 or len(server_bits) != servers or (server_bits > 1).any():
        raise ValueError(f"server_bits: give a ({servers}, instances) uint8 array of 0 and 1")
    return np.ascontiguousarray(server_bits)


class Evaluation:
    """A batch that is evaluated piece after piece, as its message comes.

    Args:
        circuit: what was garbled.
        client_labels: (client's inputs, instances, 16), active, from the oblivious transfer.
        start: the first part of the message.
        hash_: as garbled.
        path: the native code path, for tests and benchmarks.
    """

    def __init__(
        self, circuit: Circuit, client_labels: Labels, start: Buffer, *, hash_: Hash = Hash.REKEYED, path: str = "best"
    ) -> None:
        self._circuit, self._labels, self._start = circuit, client_labels, bytes(start)
        self._hash, self._path = hash_.value, path
        self._cut = pieces(circuit, client_labels.shape[1])
        self._bits = np.empty((len(circuit.outputs), client_labels.shape[1]), np.uint8)

    def take(self, piece: Buffer) -> None:
        """Evaluate the next piece.

        Raises:
            ValueError: if it has not the length of that piece, or there is no further one.
        """
        first, count = next(self._cut, (0, -1))
        if count < 0:
            raise ValueError("every piece of this batch was evaluated already")
        self._circuit.program.evaluate_piece(
            np.frombuffer(piece, np.uint8), self._labels, first, count, self._start, self._bits, self._hash, self._path
        )

    def bits(self) -> NDArray[np.uint8]:
        """What comes out, (outputs, instances), once all pieces are taken; nonsense if made for other labels."""
        return self._bits


def evaluate(
    circuit: Circuit, client_labels: Labels, message: Buffer, *, hash_: Hash = Hash.REKEYED, path: str = "best"
) -> NDArray[np.uint8]:
    """Evaluate all instances of a garbled circuit and decode what comes out.

    Args:
        circuit: what was garbled.
        client_labels: (client's inputs, instances, 16), active, from the oblivious transfer.
        message: as `garble` made it.
        hash_: as garbled.
        path: the native code path, for tests and benchmarks.

    Returns:
        The bits (outputs, instances); nonsense if the message was not made for these labels.

    Raises:
        ProtocolError: if the message has not the length of a batch of this circuit.
        ValueError: if labels do not fit.
    """
    instances, view = client_labels.shape[1], memoryview(message)
    expected = garbled_bytes(circuit, instances)
    if len(view) != expected:
        raise ProtocolError(
            f"garbled batch: {len(view)} bytes received, {instances} instances take {expected}; "
            "check that both sides run the same network and policy"
        )
    evaluation = Evaluation(circuit, client_labels, view[:START_BYTES], hash_=hash_, path=path)
    done = START_BYTES
    for _, count in pieces(circuit, instances):
        size = piece_bytes(circuit, count)
        evaluation.take(view[done : done + size])
        done += size
    return evaluation.bits()
