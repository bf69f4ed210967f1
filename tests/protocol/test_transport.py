"""Frames, addresses, key files, and who may talk to whom."""

import os
import socket
import stat
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import BadInput, ProtocolError
from autoprivacy.protocol.streams import connected, listening
from autoprivacy.protocol.transport import (
    GREETING,
    HEADER_BYTES,
    KEY_BYTES,
    NONCE_BYTES,
    Channel,
    Kind,
    Traffic,
    connect,
    greet_as_client,
    greet_as_server,
    load_key,
    new_key,
    parse_address,
)

AGREEMENT = b'{"network": "any"}'


def refusal(function, *args):
    """The message of the one error that a call ends with; it has one line."""
    with pytest.raises(BadInput) as caught:
        function(*args)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return caught.type, message


def protocol_error(function, *args):
    kind, message = refusal(function, *args)
    assert kind is ProtocolError
    return message


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(Kind), st.lists(st.binary(max_size=4000), max_size=4))
def test_frames_arrive_as_sent_and_are_counted(channels, kind, parts):
    near, far = channels
    content = b"".join(parts)
    before = near.bytes_sent, far.bytes_received
    near.send(kind, *parts)
    assert far.receive(kind, len(content)) == content
    near.send(kind, content)
    assert far.receive_at_most(kind, 20000) == content
    near.send(kind, *parts)
    room = bytearray(len(content))
    far.receive_into(kind, memoryview(room))
    assert room == content
    assert near.bytes_sent - before[0] == far.bytes_received - before[1] == 3 * (HEADER_BYTES + len(content))


def test_round_trips_are_turns_from_sending_to_receiving(channels):
    near, far = channels
    start = near.traffic
    for sent, answered in ((3, 1), (1, 2), (0, 1), (1, 0), (1, 1)):
        for _ in range(sent):
            near.send(Kind.OT_COLUMNS, bytes(10))
            far.receive(Kind.OT_COLUMNS, 10)
        for _ in range(answered):
            far.send(Kind.GARBLED, bytes(100))
            near.receive(Kind.GARBLED, 100)
    assert near.traffic.since(start) == Traffic(
        bytes_sent=6 * 18, bytes_received=5 * 108, frames_sent=6, frames_received=5, round_trips=3
    )
    assert far.traffic.frames_sent == 5
    assert near.traffic.since(near.traffic) == Traffic()


def test_a_long_frame_may_take_longer_than_a_short_one(channels, sockets):
    """By a second for every 125,000 bytes: what arrives at that rate is not given up."""
    content = bytes(300_000)

    def drip():
        sockets[0].setblocking(True)  # noqa: FBT003 - the socket's own signature
        sockets[0].sendall(bytes([Kind.GARBLED]) + len(content).to_bytes(7, "little"))
        for start in range(0, len(content), 60_000):
            time.sleep(0.06)
            sockets[0].sendall(content[start : start + 60_000])

    with ThreadPoolExecutor(1) as pool:
        dripping = pool.submit(drip)
        assert channels[1].receive(Kind.GARBLED, len(content)) == content
        dripping.result()


def test_the_header_is_the_kind_and_the_length_in_little_endian(channels, sockets):
    channels[0].send(Kind.PROOF, b"x" * 258)
    assert sockets[1].recv(HEADER_BYTES) == bytes([2, 2, 1, 0, 0, 0, 0, 0])


def test_a_frame_larger_than_the_socket_buffers_arrives(channels):
    near, far = channels
    content = os.urandom(1 << 22)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(near.send, Kind.GARBLED, content)
        assert far.receive(Kind.GARBLED, len(content)) == content
        sending.result()


def test_another_kind_is_refused(channels):
    near, far = channels
    near.send(Kind.PROOF, b"abc")
    assert "COMMAND" in protocol_error(far.receive, Kind.COMMAND, 3)


@pytest.mark.parametrize("length", [0, 2, 4, 1 << 30, (1 << 56) - 1])
def test_another_length_is_refused_before_anything_is_read(channels, sockets, length):
    sockets[0].sendall(bytes([Kind.COMMAND]) + length.to_bytes(7, "little"))
    assert str(length) in protocol_error(channels[1].receive, Kind.COMMAND, 3)


