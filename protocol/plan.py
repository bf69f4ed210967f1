"""Exactly what an inference does under a policy, in closed form: the thing that latency models price.

Schedule `online` does it all at once; `preprocessed` has an offline part, planned apart. Bytes include frame headers:
they are the bytes on the wire.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, Final, Protocol

from autoprivacy.common.records import record
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol import nonlinear_layer, prepared_layer
from autoprivacy.protocol.agreement import AgreedLayer, AgreedNonlinear, Agreement, client_alone
from autoprivacy.protocol.conversation import (
    KEPT_BYTES,
    Circuits,
    Schedule,
    input_bytes,
    packed_bytes,
    spill_bytes,
)
from autoprivacy.protocol.encoded_weights import product_bytes
from autoprivacy.protocol.garbling import LABEL_BYTES, PIECE_BYTES
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.layer_counts import Products
from autoprivacy.protocol.linear_layer import counts_of, rotation_steps_of
from autoprivacy.protocol.nonlinear_layer import Batch
from autoprivacy.protocol.oblivious_transfer import ANSWER_BYTES, OFFER_BYTES, extension_bytes
from autoprivacy.protocol.policy import LayerPolicy
from autoprivacy.protocol.seal_keys import galois_object_bytes, public_message_bytes
from autoprivacy.protocol.transport import HEADER_BYTES, Traffic
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
    | transfer, spill_write, spill_read | bytes | 0 |
    | clear_linear | multiplications | outputs |
    | choose_labels | labels | circuit instances |

    `q_bits` and `limbs` are those of the ciphertexts that an operation works on, without the special prime;
    `limb_bits` are those of their widest limb, `special` is 1 with a special prime, `kept` counts the limbs of a
    response. `kernel` is "ring" for packing `coefficients`, "seal" for `slots`, "" where there is no HE set; `privacy`
    is of responses. `state` says that weights are "streamed" from memory, of a transfer whether it goes "up" to the
    server or "down", of a spill which party makes it. `bytes` go over the wire; `wires` are input and output bits of
    circuits. A machine profile's samples have the same fields (docs/formats.md).
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


class _Sized(Protocol):
    @property
    def operation(self) -> str: ...
    @property
    def bytes(self) -> int: ...

    @property
    def items(self) -> int: ...
    @property
    def state(self) -> str: ...


def hidden_share(work: Sequence[_Sized]) -> float:
    """Of what either party does to circuits, and sending it, the share that is done while the longest goes on.

    It goes piece after piece, so all but the first piece of one and the last of another can overlap.
    """
    return 1 - 1 / max(1, table_pieces(work))


def table_pieces(work: Iterable[_Sized]) -> int:
    """The pieces that tables go in: when they are garbled, and when the client reads what it kept of them."""
    garbled = [each.bytes for each in work if each.operation == "garble"]
    kept = [each.items for each in work if (each.operation, each.state) == ("spill_read", "client")]
    return sum(max(1, -(-size // PIECE_BYTES)) for size in (*garbled, *kept))


@record
class LayerPlan:
    """One linear layer and the nonlinear layers after it, operation by operation, in the order they run.

    There are several circuits where channels drop different numbers of bits.
    `weight_bytes` is what the server's encoded weights take in memory; so many responses as `together` says read the
    same inputs, one after the other.
    """

    name: str
    work: tuple[Work, ...]
    circuits: tuple[CircuitPlan, ...]
    frames_up: int
    frames_down: int
    round_trips: int
    bytes_up: int
    bytes_down: int
    weight_bytes: int
    together: int = 1

    @property
    def hidden_share(self) -> float:
        """As the function, of this layer's work."""
        return hidden_share(self.work)


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

    `layers` are what is done from image to logits, `offline` what is done before there is an image (nothing in schedule
    `online`), `setup` what is done once a session, the base transfers left out. `key_bytes` is what the server's copies
    of the client's Galois keys take in memory, one for every t; the spill bytes are what each party keeps on disk
    between offline and online.
    """

    layers: tuple[LayerPlan, ...]
    setup_bytes_up: int
    setup_bytes_down: int
    key_bytes: int
    offline: tuple[LayerPlan, ...] = ()
    client_spill_bytes: int = 0
    server_spill_bytes: int = 0
    setup: tuple[Work, ...] = ()

    @property
    def bytes_up(self) -> int:
        """Bytes from client to server from image to logits, the command that starts it included."""
        return self.online_traffic.bytes_sent

    @property
    def bytes_down(self) -> int:
        """Bytes from server to client from image to logits."""
        return self.online_traffic.bytes_received

    @property
    def online_traffic(self) -> Traffic:
        """What passes the client's channel from image to logits."""
        return _traffic(self.layers)

    @property
    def offline_traffic(self) -> Traffic:
        """What passes it ahead of that."""
        return _traffic(self.offline)


