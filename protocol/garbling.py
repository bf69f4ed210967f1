"""Garbled circuits: half gates over many instances of one circuit.

The server garbles, the client evaluates. A wire's two labels differ by the session's secret Delta (free XOR
[FreeXOR]), whose lowest bit is 1, so that the lowest bit of a label is its colour (point and permute). AND gates
are half gates [HalfGates] of two 16-byte rows; XOR and NOT cost nothing.

**Hash.** H(x, j) = AES(start ^ j, sigma(x)) ^ sigma(x), the re-keyed hash of [GKWWY20]: every tweak j has its
own AES key, and sigma(L || R) = (L ^ R || L), a linear orthomorphism, makes it robust to the circular use
that free XOR makes of Delta. `start` is random, 16 bytes, fresh for every batch and sent with the tables. The
AND gate number m of instance i takes j = 2 (m N + i) and the next one, N being the instances of the batch.

**Tweaks.** j has 32 bits and is xored into the low 32 bits of `start`, so it never repeats inside a batch
(more than 2^31 AND gates are refused), and the keys of two batches are either disjoint or all from one block
of 2^32 keys, which happens only if their `start` agree in the upper 96 bits. Among B batches this has
probability below B^2 / 2^97: 2^-57 for 2^40 AND gates in batches of 2^20.

**Assumption and bound.** AES-128 is an ideal cipher (related keys included). The following is our own count along the
lines of [GKWWY20], whose text we could not consult. If a key serves at most mu calls
of H with an unknown label, an adversary who computes p AES blocks tells H from random with advantage at most
(2 mu p + (mu - 1) q) / 2^127, where q is the number of such calls and 127 is the entropy of Delta: a hit
needs a block under the right key (2 mu p), or a collision under one key ((mu - 1) q). For 2^40 AND gates q =
2^41, and mu = 1 but for the probability above: p / 2^126. So about 126 bits whatever the number of gates,
where a fixed-key hash loses 40 of them. Even gates in batches of one keep mu <= 2 (three of 2^40 starts agree
with probability below 2^-74): (4 p + 2^41) / 2^127.

**Once only.** A batch is evaluated on one input and never again: the labels of a second input would reveal
Delta.
"""

import os
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import ProtocolError
from autoprivacy.protocol import _native
from autoprivacy.protocol.circuits import Circuit

LABEL_BYTES = 16
TABLE_BYTES = 32
START_BYTES = 16
MAX_AND_GATES = 2**31
"""AND gates times instances in a batch: two tweaks each, of 32 bits."""


def new_delta() -> bytes:
    """A fresh secret Delta, 16 bytes with the lowest bit 1; one per session, known to the garbler alone."""
    delta = bytearray(os.urandom(LABEL_BYTES))
    delta[0] |= 1
    return bytes(delta)


def new_start() -> bytes:
    """A fresh `start` of a batch, 16 bytes; the garbler draws it and sends it with the tables."""
    return os.urandom(START_BYTES)


def table_bytes(circuit: Circuit, instances: int) -> int:
    """Bytes of the tables of a batch."""
    return TABLE_BYTES * circuit.and_gates * instances


def server_label_bytes(circuit: Circuit, instances: int) -> int:
    """Bytes of the active labels of the server's inputs."""
    return LABEL_BYTES * int(np.count_nonzero(circuit.server_inputs)) * instances


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


@dataclass(frozen=True, slots=True, eq=False)
class GarbledBatch:
    """What the garbler sends for a batch.

    Attributes:
        start: 16 bytes, see the module.
        tables: (AND gates, instances, 32) uint8.
        server_labels: (server's inputs, instances, 16) uint8, active labels in the order of the server's input wires.
        output_colours: one bit for each output and instance, packed little endian, which turn colours into bits.
    """

    start: bytes
    tables: NDArray[np.uint8]
    server_labels: NDArray[np.uint8]
    output_colours: bytes

    def to_bytes(self) -> bytes:
        """The batch as sent: start, tables, server labels, colours; `garbled_bytes` long."""
        return b"".join((self.start, self.tables.tobytes(), self.server_labels.tobytes(), self.output_colours))

    @classmethod
    def from_bytes(cls, circuit: Circuit, instances: int, data: bytes) -> Self:
        """Read what a peer sent.

        Raises:
            ProtocolError: if the length is not that of a batch of this circuit.
        """
        expected = garbled_bytes(circuit, instances)
        if len(data) != expected:
            raise ProtocolError(
                f"garbled batch: {len(data)} bytes received, {instances} instances take {expected}; "
                "check that both sides run the same network and policy"
            )
        tables_end = START_BYTES + table_bytes(circuit, instances)
        labels_end = tables_end + server_label_bytes(circuit, instances)
        array = np.frombuffer(data, dtype=np.uint8)
        return cls(
            start=data[:START_BYTES],
            tables=array[START_BYTES:tables_end].reshape(circuit.and_gates, instances, TABLE_BYTES),
            server_labels=array[tables_end:labels_end].reshape(-1, instances, LABEL_BYTES),
            output_colours=data[labels_end:],
        )


