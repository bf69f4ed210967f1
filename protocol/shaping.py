"""A link of a stated rate and delay, emulated in user space, for where the kernel offers none.

`python -m autoprivacy.protocol.shaping NEAR FAR RATE DELAY` is a relay: a process of its own, so that neither party's
computing holds it up. It passes bytes between two sockets that it inherits, each way at the rate, then after the
delay. It sleeps until the next byte is due. What is emulated is a link without loss or congestion whose sender always
has window enough: a TCP connection on a real link starts more slowly.

>>> lane = Lane(EmulatedLink(rate_bytes_per_s=1000, one_way_s=0.5))
>>> lane.take(bytes(100), now=0)
>>> lane.next_due, lane.due(0.59), len(lane.due(0.6))
(0.6, None, 100)
"""

import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from typing import Annotated, Final

from pydantic import Field

from autoprivacy.common.errors import ProtocolError
from autoprivacy.common.records import record

BACKLOG_S: Final = 0.02
"""How far ahead of its rate a lane takes bytes: what a late wake-up may cost before it costs rate."""

PIECE_S: Final = 0.001
LEAST_PIECE_BYTES: Final = 1500
RECEIVER_BYTES: Final = 4 << 20
"""What waits for a slow receiver before a lane takes no more, beside what is in flight."""

READ_BYTES: Final = 1 << 18
_READY: Final = b"\n"
_END_S: Final = 10.0


@record
class EmulatedLink:
    """The same rate and delay each way; the round trip of an empty message is twice `one_way_s`."""

    rate_bytes_per_s: Annotated[float, Field(gt=0)]
    one_way_s: Annotated[float, Field(ge=0)]


class Lane:
    """One direction. Time is told to it, in seconds of any clock."""

    def __init__(self, link: EmulatedLink) -> None:
        self._rate = link.rate_bytes_per_s
        self._delay = link.one_way_s
        self._piece = max(LEAST_PIECE_BYTES, round(PIECE_S * self._rate))
        self._most_held = RECEIVER_BYTES + round(self._rate * (self._delay + BACKLOG_S))
        self._free_at = float("-inf")
        self._held = 0
        self._pieces: deque[tuple[float, memoryview]] = deque()
        self._closed_at: float | None = None

    def takes(self, now: float) -> bool:
        """Whether the sender may hand it more."""
        return self._closed_at is None and self._held < self._most_held and now >= self._room_at

    def take(self, data: bytes, now: float) -> None:
        """Bytes that the sender sent now; they go out one after the other, behind those before."""
        view = memoryview(data)
        self._free_at = max(self._free_at, now)
        while view:
            piece, view = view[: self._piece], view[self._piece :]
            self._free_at += len(piece) / self._rate
            self._pieces.append((self._free_at + self._delay, piece))
            self._held += len(piece)

    def close(self, now: float) -> None:
        """The sender closed its end; the receiver learns of it after all bytes."""
        self._closed_at = max(self._free_at, now) + self._delay

    def due(self, now: float) -> memoryview | None:
        """The next bytes that the receiver is to have by now."""
        return self._pieces[0][1] if self._pieces and self._pieces[0][0] <= now else None

    def delivered(self, count: int) -> None:
        """So many of the bytes that were due are delivered."""
        due_at, piece = self._pieces.popleft()
        self._held -= count
        if count < len(piece):
            self._pieces.appendleft((due_at, piece[count:]))

    def ended(self, now: float) -> bool:
        """Whether the receiver is to learn now that the sender closed."""
        return self._closed_at is not None and self._closed_at <= now and not self._pieces

    @property
    def next_due(self) -> float:
        """When the receiver is to have something next; never, if nothing is on its way."""
        if self._pieces:
            return self._pieces[0][0]
        return float("inf") if self._closed_at is None else self._closed_at

    def next_change(self, now: float) -> float:
        """When to look again, unless something arrives: bytes or the end are due, or there is room for more."""
        if self.ended(now):
            return now  # it became due after the last look
        changes = [self.next_due] if self.next_due > now else []
        if self._closed_at is None and self._room_at > now:
            changes.append(self._room_at)
        return min(changes, default=float("inf"))

    @property
    def _room_at(self) -> float:
        return self._free_at - BACKLOG_S


def relay(near: socket.socket, far: socket.socket, link: EmulatedLink) -> None:
    """Pass bytes both ways until both ends have closed, or one is lost."""
    ways = [(near, far, Lane(link)), (far, near, Lane(link))]
    for each in (near, far):
        each.setblocking(False)  # noqa: FBT003 - the socket's own signature
    while ways:
        now = time.monotonic()
        sources = [source for source, _, lane in ways if lane.takes(now)]
        sinks = [sink for _, sink, lane in ways if lane.due(now) is not None]
        wake = min(lane.next_change(now) for _, _, lane in ways)
        # Not poll or epoll, which round to milliseconds.
        readable, writable, _ = select.select(sources, sinks, [], None if wake == float("inf") else max(0, wake - now))
        now = time.monotonic()
        for source, sink, lane in ways:
            if source in readable:
                _take(source, lane, now)
            if sink in writable:
                _deliver(sink, lane, now)
            if lane.ended(now):
                sink.shutdown(socket.SHUT_WR)
        ways = [way for way in ways if not way[2].ended(now)]


def _take(source: socket.socket, lane: Lane, now: float) -> None:
    data = source.recv(READ_BYTES)
    if data:
        lane.take(data, now)
    else:
        lane.close(now)


def _deliver(sink: socket.socket, lane: Lane, now: float) -> None:
    try:
        while (piece := lane.due(now)) is not None:
            lane.delivered(sink.send(piece))
    except BlockingIOError:
        return


class Relay:
    """A relay's process, between `connection` and `near`, the end to use in its place.

    Raises:
        ProtocolError: if the process does not start.
    """

    def __init__(self, connection: socket.socket, link: EmulatedLink) -> None:
        self.near, other = socket.socketpair()
        ends = [str(other.fileno()), str(connection.fileno())]
        command = [sys.executable, "-m", "autoprivacy.protocol.shaping", *ends]
        with connection, other:
            connection.setblocking(True)  # noqa: FBT003 - the socket's own signature
            self._process = subprocess.Popen(
                [*command, repr(link.rate_bytes_per_s), repr(link.one_way_s)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=(other.fileno(), connection.fileno()),
            )
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        with self._process.stdout as said:
            if said.read(len(_READY)) != _READY:
                self.near.close()
                self.close()
                raise ProtocolError("the process that emulates the link did not start; its message is above")

    def close(self) -> None:
        """Wait until what was sent is delivered; `near` must have been closed."""
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """Relay until both ends have closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the client's to handle
    near, far = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    link = EmulatedLink(*map(float, sys.argv[3:]))
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    sys.stdout.close()
    try:
        with near, far:
            relay(near, far, link)
    except OSError:
        return  # one end is lost: closing both tells the other


if __name__ == "__main__":
    main()