def _traffic(layers: tuple[LayerPlan, ...]) -> Traffic:
    """That of a phase, which a command starts."""
    if not layers:
        return Traffic()
    return Traffic(
        bytes_sent=HEADER_BYTES + COMMAND_BYTES + sum(layer.bytes_up for layer in layers),
        bytes_received=sum(layer.bytes_down for layer in layers),
        frames_sent=1 + sum(layer.frames_up for layer in layers),
        frames_received=sum(layer.frames_down for layer in layers),
        round_trips=sum(layer.round_trips for layer in layers),
    )


def key_sets(agreement: Agreement) -> tuple[KeySet, ...]:
    """The distinct keys of a network, in order of first use."""
    found: dict[tuple[int, tuple[int, ...], int | None], KeySet] = {}
    for layer in agreement.layers:
        he_set, steps = layer.policy.he_set(agreement.security), rotation_steps_of(layer.layout)
        known = found.get(he_set.key_parameters, KeySet(he_set, ()))
        found[he_set.key_parameters] = KeySet(known.he_set, tuple(sorted({*known.steps, *steps})))
    return tuple(found.values())


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


def _he(
    chosen: LayerPolicy,
    operation: str,
    calls: int,
    items: int = 0,
    limbs: tuple[int, ...] | None = None,
    **more: Any,  # noqa: ANN401 - fields of `Work`
) -> Work:
    """An operation on ciphertexts of a layer's set."""
    limbs = limbs or chosen.limbs
    return Work(
        operation,
        chosen.n,
        prod(limbs).bit_length(),
        calls,
        items,
        limbs=len(limbs),
        limb_bits=max(limbs).bit_length(),
        t_bits=(chosen.t - 1).bit_length(),
        special=int(chosen.special is not None),
        kernel="ring" if chosen.packing == "coefficients" else "seal",
        **more,
    )


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

    kept = chosen.response.limbs

    def he(operation: str, calls: int, items: int = 0, *, limbs: tuple[int, ...] = chosen.limbs, **more: Any) -> Work:  # noqa: ANN401
        return _he(chosen, operation, calls, items, limbs, **more)

    work = [
        he("encrypt", counts.encrypt, bytes=up - HEADER_BYTES),
        _transfer("up", up),
        he("receive" if alone else "receive_add_share", counts.receive, bytes=up - HEADER_BYTES),
        he("rotate", counts.rotate),
        he("to_ntt", counts.to_ntt),
        he("weighted_sum", counts.weighted_sum, counts.multiply_accumulate, state="streamed"),
        he("from_ntt", counts.from_ntt),
        he("swap_rows", counts.swap_rows),
        he("add", counts.add),
        he("respond", counts.respond, answered, kept=kept, privacy=privacy, bytes=down - HEADER_BYTES),
        _transfer("down", down),
        he("decrypt", counts.decrypt, answered, limbs=chosen.limbs[:kept], kept=kept, bytes=down - HEADER_BYTES),
    ]
    weight_bytes = counts.encode * product_bytes(n, chosen.limbs)
    done = tuple(each for each in work if each.calls)
    return LayerPlan(layer.name, done, (), 1, 1, 1, up, down, weight_bytes, layout.out_parts)


def _with_circuits(planned: LayerPlan, batches: tuple[Batch, ...], *, ahead: bool) -> LayerPlan:
    """The plan with a nonlinear layer after it, garbled and evaluated at once, or garbled `ahead` and kept."""
    circuits = tuple(_circuit_plan(batch) for batch in batches)
    transfers = sum(circuit.transfers for circuit in circuits)
    columns = HEADER_BYTES + extension_bytes(transfers)
    sizes = prepared_layer.table_sizes(batches) if ahead else nonlinear_layer.part_sizes(batches)
    tables = HEADER_BYTES + sum(sizes)
    kept = (
        _spill("write", "server", sum(prepared_layer.head_sizes(batches))),
        _spill("write", "client", LABEL_BYTES * transfers + sum(sizes)),
    )
    sent = [
        sum(prepared_layer.table_sizes([batch]) if ahead else nonlinear_layer.part_sizes([batch])) for batch in batches
    ]
    work = (
        Work("ot_receive", 0, 0, calls=1, items=transfers, bytes=columns - HEADER_BYTES),
        _transfer("up", columns),
        Work("ot_send", 0, 0, calls=1, items=transfers, bytes=columns - HEADER_BYTES),
        *_circuit_work("garble", circuits, sent),
        _transfer("down", tables),
        *(kept if ahead else _circuit_work("evaluate", circuits, sent)),
    )
    return _exchange(replace(planned, circuits=planned.circuits + circuits), work, columns, tables)


