"""The two-party session, schedule `online` [Gazelle]: what each side does, in order (docs/protocol.md)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput, InsecureParameters, ProtocolError
from autoprivacy.common.records import parse, record, to_json
from autoprivacy.networks.graph import INPUT
from autoprivacy.networks.integer_network import IntegerLinear, IntegerSum, QuantisedNetwork
from autoprivacy.networks.rounding import to_integers
from autoprivacy.protocol import _native, garbling, linear_layer, nonlinear_layer
from autoprivacy.protocol.agreement import AgreedLayer, AgreedNonlinear, Agreement
from autoprivacy.protocol.encoded_weights import EncodedWeights, product_bytes
from autoprivacy.protocol.error_model import bound_to_flood, layer_settings
from autoprivacy.protocol.layer_workers import LayerWorkers, ServerLayer, split
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.nonlinear_circuits import width_of
from autoprivacy.protocol.nonlinear_layer import batches_of
from autoprivacy.protocol.oblivious_transfer import (
    ANSWER_BYTES,
    OFFER_BYTES,
    CorrelatedOtReceiver,
    CorrelatedOtSender,
    extension_bytes,
)
from autoprivacy.protocol.parties import client_of, server_of
from autoprivacy.protocol.plan import key_sets, opened_bytes
from autoprivacy.protocol.randomness import random_below
from autoprivacy.protocol.seal_he import SealClient
from autoprivacy.protocol.seal_keys import ClientKeys, ServerKeys
from autoprivacy.protocol.share_steps import Shares
from autoprivacy.protocol.transport import Channel, Kind, Route, connect, greet_as_client, greet_as_server, unpack_words
from autoprivacy.protocol.wire import ciphertext_bytes, response_bytes

WEIGHT_BUDGET_BYTES = 4 << 30
"""What encoded weights may take in memory, unless told otherwise."""

END, INFER, INFER_REVEALED = b"\0", b"\1", b"\2"
MAX_TIMES_BYTES = 1 << 16
T = TypeVar("T")


@record
class LayerTimes:
    """Seconds of one party in one layer, by component; what it does not do is 0."""

    he_s: float
    ot_s: float
    gc_s: float


@record
class _ServerTimes:
    layers: tuple[LayerTimes, ...]


@dataclass
class _Stopwatch:
    """Adds up seconds by component."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("he_s", "ot_s", "gc_s"), 0.0))

    @contextmanager
    def __call__(self, component: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[component] += time.perf_counter() - start

    def times(self) -> LayerTimes:
        return LayerTimes(**self.seconds)


class _Watches:
    """A stopwatch a linear layer; what runs after it and before the next one is timed with it."""

    def __init__(self) -> None:
        self._started: list[_Stopwatch] = []

    def next_layer(self) -> _Stopwatch:
        self._started.append(_Stopwatch())
        return self._started[-1]

    @property
    def current(self) -> _Stopwatch:
        return self._started[-1] if self._started else self.next_layer()

    def times(self) -> tuple[LayerTimes, ...]:
        return tuple(watch.times() for watch in self._started)


@dataclass(frozen=True, slots=True)
class Inference:
    """One private inference as the client saw it; `logits` are integers (classes,)."""

    logits: IntArray
    latency_s: float
    client: tuple[LayerTimes, ...]
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a server in `--reveal-for-testing` opens after an inference: its times, and the true accumulators."""

    server: tuple[LayerTimes, ...]
    accumulators: dict[str, IntArray]


def _request_sizes(layer: AgreedLayer) -> list[int]:
    size = ciphertext_bytes(layer.policy.n, layer.policy.limbs)
    return [size] * layer.layout.inputs


def _response_sizes(layer: AgreedLayer) -> list[int]:
    chosen = layer.policy
    return [
        response_bytes(chosen.n, chosen.limbs, sent, chosen.response) for sent in layer.layout.response_sizes.tolist()
    ]


def _centred(values: IntArray, t: int) -> IntArray:
    return (values + t // 2) % t - t // 2


class Server:
    """The weights of one network, encoded once per client key, and the conversation with one client at a time.

    Linear layers are split among so many `workers`; encoded weights beyond a budget are encoded whenever they are used.
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
    ) -> None:
        self._weights = {layer.name: layer.weight for layer in network.linear_layers}
        self._constants = {
            operation.name: operation.bias
            for operation in network.operations
            if isinstance(operation, IntegerLinear | IntegerSum)
        }
        self._agreement = agreement
        self._message = to_json(agreement, indent=None).encode()
        self._key = key
        self._reveal = reveal_for_testing
        self._workers = workers
        self._weight_budget_bytes = weight_budget_bytes
        self._batches = {step.name: batches_of(step) for step in agreement.nonlinears}

    def converse(self, channel: Channel) -> int:
        """Serve one client until it ends the session; returns how many inferences it got.

        Raises:
            ProtocolError: if the client does not follow the protocol.
        """
        greet_as_server(channel, self._key, self._message)
        layers, ot, delta = self._set_up(channel)
        with LayerWorkers(layers, self._workers) as workers:
            return self._answer(channel, workers, ot, delta)

    def _answer(self, channel: Channel, workers: LayerWorkers, ot: CorrelatedOtSender, delta: bytes) -> int:
        """Inference after inference; returns how many."""
        served = 0
        while (command := channel.receive(Kind.COMMAND, len(END))) != END:
            if command not in (INFER, INFER_REVEALED):
                raise ProtocolError(f"the client sent an unknown command {command!r}")
            if command == INFER_REVEALED and not self._reveal:
                raise ProtocolError(
                    "the client asked to reveal shares; only a server started with --reveal-for-testing does"
                )
            accumulators, times = self._infer(channel, workers, ot, delta)
            if command == INFER_REVEALED:
                for share in accumulators:
                    channel.send(Kind.REVEALED, share.astype("<i8").tobytes())
                channel.send(Kind.TIMES, to_json(_ServerTimes(times), indent=None).encode())
            served += 1
        return served

    def _infer(
        self, channel: Channel, workers: LayerWorkers, ot: CorrelatedOtSender, delta: bytes
    ) -> tuple[list[IntArray], tuple[LayerTimes, ...]]:
        """One inference; returns this party's share of every linear layer's accumulators, and its times."""
        agreement, shares, watches = self._agreement, Shares(self._agreement), _Watches()
        accumulators: list[IntArray] = []
        for step in agreement.steps:
            if isinstance(step, AgreedLayer):
                watch = watches.next_layer()
                sizes = _request_sizes(step)
                content = channel.receive(Kind.CIPHERTEXTS, sum(sizes))
                with watch("he_s"):
                    own = shares.read(step.source, step.policy.t)
                    responses, kept = workers.answer(len(accumulators), split(content, sizes), own)
                    kept = kept.reshape(step.output_shape) + self._constants[step.name][:, None, None]
                    shares.keep(step.name, kept, step.policy.t)
                channel.send(Kind.RESPONSES, *responses)
                accumulators.append(kept % step.policy.t)
            elif isinstance(step, AgreedNonlinear):
                self._garble(channel, step, shares, watches.current, ot, delta)
            else:
                shares.take(step, self._constants.get(step.name))
        logits = shares.read(agreement.steps[-1].name, agreement.logit_modulus)
        assert logits is not None  # noqa: S101 - at least one layer was checked to be there
        width = width_of(agreement.logit_modulus)
        channel.send(Kind.LOGIT_SHARE, _native.pack_bits(logits.ravel().astype(np.uint64), width))
        return accumulators, watches.times()

    def _garble(
        self,
        channel: Channel,
        step: AgreedNonlinear,
        shares: Shares,
        watch: "_Stopwatch",
        ot: CorrelatedOtSender,
        delta: bytes,
    ) -> None:
        """One nonlinear layer; this party's share of what comes out is its mask."""
        batches, own = self._batches[step.name], shares.read(step.source, step.modulus_in)
        kept = np.zeros(prod(step.shape), np.int64) if own is None else own.ravel()
        transfers = sum(batch.transfers for batch in batches)
        columns = channel.receive(Kind.OT_COLUMNS, extension_bytes(transfers))
        with watch("ot_s"):
            zero_labels = ot.extend(columns, transfers)
        with watch("gc_s"):
            values = sum(batch.instances for batch in batches)
            masks = np.stack([random_below(modulus, values) for modulus in step.moduli_out]).astype(np.int64)
            message = nonlinear_layer.garble(batches, kept, masks, zero_labels, delta)
        channel.send(Kind.GARBLED, message)
        for modulus, mask in zip(step.moduli_out, masks, strict=True):
            shares.keep(step.name, mask, modulus)

    def _set_up(self, channel: Channel) -> tuple[list[ServerLayer], CorrelatedOtSender, bytes]:
        keys = {
            each.he_set.key_parameters: ServerKeys(
                each.he_set, channel.receive(Kind.PUBLIC_KEY, each.message_bytes), each.steps
            )
            for each in key_sets(self._agreement)
        }
        layers, budget = list[ServerLayer](), self._weight_budget_bytes
        settings = layer_settings(self._agreement)
        for layer in self._agreement.layers:
            chosen, he_set = layer.policy, layer.policy.he_set(self._agreement.security)
            own = keys[he_set.key_parameters]
            he = server_of(chosen, he_set, own, self._agreement.privacy, bound_to_flood(settings[layer.name]))
            weights = EncodedWeights(
                he, layer.layout, self._weights[layer.name], product_bytes(he_set.n, he_set.limbs), budget
            )
            budget -= weights.kept_bytes
            layers.append(ServerLayer(he, layer.layout, weights, _request_sizes(layer), _response_sizes(layer)))
        delta = garbling.new_delta()
        ot = CorrelatedOtSender(delta)
        channel.send(Kind.BASE_OT, ot.answer_base(channel.receive(Kind.BASE_OT, OFFER_BYTES)))
        return layers, ot, delta


