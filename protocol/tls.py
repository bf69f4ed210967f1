"""TLS 1.3 with one pinned certificate: what a channel runs inside where it leaves the machine.

The client trusts exactly one certificate, whatever its names, its issuer or its key: the one whose SHA-256 it holds.
Nothing below TLS 1.3 is spoken, and sessions are not resumed.

**Binding.** The proof of the shared key binds the SHA-256 of the server's certificate, as in `tls-server-end-point`
[RFC5929]: who made a client pin another certificate cannot pass its proof on to the real server. It binds the
certificate, not the one connection: that takes `tls-exporter` [RFC9266], which Python's `ssl` does not offer, and
`tls-unique` is not defined for TLS 1.3.
"""

import hashlib
import hmac
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autoprivacy.common.errors import BadInput, ProtocolError
from autoprivacy.common.files import read_bytes, write_atomic
from autoprivacy.protocol.streams import PlainStream

PIECE_BYTES: Final = 1 << 18
_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"}
    | {"PACKET_LENGTH_TOO_LONG", "UNEXPECTED_MESSAGE", "NO_PROTOCOLS_AVAILABLE", "UNSUPPORTED_PROTOCOL"}
    | {"TLSV1_ALERT_PROTOCOL_VERSION", "ENCRYPTED_LENGTH_TOO_LONG", "DATA_LENGTH_TOO_LONG", "BAD_RECORD_TYPE"}
)
_NOT_PINNED: Final = "the server's certificate is not the one pinned; copy its certificate file to the client"


@dataclass(frozen=True, slots=True)
class TlsEnd:
    """What one side brings: its context, and the SHA-256 of the server's certificate."""

    context: ssl.SSLContext
    fingerprint: bytes
    server_side: bool


def new_certificate(certificate: Path, private_key: Path) -> None:
    """Write a fresh self-signed certificate, and its private key (P-256), readable by its owner only.

    It never expires, since nothing but its SHA-256 is trusted: a new one replaces it on both sides.
    """
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    if certificate == private_key:
        raise BadInput(f"{certificate}: certificate and private key are two files; name two")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "autoprivacy server")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomic(private_key, secret, mode=0o600)
    write_atomic(certificate, made.public_bytes(serialization.Encoding.PEM))


def server_end(certificate: Path, private_key: Path) -> TlsEnd:
    """The server's side, from the files that `new_certificate` wrote.

    Raises:
        BadInput: if they are missing, do not belong together, or others may read the private key.
    """
    der = _der(certificate)
    read_bytes(private_key)
    if private_key.stat().st_mode & 0o077:
        raise BadInput(f"{private_key}: other users may read this private key; chmod 600 it")
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    try:
        context.load_cert_chain(certificate, private_key, password="")
    except (ssl.SSLError, ValueError):
        raise BadInput(
            f"{private_key}: not the private key of {certificate}; make both with `autoprivacy certificate new`"
        ) from None
    return TlsEnd(context, hashlib.sha256(der).digest(), server_side=True)


def client_end(certificate: Path) -> TlsEnd:
    """The client's side, from the server's certificate file.

    Raises:
        BadInput: if it holds no certificate, or more than one.
    """
    der = _der(certificate)
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # A certificate that nobody trusted issued is a trust anchor itself, and the only one.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=der)
    except ssl.SSLError:
        raise _no_certificate(certificate) from None
    return TlsEnd(context, hashlib.sha256(der).digest(), server_side=False)


def _context(side: int) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    return context


def _der(certificate: Path) -> bytes:
    text = read_bytes(certificate)
    if text.count(b"-----BEGIN CERTIFICATE-----") != 1:
        raise _no_certificate(certificate)
    try:
        return ssl.PEM_cert_to_DER_cert(text[text.index(b"-----BEGIN") :].decode().strip())
    except ValueError:
        raise _no_certificate(certificate) from None


def _no_certificate(path: Path) -> BadInput:
    return BadInput(f"{path}: does not hold one certificate (PEM); make one with `autoprivacy certificate new`")


class TlsStream:
    """TLS on a connected socket, shaken hands with by `deadline`.

    Raises:
        ProtocolError: if the peer speaks no TLS 1.3, or the server has another certificate.
    """

    def __init__(self, connection: socket.socket, end: TlsEnd, deadline: float) -> None:
        self.binding = end.fingerprint
        self._plain = PlainStream(connection)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = end.context.wrap_bio(self._incoming, self._outgoing, server_side=end.server_side)
        # OpenSSL's object is no thread's own: one lock for it, one for the order of what is sent.
        self._using, self._sending = threading.Lock(), threading.Lock()
        self._received = memoryview(bytearray(PIECE_BYTES))
        self._shake_hands(deadline)
        if not end.server_side:
            shown = hashlib.sha256(self._tls.getpeercert(binary_form=True) or b"").digest()
            if not hmac.compare_digest(shown, end.fingerprint):
                raise ProtocolError(_NOT_PINNED)

    @property
    def congestion_control(self) -> str:
        """TCP's congestion control at this end."""
        return self._plain.congestion_control

    def _shake_hands(self, deadline: float) -> None:
        while True:
            try:
                self._tls.do_handshake()
                self._plain.send(self._outgoing.read(), deadline)
            except ssl.SSLWantReadError:
                self._plain.send(self._outgoing.read(), deadline)
            except ssl.SSLError as error:
                with suppress(OSError):  # the peer is told why, if it still listens
                    self._plain.send(self._outgoing.read(), deadline)
                raise _handshake_failed(error) from None
            else:
                return
            if not self._feed(deadline):
                raise ProtocolError("the peer closed the connection before TLS began; does it speak TLS?")

    def _feed(self, deadline: float) -> int:
        got = self._plain.receive_into(self._received, deadline)
        with self._using:
            self._incoming.write(self._received[:got])
        return got

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        with self._sending:
            for start in range(0, len(view), PIECE_BYTES):
                with self._using:
                    self._tls.write(view[start : start + PIECE_BYTES])
                    sealed = self._outgoing.read()
                self._plain.send(sealed, deadline)

    def receive_into(self, view: memoryview, deadline: float) -> int:
        """Receive at least one byte into `view`; how many, or 0 where the peer closed."""
        while True:
            with suppress(ssl.SSLWantReadError), self._using:
                try:
                    return int(self._tls.read(len(view), view))
                except ssl.SSLZeroReturnError:
                    return 0
            if not self._feed(deadline):
                return 0

    def close(self) -> None:
        """Say good-bye, if that does not take waiting, and close the connection."""
        with suppress(OSError), self._using:
            with suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            self._plain.send(self._outgoing.read(), 0)
        self._plain.close()


def _handshake_failed(error: ssl.SSLError) -> ProtocolError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProtocolError(_NOT_PINNED)
    reason = error.reason or ""
    if "UNKNOWN_CA" in reason or "CERTIFICATE" in reason:
        return ProtocolError("the client pinned another certificate; copy this server's certificate file to it")
    shown = reason.lower().replace("_", " ") or "it broke off"
    if reason in _NOT_TLS:
        return ProtocolError(f"the peer speaks no TLS 1.3 ({shown}); give both sides the certificate")
    return ProtocolError(f"TLS could not begin ({shown}); run the same version on both sides")
