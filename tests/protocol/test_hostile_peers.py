"""What a peer that misbehaves can do: end its own session, with one error, and nothing else."""

import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import pytest

from autoprivacy.common.errors import BadInput, InsecureParameters, ProtocolError
from autoprivacy.common.records import to_json
from autoprivacy.protocol import linear_layer, prepared_layer
from autoprivacy.protocol import serving as serving_module
from autoprivacy.protocol.agreement import AgreedLayer
from autoprivacy.protocol.conversation import INFER, MOST_PREPARED, PREPARE, SPEND
from autoprivacy.protocol.seal_keys import public_message_bytes
from autoprivacy.protocol.serving import MOST_CLIENTS
from autoprivacy.protocol.session import Client
from autoprivacy.protocol.tls import client_end, new_certificate
from autoprivacy.protocol.transport import (
    GREETING,
    KEY_BYTES,
    NONCE_BYTES,
    Channel,
    Kind,
    Route,
    greet_as_client,
    greet_as_server,
)
from autoprivacy.protocol.wire import ciphertext_bytes


def one_line(caught):
    message = str(caught.value)
    assert message
    assert "\n" not in message


def header(kind, length):
    return bytes([kind]) + length.to_bytes(7, "little")


def first_key_bytes(deployed):
    return public_message_bytes(deployed.agreement.layers[0].policy.he_set("he2024"))


# Hostile clients


@dataclass
class Attacker:
    """A client at some stage of a session; each stage ends by closing the connection, without a good-bye."""

    server: Any
    key: bytes
    layer: AgreedLayer
    key_bytes: int

    def connected(self):
        return self.server.connect()

    @contextmanager
    def greeted(self):
        with self.server.connect() as connection:
            channel = Channel(connection, 5)
            _, acceptance = greet_as_client(channel, self.key)
            channel.send(Kind.PROOF, acceptance)
            yield channel, connection

    @contextmanager
    def inferring(self):
        client = Client(self.server.address, self.key)
        try:
            client._channel.send(Kind.COMMAND, INFER)
            yield client._channel, client._steps.parties[0]
        finally:
            client._channel.close()

    @contextmanager
    def prepared(self):
        client = Client(self.server.address, self.key, schedule="preprocessed")
        client.prepare()
        try:
            yield client
        finally:
            client._end()

    @property
    def ciphertext_bytes(self):
        policy, layout = self.layer.policy, self.layer.layout
        return layout.inputs * ciphertext_bytes(policy.n, policy.limbs)


def nothing(attacker):
    attacker.connected().close()


def random_bytes(attacker):
    with attacker.connected() as connection:
        connection.sendall(np.random.default_rng(1).bytes(5000))


def a_huge_frame(attacker):
    with attacker.connected() as connection:
        connection.sendall(header(Kind.PROOF, (1 << 56) - 1))


def half_a_proof(attacker):
    with attacker.connected() as connection:
        connection.sendall(header(Kind.PROOF, NONCE_BYTES + KEY_BYTES) + bytes(10))


def a_reset(attacker):
    with attacker.connected() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def another_key(attacker):
    with attacker.connected() as connection:
        channel = Channel(connection, 5)
        channel.receive(Kind.GREETING, len(GREETING) + NONCE_BYTES)
        channel.send(Kind.PROOF, os.urandom(NONCE_BYTES), os.urandom(KEY_BYTES))
        with pytest.raises(ProtocolError):
            channel.receive(Kind.PROOF, KEY_BYTES)


def half_a_public_key(attacker):
    with attacker.greeted() as (_, connection):
        connection.sendall(header(Kind.PUBLIC_KEY, attacker.key_bytes) + bytes(100))


def no_public_key(attacker):
    with attacker.greeted() as (channel, _):
        channel.send(Kind.PUBLIC_KEY, b"\xff" * attacker.key_bytes)


def no_point(attacker):
    with attacker.greeted() as (channel, _):
        channel.send(Kind.PUBLIC_KEY, b"\1" * attacker.key_bytes)
        channel.send(Kind.BASE_OT, b"\xff" * 32)