def _parse(kind: type[T], message: bytes, what: str) -> T:
    """A record that the server sent."""
    try:
        return parse(kind, message, source=f"the server's {what}")
    except BadInput as error:
        raise ProtocolError(f"{error}; it runs another version") from None


class Client:
    """A private-inference client: connects, authenticates, sets the session up, then infers image after image.

    Raises:
        ProtocolError: no server, another key, or (with `expected`) another network or policy.
        InsecureParameters: HE sets below 128 bits, which only a client that expects them takes.
    """

    def __init__(
        self, address: str, key: bytes, *, expected: Agreement | None = None, route: Route | None = None
    ) -> None:
        self._channel = connect(address, route)
        start = time.perf_counter()
        try:
            message, acceptance = greet_as_client(self._channel, key)
            self.agreement = _parse(Agreement, message, "agreement")
            if expected is not None and self.agreement.digest() != expected.digest():
                raise ProtocolError(  # noqa: TRY301 - whatever fails here must close the channel
                    "the server runs another network or policy than expected; give both sides the same files"
                )
            if expected is None and self.agreement.security == "below":
                raise InsecureParameters(  # noqa: TRY301 - as above
                    "the server runs HE sets below 128 bits, which would not protect this input; it must choose others"
                )
            self._channel.send(Kind.PROOF, acceptance)
            self._set_up()
        except BaseException:
            self._channel.close()
            raise
        self.setup_s = time.perf_counter() - start

    def _set_up(self) -> None:
        keys = {}
        for each in key_sets(self.agreement):
            keys[each.he_set.key_parameters] = own = ClientKeys.generate(each.he_set)
            self._channel.send(Kind.PUBLIC_KEY, own.public_message(each.steps))
        self._parties = []
        for layer in self.agreement.layers:
            chosen, he_set = layer.policy, layer.policy.he_set(self.agreement.security)
            own = keys[he_set.key_parameters]
            self._parties.append(client_of(chosen, he_set, own))
        self._batches = {step.name: batches_of(step) for step in self.agreement.nonlinears}
        self._ot = CorrelatedOtReceiver()
        self._channel.send(Kind.BASE_OT, self._ot.offer_base())
        self._ot.finish_base(self._channel.receive(Kind.BASE_OT, ANSWER_BYTES))

    def infer(self, image: NDArray[np.floating]) -> Inference:
        """Infer one image (C, H, W) of floats; only its logits become known, and only here."""
        return self._infer(image, INFER)[0]

    def infer_revealed(self, image: NDArray[np.floating]) -> tuple[Inference, Revealed]:
        """As `infer`; afterwards a server that was started for testing opens its shares and its times."""
        inference, own = self._infer(image, INFER_REVEALED)
        accumulators = {}
        for layer, mine in zip(self.agreement.layers, own, strict=True):
            theirs = np.frombuffer(self._channel.receive(Kind.REVEALED, 8 * len(mine)), "<i8")
            accumulators[layer.name] = _centred(mine + theirs, layer.policy.t)
        times = _parse(_ServerTimes, self._channel.receive_at_most(Kind.TIMES, MAX_TIMES_BYTES), "times")
        return inference, Revealed(times.layers, accumulators)

    def _infer(self, image: NDArray[np.floating], command: bytes) -> tuple[Inference, list[IntArray]]:
        agreement, channel = self.agreement, self._channel
        if image.shape != agreement.input_shape or not np.isfinite(image).all():
            raise BadInput(f"the network takes finite images of shape {agreement.input_shape}, got {image.shape}")
        sent, received = channel.bytes_sent, channel.bytes_received
        start = time.perf_counter()
        channel.send(Kind.COMMAND, command)
        shares, watches = Shares(agreement), _Watches()
        pixels = to_integers(image / agreement.input_step, *agreement.input_range)
        for modulus in shares.moduli[INPUT]:
            shares.keep(INPUT, pixels, modulus)
        accumulators: list[IntArray] = []
        for step in agreement.steps:
            if isinstance(step, AgreedLayer):
                accumulators.append(self._linear(self._parties[len(accumulators)], step, shares, watches.next_layer()))
            elif isinstance(step, AgreedNonlinear):
                self._evaluate(step, shares, watches.current)
            else:
                shares.take(step)
        logits = self._logits(shares)
        latency = time.perf_counter() - start
        inference = Inference(
            logits=logits,
            latency_s=latency,
            client=watches.times(),
            bytes_up=channel.bytes_sent - sent,
            bytes_down=channel.bytes_received - received,
        )
        return inference, accumulators

    def _linear(self, he: SealClient, step: AgreedLayer, shares: Shares, watch: "_Stopwatch") -> IntArray:
        """One linear layer; returns this party's share of the accumulators, flat."""
        channel = self._channel
        own = shares.read(step.source, step.policy.t)
        assert own is not None  # noqa: S101 - the client has a share of every value
        with watch("he_s"):
            requests = linear_layer.request(he, step.layout, own)
        channel.send(Kind.CIPHERTEXTS, *requests)
        sizes = _response_sizes(step)
        content = channel.receive(Kind.RESPONSES, sum(sizes))
        with watch("he_s"):
            opened = linear_layer.finish(he, step.layout, split(content, sizes))
        shares.keep(step.name, opened, step.policy.t)
        return opened

    def _evaluate(self, step: AgreedNonlinear, shares: Shares, watch: "_Stopwatch") -> None:
        """One nonlinear layer."""
        channel, batches = self._channel, self._batches[step.name]
        own = shares.read(step.source, step.modulus_in)
        assert own is not None  # noqa: S101 - as above
        with watch("ot_s"):
            columns, labels = self._ot.extend(nonlinear_layer.choices(batches, own.ravel()))
        channel.send(Kind.OT_COLUMNS, columns)
        message = channel.receive(Kind.GARBLED, sum(batch.message_bytes for batch in batches))
        with watch("gc_s"):
            found = nonlinear_layer.evaluate(batches, labels, message)
        for modulus, share in zip(step.moduli_out, found, strict=True):
            shares.keep(step.name, share, modulus)

    def _logits(self, shares: Shares) -> IntArray:
        """The logits (classes,), opened with the server's share."""
        agreement = self.agreement
        t = agreement.logit_modulus
        own = shares.read(agreement.steps[-1].name, t)
        assert own is not None  # noqa: S101 - as above
        packed = self._channel.receive(Kind.LOGIT_SHARE, opened_bytes(agreement))
        theirs = unpack_words(packed, width_of(t), own.size).astype(np.int64)
        return _centred(own.ravel() + theirs, t)

    def close(self) -> None:
        """End the session."""
        try:
            self._channel.send(Kind.COMMAND, END)
        finally:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._channel.close()
