"""Exactly what an inference does under a policy, in closed form: the thing that latency models price.

Bytes include frame headers: they are the bytes on the wire.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any, Final

from autoprivacy.common.records import record
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.agreement import AgreedLayer, AgreedNonlinear, Agreement, client_alone
from autoprivacy.protocol.encoded_weights import product_bytes
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.layer_counts import Products
from autoprivacy.protocol.linear_layer import counts_of, rotation_steps_of
from autoprivacy.protocol.nonlinear_circuits import width_of
from autoprivacy.protocol.nonlinear_layer import Batch, batches_of
from autoprivacy.protocol.oblivious_transfer import ANSWER_BYTES, OFFER_BYTES, extension_bytes
from autoprivacy.protocol.seal_keys import galois_object_bytes, public_message_bytes
from autoprivacy.protocol.transport import HEADER_BYTES
from autoprivacy.protocol.wire import ciphertext_bytes, response_bytes

COMMAND_BYTES: Final = 1


@record
class Work:
    """Calls of one interface operation: how many, and what they handle in total.

    | operation | items | values |
    |---|---|---|
    | encrypt, receive, receive_add_share, to_ntt, from_ntt, rotate, swap_rows, add | 0 | 0 |
    | weighted_sum | products | 0 |
    | respond, decrypt | output coefficients | 0 |
    | garble, evaluate | AND gates | circuit instances |
    | ot_send, ot_receive | transfers | 0 |
    | transfer | bytes | 0 |

    `q_bits` and `limbs` are those of the ciphertexts that an operation works on, without the special prime;
    `limb_bits` are those of their widest limb, `special` is 1 with a special prime, `kept` counts the limbs of a
    response. `kernel` is "ring" for packing `coefficients`, "seal" for `slots`, "" where there is no HE set; `privacy`
    is of responses. `state` says that weights are "streamed" from memory, and of a transfer whether it goes "up" to the
    server or "down". `bytes` go over the wire; `wires` are input and output bits of circuits. A machine profile's
    samples have the same fields (docs/formats.md).
    """

    operation: str
    n: int
    q_bits: int
    calls: int
    items: int
    values: int = 0
    limbs: int = 1
    limb_bits: int = 0
    t_bits: int = 0
    special: int = 0
    kept: int = 0
    kernel: str = ""
    privacy: str = ""
    state: str = ""
    bytes: int = 0
    wires: int = 0


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
    def total_wires(self) -> int:
        """Input and output bits of the batch."""
        return self.instances * (self.client_bits + self.server_bits + self.output_bits)

    @property
    def transfers(self) -> int:
        """Oblivious transfers of the batch: one a client input bit."""
        return self.instances * self.client_bits


@record
class LayerPlan:
    """One linear layer and the nonlinear layers after it, operation by operation, in the order they run.

    There are several circuits where channels drop different numbers of bits.
    `weight_bytes` is what the server's encoded weights take in memory.
    """

    name: str
    work: tuple[Work, ...]
    circuits: tuple[CircuitPlan, ...]
    frames_up: int
    frames_down: int
    bytes_up: int
    bytes_down: int
    weight_bytes: int


@record
class KeySet:
    """The keys of all layers that share primes: the set of one of them, and the Galois steps of any."""

    he_set: HeSet
    steps: tuple[int, ...]

    @property
    def message_bytes(self) -> int:
        """What the client sends."""
        return public_message_bytes(self.he_set, self.steps)


@record
class Plan:
    """One inference, layer by layer, and the set-up of a session.

    `key_bytes` is what the server's copies of the client's Galois keys take in memory, one for every t.
    """

    layers: tuple[LayerPlan, ...]
    setup_bytes_up: int
    setup_bytes_down: int
    key_bytes: int

    @property
    def bytes_up(self) -> int:
        """Bytes from client to server of one inference, the command that starts it included."""
        return HEADER_BYTES + COMMAND_BYTES + sum(layer.bytes_up for layer in self.layers)

    @property
    def bytes_down(self) -> int:
        """Bytes from server to client of one inference."""
        return sum(layer.bytes_down for layer in self.layers)


def key_sets(agreement: Agreement) -> tuple[KeySet, ...]:
    """The distinct keys of a network, in order of first use."""
    found: dict[tuple[int, tuple[int, ...], int | None], KeySet] = {}
    for layer in agreement.layers:
        he_set, steps = layer.policy.he_set(agreement.security), rotation_steps_of(layer.layout)
        known = found.get(he_set.key_parameters, KeySet(he_set, ()))
        found[he_set.key_parameters] = KeySet(known.he_set, tuple(sorted({*known.steps, *steps})))
    return tuple(found.values())


def opened_bytes(agreement: Agreement) -> int:
    """Bytes of the server's share of the logits."""
    return -(-agreement.classes * width_of(agreement.logit_modulus) // 8)


def groups(agreement: Agreement) -> tuple[tuple[AgreedLayer, tuple[AgreedNonlinear, ...]], ...]:
    """Every linear layer with the nonlinear layers that run after it and before the next one."""
    found: list[tuple[AgreedLayer, list[AgreedNonlinear]]] = []
    early: list[AgreedNonlinear] = []
    for step in agreement.steps:
        if isinstance(step, AgreedLayer):
            found.append((step, early))
            early = []
        elif isinstance(step, AgreedNonlinear):
            (found[-1][1] if found else early).append(step)
    return tuple((layer, tuple(after)) for layer, after in found)


def plan_layer(
    layer: AgreedLayer, *, alone: bool, nonzero: Products | None = None, privacy: str = "uniform"
) -> LayerPlan:
    """The plan of one linear layer.

    `alone` says that its input is the client's alone, `nonzero` which products are not skipped (`Layout.nonzero`);
    `privacy` is the kind of circuit privacy.
    """
    layout, chosen, n = layer.layout, layer.policy, layer.policy.n
    counts = counts_of(layout, nonzero)
    sizes = layout.response_sizes
    answered = int(sizes.sum())
    up = HEADER_BYTES + counts.encrypt * ciphertext_bytes(n, chosen.limbs)
    down = HEADER_BYTES + sum(response_bytes(n, chosen.limbs, sent, chosen.response) for sent in sizes.tolist())

    kernel = "ring" if chosen.packing == "coefficients" else "seal"
    t_bits, special, kept = (chosen.t - 1).bit_length(), int(chosen.special is not None), chosen.response.limbs

    def he(operation: str, calls: int, items: int = 0, *, limbs: tuple[int, ...] = chosen.limbs, **more: Any) -> Work:  # noqa: ANN401
        return Work(
            operation,
            n,
            prod(limbs).bit_length(),
            calls,
            items,
            limbs=len(limbs),
            limb_bits=max(limbs).bit_length(),
            t_bits=t_bits,
            special=special,
            kernel=kernel,
            **more,
        )

    work = [
        he("encrypt", counts.encrypt, bytes=up - HEADER_BYTES),
        Work("transfer", 0, 0, calls=1, items=up, bytes=up, state="up"),
        he("receive" if alone else "receive_add_share", counts.receive, bytes=up - HEADER_BYTES),
        he("rotate", counts.rotate),
        he("to_ntt", counts.to_ntt),
        he("weighted_sum", counts.weighted_sum, counts.multiply_accumulate, state="streamed"),
        he("from_ntt", counts.from_ntt),
        he("swap_rows", counts.swap_rows),
        he("add", counts.add),
        he("respond", counts.respond, answered, kept=kept, privacy=privacy, bytes=down - HEADER_BYTES),
        Work("transfer", 0, 0, calls=1, items=down, bytes=down, state="down"),
        he("decrypt", counts.decrypt, answered, limbs=chosen.limbs[:kept], kept=kept, bytes=down - HEADER_BYTES),
    ]
    weight_bytes = counts.encode * product_bytes(n, chosen.limbs)
    return LayerPlan(layer.name, tuple(each for each in work if each.calls), (), 1, 1, up, down, weight_bytes)


def _with_nonlinear(planned: LayerPlan, step: AgreedNonlinear) -> LayerPlan:
    """The plan with a nonlinear layer after it."""
    batches = batches_of(step)
    circuits = tuple(_circuit_plan(batch) for batch in batches)
    transfers = sum(circuit.transfers for circuit in circuits)
    columns = HEADER_BYTES + extension_bytes(transfers)
    tables = HEADER_BYTES + sum(batch.message_bytes for batch in batches)
    batched = [
        (circuit.total_and_gates, circuit.instances, batch.message_bytes, circuit.total_wires)
        for batch, circuit in zip(batches, circuits, strict=True)
    ]
    work = (
        Work("ot_receive", 0, 0, calls=1, items=transfers, bytes=columns - HEADER_BYTES),
        Work("transfer", 0, 0, calls=1, items=columns, bytes=columns, state="up"),
        Work("ot_send", 0, 0, calls=1, items=transfers, bytes=columns - HEADER_BYTES),
        *(Work("garble", 0, 0, 1, gates, values, bytes=size, wires=wires) for gates, values, size, wires in batched),
        Work("transfer", 0, 0, calls=1, items=tables, bytes=tables, state="down"),
        *(Work("evaluate", 0, 0, 1, gates, values, bytes=size, wires=wires) for gates, values, size, wires in batched),
    )
    return replace(
        planned,
        work=planned.work + work,
        circuits=planned.circuits + circuits,
        frames_up=planned.frames_up + 1,
        frames_down=planned.frames_down + 1,
        bytes_up=planned.bytes_up + columns,
        bytes_down=planned.bytes_down + tables,
    )


def _with_logits(planned: LayerPlan, agreement: Agreement) -> LayerPlan:
    """The plan with the server's share of the logits sent after it."""
    logits = HEADER_BYTES + opened_bytes(agreement)
    return replace(
        planned,
        work=(*planned.work, Work("transfer", 0, 0, calls=1, items=logits, bytes=logits, state="down")),
        frames_down=planned.frames_down + 1,
        bytes_down=planned.bytes_down + logits,
    )


def _circuit_plan(batch: Batch) -> CircuitPlan:
    return CircuitPlan(
        instances=batch.instances,
        and_gates=batch.kind.and_gates,
        client_bits=batch.client_bits,
        server_bits=batch.circuit.inputs - batch.client_bits,
        output_bits=len(batch.circuit.outputs),
    )


def plan(agreement: Agreement, nonzero: Mapping[str, Products] | None = None) -> Plan:
    """The plan of one inference and its session's set-up, the handshake left out.

    `nonzero` says by layer which products are not skipped.
    """
    known = nonzero or {}
    keys, alone = key_sets(agreement), client_alone(agreement)
    moduli = {(layer.policy.n, layer.policy.limbs, layer.policy.special, layer.policy.t) for layer in agreement.layers}
    layers, kind = [], agreement.privacy.kind
    for layer, after in groups(agreement):
        planned = plan_layer(layer, alone=layer.source in alone, nonzero=known.get(layer.name), privacy=kind)
        for step in after:
            planned = _with_nonlinear(planned, step)
        layers.append(planned)
    layers[-1] = _with_logits(layers[-1], agreement)
    return Plan(
        layers=tuple(layers),
        setup_bytes_up=sum(HEADER_BYTES + each.message_bytes for each in keys) + HEADER_BYTES + OFFER_BYTES,
        setup_bytes_down=HEADER_BYTES + ANSWER_BYTES,
        key_bytes=sum(
            galois_object_bytes(each.he_set, each.steps)
            for each in keys
            for parameters in moduli
            if parameters[:3] == each.he_set.key_parameters
        ),
    )


def nonzero_products(network: QuantisedNetwork, agreement: Agreement) -> dict[str, Products]:
    """By layer, which products the server does: those whose weights are not all zero."""
    return {
        layer.name: layer.layout.nonzero(own.weight)
        for layer, own in zip(agreement.layers, network.linear_layers, strict=True)
    }


def plan_network(network: QuantisedNetwork, agreement: Agreement) -> Plan:
    """The plan of a network whose weights are at hand: products of zero weights are skipped."""
    return plan(agreement, nonzero_products(network, agreement))
