"""Bytes over a socket with deadlines: what a channel's frames travel on.

A stream may be used by two threads at once, one that sends and one that receives: its socket never blocks, and each
call waits until its own deadline (of `time.monotonic`). What goes wrong is an OSError; a deadline is its TimeoutError.
"""

import select
import socket
import time
from typing import Protocol


class Stream(Protocol):
    """One end of a connection. `binding` is what the peers' proofs bind beyond their nonces."""

    binding: bytes

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Send all of `data`."""

    def receive_into(self, view: memoryview, deadline: float) -> int:
        """Receive at least one byte into `view`; how many, or 0 where the peer closed."""

    def close(self) -> None:
        """Close the connection."""


class PlainStream:
    """A connected socket as it is."""

    binding = b""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the socket's own signature
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._connection.send(view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)

    def receive_into(self, view: memoryview, deadline: float) -> int:
        """Receive at least one byte into `view`; how many, or 0 where the peer closed."""
        while True:
            try:
                return self._connection.recv_into(view)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _wait(self, event: int, deadline: float) -> None:
        left_s = deadline - time.monotonic()
        poll = select.poll()
        poll.register(self._connection, event)
        if left_s <= 0 or not poll.poll(1000 * left_s):
            raise TimeoutError
