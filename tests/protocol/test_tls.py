"""TLS with a pinned certificate: who gets through, and what the others are told."""

import os
import ssl
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from autoprivacy.common.errors import BadInput, ProtocolError
from autoprivacy.protocol import transport
from autoprivacy.protocol.session import Client
from autoprivacy.protocol.tls import client_end, new_certificate, server_end
from autoprivacy.protocol.transport import Channel, Kind, Route, greet_as_client, greet_as_server

TIMEOUT_S = 5
AGREEMENT = b'{"network": "any"}'


@pytest.fixture
def files(tmp_path):
    """A certificate file and its private key's."""
    new_certificate(tmp_path / "certificate", tmp_path / "private")
    return tmp_path / "certificate", tmp_path / "private"


@pytest.fixture
def meet(sockets):
    """`meet(client, server)` shakes hands between two ends of TLS (None is plain); gives both futures of channels."""

    def shake(client, server):
        with ThreadPoolExecutor(2) as pool:
            return [
                pool.submit(Channel, connection, TIMEOUT_S, end)
                for connection, end in zip(sockets, (client, server), strict=True)
            ]

    return shake


def message(future):
    with pytest.raises(ProtocolError) as caught:
        future.result()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_frames_pass_both_ways_at_once_and_are_counted_without_tls_s_own_bytes(certified, meet):
    near, far = (each.result() for each in meet(*certified))
    content = os.urandom(3_000_000)
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(end.send, Kind.GARBLED, content) for end in (near, far)]
        received = [pool.submit(end.receive, Kind.GARBLED, len(content)) for end in (near, far)]
        assert all(each.result() == content for each in received)
        assert all(each.result() is None for each in sent)
    assert near.bytes_sent == near.bytes_received == 8 + len(content)
    near.close()
    with pytest.raises(ProtocolError, match="closed"):
        far.receive(Kind.GARBLED, 1)


def test_what_travels_is_tls_1_3_and_hides_its_content(certified, meet):
    near, far = (each.result() for each in meet(*certified))
    assert near._stream._tls.version() == far._stream._tls.version() == "TLSv1.3"
    near.send(Kind.PROOF, b"to be hidden" * 10)
    seen = far._stream._plain._connection.recv(1 << 16)
    assert seen[:3] == b"\x17\x03\x03"
    assert b"to be hidden" not in seen


def test_another_certificate_is_refused_and_both_sides_are_told(certified, meet, files):
    client, server = meet(client_end(files[0]), certified[1])
    assert "pinned" in message(client)
    assert "pinned" in message(server)


def test_a_certificate_that_the_pinned_one_issued_is_refused(tmp_path, meet):
    """The pinned certificate is a trust anchor to OpenSSL; the SHA-256 of what is shown decides."""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def made(name, key, issuer, issuer_key):
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
        builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        builder = builder.not_valid_after(datetime(2999, 1, 1, tzinfo=UTC))
        return builder.add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True).sign(
            issuer_key, hashes.SHA256()
        )

    issuer_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM
    (tmp_path / "issuer").write_bytes(made("issuer", issuer_key, "issuer", issuer_key).public_bytes(pem))
    (tmp_path / "issued").write_bytes(made("issued", key, "issuer", issuer_key).public_bytes(pem))
    (tmp_path / "private").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "private").chmod(0o600)
    server = server_end(tmp_path / "issued", tmp_path / "private")
    assert "pinned" in message(meet(client_end(tmp_path / "issuer"), server)[0])


def test_tls_below_1_3_is_refused(certified, sockets):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(Channel, sockets[1], TIMEOUT_S, certified[1])
        with pytest.raises(ssl.SSLError):
            old.wrap_socket(sockets[0])
        assert "TLS 1.3" in message(server)


def test_a_tls_client_is_told_that_the_server_is_plain(certified, sockets, key):
    with ThreadPoolExecutor(2) as pool:
        client = pool.submit(Channel, sockets[0], TIMEOUT_S, certified[0])
        server = pool.submit(greet_as_server, Channel(sockets[1], TIMEOUT_S), key, AGREEMENT)
        assert "TLS 1.3" in message(client)
        assert "it speaks TLS" in message(server)


