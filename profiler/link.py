"""Measure the link to another process: round trips, throughput each way and both at once, cost of a message.

A trial sends frames in a row and waits for an empty answer; the round trip is taken off. Each size is repeated by
netperf's rule [netperf]: until the 99 % interval lies within 5 % in all, or the time for it is spent, which is said.

`python -m autoprivacy.profiler.link` is the other process of a loopback; the key comes on its standard input.
"""

import datetime as dt
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import numpy as np

from autoprivacy.common.errors import ProtocolError
from autoprivacy.common.records import to_json
from autoprivacy.hwprofiles.link_profile import (
    LinkHeader,
    LinkProfile,
    LinkSummary,
    RoundTrips,
    SlowStart,
    TransferSample,
)
from autoprivacy.profiler.link_protocol import (
    MAX_MESSAGES,
    MAX_PROFILE_BYTES,
    MAX_TRIAL_BYTES,
    OFFER,
    Command,
    exchange_frames,
    receive_frames,
    send_command,
    send_frames,
    serve_profiles,
)
from autoprivacy.profiler.linked_circuits import BATCHES, Evaluator, batch_bytes, batch_of
from autoprivacy.profiler.statistics import dispersion, median_interval, quiet, typical
from autoprivacy.protocol.memory import keep_freed_memory
from autoprivacy.protocol.transport import KEY_BYTES, Channel, Kind, Route, connect, greet_as_client

LEVEL: Final = 0.99
WITHIN: Final = 0.05
SIZES: Final = (64, 1024, 16384, 1 << 18, 1 << 20, 4 << 20, 64 << 20)
QUICK_SIZES: Final = (64, 65536, 1 << 20)
TRIAL_S: Final = 0.01
TRIAL_ROUND_TRIPS: Final = 4
LEAST_TRIALS: Final = 9
WARM_UP: Final = 2
SLOW: Final = 10
"""Beyond so many times its budget a setting gets three trials."""

MOST_TRIALS: Final = 2000
PATIENCE_S: Final = 600.0
"""How long a peer of our own may be silent: while others are measured, or take their turns, it has nothing to do."""

SHARES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SLOW_START_BYTES: Final = 1 << 20
BUDGET_S: Final = {"quick": 0.12, "standard": 0.5, "full": 2.0}
STEPS: Final = {
    depth: 2 + 3 * len(QUICK_SIZES if depth == "quick" else SIZES) + len(BATCHES[depth]) for depth in BUDGET_S
}
"""How often a measurement advances its progress."""


@dataclass(frozen=True, slots=True)
class Trials:
    """Seconds of repeated trials, and whether netperf's rule was met."""

    seconds: tuple[float, ...]
    low_s: float
    high_s: float
    converged: bool


def repeat(trial: Callable[[], float], budget_s: float, clock: Callable[[], float] = time.monotonic) -> Trials:
    """Repeat until the 99 % interval of the median is at most 5 % of it wide, or the budget is spent."""
    started, seconds = clock(), list[float]()
    while True:
        seconds.append(trial())
        spent_s = clock() - started
        if len(seconds) < LEAST_TRIALS and (len(seconds) < 3 or spent_s < SLOW * budget_s):
            continue
        interval = median_interval(seconds, level=LEVEL)
        low, high = interval or (min(seconds), max(seconds))
        met = interval is not None and high - low <= WITHIN * typical(seconds)
        if met or spent_s >= budget_s or len(seconds) >= MOST_TRIALS:
            return Trials(tuple(seconds), low, high, met)


