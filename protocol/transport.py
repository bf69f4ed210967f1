"""Frames over a socket, and the proof of a shared key.

A frame is its kind (one byte), the length of its content (seven bytes, little endian) and the content. A receiver says
which kind and how many bytes it expects; anything else ends the session. Nothing is decoded before it is measured.
"""

import hashlib
import hmac
import ipaddress
import os
import socket
import time
from enum import IntEnum
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput, ProtocolError
from autoprivacy.common.files import read_bytes, write_atomic
from autoprivacy.protocol import _native

HEADER_BYTES: Final = 8
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 32
GREETING: Final = b"autoprivacy/1\n\0\0"
MAX_AGREEMENT_BYTES: Final = 1 << 20
DEFAULT_TIMEOUT_S: Final = 30.0
COPY_BYTES: Final = 1 << 16


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


class Channel:
    """One end of a connection; counts the bytes that it sent and received, headers included."""

    def __init__(self, connection: socket.socket, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        connection.settimeout(timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._timeout_s = timeout_s
        self.bytes_sent = 0
        self.bytes_received = 0

    def send(self, kind: Kind, *parts: bytes | memoryview) -> None:
        """Send one frame made of `parts`, byte buffers all."""
        length = sum(map(len, parts))
        header = bytes([kind]) + length.to_bytes(7, "little")
        # What is large goes as it lies; what is small in one piece, as a system call costs more than a copy.
        whole = [b"".join((header, *parts))] if length < COPY_BYTES else [header, *parts]
        try:
            self._connection.settimeout(self._timeout_s)
            for part in whole:
                self._connection.sendall(part)
        except OSError as error:
            raise ProtocolError(f"the connection to the peer was lost ({error}); start the inference again") from None
        self.bytes_sent += HEADER_BYTES + length

    def receive(self, kind: Kind, length: int) -> bytes:
        """Receive one frame of exactly this kind and length."""
        return self._receive(kind, length, length)

    def receive_at_most(self, kind: Kind, limit: int) -> bytes:
        """Receive one frame whose length the sender chooses, up to `limit`."""
        return self._receive(kind, 0, limit)

    def _receive(self, kind: Kind, least: int, most: int) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        header = self._read(HEADER_BYTES, deadline)
        length = int.from_bytes(header[1:], "little")
        if header[0] != kind or not least <= length <= most:
            expected = f"{kind.name} of {least} to {most} bytes"
            raise ProtocolError(f"the peer sent frame kind {header[0]} of {length} bytes where {expected} belongs")
        return self._read(length, deadline)

    def _read(self, count: int, deadline: float) -> bytes:
        content = bytearray(count)
        view = memoryview(content)
        done = 0
        while done < count:
            try:
                self._connection.settimeout(max(1e-3, deadline - time.monotonic()))
                got = self._connection.recv_into(view[done:])
            except TimeoutError:
                raise ProtocolError(
                    f"the peer did not finish a frame within {self._timeout_s:g} s; is it still running?"
                ) from None
            except OSError as error:
                raise ProtocolError(f"the connection to the peer was lost ({error}); start again") from None
            if got == 0:
                raise ProtocolError("the peer closed the connection; its own message says why")
            done += got
        self.bytes_received += count
        return bytes(content)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT of a loopback address.

    Raises:
        BadInput: if it is not one; off loopback the channel would need TLS, which is not built yet.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal() and len(port) <= 5) or int(port) > 65535:
        raise BadInput(f"{text!r} is not HOST:PORT")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        raise BadInput(f"{host} is not a loopback address; the channel has no TLS yet, so only loopback is served")
    return host, int(port)


def connect(address: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> Channel:
    """A channel to a server.

    Raises:
        ProtocolError: if nobody answers.
    """
    try:
        return Channel(socket.create_connection(parse_address(address), timeout_s), timeout_s)
    except OSError as error:
        raise ProtocolError(f"no server answers at {address} ({error}); start one with `autoprivacy serve`") from None


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
        ProtocolError: if the client has another key, or does not accept the agreement.
    """
    own = os.urandom(NONCE_BYTES)
    channel.send(Kind.GREETING, GREETING, own)
    theirs = channel.receive(Kind.PROOF, NONCE_BYTES + KEY_BYTES)
    nonces, proof = theirs[:NONCE_BYTES] + own, theirs[NONCE_BYTES:]
    _check(proof, _proof(key, b"client", nonces))
    channel.send(Kind.PROOF, _proof(key, b"server", nonces, agreement))
    channel.send(Kind.AGREEMENT, agreement)
    _check(channel.receive(Kind.PROOF, KEY_BYTES), _proof(key, b"client agrees", nonces, agreement))


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
    channel.send(Kind.PROOF, own, _proof(key, b"client", nonces))
    proof = channel.receive(Kind.PROOF, KEY_BYTES)
    agreement = channel.receive_at_most(Kind.AGREEMENT, MAX_AGREEMENT_BYTES)
    _check(proof, _proof(key, b"server", nonces, agreement))
    return agreement, _proof(key, b"client agrees", nonces, agreement)


def _proof(key: bytes, role: bytes, nonces: bytes, agreement: bytes = b"") -> bytes:
    bound = len(role).to_bytes(1, "little") + role + nonces + hashlib.sha256(agreement).digest()
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
