"""Frames over a connection, and the proof of a shared key.

A frame is its kind (one byte), the length of its content (seven bytes, little endian) and the content. A receiver says
which kind and how many bytes it expects; anything else ends the session. Nothing is decoded before it is measured.

**Time-outs.** A peer is given up when a frame does not move for the channel's time-out (what the peer computes before
it included), or has taken longer in all than the time-out and a second for every `SLOWEST_BYTES_PER_S` that did move. A
server gives the handshake of TLS, and the proof of the key, `GREETING_TIMEOUT_S` each, or the time-out if that is less.
"""

import hashlib
import hmac
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput, ProtocolError
from autoprivacy.common.files import read_bytes, write_atomic
from autoprivacy.protocol import _native
from autoprivacy.protocol.shaping import EmulatedLink, Relay
from autoprivacy.protocol.streams import PlainStream, Stream, connected
from autoprivacy.protocol.tls import TlsEnd, TlsStream

HEADER_BYTES: Final = 8
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 32
GREETING: Final = b"autoprivacy/2\n\0\0"
MAX_AGREEMENT_BYTES: Final = 1 << 20
DEFAULT_TIMEOUT_S: Final = 30.0
COPY_BYTES: Final = 1 << 16
GREETING_TIMEOUT_S: Final = 10.0
SLOWEST_BYTES_PER_S: Final = 125_000
"""1 Mbit/s: a peer whose long frames drip in more slowly is given up."""

PIECE_BYTES: Final = 1 << 20
"""What is sent at once, and then looked at again: more than a piece of garbled tables (a quarter: 8 % slower)."""

_TLS_HANDSHAKE: Final = 0x16


class Kind(IntEnum):
    """What a frame holds."""

    GREETING = 1
    PROOF = 2
    AGREEMENT = 3
    PUBLIC_KEY = 4
    BASE_OT = 5
    CIPHERTEXTS = 6
    RESPONSES = 7
    OT_COLUMNS = 8
    GARBLED = 9
    LOGIT_SHARE = 10
    COMMAND = 11
    REVEALED = 12
    TIMES = 13
    TABLES = 14
    MASKED_INPUT = 15
    SERVER_LABELS = 16
    COLOURS = 17


@dataclass(frozen=True, slots=True)
class Traffic:
    """What passed one end of a channel: frames, their bytes with headers (and without TLS's own), and turns.

    `round_trips` counts how often this end went over from sending to receiving. With one thread at each end that is how
    often the client waited for the link's round trip (the server may count one fewer or more).
    """

    bytes_sent: int = 0
    bytes_received: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    round_trips: int = 0

    def since(self, earlier: Self) -> "Traffic":
        """What passed after `earlier`."""
        return Traffic(
            self.bytes_sent - earlier.bytes_sent,
            self.bytes_received - earlier.bytes_received,
            self.frames_sent - earlier.frames_sent,
            self.frames_received - earlier.frames_received,
            self.round_trips - earlier.round_trips,
        )


@dataclass(frozen=True, slots=True)
class Route:
    """How a client reaches its server: in TLS or (on loopback only) plainly, over the real or an emulated link."""

    tls: TlsEnd | None = None
    emulated: EmulatedLink | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S


