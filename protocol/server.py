"""The server of private inferences: the weights of one network, and conversations with its clients."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from threading import Lock

import numpy as np

from autoprivacy.common.errors import ProtocolError
from autoprivacy.common.records import to_json
from autoprivacy.networks.graph import INPUT
from autoprivacy.networks.integer_network import IntegerLinear, IntegerSum, QuantisedNetwork
from autoprivacy.protocol import garbling, nonlinear_layer, prepared_layer
from autoprivacy.protocol.agreement import AgreedLayer, AgreedNonlinear, Agreement
from autoprivacy.protocol.conversation import (
    END,
    INFER,
    INFER_REVEALED,
    MOST_PREPARED,
    PREPARE,
    SPEND,
    SPEND_REVEALED,
    Circuits,
    ServerTimes,
    input_bytes,
    packed,
    request_sizes,
    response_sizes,
    unpacked,
    walk,
)
from autoprivacy.protocol.encoded_weights import EncodedWeights, product_bytes
from autoprivacy.protocol.error_model import bound_to_flood, layer_settings
from autoprivacy.protocol.layer_workers import LayerWorkers, ServerLayer, split
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.memory import keep_freed_memory
from autoprivacy.protocol.oblivious_transfer import OFFER_BYTES, CorrelatedOtSender, extension_bytes
from autoprivacy.protocol.parties import encoder_of, server_of
from autoprivacy.protocol.plan import key_sets
from autoprivacy.protocol.randomness import random_below
from autoprivacy.protocol.seal_keys import ServerKeys
from autoprivacy.protocol.share_steps import Shares
from autoprivacy.protocol.spill import Spill, Spills
from autoprivacy.protocol.times import LayerTimes, TimedChannel, Watches
from autoprivacy.protocol.transport import Channel, Kind, greet_as_server

WEIGHT_BUDGET_BYTES = 4 << 30
"""What encoded weights may take in memory, unless told otherwise."""

PREPARED_PATIENCE_S = 600.0
"""How long a client that has prepared inferences may be idle, if that is longer than the time-out."""


class Server:
    """The weights of one network, encoded once for all clients, and conversations with them, several at a time.

    Linear layers are split among so many `workers` a client; encoded weights beyond a budget are encoded whenever they
    are used. What clients prepare lies in files in `spill_dir`.
    """

    def __init__(
        self,
        network: QuantisedNetwork,
        agreement: Agreement,
        key: bytes,
        *,
        reveal_for_testing: bool,
        workers: int = 1,
        weight_budget_bytes: int = WEIGHT_BUDGET_BYTES,
        spill_dir: Path | None = None,
    ) -> None:
        keep_freed_memory()  # before there are threads: one that has its own arena by then would keep that
        self.weights = {layer.name: layer.weight for layer in network.linear_layers}
        self.constants = {
            operation.name: operation.bias
            for operation in network.operations
            if isinstance(operation, IntegerLinear | IntegerSum)
        }
        self.agreement = agreement
        self.circuits = Circuits(agreement)
        self.places = {layer.name: place for place, layer in enumerate(agreement.layers)}
        self.reveals = reveal_for_testing
        self.spill_dir = spill_dir
        self._message = to_json(agreement, indent=None).encode()
        self._key = key
        self._workers = workers
        self._budget_bytes = weight_budget_bytes
        self._encoded: dict[str, EncodedWeights[object]] = {}
        self._encoding = Lock()

    def converse(self, channel: Channel) -> int:
        """Serve one client until it ends the session; returns how many inferences it got.

        Raises:
            ProtocolError: if the client does not follow the protocol.
        """
        greet_as_server(channel, self._key, self._message)
        layers, ot, delta = self._set_up(channel)
        with LayerWorkers(layers, self._workers) as workers:
            session = _Session(self, channel, workers, ot, delta, Spills(self.spill_dir))
            try:
                return session.answer()
            finally:
                session.forget()

    def _set_up(self, channel: Channel) -> tuple[list[ServerLayer], CorrelatedOtSender, bytes]:
        keys = {
            each.he_set.key_parameters: ServerKeys(
                each.he_set, channel.receive(Kind.PUBLIC_KEY, each.message_bytes), each.steps
            )
            for each in key_sets(self.agreement)
        }
        layers, encoded = list[ServerLayer](), self._encode()
        settings = layer_settings(self.agreement)
        for layer in self.agreement.layers:
            chosen, he_set = layer.policy, layer.policy.he_set(self.agreement.security)
            own = keys[he_set.key_parameters]
            he = server_of(chosen, he_set, own, self.agreement.privacy, bound_to_flood(settings[layer.name]))
            layers.append(
                ServerLayer(he, layer.layout, encoded[layer.name], request_sizes(layer), response_sizes(layer))
            )
        delta = garbling.new_delta()
        ot = CorrelatedOtSender(delta)
        channel.send(Kind.BASE_OT, ot.answer_base(channel.receive(Kind.BASE_OT, OFFER_BYTES)))
        return layers, ot, delta

    def _encode(self) -> dict[str, EncodedWeights[object]]:
        """All weights, encoded for the first client that comes: they depend on no key."""
        with self._encoding:
            budget = self._budget_bytes
            for layer in self.agreement.layers if not self._encoded else ():
                chosen, he_set = layer.policy, layer.policy.he_set(self.agreement.security)
                encoder = encoder_of(chosen, he_set)
                size = product_bytes(he_set.n, he_set.limbs)
                made = EncodedWeights(encoder, layer.layout, self.weights[layer.name], size, budget)
                self._encoded[layer.name] = made
                budget -= made.kept_bytes
            return self._encoded


@dataclass(slots=True, eq=False)
class _Run:
    """One phase: its channel, this party's shares, and those of the accumulators in order."""

    channel: TimedChannel
    watches: Watches
    shares: Shares
    accumulators: list[IntArray] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Session:
    """One client's transfers, Delta, its files, and what it has prepared."""

    server: Server
    channel: Channel
    workers: LayerWorkers
    ot: CorrelatedOtSender
    delta: bytes
    spills: Spills
    prepared: deque[tuple[Spill, tuple[LayerTimes, ...]]] = field(default_factory=deque)

    def answer(self) -> int:
        """Command after command; returns how many inferences there were."""
        served = 0
        while (command := self._command()) != END:
            if command in (INFER_REVEALED, SPEND_REVEALED) and not self.server.reveals:
                raise ProtocolError(
                    "the client asked to reveal shares; only a server started with --reveal-for-testing does"
                )
            if command == PREPARE:
                self._prepare()
                continue
            offline: tuple[LayerTimes, ...] = ()
            if command in (INFER, INFER_REVEALED):
                run = self._infer()
            elif command in (SPEND, SPEND_REVEALED):
                run, offline = self._spend()
            else:
                raise ProtocolError(f"the client sent an unknown command {command!r}")
            if command in (INFER_REVEALED, SPEND_REVEALED):
                times = ServerTimes(run.watches.times(), offline)
                for share in run.accumulators:
                    self.channel.send(Kind.REVEALED, share.astype("<i8").tobytes())
                self.channel.send(Kind.TIMES, to_json(times, indent=None).encode())
            served += 1
        return served

    def forget(self) -> None:
        """Delete what is prepared."""
        while self.prepared:
            self.prepared.pop()[0].close()
        self.spills.close()

    def _command(self) -> bytes:
        if not self.prepared:
            return self.channel.receive(Kind.COMMAND, len(END))
        with self.channel.patient(PREPARED_PATIENCE_S):
            return self.channel.receive(Kind.COMMAND, len(END))

    def _run(self) -> _Run:
        watches = Watches()
        return _Run(TimedChannel(self.channel, watches), watches, Shares(self.server.agreement))

    def _infer(self) -> _Run:
        """A whole inference of schedule `online`."""
        run = self._run()
        self._walk(run, self._linear, self._garble)
        self._send_logits(run)
        return run

    def _prepare(self) -> None:
        """All of an inference that needs no input."""
        if len(self.prepared) >= MOST_PREPARED:
            raise ProtocolError(f"the client prepares more than {MOST_PREPARED} inferences; it must use some first")
        run, spill = self._run(), self.spills.take()
        try:
            self._walk(run, partial(self._linear_ahead, spill), partial(self._garble_ahead, spill))
            spill.finish()
        except BaseException:
            spill.close()
            raise
        self.prepared.append((spill, run.watches.times()))

    def _spend(self) -> tuple[_Run, tuple[LayerTimes, ...]]:
        """The rest of the inference that was prepared first; returns its times offline too."""
        if not self.prepared:
            raise ProtocolError("the client asked for an inference that it did not prepare")
        spill, offline = self.prepared.popleft()
        with self.spills.using_up(spill):
            run = self._run()
            sizes = input_bytes(self.server.agreement)
            content = run.channel.receive(Kind.MASKED_INPUT, sum(size for _, size in sizes))
            count = prod(self.server.agreement.input_shape)
            for (modulus, _), part in zip(sizes, split(content, [size for _, size in sizes]), strict=True):
                run.shares.keep(INPUT, unpacked(part, count, modulus), modulus)
            self._walk(run, partial(self._linear_in_clear, spill), partial(self._send_labels, spill))
            self._send_logits(run)
        return run, offline

    def _walk(
        self,
        run: _Run,
        linear: Callable[[_Run, AgreedLayer], None],
        nonlinear: Callable[[_Run, AgreedNonlinear], None],
    ) -> None:
        constants: Mapping[str, IntArray] = self.server.constants
        walk(self.server.agreement, run.shares, partial(linear, run), partial(nonlinear, run), constants)

    def _keep(self, run: _Run, step: AgreedLayer, share: IntArray) -> None:
        """This party's share of an accumulator, (M, H', W') or flat, to which it adds the bias."""
        whole = share.reshape(step.output_shape) + self.server.constants[step.name][:, None, None]
        run.shares.keep(step.name, whole, step.policy.t)
        run.accumulators.append(whole.ravel() % step.policy.t)

    def _linear(self, run: _Run, step: AgreedLayer) -> None:
        """One linear layer on ciphertexts, this party's share of the input added to the client's."""
        kept = self._respond(run, step, run.shares.read(step.source, step.policy.t))
        self._keep(run, step, kept)

    def _respond(self, run: _Run, step: AgreedLayer, own: IntArray | None) -> IntArray:
        run.watches.next_layer()
        sizes = request_sizes(step)
        content = run.channel.receive(Kind.CIPHERTEXTS, sum(sizes))
        with run.watches.current("he_s"):
            responses, kept = self.workers.answer(self.server.places[step.name], split(content, sizes), own)
        run.channel.send(Kind.RESPONSES, *responses)
        return kept

    def _linear_ahead(self, spill: Spill, run: _Run, step: AgreedLayer) -> None:
        """One linear layer on the client's share alone; what masks it is kept for later."""
        kept = self._respond(run, step, None)
        with run.watches.current("spill_s"):
            spill.write(kept.astype("<i8").tobytes())

    def _linear_in_clear(self, spill: Spill, run: _Run, step: AgreedLayer) -> None:
        """One linear layer on this party's share of the input, with what masked the client's result."""
        run.watches.next_layer()
        t = step.policy.t
        kept = np.empty(step.shape.output_values, "<i8")
        with run.watches.current("spill_s"):
            spill.read_into(kept.view(np.uint8).data)
        own = run.shares.read(step.source, t)
        assert own is not None  # noqa: S101 - here the server has a share of every value
        with run.watches.current("clear_s"):
            clear = prepared_layer.clear_linear(step.shape, self.server.weights[step.name], own, t)
            self._keep(run, step, (clear.ravel() + kept) % t)

    def _garble(self, run: _Run, step: AgreedNonlinear) -> None:
        """One nonlinear layer, masked by this party: the mask is its share of what comes out."""
        batches, watch = self.server.circuits.of(step.name, "online"), run.watches.current
        own = run.shares.read(step.source, step.modulus_in)
        kept = np.zeros(prod(step.shape), np.int64) if own is None else own.ravel()
        zero_labels = self._transferred(run, batches)
        with watch("gc_s"):
            values = sum(batch.instances for batch in batches)
            masks = np.stack([random_below(modulus, values) for modulus in step.moduli_out]).astype(np.int64)
        parts = nonlinear_layer.garble(batches, kept, masks, zero_labels, self.delta)
        sizes = nonlinear_layer.part_sizes(batches)
        run.channel.send_parts(Kind.GARBLED, sum(sizes), watch.each("gc_s", parts))
        for modulus, mask in zip(step.moduli_out, masks, strict=True):
            run.shares.keep(step.name, mask, modulus)

    def _transferred(self, run: _Run, batches: tuple[nonlinear_layer.Batch, ...]) -> nonlinear_layer.Labels:
        transfers = sum(batch.transfers for batch in batches)
        columns = run.channel.receive(Kind.OT_COLUMNS, extension_bytes(transfers))
        with run.watches.current("ot_s"):
            return self.ot.extend(columns, transfers)

    def _garble_ahead(self, spill: Spill, run: _Run, step: AgreedNonlinear) -> None:
        """The offline part of one nonlinear layer, masked by the client."""
        batches, watch = self.server.circuits.of(step.name, "preprocessed"), run.watches.current
        zero_labels = self._transferred(run, batches)

        def keep(head: memoryview) -> None:
            with watch("spill_s"):
                spill.write(head)

        parts = prepared_layer.garble(batches, zero_labels, self.delta, keep)
        sizes = prepared_layer.table_sizes(batches)
        run.channel.send_parts(Kind.TABLES, sum(sizes), watch.each("gc_s", parts))

    def _send_labels(self, spill: Spill, run: _Run, step: AgreedNonlinear) -> None:
        """The online part of one nonlinear layer: labels go, colours come, this party decodes its share."""
        batches, watch = self.server.circuits.of(step.name, "preprocessed"), run.watches.current
        own = run.shares.read(step.source, step.modulus_in)
        assert own is not None  # noqa: S101 - as above

        def read(view: memoryview) -> None:
            with watch("spill_s"):
                spill.read_into(view)

        decoder = prepared_layer.Decoder(batches, self.delta, read)
        labels = watch.each("gc_s", decoder.labels(own.ravel()))
        run.channel.send_parts(Kind.SERVER_LABELS, sum(prepared_layer.label_sizes(batches)), labels)
        colours = run.channel.receive(Kind.COLOURS, prepared_layer.colours_bytes(batches))
        with watch("gc_s"):
            found = decoder.decode(colours)
        for modulus, share in zip(step.moduli_out, found, strict=True):
            run.shares.keep(step.name, share, modulus)

    def _send_logits(self, run: _Run) -> None:
        agreement = self.server.agreement
        logits = run.shares.read(agreement.steps[-1].name, agreement.logit_modulus)
        assert logits is not None  # noqa: S101 - at least one layer was checked to be there
        run.channel.send(Kind.LOGIT_SHARE, packed(logits, agreement.logit_modulus))