def disconnect_after_the_command(attacker):
    with attacker.inferring():
        pass


def words_out_of_range(attacker):
    with attacker.inferring() as (channel, _):
        channel.send(Kind.CIPHERTEXTS, b"\xff" * attacker.ciphertext_bytes)


def a_ciphertext_too_short(attacker):
    with attacker.inferring() as (channel, _):
        channel.send(Kind.CIPHERTEXTS, bytes(attacker.ciphertext_bytes - 1))


def disconnect_within_a_ciphertext(attacker):
    with attacker.inferring() as (channel, _):
        channel._stream._connection.sendall(header(Kind.CIPHERTEXTS, attacker.ciphertext_bytes) + bytes(1000))


def a_short_transfer(attacker):
    layer = attacker.layer
    share = np.zeros((layer.shape.in_channels, layer.shape.height, layer.shape.width), np.int64)
    with attacker.inferring() as (channel, he):
        channel.send(Kind.CIPHERTEXTS, *linear_layer.request(he, layer.layout, share))
        channel.send(Kind.OT_COLUMNS, b"\1\2\3")


def frames_in_another_order(attacker):
    with attacker.inferring() as (channel, _), suppress(ProtocolError):  # it may be cut off before it is done
        channel.send(Kind.OT_COLUMNS, b"\1\2\3")
        channel.send(Kind.CIPHERTEXTS, b"\1" * attacker.ciphertext_bytes)


def the_same_key_twice(attacker):
    with attacker.greeted() as (channel, _), suppress(ProtocolError):
        for _ in range(2):
            channel.send(Kind.PUBLIC_KEY, b"\1" * attacker.key_bytes)


def another_version(attacker):
    with attacker.connected() as connection:
        channel = Channel(connection, 5)
        channel.receive(Kind.GREETING, len(GREETING) + NONCE_BYTES)
        channel.send(Kind.GREETING, b"autoprivacy/9\n\0\0", bytes(NONCE_BYTES))


def a_port_scanner(attacker):
    for _ in range(5):
        attacker.connected().close()
    with attacker.connected() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


def tls_where_none_is(attacker):
    with attacker.connected() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512))


def unknown_command(attacker):
    client = Client(attacker.server.address, attacker.key)
    client._channel.send(Kind.COMMAND, b"\7")
    client._channel.close()


def spend_what_was_not_prepared(attacker):
    client = Client(attacker.server.address, attacker.key)
    client._channel.send(Kind.COMMAND, SPEND)
    client._channel.close()


def spend_twice(attacker):
    with attacker.prepared() as client:
        client.infer(np.zeros((1, 8, 8)))
        client._channel.send(Kind.COMMAND, SPEND)


def prepare_without_end(attacker):
    with attacker.prepared() as client:
        for _ in range(MOST_PREPARED):
            try:
                client._prepared.append(client._prepare()[:2])
            except ProtocolError:
                return
    raise AssertionError


def disconnect_while_preparing(attacker):
    client = Client(attacker.server.address, attacker.key, schedule="preprocessed")
    client._channel.send(Kind.COMMAND, PREPARE)
    client._channel.close()


def a_short_masked_input(attacker):
    with attacker.prepared() as client:
        client._channel.send(Kind.COMMAND, SPEND)
        client._channel.send(Kind.MASKED_INPUT, b"\1\2\3")


def colours_before_the_input(attacker):
    with attacker.prepared() as client:
        client._channel.send(Kind.COMMAND, SPEND)
        client._channel.send(Kind.COLOURS, bytes(100))


def colours_of_another_length(attacker):
    with attacker.prepared() as client, pytest.MonkeyPatch.context() as patch, suppress(ProtocolError):
        patch.setattr(prepared_layer, "evaluate", lambda *_: b"\1\2\3")
        client.infer(np.zeros((1, 8, 8)))


def shares_asked_for(attacker):
    client = Client(attacker.server.address, attacker.key)
    with pytest.raises(ProtocolError), client:
        client.infer_revealed(np.zeros((1, 8, 8)))