def test_a_plain_client_of_a_tls_server_is_told_when_the_server_gives_up(certified, sockets, key):
    def serve():
        try:
            Channel(sockets[1], 0.2, certified[1])
        finally:
            sockets[1].close()

    with ThreadPoolExecutor(2) as pool:
        server = pool.submit(serve)
        client = pool.submit(greet_as_client, Channel(sockets[0], TIMEOUT_S), key)
        assert "within 0.2 s" in message(server)
        assert "closed" in message(client)


@pytest.mark.parametrize(
    "content", [b"GET / HTTP/1.1\r\n\r\n", b"\1" * 500, bytes(range(256)) * 8, b"\x16\x03\x01\xff\xff" + bytes(70000)]
)
def test_what_is_no_tls_is_one_error_at_once(certified, sockets, content):
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(Channel, sockets[1], TIMEOUT_S, certified[1])
        sockets[0].sendall(content)
        assert message(server)


def test_a_record_that_was_changed_on_the_way_is_one_error(certified, meet):
    near, far = (each.result() for each in meet(*certified))
    near._stream._tls.write(b"something")
    sealed = bytearray(near._stream._outgoing.read())
    sealed[-1] ^= 1
    near._stream._plain.send(bytes(sealed), float("inf"))
    with pytest.raises(ProtocolError, match="lost") as caught:
        far.receive(Kind.PROOF, 1)
    assert ".c:" not in str(caught.value)


def test_a_proof_is_good_under_one_certificate_only(channels, key, monkeypatch):
    """Who has a client pin his certificate, and passes its frames on to the server, gets nowhere."""
    near, far = channels
    bindings = {near: b"the attacker's certificate", far: b"the server's certificate"}
    monkeypatch.setattr(Channel, "binding", property(bindings.get))
    with ThreadPoolExecutor(2) as pool:
        client = pool.submit(greet_as_client, near, key)
        server = pool.submit(greet_as_server, far, key, AGREEMENT)
        assert "key" in message(server)
        message(client)


def test_both_ends_bind_the_certificate(certified, meet):
    near, far = (each.result() for each in meet(*certified))
    assert near.binding == far.binding == certified[0].fingerprint != b""


def test_a_certificate_is_new_each_time_and_its_key_the_owner_s_alone(files, tmp_path):
    certificate, private = files
    new_certificate(tmp_path / "other", tmp_path / "other key")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert client_end(certificate).fingerprint != client_end(tmp_path / "other").fingerprint
    with pytest.raises(BadInput, match="other key"):
        server_end(certificate, tmp_path / "other key")
    with pytest.raises(BadInput, match="two files"):
        new_certificate(certificate, certificate)


def test_a_private_key_that_others_may_touch_is_refused(files):
    files[1].chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        server_end(*files)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n!\n",
    ],
)
def test_what_is_no_certificate_is_named(files, content):
    files[0].write_bytes(content)
    for make in (lambda: client_end(files[0]), lambda: server_end(*files)):
        with pytest.raises(BadInput, match="certificate") as caught:
            make()
        assert "\n" not in str(caught.value)


def test_two_certificates_in_a_file_are_refused(files):
    files[0].write_bytes(2 * files[0].read_bytes())
    with pytest.raises(BadInput, match="one certificate"):
        client_end(files[0])


def test_a_missing_file_is_named(files, tmp_path):
    for arguments in ((tmp_path / "absent", files[1]), (files[0], tmp_path / "absent")):
        with pytest.raises(BadInput, match="absent"):
            server_end(*arguments)


def test_off_loopback_a_session_runs_in_tls(exact, serving, key, digits, certified, monkeypatch):
    near, far = certified
    monkeypatch.setattr(transport, "GREETING_TIMEOUT_S", 60)
    server = serving(exact, tls=far, listen="0.0.0.0:0")
    address = server.address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - this machine, by another name
    with Client(address, key, expected=exact.agreement, route=Route(near)) as client:
        assert (client.infer(digits.confirm.x[0]).logits == exact.logits(digits.confirm.x[:1])[0]).all()
    server.join()
    assert server.failure is None


def test_off_loopback_nothing_is_served_or_reached_plainly(certified):
    assert transport.parse_address("192.0.2.1:80", secured=True) == ("192.0.2.1", 80)
    assert transport.parse_address("[2001:db8::1]:80", secured=True) == ("2001:db8::1", 80)
    with pytest.raises(BadInput, match="certificate new"):
        transport.connect("192.0.2.1:80")
    with pytest.raises(BadInput, match="HOST:PORT"):
        transport.connect(":::", Route(certified[0]))