def _join_inputs(circuit: Circuit, server: NDArray[np.uint8], client: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels (inputs, instances, 16) in wire order, from those of either side in the order of its own wires."""
    servers = int(np.count_nonzero(circuit.server_inputs))
    instances = server.shape[1] if servers else client.shape[1]
    for side, labels, wires in (("server", server, servers), ("client", client, circuit.inputs - servers)):
        if labels.shape != (wires, instances, LABEL_BYTES):
            raise ValueError(
                f"{side} labels: shape {labels.shape}; the circuit needs {(wires, instances, LABEL_BYTES)}"
            )
    joined = np.empty((circuit.inputs, instances, LABEL_BYTES), dtype=np.uint8)
    joined[circuit.server_inputs] = server
    joined[~circuit.server_inputs] = client
    return joined


def garble(
    circuit: Circuit,
    client_zero_labels: NDArray[np.uint8],
    server_bits: NDArray[np.uint8],
    delta: bytes,
    start: bytes,
) -> GarbledBatch:
    """Garble all instances of a circuit.

    Args:
        circuit: what to garble; it says which input wires are the server's.
        client_zero_labels: (client's inputs, instances, 16), from the oblivious transfer.
        server_bits: (server's inputs, instances) of 0 and 1.
        delta: the session's secret, from `new_delta`.
        start: fresh, from `new_start`; never use one for two batches.

    Raises:
        ValueError: if shapes do not fit, or the batch has more than `MAX_AND_GATES` AND gates.
    """
    if server_bits.ndim != 2 or server_bits.dtype != np.uint8 or (server_bits > 1).any():
        raise ValueError("server_bits: give a (server inputs, instances) uint8 array of 0 and 1")
    delta_row = np.frombuffer(delta, dtype=np.uint8)
    server_labels = _native.prg(os.urandom(LABEL_BYTES), server_bits.size * LABEL_BYTES)
    server_labels = server_labels.reshape(*server_bits.shape, LABEL_BYTES)
    server_zero_labels = server_labels ^ (server_bits[:, :, None] * delta_row)
    zero_labels = _join_inputs(circuit, server_zero_labels, client_zero_labels)
    tables, output_zero_labels = _native.garble(circuit.gates, zero_labels, circuit.outputs, delta, start)
    colours = np.packbits(output_zero_labels[:, :, 0] & 1, bitorder="little")
    return GarbledBatch(start, tables, server_labels, colours.tobytes())


def evaluate(
    circuit: Circuit,
    client_labels: NDArray[np.uint8],
    server_labels: NDArray[np.uint8],
    tables: NDArray[np.uint8],
    start: bytes,
) -> NDArray[np.uint8]:
    """Evaluate all instances of a garbled circuit.

    Args:
        circuit: what was garbled.
        client_labels: (client's inputs, instances, 16), active, from the oblivious transfer.
        server_labels: (server's inputs, instances, 16), active, as in `GarbledBatch`.
        tables: (AND gates, instances, 32).
        start: as garbled.

    Returns:
        The active labels (outputs, instances, 16); nonsense if the tables were not made for these labels.

    Raises:
        ValueError: if shapes do not fit.
    """
    labels = _join_inputs(circuit, server_labels, client_labels)
    return _native.evaluate(circuit.gates, labels, circuit.outputs, tables, start)


def decode(labels: NDArray[np.uint8], colours: bytes) -> NDArray[np.uint8]:
    """The bits (outputs, instances) that output labels (outputs, instances, 16) stand for.

    Raises:
        ProtocolError: if there are not as many colours as labels.
    """
    outputs, instances, _ = labels.shape
    if len(colours) != (outputs * instances + 7) // 8:
        raise ProtocolError(f"{len(colours)} bytes of colours received for {outputs} x {instances} output bits")
    zero = np.unpackbits(np.frombuffer(colours, dtype=np.uint8), count=outputs * instances, bitorder="little")
    return (labels[:, :, 0] & np.uint8(1)) ^ zero.reshape(outputs, instances)