def test_what_is_over_a_limit_is_refused(channels):
    near, far = channels
    near.send(Kind.TIMES, bytes(10))
    near.send(Kind.TIMES, bytes(11))
    assert far.receive_at_most(Kind.TIMES, 10) == bytes(10)
    assert "11 bytes" in protocol_error(far.receive_at_most, Kind.TIMES, 10)


@pytest.mark.parametrize("sent", [b"", b"\x0b\x03", b"\x0b\x03\0\0\0\0\0\0", b"\x0b\x03\0\0\0\0\0\0ab"])
def test_a_peer_that_closes_within_a_frame_is_one_error(channels, sockets, sent):
    sockets[0].sendall(sent)
    sockets[0].close()
    assert "closed" in protocol_error(channels[1].receive, Kind.COMMAND, 3)


@pytest.mark.parametrize("sent", [b"", b"\x0b\x03", b"\x0b\x03\0\0\0\0\0\0ab"])
def test_a_peer_that_falls_silent_is_one_error(channels, sockets, sent):
    sockets[0].sendall(sent)
    assert "did not finish a frame within 0.2 s" in protocol_error(channels[1].receive, Kind.COMMAND, 3)


def test_sending_to_a_peer_that_is_gone_is_one_error(channels, sockets):
    sockets[1].close()

    def send_much():
        for _ in range(100):
            channels[0].send(Kind.GARBLED, bytes(1 << 16))

    assert "lost" in protocol_error(send_much)


def test_loopback_addresses_are_understood():
    assert parse_address("127.0.0.1:8000") == ("127.0.0.1", 8000)
    assert parse_address("127.3.2.1:0") == ("127.3.2.1", 0)
    assert parse_address("localhost:65535") == ("localhost", 65535)
    assert parse_address("::1:80") == ("::1", 80)


@pytest.mark.parametrize("text", ["10.0.0.1:80", "0.0.0.0:80", "8.8.8.8:1", ":::80", ":80", "example.org:80"])
def test_addresses_off_loopback_are_refused(text):
    kind, message = refusal(parse_address, text)
    assert kind is BadInput
    assert "loopback" in message


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536", "127.0.0.1:8 0"],
)
def test_what_is_no_address_is_refused(text):
    kind, message = refusal(parse_address, text)
    assert kind is BadInput
    assert "HOST:PORT" in message


@pytest.mark.parametrize("port", ["\N{SUPERSCRIPT TWO}", "1" * 5000], ids=["superscript", "long"])
def test_digits_that_are_no_port_are_refused(port):
    assert refusal(parse_address, f"127.0.0.1:{port}")[0] is BadInput


def test_nobody_at_an_address_is_one_error(sockets):
    address = f"127.0.0.1:{sockets[0].getsockname()[1]}"  # a port in use, but not listened on
    assert address in protocol_error(connect, address)


def test_a_new_key_is_random_and_its_owner_s_alone(tmp_path):
    first, second = tmp_path / "first", tmp_path / "folder" / "second"
    new_key(first)
    new_key(second)
    assert stat.S_IMODE(first.stat().st_mode) == stat.S_IMODE(second.stat().st_mode) == 0o600
    assert len(load_key(first)) == len(load_key(second)) == KEY_BYTES
    assert load_key(first) != load_key(second)