ATTACKS = (
    nothing,
    random_bytes,
    a_huge_frame,
    half_a_proof,
    a_reset,
    another_key,
    half_a_public_key,
    no_public_key,
    no_point,
    disconnect_after_the_command,
    words_out_of_range,
    a_ciphertext_too_short,
    disconnect_within_a_ciphertext,
    a_short_transfer,
    frames_in_another_order,
    the_same_key_twice,
    another_version,
    a_port_scanner,
    tls_where_none_is,
    unknown_command,
    shares_asked_for,
    spend_what_was_not_prepared,
    spend_twice,
    prepare_without_end,
    disconnect_while_preparing,
    a_short_masked_input,
    colours_before_the_input,
    colours_of_another_length,
)


def attacker_of(server, key, deployed):
    return Attacker(server, key, deployed.agreement.layers[0], first_key_bytes(deployed))


def check_it_still_serves(server, deployed, key, image):
    with Client(server.address, key, expected=deployed.agreement) as client:
        logits = client.infer(image).logits
    assert np.array_equal(logits, deployed.logits(image[None])[0])
    server.join()
    assert server.failure is None
    assert server.lines[-1] == "served 1 inferences"


def test_a_server_outlives_clients_that_misbehave(exact, serving, key, digits):
    server = serving(exact, once=False)
    for attack in ATTACKS:
        attack(attacker_of(server, key, exact))
    check_it_still_serves(server, exact, key, digits.confirm.x[0])
    dropped = server.lines[1:-1]
    assert len(dropped) == len(ATTACKS) + 5  # the port scanner connects six times
    assert all(line.startswith("dropped a client: ") and "\n" not in line for line in dropped)


@pytest.mark.parametrize("zeros", [1, 2], ids=["second polynomial", "both"])
def test_a_server_outlives_a_ciphertext_of_zeros(exact, serving, key, digits, zeros):
    server = serving(exact, once=False)
    attacker = attacker_of(server, key, exact)
    half = attacker.ciphertext_bytes // 2
    with attacker.inferring() as (channel, _):
        channel.send(Kind.CIPHERTEXTS, b"\1" * (2 - zeros) * half, bytes(zeros * half))
        with pytest.raises(ProtocolError):
            channel.receive(Kind.RESPONSES, 1)
    check_it_still_serves(server, exact, key, digits.confirm.x[0])


def wait_for_line(server, text):
    """Until a server that goes on for ever has said so."""
    for _ in range(500):
        if any(text in line for line in server.lines):
            return
        time.sleep(0.02)
    raise AssertionError(server.lines)


def test_a_client_that_sends_nothing_is_given_up_and_holds_nobody(exact, serving, key, digits):
    server = serving(exact, once=False, timeout_s=0.5)
    with server.connect():
        wait_for_line(server, "did not finish a frame")
    with server.connect(), server.connect(), server.connect():
        check_it_still_serves(server, exact, key, digits.confirm.x[0])


def test_clients_beyond_the_most_wait_until_one_is_done(exact, serving, key, digits):
    server = serving(exact, once=False, timeout_s=2)
    idle = [server.connect() for _ in range(MOST_CLIENTS)]
    try:
        start = time.monotonic()
        check_it_still_serves(server, exact, key, digits.confirm.x[0])
        assert time.monotonic() - start > 0.5
        assert all("did not finish a frame" in line for line in server.lines[1:-1])
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize("schedule", ["online", "preprocessed"])
def test_clients_that_come_together_are_served_together(exact, serving, key, digits, schedule):
    """As many as are served at once, image after image in turn, each in a session of its own."""
    server = serving(exact, once=False)
    images = digits.confirm.x[:MOST_CLIENTS]
    clients = [Client(server.address, key, schedule=schedule) for _ in images]
    try:
        with ThreadPoolExecutor(len(clients)) as pool:
            found = list(pool.map(lambda pair: pair[0].infer(pair[1]).logits, zip(clients, images, strict=True)))
    finally:
        for client in clients:
            client.close()
    assert np.array_equal(np.stack(found), exact.logits(images))
    server.join()


