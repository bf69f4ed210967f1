"""Exactly what an inference does under a policy, in closed form: the thing that latency models price.

Bytes include frame headers: they are the bytes on the wire.
"""

from collections.abc import Mapping
from functools import cache
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.records import record
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.circuits import Circuit, relu_requantise
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.nonlinear_layer import Batch
from autoprivacy.protocol.oblivious_transfer import ANSWER_BYTES, OFFER_BYTES, extension_bytes
from autoprivacy.protocol.policy import AgreedLayer, Agreement, zero_tiles
from autoprivacy.protocol.seal_keys import public_message_bytes
from autoprivacy.protocol.transport import HEADER_BYTES
from autoprivacy.protocol.wire import ciphertext_bytes, response_bytes

ZeroTiles = NDArray[np.bool_]
COMMAND_BYTES: Final = 1


@record
class Work:
    """Calls of one interface operation: how many, and what they handle in total.

    | operation | items | values |
    |---|---|---|
    | encrypt, receive, receive_add_share, to_ntt, from_ntt | 0 | 0 |
    | weighted_sum | products | 0 |
    | respond, decrypt | output coefficients | 0 |
    | garble, evaluate | AND gates | circuit instances |
    | ot_send, ot_receive | transfers | 0 |
    | transfer | bytes | 0 |
    """

    operation: str
    n: int
    q_bits: int
    calls: int
    items: int
    values: int = 0


@record
class CircuitPlan:
    """One batch of identical circuits: sizes of one instance, and how many."""

    instances: int
    and_gates: int
    client_bits: int
    server_bits: int
    output_bits: int

    @property
    def total_and_gates(self) -> int:
        """AND gates of the batch."""
        return self.instances * self.and_gates

    @property
    def transfers(self) -> int:
        """Oblivious transfers of the batch: one a client input bit."""
        return self.instances * self.client_bits


@record
class LayerPlan:
    """One linear layer and the nonlinear layer after it, operation by operation, in the order they run.

    There are no circuits where the output is opened, and several where channels drop different numbers of bits.
    """

    name: str
    work: tuple[Work, ...]
    circuits: tuple[CircuitPlan, ...]
    frames_up: int
    frames_down: int
    bytes_up: int
    bytes_down: int


@record
class Plan:
    """One inference, layer by layer, and the set-up of a session."""

    layers: tuple[LayerPlan, ...]
    setup_bytes_up: int
    setup_bytes_down: int

    @property
    def bytes_up(self) -> int:
        """Bytes from client to server of one inference, the command that starts it included."""
        return HEADER_BYTES + COMMAND_BYTES + sum(layer.bytes_up for layer in self.layers)

    @property
    def bytes_down(self) -> int:
        """Bytes from server to client of one inference."""
        return sum(layer.bytes_down for layer in self.layers)


