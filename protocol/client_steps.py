"""What the client does in a session, phase by phase: a whole inference, or its offline and its online part."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from autoprivacy.networks.graph import INPUT
from autoprivacy.protocol import linear_layer, nonlinear_layer, prepared_layer
from autoprivacy.protocol.agreement import AgreedLayer, AgreedNonlinear, Agreement
from autoprivacy.protocol.conversation import (
    Circuits,
    centred,
    packed,
    packed_bytes,
    response_sizes,
    unpacked,
    walk,
)
from autoprivacy.protocol.garbling import LABEL_BYTES
from autoprivacy.protocol.layer_workers import split
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.oblivious_transfer import ANSWER_BYTES, CorrelatedOtReceiver
from autoprivacy.protocol.parties import client_of
from autoprivacy.protocol.plan import key_sets
from autoprivacy.protocol.randomness import random_below
from autoprivacy.protocol.seal_he import SealClient
from autoprivacy.protocol.seal_keys import ClientKeys
from autoprivacy.protocol.share_steps import Shares
from autoprivacy.protocol.spill import Spill
from autoprivacy.protocol.times import TimedChannel, Watches
from autoprivacy.protocol.transport import Channel, Kind


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What the client keeps of one prepared inference: on disk its labels and the tables of every nonlinear layer.

    `masks` are those of the input by modulus, `logits` its share of them.
    """

    spill: Spill
    masks: dict[int, IntArray]
    logits: IntArray


@dataclass(slots=True, eq=False)
class _Run:
    """One phase: its channel, this party's shares, and those of the accumulators in order."""

    channel: TimedChannel
    watches: Watches
    shares: Shares
    accumulators: list[IntArray] = field(default_factory=list)

    def share(self, name: str, modulus: int) -> IntArray:
        own = self.shares.read(name, modulus)
        assert own is not None  # noqa: S101 - the client has a share of every value
        return own