class Dripping(threading.Thread):
    """Sends a byte at a time, faster than any time-out for one byte, until it is cut off."""

    def __init__(self, connection, content):
        super().__init__()
        self._connection, self._content = connection, content

    def run(self):
        with suppress(OSError):
            for byte in self._content:
                self._connection.sendall(bytes([byte]))
                time.sleep(0.02)


def test_a_client_that_drips_is_given_up_all_the_same(exact, serving, key, digits):
    server = serving(exact, once=False, timeout_s=0.5)
    with server.connect() as connection:
        dripping = Dripping(connection, header(Kind.PROOF, NONCE_BYTES + KEY_BYTES) + bytes(1000))
        dripping.start()
        wait_for_line(server, "within 0.5 s")
        dripping.join()
    check_it_still_serves(server, exact, key, digits.confirm.x[0])


def test_an_idle_client_is_given_up_and_told(exact, serving, key, digits):
    server = serving(exact, once=False, timeout_s=0.5)
    idle = Client(server.address, key)
    wait_for_line(server, "within 0.5 s")
    check_it_still_serves(server, exact, key, digits.confirm.x[0])
    with pytest.raises(ProtocolError) as caught:
        idle.infer(digits.confirm.x[0])
    idle._channel.close()
    one_line(caught)


def test_a_client_that_reads_nothing_is_given_up(sockets):
    channel = Channel(sockets[0], 0.2)
    with pytest.raises(ProtocolError, match=r"within 0\.2 s"):
        channel.send(Kind.GARBLED, bytes(1 << 25))


def test_what_clients_leave_behind_is_freed(exact, serving, key, digits, certified):
    """Descriptors are counted, after clients of every kind, plain and in TLS."""
    for tls in (None, certified[1]):
        server = serving(exact, once=False, tls=tls)
        before = psutil.Process().num_fds()
        for attack in (nothing, random_bytes, a_huge_frame, half_a_proof, a_reset, tls_where_none_is) * 3:
            attack(attacker_of(server, key, exact))
        if tls is None:
            for attack in (
                another_key,
                half_a_public_key,
                no_point,
                disconnect_within_a_ciphertext,
                words_out_of_range,
            ):
                attack(attacker_of(server, key, exact))
        with Client(server.address, key, route=Route(None if tls is None else certified[0])) as client:
            client.infer(digits.confirm.x[0])
        server.join()
        assert psutil.Process().num_fds() == before - 3  # its listening socket is closed too, and its own pair


def test_a_tls_server_outlives_those_who_speak_no_tls_and_those_who_pin_another(
    exact, serving, key, digits, certified, tmp_path
):
    new_certificate(tmp_path / "other", tmp_path / "private")
    server = serving(exact, once=False, tls=certified[1])
    for attack in (nothing, random_bytes, a_huge_frame, a_reset):
        attack(attacker_of(server, key, exact))
    for route in (Route(client_end(tmp_path / "other")), Route(timeout_s=0.2)):
        with pytest.raises(ProtocolError) as caught:
            Client(server.address, key, route=route)
        one_line(caught)
    with Client(server.address, key, route=Route(certified[0])) as client:
        logits = client.infer(digits.confirm.x[0]).logits
    assert np.array_equal(logits, exact.logits(digits.confirm.x[:1])[0])
    server.join()
    assert len(server.lines) == 1 + 6 + 1


# Hostile servers