class Channel:
    """One end of a connection. One thread may send while another receives.

    Raises:
        ProtocolError: with `tls`, if its handshake fails.
    """

    def __init__(
        self,
        connection: socket.socket,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: TlsEnd | None = None,
        relay: Relay | None = None,
    ) -> None:
        self._timeout_s = self._limit_s = timeout_s
        self._deadline = float("inf")
        self._counting = threading.Lock()
        self._traffic = Traffic()
        self._sent_last = False
        self._relay = relay
        self._stream: Stream = PlainStream(connection) if tls is None else self._secure(connection, tls)

    def _secure(self, connection: socket.socket, tls: TlsEnd) -> TlsStream:
        # A client waits longer: the server may be busy with another.
        with self.within(GREETING_TIMEOUT_S if tls.server_side else self._timeout_s):
            try:
                return TlsStream(connection, tls, self._deadline)
            except OSError as error:
                raise self._failed(error) from None

    @property
    def traffic(self) -> Traffic:
        """What passed so far."""
        return self._traffic

    @property
    def bytes_sent(self) -> int:
        """Bytes of the frames that were sent, headers included."""
        return self._traffic.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Bytes of the frames that were received, headers included."""
        return self._traffic.bytes_received

    @property
    def binding(self) -> bytes:
        """What is under the frames: the server's certificate where that is TLS, else nothing."""
        return self._stream.binding

    @property
    def congestion_control(self) -> str:
        """TCP's congestion control at this end, or "unknown"."""
        return self._stream.congestion_control

    @contextmanager
    def within(self, limit_s: float) -> Iterator[None]:
        """All frames inside together must be done within `limit_s`, or the time-out if that is less."""
        self._limit_s = min(limit_s, self._timeout_s)
        self._deadline = time.monotonic() + self._limit_s
        try:
            yield
        finally:
            self._deadline, self._limit_s = float("inf"), self._timeout_s

    @contextmanager
    def patient(self, timeout_s: float) -> Iterator[None]:
        """Frames inside have another time-out, such as a longer one for a peer that may well be idle."""
        usual = self._timeout_s
        self._timeout_s = self._limit_s = timeout_s
        try:
            yield
        finally:
            self._timeout_s = self._limit_s = usual

    def send(self, kind: Kind, *parts: bytes | memoryview) -> None:
        """Send one frame made of `parts`, byte buffers all."""
        length = sum(map(len, parts))
        header = bytes([kind]) + length.to_bytes(7, "little")
        # What is large goes as it lies; what is small in one piece, as a system call costs more than a copy.
        whole = [b"".join((header, *parts))] if length < COPY_BYTES else [header, *parts]
        self._send_all(whole)

    def send_parts(self, kind: Kind, length: int, parts: Iterable[bytes | memoryview]) -> None:
        """Send one frame of `length` bytes, each part as soon as it is made; a part may be overwritten by the next.

        Raises:
            ValueError: if the parts are not so long together.
        """

        def whole() -> Iterator[bytes | memoryview]:
            yield bytes([kind]) + length.to_bytes(7, "little")
            left = length
            for part in parts:
                left -= len(part)
                if left < 0:
                    break
                yield part
            if left:
                raise ValueError(f"{kind.name}: the parts differ from the {length} bytes announced by {left}")

        self._send_all(whole())

    def _send_all(self, parts: Iterable[bytes | memoryview]) -> None:
        """Send the header and content of one frame."""
        start, done = time.monotonic(), 0
        for part in parts:
            view = memoryview(part)
            for at in range(0, len(view), PIECE_BYTES):
                piece = view[at : at + PIECE_BYTES]
                try:
                    self._stream.send(piece, self._until(start, done))
                except OSError as error:
                    raise self._failed(error) from None
                done += len(piece)
        self._count(Traffic(bytes_sent=done, frames_sent=1), sent=True)

    def receive(self, kind: Kind, length: int) -> bytes:
        """Receive one frame of exactly this kind and length."""
        return self._receive(kind, length, length)

    def receive_at_most(self, kind: Kind, limit: int) -> bytes:
        """Receive one frame whose length the sender chooses, up to `limit`."""
        return self._receive(kind, 0, limit)

    def receive_into(self, kind: Kind, content: memoryview) -> None:
        """Receive one frame of exactly this kind into `content`, of bytes, and exactly its length.

        For what comes piece after piece: memory that was used before costs less than new memory.
        """
        start = time.monotonic()
        self._receive_header(kind, len(content), len(content), start)
        self._fill(content, start, 0)
        self._count(Traffic(bytes_received=HEADER_BYTES + len(content), frames_received=1), sent=False)

    def receive_parts(self, kind: Kind, sizes: Sequence[int]) -> Iterator[memoryview]:
        """Receive one frame of these parts, each as soon as it is there; a part is overwritten by the next."""
        start = time.monotonic()
        length = self._receive_header(kind, sum(sizes), sum(sizes), start)
        buffer = memoryview(bytearray(max(sizes)))
        done = 0
        for size in sizes:
            self._fill(buffer[:size], start, done)
            done += size
            if done == length:
                self._count(Traffic(bytes_received=HEADER_BYTES + length, frames_received=1), sent=False)
            yield buffer[:size]

    def _receive(self, kind: Kind, least: int, most: int) -> bytes:
        start = time.monotonic()
        length = self._receive_header(kind, least, most, start)
        content = self._read(length, start)
        self._count(Traffic(bytes_received=HEADER_BYTES + length, frames_received=1), sent=False)
        return content

    def _receive_header(self, kind: Kind, least: int, most: int, start: float) -> int:
        """The length of a frame of this kind."""
        header = self._read(HEADER_BYTES, start)
        length = int.from_bytes(header[1:], "little")
        if header[0] != kind or not least <= length <= most:
            expected = f"{kind.name} of {least} to {most} bytes"
            hint = "; it speaks TLS: give both sides the certificate" if header[0] == _TLS_HANDSHAKE else ""
            raise ProtocolError(
                f"the peer sent frame kind {header[0]} of {length} bytes where {expected} belongs{hint}"
            )
        return length

    def _read(self, count: int, start: float) -> bytes:
        content = bytearray(count)
        self._fill(memoryview(content), start, 0)
        return bytes(content)

    def _fill(self, view: memoryview, start: float, before: int) -> None:
        """Receive what fills `view`, after so many bytes of a frame that began at `start`."""
        done = 0
        while done < len(view):
            try:
                got = self._stream.receive_into(view[done:], self._until(start, before + done))
            except OSError as error:
                raise self._failed(error) from None
            if got == 0:
                raise ProtocolError("the peer closed the connection; its own message says why")
            done += got

    def _until(self, start: float, done: int) -> float:
        """When a frame that began at `start`, and moved so many bytes, must have moved on."""
        latest = min(time.monotonic(), start + done / SLOWEST_BYTES_PER_S) + self._timeout_s
        return min(self._deadline, latest)

    def _failed(self, error: OSError) -> ProtocolError:
        if isinstance(error, TimeoutError):
            return ProtocolError(
                f"the peer did not finish a frame within {self._limit_s:g} s; "
                "is it still running, or busy with another client?"
            )
        # An error of ssl ends with where in its C source it arose.
        why = (error.reason or "TLS broke off").lower() if isinstance(error, ssl.SSLError) else error
        return ProtocolError(f"the connection to the peer was lost ({why}); start the inference again")

    def _count(self, passed: Traffic, *, sent: bool) -> None:
        with self._counting:
            before, turned = self._traffic, self._sent_last and not sent
            self._sent_last = sent
            self._traffic = Traffic(
                before.bytes_sent + passed.bytes_sent,
                before.bytes_received + passed.bytes_received,
                before.frames_sent + passed.frames_sent,
                before.frames_received + passed.frames_received,
                before.round_trips + turned,
            )

    def close(self) -> None:
        """Close the connection; over an emulated link, once what was sent is delivered."""
        self._stream.close()
        if self._relay is not None:
            self._relay.close()
            self._relay = None