class LinkMeter:
    """One authenticated connection to a peer that only profiles."""

    def __init__(self, address: str, key: bytes, route: Route | None = None) -> None:
        keep_freed_memory()
        self.channel: Channel = connect(address, route)
        try:
            offer, acceptance = greet_as_client(self.channel, key)
            if offer != OFFER:
                raise ProtocolError(  # noqa: TRY301 - whatever fails here must close the channel
                    "the peer serves a network; start it with `autoprivacy serve --profile-only` to measure the link"
                )
            self.channel.send(Kind.PROOF, acceptance)
        except BaseException:
            self.channel.close()
            raise
        self.round_trip_s = 0.0
        self.evaluator = Evaluator(self.channel)

    def run(self, command: Command) -> float:
        """Seconds of one command, to the server's empty answer."""
        start = time.perf_counter()
        send_command(self.channel, command)
        if command.do == "up":
            send_frames(self.channel, command)
        elif command.do == "down":
            receive_frames(self.channel, command)
        elif command.do == "both":
            exchange_frames(self.channel, command)
        elif command.do == "circuits":
            self.evaluator.batch(command.circuit, command.instances)
        elif command.do == "transfers":
            self.evaluator.transfers(command.instances)
        self.channel.receive(Kind.RESPONSES, 0)
        return time.perf_counter() - start

    def round_trips(self, budget_s: float) -> Trials:
        """Round trips of a small frame and its empty answer."""
        return repeat(lambda: self.run(Command("up")), budget_s)

    def transfers(self, direction: str, size: int, budget_s: float) -> TransferSample:
        """One message size in one direction."""
        command = Command(direction, size, 1)  # type: ignore[arg-type] # up, down or both
        messages, least_s = 1, max(TRIAL_S, TRIAL_ROUND_TRIPS * self.round_trip_s)
        while (spent := min(self.run(command) for _ in range(2))) < least_s:
            at_most = max(1, min(MAX_MESSAGES, MAX_TRIAL_BYTES // max(1, size)))
            if messages >= at_most:
                break
            messages = min(at_most, max(messages + 1, int(messages * min(16.0, 1.2 * least_s / spent))))
            command = Command(direction, size, messages)  # type: ignore[arg-type] # as above
        found = repeat(lambda: self._less_round_trip(self.run(command)) / messages, budget_s)
        return _sample(direction, size, messages, found)

    def circuits(self, circuit: int, instances: int, budget_s: float) -> TransferSample:
        """A batch of garbled circuits, from the client's choices to its last answer, as one message."""
        command = Command("circuits", circuit=circuit, instances=instances)
        for _ in range(WARM_UP):  # base transfers are not part of it
            self.run(command)
        found = repeat(lambda: self.run(command), budget_s)
        return _sample("circuits", batch_bytes(batch_of(circuit, instances)), 1, found)

    def _less_round_trip(self, seconds: float) -> float:
        """What is left of a trial; a round trip above half of it is the machine's doing, not the link's."""
        return max(seconds / 2, seconds - self.round_trip_s)

    def peer_profile(self) -> bytes:
        """The peer's machine profile, as exported; empty if it offers none."""
        send_command(self.channel, Command("profile"))
        return self.channel.receive_at_most(Kind.TIMES, MAX_PROFILE_BYTES)

    def close(self) -> None:
        """End the conversation."""
        with suppress(ProtocolError):
            send_command(self.channel, Command("end"))
        self.channel.close()


def measure_link(
    meter: LinkMeter, name: str, depth: str, advance: Callable[[], None], *, route: Route | None, loopback: bool
) -> LinkProfile:
    """Everything of a link; ids of machine profiles are filled in by who knows them."""
    budget_s = BUDGET_S[depth]
    first_s = meter.run(Command("up", SLOW_START_BYTES, 1))
    later_s = typical([meter.run(Command("up", SLOW_START_BYTES, 1)) for _ in range(5)])
    advance()
    trips = meter.round_trips(4 * budget_s)
    meter.round_trip_s = typical(trips.seconds)
    advance()
    samples = []
    for direction in ("up", "down", "both"):
        for size in QUICK_SIZES if depth == "quick" else SIZES:
            samples.append(meter.transfers(direction, size, budget_s))
            advance()
    for circuit, instances in BATCHES[depth]:
        samples.append(meter.circuits(circuit, instances, budget_s))
        advance()
    samples.append(_sample("round_trip", 0, 1, trips))
    emulated = route is not None and route.emulated is not None
    digest = hashlib.sha256(to_json(samples, indent=None).encode()).hexdigest()
    header = LinkHeader(
        schema_version=1,
        id=digest[:16],
        name=name,
        kind="emulated" if emulated else "measured",
        measured_on=dt.datetime.now(dt.UTC).date().isoformat(),
        source="between two processes" + (" over an emulated link" if emulated else ""),
        client_profile="",
        server_profile="",
        loopback=loopback,
        tls=route is not None and route.tls is not None,
        congestion_control=meter.channel.congestion_control,
        summary=summary(samples, meter.round_trip_s),
        round_trips=RoundTrips(
            len(trips.seconds), tuple((share, float(np.quantile(trips.seconds, share))) for share in SHARES)
        ),
        slow_start=SlowStart(SLOW_START_BYTES, first_s, later_s),
        converged=all(sample.converged for sample in samples),
    )
    return LinkProfile(header, tuple(samples))


def summary(samples: list[TransferSample], round_trip_s: float) -> LinkSummary:
    """What models read: the best rate of each way, and what the smallest message costs."""

    def of(direction: str) -> list[TransferSample]:
        return [sample for sample in samples if sample.direction == direction]

    rates = {direction: max(sample.bytes_per_s for sample in of(direction)) for direction in ("up", "down", "both")}
    small = {way: min(of(way), key=lambda sample: sample.message_bytes).typical_s for way in ("up", "down")}
    return LinkSummary(
        round_trip_s=round_trip_s,
        rate_up_bytes_per_s=rates["up"],
        rate_down_bytes_per_s=rates["down"],
        rate_both_bytes_per_s=rates["both"],
        per_message_up_s=small["up"],
        per_message_down_s=small["down"],
    )


def _sample(direction: str, size: int, messages: int, found: Trials) -> TransferSample:
    """Trials as a row; what carries nothing has no rate."""
    middle = typical(found.seconds)
    return TransferSample(
        direction=direction,
        message_bytes=size,
        messages=messages,
        trials=len(found.seconds),
        quiet_s=quiet(found.seconds),
        typical_s=middle,
        typical_low_s=found.low_s,
        typical_high_s=found.high_s,
        dispersion=dispersion(found.seconds),
        converged=int(found.converged),
        bytes_per_s=size / middle,
    )


@contextmanager
def loopback_meter(route: Route | None = None) -> Iterator[LinkMeter]:
    """A connection to a fresh process of this machine, perhaps over an emulated link; it ends with the context.

    Raises:
        ProtocolError: if the other process fails; its own message goes to standard error.
    """
    key, command = os.urandom(KEY_BYTES), [sys.executable, "-m", "autoprivacy.profiler.link"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as peer:
        try:
            assert peer.stdin is not None  # noqa: S101 - it was asked for
            assert peer.stdout is not None  # noqa: S101 - as above
            with suppress(BrokenPipeError):  # it ended: its message says why
                peer.stdin.write(key)
                peer.stdin.close()
            address = peer.stdout.readline().decode().strip().removeprefix("listening on ")
            if not address:
                raise ProtocolError("the other process of the loopback ended early; its message is above")
            meter = LinkMeter(address, key, route)
            try:
                yield meter
            finally:
                meter.close()
        finally:
            peer.kill()


def measure_loopback(depth: str, advance: Callable[[], None]) -> LinkProfile:
    """The link between two fresh processes of this machine.

    Raises:
        ProtocolError: if the other process fails; its own message goes to standard error.
    """
    with loopback_meter() as meter:
        return measure_link(meter, "loopback", depth, advance, route=None, loopback=True)


def main() -> None:
    """Serve one measurement on a free port, to whoever has the key that comes on standard input."""

    def report(line: str) -> None:
        print(line, flush=True)  # noqa: T201 - the other process reads it

    with suppress(ProtocolError):  # whoever measured is gone
        serve_profiles("127.0.0.1:0", sys.stdin.buffer.read(KEY_BYTES), b"", report, once=True, timeout_s=PATIENCE_S)


if __name__ == "__main__":
    main()