def batches_of(layer: AgreedLayer) -> tuple[Batch, ...]:
    """The circuits that follow a linear layer, one for every shift that channels have; none where it is opened."""
    after = layer.nonlinear
    if after is None:
        return ()
    bits_in, bits_out = layer.policy.t.bit_length() - 1, after.t_out.bit_length() - 1
    shifts = np.repeat(after.shifts, layer.shape.output_values // layer.shape.out_channels)
    # Beyond the sign there is nothing left to drop.
    shifts = np.minimum(shifts, bits_in - 1)
    return tuple(
        Batch(_circuit(bits_in, shift, after.bits, bits_out, after.relu), np.flatnonzero(shifts == shift))
        for shift in sorted(set(shifts.tolist()))
    )


@cache
def _circuit(bits_in: int, shift: int, activation_bits: int, bits_out: int, relu: bool) -> Circuit:  # noqa: FBT001 - a cache key
    return relu_requantise(bits_in, shift, activation_bits, bits_out, relu=relu)


def distinct_key_sets(agreement: Agreement) -> list[HeSet]:
    """One HE set for all that share keys, in order of first use."""
    found: dict[tuple[int, tuple[int, ...], int | None], HeSet] = {}
    for layer in agreement.layers:
        he_set = layer.policy.he_set(agreement.security)
        found.setdefault(he_set.key_parameters, he_set)
    return list(found.values())


def opened_bytes(layer: AgreedLayer) -> int:
    """Bytes of the server's share of the logits."""
    return -(-layer.shape.output_values * (layer.policy.t.bit_length() - 1) // 8)


def plan_layer(layer: AgreedLayer, *, first: bool, zero_tiles: ZeroTiles | None = None) -> LayerPlan:
    """The plan of one layer.

    `first` says that the input is the client's alone, `zero_tiles` (rows, in_parts) which products are skipped.
    """
    layout, n, limbs = layer.layout, layer.policy.n, layer.policy.limbs
    q_bits = prod(limbs).bit_length()
    windows, inputs, responses = layout.window_count, layout.inputs, layout.responses
    kept = np.ones((layout.rows, layout.in_parts), bool) if zero_tiles is None else ~zero_tiles
    products, sums = windows * int(kept.sum()), windows * int(kept.any(axis=1).sum())
    outputs = layer.shape.output_values
    receive = "receive" if first else "receive_add_share"
    up = HEADER_BYTES + inputs * ciphertext_bytes(n, limbs)
    down = HEADER_BYTES + sum(response_bytes(n, limbs, sent) for sent in layout.response_sizes.tolist())
    work = [
        Work("encrypt", n, q_bits, calls=inputs, items=0),
        Work("transfer", 0, 0, calls=1, items=up),
        Work(receive, n, q_bits, calls=inputs, items=0),
        Work("to_ntt", n, q_bits, calls=inputs, items=0),
        Work("weighted_sum", n, q_bits, calls=sums, items=products),
        Work("from_ntt", n, q_bits, calls=sums, items=0),
        Work("respond", n, q_bits, calls=responses, items=outputs),
        Work("transfer", 0, 0, calls=1, items=down),
        Work("decrypt", n, q_bits, calls=responses, items=outputs),
    ]
    batches = batches_of(layer)
    if not batches:
        logits = HEADER_BYTES + opened_bytes(layer)
        work.append(Work("transfer", 0, 0, calls=1, items=logits))
        return LayerPlan(layer.name, tuple(work), (), 1, 2, up, down + logits)
    circuits = tuple(_circuit_plan(batch) for batch in batches)
    transfers = sum(circuit.transfers for circuit in circuits)
    columns = HEADER_BYTES + extension_bytes(transfers)
    tables = HEADER_BYTES + sum(batch.message_bytes for batch in batches)
    work += [
        Work("ot_receive", 0, 0, calls=1, items=transfers),
        Work("transfer", 0, 0, calls=1, items=columns),
        Work("ot_send", 0, 0, calls=1, items=transfers),
        *(Work("garble", 0, 0, 1, circuit.total_and_gates, circuit.instances) for circuit in circuits),
        Work("transfer", 0, 0, calls=1, items=tables),
        *(Work("evaluate", 0, 0, 1, circuit.total_and_gates, circuit.instances) for circuit in circuits),
    ]
    return LayerPlan(layer.name, tuple(work), circuits, 2, 2, up + columns, down + tables)


def _circuit_plan(batch: Batch) -> CircuitPlan:
    return CircuitPlan(
        instances=len(batch.places),
        and_gates=batch.circuit.and_gates,
        client_bits=batch.client_bits,
        server_bits=batch.circuit.inputs - batch.client_bits,
        output_bits=len(batch.circuit.outputs),
    )


def plan(agreement: Agreement, zero_tiles: Mapping[str, ZeroTiles] | None = None) -> Plan:
    """The plan of one inference and its session's set-up, the handshake left out."""
    skipped = zero_tiles or {}
    keys = sum(HEADER_BYTES + public_message_bytes(he_set) for he_set in distinct_key_sets(agreement))
    return Plan(
        layers=tuple(
            plan_layer(layer, first=index == 0, zero_tiles=skipped.get(layer.name))
            for index, layer in enumerate(agreement.layers)
        ),
        setup_bytes_up=keys + HEADER_BYTES + OFFER_BYTES,
        setup_bytes_down=HEADER_BYTES + ANSWER_BYTES,
    )


def plan_network(network: QuantisedNetwork, agreement: Agreement) -> Plan:
    """The plan of a network whose weights are at hand: all-zero weight tiles are skipped."""
    return plan(
        agreement,
        {
            layer.name: zero_tiles(layer, stage.weight)
            for layer, stage in zip(agreement.layers, network.stages, strict=True)
        },
    )