def parse_address(text: str, *, secured: bool = False) -> tuple[str, int]:
    """HOST:PORT, of a loopback address unless the channel is `secured` by TLS.

    Raises:
        BadInput: if it is not one.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not (port.isascii() and port.isdecimal() and len(port) <= 5) or int(port) > 65535:
        raise BadInput(f"{text!r} is not HOST:PORT")
    if secured and host:
        return host, int(port)
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        raise BadInput(
            f"{host!r} is not a loopback address, and beyond it the channel needs TLS: make a certificate with "
            "`autoprivacy certificate new`, and give it to both sides with --certificate"
        )
    return host, int(port)


def connect(address: str, route: Route | None = None) -> Channel:
    """A channel to a server; on loopback and plain unless `route` says otherwise.

    Raises:
        ProtocolError: if nobody answers, or another server than the pinned one does.
    """
    route = route or Route()
    host, port = parse_address(address, secured=route.tls is not None)
    try:
        connection = connected(host, port, min(GREETING_TIMEOUT_S, route.timeout_s))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, UnicodeError) as error:
        raise ProtocolError(f"no server answers at {address} ({error}); start one with `autoprivacy serve`") from None
    relay = None if route.emulated is None else Relay(connection, route.emulated)
    end = connection if relay is None else relay.near
    try:
        return Channel(end, route.timeout_s, route.tls, relay)
    except BaseException:
        end.close()
        if relay is not None:
            relay.close()
        raise


def new_key(path: Path) -> None:
    """Write a fresh shared key, readable by its owner only."""
    write_atomic(path, os.urandom(KEY_BYTES).hex().encode() + b"\n", mode=0o600)


def load_key(path: Path) -> bytes:
    """The shared key in `path`.

    Raises:
        BadInput: if it is missing, not a key, or readable by others.
    """
    text = read_bytes(path).strip()
    if path.stat().st_mode & 0o077:
        raise BadInput(f"{path}: other users may read this key; chmod 600 it")
    try:
        key = bytes.fromhex(text.decode())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadInput(f"{path}: not a key of {KEY_BYTES} bytes in hexadecimal; make one with `autoprivacy key new`")
    return key


def greet_as_server(channel: Channel, key: bytes, agreement: bytes) -> None:
    """Let the client prove the key, then prove it and bind the agreement.

    Raises:
        ProtocolError: if the client has another key, does not accept the agreement, or takes too long.
    """
    with channel.within(GREETING_TIMEOUT_S):
        own = os.urandom(NONCE_BYTES)
        channel.send(Kind.GREETING, GREETING, own)
        theirs = channel.receive(Kind.PROOF, NONCE_BYTES + KEY_BYTES)
        nonces, proof = theirs[:NONCE_BYTES] + own, theirs[NONCE_BYTES:]
        _check(proof, _proof(key, b"client", nonces, channel.binding))
        channel.send(Kind.PROOF, _proof(key, b"server", nonces, channel.binding, agreement))
        channel.send(Kind.AGREEMENT, agreement)
        accepted = channel.receive(Kind.PROOF, KEY_BYTES)
        _check(accepted, _proof(key, b"client agrees", nonces, channel.binding, agreement))


def greet_as_client(channel: Channel, key: bytes) -> tuple[bytes, bytes]:
    """Prove the key; returns the server's agreement, authenticated, and the proof that accepts it (not sent yet).

    Raises:
        ProtocolError: if the peer is no server of ours, or has another key.
    """
    greeting = channel.receive(Kind.GREETING, len(GREETING) + NONCE_BYTES)
    if greeting[: len(GREETING)] != GREETING:
        raise ProtocolError("the peer speaks another protocol or version; update both sides")
    own = os.urandom(NONCE_BYTES)
    nonces = own + greeting[len(GREETING) :]
    channel.send(Kind.PROOF, own, _proof(key, b"client", nonces, channel.binding))
    proof = channel.receive(Kind.PROOF, KEY_BYTES)
    agreement = channel.receive_at_most(Kind.AGREEMENT, MAX_AGREEMENT_BYTES)
    _check(proof, _proof(key, b"server", nonces, channel.binding, agreement))
    return agreement, _proof(key, b"client agrees", nonces, channel.binding, agreement)


def _proof(key: bytes, role: bytes, nonces: bytes, binding: bytes, agreement: bytes = b"") -> bytes:
    bound = len(role).to_bytes(1, "little") + role + nonces
    bound += hashlib.sha256(binding).digest() + hashlib.sha256(agreement).digest()
    return hmac.digest(key, GREETING + bound, "sha256")


def _check(proof: bytes, expected: bytes) -> None:
    if not hmac.compare_digest(proof, expected):
        raise ProtocolError("the peer does not know the shared key; give both sides the same --key-file")


def unpack_words(data: bytes, bits: int, count: int) -> NDArray[np.uint64]:
    """`count` words of `bits` bits that a peer packed.

    Raises:
        ProtocolError: if the length or the padding is wrong.
    """
    try:
        return _native.unpack_bits(data, bits, count)
    except ValueError as error:
        raise ProtocolError(f"the peer sent malformed packed words: {error}") from None