@contextmanager
def hostile_server(act):
    """A peer that accepts one client and lets `act` speak to it; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(10)

        def accept():
            with listener.accept()[0] as connection:
                act(connection)

        acted = pool.submit(accept)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        acted.result(10)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", np.random.default_rng(2).bytes(10000), b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x01" + b"\xff" * 7],
    ids=["nothing", "a byte", "random", "http", "huge"],
)
def test_a_peer_that_is_no_server_is_one_error(key, content):
    with (
        hostile_server(lambda connection: connection.sendall(content)) as address,
        pytest.raises(ProtocolError) as caught,
    ):
        Client(address, key)
    one_line(caught)


def test_a_silent_server_is_one_error(key):
    gone = threading.Event()
    with hostile_server(lambda _: gone.wait(10)) as address:
        with pytest.raises(ProtocolError, match="did not finish a frame"):
            Client(address, key, route=Route(timeout_s=0.2))
        gone.set()


def test_a_server_with_another_key_is_refused(exact, serving):
    server = serving(exact)
    with pytest.raises(ProtocolError) as caught:
        Client(server.address, os.urandom(KEY_BYTES))
    one_line(caught)
    server.join()
    assert isinstance(server.failure, ProtocolError)


def server_that(agreement, key, act):
    """Speaks for a server up to the end of the handshake; then `act` has the channel."""

    def run(connection):
        channel = Channel(connection, 5)
        greet_as_server(channel, key, agreement)
        act(channel)

    return hostile_server(run)


@pytest.mark.parametrize("message", [b"", b"{}", b"\xff\xfe", b"[" * 10000], ids=["empty", "fields", "bytes", "deep"])
def test_an_agreement_that_is_none_is_one_error(key, message):
    def run(connection):
        with pytest.raises(ProtocolError):
            greet_as_server(Channel(connection, 5), key, message)

    with hostile_server(run) as address:
        with pytest.raises(BadInput, match="agreement") as caught:
            Client(address, key)
        one_line(caught)


def test_an_insecure_agreement_is_refused_by_the_client(tolerant, key):
    # A server that names a 27-bit modulus at n = 1024, which [HES24] does not allow.
    insecure = to_json(tolerant.agreement, indent=None).replace("67104769", "134215681").encode()
    assert b"134215681" in insecure

    def run(connection):
        with pytest.raises(ProtocolError):
            greet_as_server(Channel(connection, 5), key, insecure)

    with hostile_server(run) as address, pytest.raises(InsecureParameters, match="27-bit"):
        Client(address, key)


def test_random_base_transfers_of_a_server_are_one_error(tolerant, key):
    message = to_json(tolerant.agreement, indent=None).encode()

    def act(channel):
        channel.receive(Kind.PUBLIC_KEY, first_key_bytes(tolerant))
        channel.receive(Kind.BASE_OT, 32)
        channel.send(Kind.BASE_OT, b"\xff" * 4096)

    with server_that(message, key, act) as address, pytest.raises(ProtocolError) as caught:
        Client(address, key)
    one_line(caught)


class Lying(Channel):
    """Says `kind` as announced but one byte shorter, and what is in it is no use."""

    kind = Kind.COMMAND

    def send(self, kind, *parts):
        content = b"".join(parts)
        super().send(kind, b"\xff" * (len(content) - 1) if kind == self.kind else content)

    def send_parts(self, kind, length, parts):
        if kind == self.kind:
            self.send(kind, *map(bytes, parts))
        else:
            super().send_parts(kind, length, parts)


ANSWERS = {
    "online": (Kind.RESPONSES, Kind.GARBLED, Kind.LOGIT_SHARE),
    "preprocessed": (Kind.RESPONSES, Kind.TABLES, Kind.SERVER_LABELS, Kind.LOGIT_SHARE),
}


@pytest.mark.parametrize(("schedule", "kind"), [(name, kind) for name, kinds in ANSWERS.items() for kind in kinds])
def test_a_server_that_garbles_an_answer_is_one_error(
    tolerant, serving, key, digits, monkeypatch, tmp_path, schedule, kind
):
    monkeypatch.setattr(Lying, "kind", kind)
    monkeypatch.setattr(serving_module, "Channel", Lying)
    server = serving(tolerant)
    before = psutil.Process().num_fds()
    client = Client(server.address, key, schedule=schedule, spill_dir=tmp_path)
    with pytest.raises(ProtocolError) as caught, client:
        client.infer(digits.confirm.x[0])
    one_line(caught)
    server.join()
    assert isinstance(server.failure, ProtocolError)
    assert psutil.Process().num_fds() == before - 3  # what was spilled is closed, and what the server listens on
