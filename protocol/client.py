"""The client of a private inference: one session with one server."""

import logging
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput, InsecureParameters, ProtocolError
from autoprivacy.networks.rounding import to_integers
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.client_steps import ClientSteps, Prepared
from autoprivacy.protocol.conversation import (
    END,
    INFER,
    INFER_REVEALED,
    MAX_TIMES_BYTES,
    MOST_PREPARED,
    PREPARE,
    SPEND,
    SPEND_REVEALED,
    Schedule,
    ServerTimes,
    centred,
    parsed,
)
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.memory import keep_freed_memory
from autoprivacy.protocol.spill import Spills
from autoprivacy.protocol.times import LayerTimes, Watches
from autoprivacy.protocol.transport import Channel, Kind, Route, Traffic, connect, greet_as_client

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of an inference at this party: seconds, by layer and component too, and what passed the channel."""

    latency_s: float
    layers: tuple[LayerTimes, ...]
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Inference:
    """One private inference as the client saw it; `logits` are integers (classes,).

    `online` is from image to logits; `offline`, of schedule `preprocessed` alone, what was done ahead for this image;
    `setup_s` the session's set-up, once for all its inferences.
    """

    logits: IntArray
    online: Phase
    offline: Phase | None
    setup_s: float

    @property
    def latency_s(self) -> float:
        """Seconds from image to logits."""
        return self.online.latency_s

    @property
    def client(self) -> tuple[LayerTimes, ...]:
        """This party's seconds online, by layer."""
        return self.online.layers

    @property
    def bytes_up(self) -> int:
        """Bytes sent online."""
        return self.online.traffic.bytes_sent

    @property
    def bytes_down(self) -> int:
        """Bytes received online."""
        return self.online.traffic.bytes_received


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a server in `--reveal-for-testing` opens after an inference: its times, and the true accumulators."""

    server: tuple[LayerTimes, ...]
    accumulators: dict[str, IntArray]
    server_offline: tuple[LayerTimes, ...] = ()


class _Clock:
    """Measures one phase, from here to `phase`."""

    def __init__(self, channel: Channel) -> None:
        self.watches = Watches()
        self._channel, self._before, self._start = channel, channel.traffic, time.perf_counter()

    def phase(self) -> Phase:
        latency_s = time.perf_counter() - self._start
        return Phase(latency_s, self.watches.times(), self._channel.traffic.since(self._before))


class Client:
    """A private-inference client: connects, authenticates, sets the session up, then infers image after image.

    With schedule `preprocessed` all that needs no image can be done ahead, by `prepare`; what is prepared lies in files
    in `spill_dir` (the system's folder for temporary files by default) until an inference uses it up.

    Raises:
        ProtocolError: no server, another key, or (with `expected`) another network or policy.
        InsecureParameters: HE sets below 128 bits, which only a client that expects them takes.
    """

    def __init__(
        self,
        address: str,
        key: bytes,
        *,
        expected: Agreement | None = None,
        route: Route | None = None,
        schedule: Schedule = "online",
        spill_dir: Path | None = None,
    ) -> None:
        keep_freed_memory()
        self.schedule = schedule
        self._spills = Spills(spill_dir)
        self._prepared: deque[tuple[Prepared, Phase]] = deque()
        self._channel = connect(address, route)
        start = time.perf_counter()
        try:
            message, acceptance = greet_as_client(self._channel, key)
            self.agreement = parsed(Agreement, message, "agreement")
            if expected is not None and self.agreement.digest() != expected.digest():
                raise ProtocolError(  # noqa: TRY301 - whatever fails here must close the channel
                    "the server runs another network or policy than expected; give both sides the same files"
                )
            if expected is None and self.agreement.security == "below":
                raise InsecureParameters(  # noqa: TRY301 - as above
                    "the server runs HE sets below 128 bits, which would not protect this input; it must choose others"
                )
            self._channel.send(Kind.PROOF, acceptance)
            self._steps = ClientSteps(self._channel, self.agreement)
            self._steps.set_up()
        except BaseException:
            self._channel.close()
            raise
        self.setup_s = time.perf_counter() - start
        _LOG.info("session with %s set up in %.3f s, schedule %s", address, self.setup_s, schedule)

    @property
    def prepared(self) -> int:
        """How many inferences are prepared."""
        return len(self._prepared)

    def prepare(self) -> Phase:
        """Do all of one inference that needs no image; the oldest that is prepared is used first.

        Raises:
            BadInput: with schedule `online`, if `MOST_PREPARED` are prepared, or there is no room for it on disk.
        """
        if self.schedule != "preprocessed":
            raise BadInput(f"schedule `{self.schedule}` prepares nothing; connect with schedule `preprocessed`")
        if self.prepared >= MOST_PREPARED:
            raise BadInput(f"{MOST_PREPARED} inferences are prepared, the most a server keeps; infer first")
        prepared, phase, _ = self._prepare()
        self._prepared.append((prepared, phase))
        return phase

    def infer(self, image: NDArray[np.floating]) -> Inference:
        """Infer one image (C, H, W) of floats; only its logits become known, and only here.

        With schedule `preprocessed` what was prepared first is used, or else is prepared now.

        Raises:
            BadInput: if the image does not fit.
        """
        pixels = self._pixels(image)
        if self.schedule == "online":
            return self._infer(pixels, INFER)[0]
        prepared, offline = self._prepared.popleft() if self._prepared else self._prepare()[:2]
        return self._spend(prepared, offline, pixels, SPEND)

    def infer_revealed(self, image: NDArray[np.floating]) -> tuple[Inference, Revealed]:
        """As `infer`; afterwards a server that was started for testing opens its shares and its times.

        Raises:
            BadInput: if the image does not fit, or something else is prepared.
        """
        pixels = self._pixels(image)
        if self._prepared:
            raise BadInput("shares are revealed of what is prepared for it alone; use up what is prepared first")
        if self.schedule == "online":
            inference, own = self._infer(pixels, INFER_REVEALED)
        else:
            prepared, offline, own = self._prepare()
            inference = self._spend(prepared, offline, pixels, SPEND_REVEALED)
        accumulators = {}
        for layer, mine in zip(self.agreement.layers, own, strict=True):
            theirs = np.frombuffer(self._channel.receive(Kind.REVEALED, 8 * len(mine)), "<i8")
            accumulators[layer.name] = centred(mine + theirs, layer.policy.t)
        times = parsed(ServerTimes, self._channel.receive_at_most(Kind.TIMES, MAX_TIMES_BYTES), "times")
        return inference, Revealed(times.layers, accumulators, times.offline)

    def _pixels(self, image: NDArray[np.floating]) -> IntArray:
        """The quantised image."""
        agreement = self.agreement
        if image.shape != agreement.input_shape or not np.isfinite(image).all():
            raise BadInput(f"the network takes finite images of shape {agreement.input_shape}, got {image.shape}")
        return to_integers(image / agreement.input_step, *agreement.input_range)

    def _infer(self, pixels: IntArray, command: bytes) -> tuple[Inference, list[IntArray]]:
        clock = _Clock(self._channel)
        self._channel.send(Kind.COMMAND, command)
        logits, accumulators = self._steps.online(pixels, clock.watches)
        return Inference(logits, clock.phase(), None, self.setup_s), accumulators

    def _prepare(self) -> tuple[Prepared, Phase, list[IntArray]]:
        spill = self._spills.take()
        try:
            clock = _Clock(self._channel)
            self._channel.send(Kind.COMMAND, PREPARE)
            prepared, accumulators = self._steps.offline(spill, clock.watches)
        except BaseException:
            spill.close()
            raise
        return prepared, clock.phase(), accumulators

    def _spend(self, prepared: Prepared, offline: Phase, pixels: IntArray, command: bytes) -> Inference:
        with self._spills.using_up(prepared.spill):
            clock = _Clock(self._channel)
            self._channel.send(Kind.COMMAND, command)
            logits = self._steps.spend(prepared, pixels, clock.watches)
            return Inference(logits, clock.phase(), offline, self.setup_s)

    def close(self) -> None:
        """End the session; what is prepared is deleted."""
        try:
            self._channel.send(Kind.COMMAND, END)
        finally:
            self._end()

    def _end(self) -> None:
        while self._prepared:
            self._prepared.pop()[0].spill.close()
        self._spills.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._end()
