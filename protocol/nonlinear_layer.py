"""One nonlinear layer on shares: what each side does around its garbled circuit.

Values are integers modulo t, one circuit instance each; bits are little endian, wire-major.
"""

import numpy as np
from numpy.typing import NDArray

from autoprivacy.protocol import garbling
from autoprivacy.protocol.circuits import Circuit, from_bits, to_bits
from autoprivacy.protocol.linear_shape import IntArray

Labels = NDArray[np.uint8]


def client_bits(circuit: Circuit) -> int:
    """Input bits of one instance that come from the client, each by one oblivious transfer."""
    return int(np.count_nonzero(~circuit.server_inputs))


def choices(circuit: Circuit, share: IntArray) -> NDArray[np.uint8]:
    """The client's choice bits (client_bits * instances,) for its share (instances,)."""
    return to_bits(share.astype(np.uint64), client_bits(circuit)).ravel()


def garble(circuit: Circuit, share: IntArray, mask: IntArray, zero_labels: Labels, delta: bytes) -> bytes:
    """The server's message for its `share` and its fresh `mask` (instances,).

    `zero_labels` (client_bits * instances, 16) come from the transfers of the client's `choices`.
    """
    mask_bits = len(circuit.outputs)
    share_bits = int(np.count_nonzero(circuit.server_inputs)) - mask_bits
    bits = np.concatenate([to_bits(share.astype(np.uint64), share_bits), to_bits(mask.astype(np.uint64), mask_bits)])
    labels = zero_labels.reshape(client_bits(circuit), len(share), garbling.LABEL_BYTES)
    return garbling.garble(circuit, labels, bits, delta, garbling.new_start()).to_bytes()


def evaluate(circuit: Circuit, labels: Labels, message: bytes, instances: int) -> IntArray:
    """The client's share (instances,) of what comes out, from its labels (client_bits * instances, 16).

    Raises:
        ProtocolError: if the server's message has the wrong length.
    """
    batch = garbling.GarbledBatch.from_bytes(circuit, instances, message)
    own = labels.reshape(client_bits(circuit), instances, garbling.LABEL_BYTES)
    outputs = garbling.evaluate(circuit, own, batch.server_labels, batch.tables, batch.start)
    return from_bits(garbling.decode(outputs, batch.output_colours)).astype(np.int64)