def _with_labels(planned: LayerPlan, batches: tuple[Batch, ...]) -> LayerPlan:
    """The plan with the online part of a nonlinear layer after it that was garbled ahead."""
    circuits = tuple(_circuit_plan(batch) for batch in batches)
    labels = HEADER_BYTES + sum(prepared_layer.label_sizes(batches))
    colours = HEADER_BYTES + prepared_layer.colours_bytes(batches)
    transfers = sum(circuit.transfers for circuit in circuits)
    work = (
        _spill("read", "server", sum(prepared_layer.head_sizes(batches))),
        *(Work("choose_labels", 0, 0, 1, each.instances * each.server_bits, each.instances) for each in circuits),
        _transfer("down", labels),
        _spill("read", "client", LABEL_BYTES * transfers + sum(prepared_layer.table_sizes(batches))),
        *_circuit_work("evaluate", circuits, [sum(prepared_layer.label_sizes([batch])) for batch in batches]),
        _transfer("up", colours),
    )
    return _exchange(replace(planned, circuits=planned.circuits + circuits), work, colours, labels)


def _exchange(planned: LayerPlan, work: tuple[Work, ...], up: int, down: int) -> LayerPlan:
    """The plan with work after it that has one frame each way, of these bytes."""
    return replace(
        planned,
        work=planned.work + work,
        frames_up=planned.frames_up + 1,
        frames_down=planned.frames_down + 1,
        round_trips=planned.round_trips + 1,
        bytes_up=planned.bytes_up + up,
        bytes_down=planned.bytes_down + down,
    )


def _with_logits(planned: LayerPlan, agreement: Agreement, *, turn: bool) -> LayerPlan:
    """The plan with the server's share of the logits sent after it; in a `turn` of its own if the client spoke last."""
    logits = HEADER_BYTES + packed_bytes(agreement.classes, agreement.logit_modulus)
    return replace(
        planned,
        work=(*planned.work, _transfer("down", logits)),
        frames_down=planned.frames_down + 1,
        round_trips=planned.round_trips + turn,
        bytes_down=planned.bytes_down + logits,
    )


def _transfer(direction: str, count: int) -> Work:
    return Work("transfer", 0, 0, calls=1, items=count, state=direction, bytes=count)


def _spill(what: str, party: str, count: int) -> Work:
    return Work(f"spill_{what}", 0, 0, calls=1, items=count, state=party)


def _circuit_work(operation: str, circuits: Sequence[CircuitPlan], sizes: Sequence[int]) -> tuple[Work, ...]:
    """One call a batch, with the bytes that come or go for it."""
    return tuple(
        Work(operation, 0, 0, 1, each.total_and_gates, each.instances, bytes=size, wires=each.total_wires)
        for each, size in zip(circuits, sizes, strict=True)
    )


def _circuit_plan(batch: Batch) -> CircuitPlan:
    return CircuitPlan(
        instances=batch.instances,
        and_gates=batch.kind.and_gates,
        client_bits=batch.client_bits,
        server_bits=batch.circuit.inputs - batch.client_bits,
        output_bits=len(batch.circuit.outputs),
    )


def plan(agreement: Agreement, nonzero: Mapping[str, Products] | None = None, schedule: Schedule = "online") -> Plan:
    """The plan of one inference and its session's set-up, the handshake left out.

    `nonzero` says by layer which products are not skipped.
    """
    keys, circuits = key_sets(agreement), Circuits(agreement)
    moduli = {(layer.policy.n, layer.policy.limbs, layer.policy.special, layer.policy.t) for layer in agreement.layers}
    ahead = schedule == "preprocessed"
    encrypted = _encrypted_layers(agreement, nonzero or {}, circuits, ahead=ahead)
    client_spill, server_spill = spill_bytes(agreement, circuits) if ahead else (0, 0)
    if not ahead:
        encrypted[-1] = _with_logits(encrypted[-1], agreement, turn=False)
    return Plan(
        layers=tuple(_clear_layers(agreement, circuits) if ahead else encrypted),
        setup_bytes_up=sum(HEADER_BYTES + each.message_bytes for each in keys) + HEADER_BYTES + OFFER_BYTES,
        setup_bytes_down=HEADER_BYTES + ANSWER_BYTES,
        key_bytes=sum(
            galois_object_bytes(each.he_set, each.steps)
            for each in keys
            for parameters in moduli
            if parameters[:3] == each.he_set.key_parameters
        ),
        offline=tuple(encrypted) if ahead else (),
        client_spill_bytes=client_spill,
        server_spill_bytes=server_spill,
        setup=_setup_work(agreement, keys, nonzero or {}),
    )