def test_a_key_that_is_missing_is_refused(tmp_path):
    assert "missing" in refusal(load_key, tmp_path / "missing")[1]


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"00" * 33, b"zz" * 32, b"\xff" * 64, b"0" * 63])
def test_what_is_no_key_is_refused(tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    assert "key new" in refusal(load_key, path)[1]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_may_touch_is_refused(tmp_path, mode):
    path = tmp_path / "key"
    new_key(path)
    path.chmod(mode)
    assert "chmod 600" in refusal(load_key, path)[1]


def greet(channels, client_key, server_key, agreement=AGREEMENT):
    """Both handshakes, each in its thread; the client sends its acceptance, and both close once they failed."""

    def as_client():
        try:
            received, acceptance = greet_as_client(channels[0], client_key)
            channels[0].send(Kind.PROOF, acceptance)
        except ProtocolError:
            channels[0].close()
            raise
        return received

    def as_server():
        try:
            greet_as_server(channels[1], server_key, agreement)
        except ProtocolError:
            channels[1].close()
            raise

    with ThreadPoolExecutor(2) as pool:
        return pool.submit(as_client), pool.submit(as_server)


def test_with_one_key_the_agreement_arrives(channels, key):
    client, server = greet(channels, key, key)
    assert client.result() == AGREEMENT
    assert server.result() is None


def test_with_two_keys_both_sides_refuse(channels, key):
    client, server = greet(channels, key, os.urandom(KEY_BYTES))
    protocol_error(client.result)
    assert "key" in protocol_error(server.result)


def test_a_server_without_the_key_is_refused(channels, key):
    near, far = channels
    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(greet_as_client, near, key)
        far.send(Kind.GREETING, GREETING, bytes(NONCE_BYTES))
        echoed = far.receive(Kind.PROOF, NONCE_BYTES + KEY_BYTES)[NONCE_BYTES:]
        far.send(Kind.PROOF, echoed)  # the client's own proof proves nothing of the server
        far.send(Kind.AGREEMENT, AGREEMENT)
        assert "key" in protocol_error(client.result)


def test_another_version_is_refused(channels, key):
    channels[1].send(Kind.GREETING, b"autoprivacy/1\n\0\0", bytes(NONCE_BYTES))
    assert "version" in protocol_error(greet_as_client, channels[0], key)


class Tampering(Channel):
    """Flips the first bit of the agreement on its way out."""

    def send(self, kind, *parts):
        if kind == Kind.AGREEMENT:
            parts = (bytes([parts[0][0] ^ 1]) + parts[0][1:],)
        super().send(kind, *parts)


def test_an_agreement_that_was_changed_on_the_way_is_refused(sockets, key):
    client, server = greet((Channel(sockets[0], 0.2), Tampering(sockets[1], 0.2)), key, key)
    protocol_error(client.result)
    protocol_error(server.result)


class Recording(Channel):
    """Keeps the frames that it sent."""

    def __init__(self, *args):
        super().__init__(*args)
        self.frames = []

    def send(self, kind, *parts):
        self.frames.append((kind, b"".join(parts)))
        super().send(kind, *parts)


@pytest.fixture
def overheard(sockets, key):
    """The frames of a good handshake, by client and by server."""
    near, far = Recording(sockets[0], 0.2), Recording(sockets[1], 0.2)
    for future in greet((near, far), key, key):
        future.result()
    return near.frames, far.frames


def test_an_old_proof_does_not_let_a_client_in(overheard, channels, key):
    near, far = channels
    for frame in overheard[0]:
        near.send(*frame)
    assert "key" in protocol_error(greet_as_server, far, key, AGREEMENT)


def test_an_old_proof_does_not_make_a_server(overheard, channels, key):
    near, far = channels
    for frame in overheard[1]:
        far.send(*frame)
    assert "key" in protocol_error(greet_as_client, near, key)


def test_a_server_waits_for_the_acceptance_of_its_agreement(channels, key):
    near, far = channels
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(greet_as_server, far, key, AGREEMENT)
        _, acceptance = greet_as_client(near, key)
        near.send(Kind.PROOF, bytes([acceptance[0] ^ 1]) + acceptance[1:])
        protocol_error(server.result)


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="Linux's alone")
def test_loopback_is_not_paced():
    with listening("127.0.0.1", 0) as listener:
        near = connect(f"127.0.0.1:{listener.getsockname()[1]}")
        far = Channel(listener.accept()[0])
        assert (near.congestion_control, far.congestion_control) == ("reno", "reno")
        near.close()
        far.close()


def test_of_a_host_s_addresses_one_that_answers_is_taken(monkeypatch):
    with listening("127.0.0.1", 0) as listener, socket.create_server(("127.0.0.1", 0)) as gone:
        nobody, there = gone.getsockname(), listener.getsockname()
        gone.close()
        families = [(99, nobody), (socket.AF_INET, nobody), (socket.AF_INET, there)]
        found = [(family, socket.SOCK_STREAM, 0, "", address) for family, address in families]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
        with connected("some.host", 1, 5.0) as client:
            assert client.getpeername() == there
        del found[-1]
        with pytest.raises(ConnectionRefusedError):
            connected("some.host", 1, 5.0)


def test_a_peer_that_is_gone_before_it_is_spoken_to_is_one_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # resets
        with listener.accept()[0] as connection:
            assert "lost" in protocol_error(Channel(connection, timeout_s=1).receive, Kind.PROOF, 1)


def test_what_is_no_tcp_has_no_congestion_control():
    here, there = socket.socketpair()
    with here, there:
        assert Channel(here).congestion_control == "unknown"