class ClientSteps:
    """One session's keys and transfers, made in `set_up`, and what is done with them."""

    def __init__(self, channel: Channel, agreement: Agreement) -> None:
        self._channel, self._agreement = channel, agreement
        self._circuits = Circuits(agreement)
        self._ot = CorrelatedOtReceiver()
        self.parties: list[SealClient] = []

    def set_up(self) -> None:
        """Make keys, send the public ones, do the base transfers."""
        agreement, channel, keys = self._agreement, self._channel, {}
        for each in key_sets(agreement):
            keys[each.he_set.key_parameters] = own = ClientKeys.generate(each.he_set)
            channel.send(Kind.PUBLIC_KEY, own.public_message(each.steps))
        for layer in agreement.layers:
            he_set = layer.policy.he_set(agreement.security)
            self.parties.append(client_of(layer.policy, he_set, keys[he_set.key_parameters]))
        channel.send(Kind.BASE_OT, self._ot.offer_base())
        self._ot.finish_base(channel.receive(Kind.BASE_OT, ANSWER_BYTES))

    def online(self, pixels: IntArray, watches: Watches) -> tuple[IntArray, list[IntArray]]:
        """A whole inference of schedule `online`; returns the logits and this party's shares of accumulators."""
        run = self._run(watches)
        for modulus in run.shares.moduli[INPUT]:
            run.shares.keep(INPUT, pixels, modulus)
        walk(self._agreement, run.shares, partial(self._linear, run), partial(self._evaluate, run))
        return self._open(run.channel, self._logits(run)), run.accumulators

    def offline(self, spill: Spill, watches: Watches) -> tuple[Prepared, list[IntArray]]:
        """All of an inference that needs no input; returns what is kept, and this party's shares of accumulators."""
        run = self._run(watches)
        count = int(np.prod(self._agreement.input_shape))
        masks = {modulus: random_below(modulus, count).astype(np.int64) for modulus in run.shares.moduli[INPUT]}
        for modulus, mask in masks.items():
            run.shares.keep(INPUT, mask, modulus)
        walk(self._agreement, run.shares, partial(self._linear, run), partial(self._take_tables, run, spill))
        spill.finish()
        return Prepared(spill, masks, self._logits(run)), run.accumulators

    def spend(self, prepared: Prepared, pixels: IntArray, watches: Watches) -> IntArray:
        """The rest of a prepared inference; returns the logits."""
        run = self._run(watches)
        masked = [packed((pixels.ravel() - mask) % modulus, modulus) for modulus, mask in prepared.masks.items()]
        run.channel.send(Kind.MASKED_INPUT, *masked)
        for step in self._agreement.steps:
            if isinstance(step, AgreedLayer):
                watches.next_layer()
            elif isinstance(step, AgreedNonlinear):
                self._answer_labels(run, prepared.spill, step)
        return self._open(run.channel, prepared.logits)

    def _run(self, watches: Watches) -> _Run:
        return _Run(TimedChannel(self._channel, watches), watches, Shares(self._agreement))

    def _linear(self, run: _Run, step: AgreedLayer) -> None:
        """One linear layer on ciphertexts of this party's share."""
        run.watches.next_layer()
        he = self.parties[len(run.accumulators)]
        with run.watches.current("he_s"):
            requests = linear_layer.request(he, step.layout, run.share(step.source, step.policy.t))
        run.channel.send(Kind.CIPHERTEXTS, *requests)
        sizes = response_sizes(step)
        content = run.channel.receive(Kind.RESPONSES, sum(sizes))
        with run.watches.current("he_s"):
            opened = linear_layer.finish(he, step.layout, split(content, sizes))
        run.shares.keep(step.name, opened, step.policy.t)
        run.accumulators.append(opened)

    def _evaluate(self, run: _Run, step: AgreedNonlinear) -> None:
        """One nonlinear layer, masked by the server."""
        batches, watch = self._circuits.of(step.name, "online"), run.watches.current
        with watch("ot_s"):
            own = run.share(step.source, step.modulus_in).ravel()
            columns, labels = self._ot.extend(nonlinear_layer.choices(batches, own))
        run.channel.send(Kind.OT_COLUMNS, columns)
        parts = run.channel.receive_parts(Kind.GARBLED, nonlinear_layer.part_sizes(batches))
        with watch("gc_s"):
            found = nonlinear_layer.evaluate(batches, labels, parts)
        for modulus, share in zip(step.moduli_out, found, strict=True):
            run.shares.keep(step.name, share, modulus)

    def _take_tables(self, run: _Run, spill: Spill, step: AgreedNonlinear) -> None:
        """The offline part of one nonlinear layer, masked by this party: the mask is its share of what comes out."""
        batches, watch = self._circuits.of(step.name, "preprocessed"), run.watches.current
        with watch("ot_s"):
            own = run.share(step.source, step.modulus_in).ravel()
            values = sum(batch.instances for batch in batches)
            masks = np.stack([random_below(modulus, values) for modulus in step.moduli_out]).astype(np.int64)
            columns, labels = self._ot.extend(nonlinear_layer.choices(batches, own, masks))
        run.channel.send(Kind.OT_COLUMNS, columns)
        with watch("spill_s"):
            spill.write(labels.data)
            for part in run.channel.receive_parts(Kind.TABLES, prepared_layer.table_sizes(batches)):
                spill.write(part)
        for modulus, mask in zip(step.moduli_out, masks, strict=True):
            run.shares.keep(step.name, mask, modulus)

    def _answer_labels(self, run: _Run, spill: Spill, step: AgreedNonlinear) -> None:
        """The online part of one nonlinear layer: evaluate, and send the colours of what comes out."""
        batches, watch = self._circuits.of(step.name, "preprocessed"), run.watches.current

        def read(view: memoryview) -> None:
            with watch("spill_s"):
                spill.read_into(view)

        labels = np.empty((sum(batch.transfers for batch in batches), LABEL_BYTES), np.uint8)
        read(labels.reshape(-1).data)
        sent = run.channel.receive_parts(Kind.SERVER_LABELS, prepared_layer.label_sizes(batches))
        with watch("gc_s"):
            colours = prepared_layer.evaluate(batches, labels, sent, read)
        run.channel.send(Kind.COLOURS, colours)

    def _logits(self, run: _Run) -> IntArray:
        """This party's share of them, flat."""
        return run.share(self._agreement.steps[-1].name, self._agreement.logit_modulus).ravel()

    def _open(self, channel: TimedChannel, own: IntArray) -> IntArray:
        """The logits (classes,), opened with the server's share."""
        t = self._agreement.logit_modulus
        theirs = unpacked(channel.receive(Kind.LOGIT_SHARE, packed_bytes(own.size, t)), own.size, t)
        return centred(own + theirs, t)