def _setup_work(agreement: Agreement, keys: tuple[KeySet, ...], nonzero: Mapping[str, Products]) -> tuple[Work, ...]:
    """Keys of both parties, and the server's encoded weights."""
    work = []
    for each in keys:
        same = [
            layer.policy
            for layer in agreement.layers
            if layer.policy.he_set(agreement.security).key_parameters == each.he_set.key_parameters
        ]
        work.append(_he(same[0], "generate_keys", 1))
        work.append(_transfer("up", HEADER_BYTES + each.message_bytes))
        if each.steps:
            contexts, memory = len({policy.t for policy in same}), galois_object_bytes(each.he_set, each.steps)
            made, loaded = len(each.steps), contexts * len(each.steps)
            work.append(_he(same[0], "generate_galois_keys", 1, made, bytes=each.message_bytes))
            work.append(_he(same[0], "load_galois_keys", contexts, loaded, bytes=contexts * memory))
    work += [
        _he(layer.policy, "encode", counts_of(layer.layout, nonzero.get(layer.name)).encode)
        for layer in agreement.layers
    ]
    return (*work, _transfer("up", HEADER_BYTES + OFFER_BYTES), _transfer("down", HEADER_BYTES + ANSWER_BYTES))


def _encrypted_layers(
    agreement: Agreement, nonzero: Mapping[str, Products], circuits: Circuits, *, ahead: bool
) -> list[LayerPlan]:
    """Linear layers on ciphertexts and their circuits: a whole inference, or `ahead` of it, on the client's share."""
    alone, kind, found = client_alone(agreement), agreement.privacy.kind, []
    for layer, after in groups(agreement):
        planned = plan_layer(layer, alone=ahead or layer.source in alone, nonzero=nonzero.get(layer.name), privacy=kind)
        if ahead:
            kept = _spill("write", "server", KEPT_BYTES * layer.shape.output_values)
            planned = replace(planned, work=(*planned.work, kept))
        for step in after:
            batches = circuits.of(step.name, "preprocessed" if ahead else "online")
            planned = _with_circuits(planned, batches, ahead=ahead)
        found.append(planned)
    return found


def _clear_layers(agreement: Agreement, circuits: Circuits) -> list[LayerPlan]:
    """Linear layers on the server's share and evaluation: what is left of a prepared inference."""
    found = []
    for layer, after in groups(agreement):
        shape = layer.shape
        products = shape.output_values * prod(shape.weight_shape[1:])
        work = (
            _spill("read", "server", KEPT_BYTES * shape.output_values),
            Work("clear_linear", 0, 0, calls=1, items=products, values=shape.output_values),
        )
        planned = LayerPlan(layer.name, work, (), 0, 0, 0, 0, 0, 0)
        for step in after:
            planned = _with_labels(planned, circuits.of(step.name, "preprocessed"))
        found.append(planned)
    entering = HEADER_BYTES + sum(size for _, size in input_bytes(agreement))
    first = found[0]
    found[0] = replace(
        first,
        work=(_transfer("up", entering), *first.work),
        frames_up=first.frames_up + 1,
        bytes_up=first.bytes_up + entering,
    )
    found[-1] = _with_logits(found[-1], agreement, turn=True)
    return found


def nonzero_products(network: QuantisedNetwork, agreement: Agreement) -> dict[str, Products]:
    """By layer, which products the server does: those whose weights are not all zero."""
    return {
        layer.name: layer.layout.nonzero(own.weight)
        for layer, own in zip(agreement.layers, network.linear_layers, strict=True)
    }


def plan_network(network: QuantisedNetwork, agreement: Agreement, schedule: Schedule = "online") -> Plan:
    """The plan of a network whose weights are at hand: products of zero weights are skipped."""
    return plan(agreement, nonzero_products(network, agreement), schedule)
