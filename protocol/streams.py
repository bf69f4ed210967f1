"""Bytes over a socket with deadlines: what a channel's frames travel on.

A stream may be used by two threads at once, one that sends and one that receives: its socket never blocks, and each
call waits until its own deadline (of `time.monotonic`). What goes wrong is an OSError; a deadline is its TimeoutError.
"""

import ipaddress
import select
import socket
import time
from contextlib import suppress
from typing import Any, Final, Protocol

LOOPBACK_CONGESTION_CONTROL: Final = b"reno"
"""Within one machine nothing is congested, and pacing (bbr) costs a third of the rate; any process may use `reno`.

It is chosen before a socket is connected: one that began with bbr stays paced, from a slow start after every pause
(first tables of an inference: 2 ms more).
"""

_TCP_CONGESTION: Final[int | None] = getattr(socket, "TCP_CONGESTION", None)
"""Linux alone has it."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        OSError: if the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    _unpaced(listener, listener.getsockname()[0])
    return listener


def connected(host: str, port: int, timeout_s: float) -> socket.socket:
    """A socket connected to the first address of a host that answers, within `timeout_s` each.

    As `socket.create_connection`, which leaves no time to set an option before it connects.

    Raises:
        OSError: if none does.
    """
    failed = OSError("the host has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            return _connected(socket.socket(family, kind, protocol), address, timeout_s)
        except OSError as error:
            failed = error
    raise failed


def _connected(connection: socket.socket, address: tuple[Any, ...], timeout_s: float) -> socket.socket:
    try:
        _unpaced(connection, str(address[0]))
        connection.settimeout(timeout_s)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _unpaced(connection: socket.socket, host: str) -> None:
    """Prefer what is fast within one machine, if it is one."""
    with suppress(OSError):
        if _TCP_CONGESTION and ipaddress.ip_address(host).is_loopback:
            connection.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, LOOPBACK_CONGESTION_CONTROL)


class Stream(Protocol):
    """One end of a connection.

    `binding` is what the peers' proofs bind beyond their nonces; `congestion_control` is TCP's here, or "unknown".
    """

    binding: bytes

    @property
    def congestion_control(self) -> str:
        """TCP's congestion control at this end."""

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

    @property
    def congestion_control(self) -> str:
        """TCP's congestion control at this end; of an emulated link, none is known."""
        name = b""
        with suppress(OSError):
            if _TCP_CONGESTION:
                name = self._connection.getsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, 16)
        return name.rstrip(b"\0").decode("ascii") or "unknown"

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
