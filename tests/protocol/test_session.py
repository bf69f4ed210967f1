"""Real sessions: what comes out, and what a peer that misbehaves can do."""

import os
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from autoprivacy.common.errors import BadInput, InsecureParameters, ProtocolError
from autoprivacy.common.records import save, to_json
from autoprivacy.networks import reference
from autoprivacy.protocol import serving as serving_module
from autoprivacy.protocol import session
from autoprivacy.protocol.error_model import decryption_error
from autoprivacy.protocol.policy import agree
from autoprivacy.protocol.seal_he import public_key_bytes
from autoprivacy.protocol.session import INFER, Client
from autoprivacy.protocol.transport import (
    GREETING,
    KEY_BYTES,
    NONCE_BYTES,
    Channel,
    Kind,
    connect,
    greet_as_client,
    greet_as_server,
    load_key,
    new_key,
)

IMAGES = 10
SIGMAS = 6


def reference_logits(deployed, images):
    return reference.run(deployed.network, deployed.network.quantise_input(images)).logits


def one_line(caught):
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


# What comes out


def test_logits_are_the_integer_reference_bit_for_bit(exact, serving, key, digits):
    images = digits.confirm.x[:IMAGES]
    server = serving(exact)
    with Client(server.address, key, expected=exact.agreement) as client:
        logits = np.stack([client.infer(image).logits for image in images])
    server.join()
    assert np.array_equal(logits, reference_logits(exact, images))
    assert server.lines[1:] == [f"served {IMAGES} inferences"]
    # The network works: what was compared is not noise.
    assert (logits.argmax(axis=1) == digits.confirm.y[:IMAGES]).mean() >= 0.8


def test_other_moduli_and_tiles_per_layer_change_nothing(deploy, serving, key, digits):
    tiles = ((1, 8, 4, 5), (2, 3, 5, 4), (50, 3, 1, 1))
    mixed = deploy(((2048, 53), (2048, 40), (4096, 60)), 6, tiles)
    images = digits.confirm.x[:2]
    with Client(serving(mixed).address, key, expected=mixed.agreement) as client:
        logits = np.stack([client.infer(image).logits for image in images])
    assert np.array_equal(logits, reference_logits(mixed, images))


def test_extreme_images_saturate_as_in_the_reference(exact, serving, key):
    images = np.stack([np.full((1, 8, 8), value) for value in (0.0, 1e6, -1e6)])
    with Client(serving(exact).address, key) as client:
        logits = np.stack([client.infer(image).logits for image in images])
    assert np.array_equal(logits, reference_logits(exact, images))


def judged_errors(deployed, image, accumulators):
    """Decryption errors by layer, each layer judged on the activations that the opened accumulators before it give."""
    errors = {}
    entering = deployed.network.quantise_input(image[None])
    for stage in deployed.network.stages:
        clean = reference.linear(stage, entering)
        opened = accumulators[stage.name].reshape(clean.shape)
        errors[stage.name] = opened - clean
        if stage.requantise is not None:
            entering = reference.requantise(stage.requantise, opened)
    return errors


def test_with_a_small_set_logits_are_the_reference_with_the_errors_that_the_model_states(
    tolerant, serving, key, digits
):
    images = digits.confirm.x[: 2 * IMAGES]
    server = serving(tolerant, reveal=True)
    with Client(server.address, key, expected=tolerant.agreement) as client:
        runs = [client.infer_revealed(image) for image in images]
    server.join()
    logits = np.stack([inference.logits for inference, _ in runs])
    judged = [
        judged_errors(tolerant, image, revealed.accumulators) for image, (_, revealed) in zip(images, runs, strict=True)
    ]
    errors = {name: np.concatenate([each[name] for each in judged]) for name in judged[0]}
    inputs = tolerant.network.quantise_input(images)
    assert np.array_equal(logits, reference.run(tolerant.network, inputs, errors=errors).logits)
    assert any(error.any() for error in errors.values())
    assert not np.array_equal(logits, reference.run(tolerant.network, inputs).logits)

    for layer, stage in zip(tolerant.agreement.layers, tolerant.network.stages, strict=True):
        model = decryption_error(layer.policy.he_set("he2024"), layer.layout, stage.weight)
        seen = errors[stage.name]
        rates = np.broadcast_to(model.error_rates[:, None, None], seen.shape)
        deviation = np.sqrt((rates * (1 - rates)).sum())
        assert abs(np.count_nonzero(seen) - rates.sum()) <= SIGMAS * deviation + 1
        # One step of rounding more than the noise; a circuit that computed anything else would be far outside.
        assert (np.abs(seen) <= 1 + SIGMAS * model.deviation[:, None, None]).all()


def test_opened_accumulators_are_those_of_the_reference(exact, serving, key, digits):
    image = digits.confirm.x[0]
    with Client(serving(exact, reveal=True).address, key) as client:
        inference, revealed = client.infer_revealed(image)
    trace = reference.run(exact.network, exact.network.quantise_input(image[None]))
    assert list(revealed.accumulators) == list(trace.accumulators)
    for name, expected in trace.accumulators.items():
        assert np.array_equal(revealed.accumulators[name], expected.ravel())
    assert np.array_equal(inference.logits, trace.logits[0])
    assert len(revealed.server) == len(inference.client) == len(exact.agreement.layers)


def test_the_same_image_is_never_sent_or_answered_the_same_way_twice(tolerant, serving, key, digits, monkeypatch):
    contents = []

    class Recording(Channel):
        def receive(self, kind, length):
            content = super().receive(kind, length)
            if kind in (Kind.CIPHERTEXTS, Kind.RESPONSES, Kind.OT_COLUMNS, Kind.GARBLED, Kind.LOGIT_SHARE):
                contents.append((kind, content))
            return content

    monkeypatch.setattr("autoprivacy.protocol.transport.Channel", Recording)
    monkeypatch.setattr(serving_module, "Channel", Recording)
    with Client(serving(tolerant).address, key) as client:
        for _ in range(3):
            client.infer(digits.confirm.x[0])
    assert len(contents) == 3 * 11
    assert len(set(contents)) == len(contents)


@contextmanager
def server_process(deployed, folder, *options):
    """A server of its own process; gives its address, its key and the process."""
    new_key(folder / "key")
    save(deployed.policy, folder / "policy.json")
    command = [sys.executable, "-m", "autoprivacy.cli.main", "serve", "digits-cnn", "--once", *options]
    command += ["--policy", str(folder / "policy.json"), "--key-file", str(folder / "key")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process.stdout.readline().strip().removeprefix("listening on "), load_key(folder / "key"), process
        finally:
            process.kill()


def test_two_processes_infer(exact, digits, tmp_path):
    images = digits.confirm.x[:3]
    with server_process(exact, tmp_path) as (address, shared, process):
        with Client(address, shared, expected=exact.agreement) as client:
            logits = np.stack([client.infer(image).logits for image in images])
        assert process.wait(20) == 0
        assert process.stderr.read() == "served 3 inferences\n"
    assert np.array_equal(logits, reference_logits(exact, images))


# What is refused


def test_shares_are_opened_only_by_a_server_for_testing(tolerant, serving, key, digits):
    server = serving(tolerant)
    with pytest.raises(ProtocolError), Client(server.address, key) as client:
        client.infer_revealed(digits.confirm.x[0])
    server.join()
    assert isinstance(server.failure, ProtocolError)
    assert "--reveal-for-testing" in str(server.failure)


def test_another_agreement_than_expected_is_refused_before_any_key_is_sent(exact, serving, key):
    layers = exact.policy.layers
    other_policy = replace(exact.policy, layers=layers | {"fc": replace(layers["fc"], t=2 * layers["fc"].t)})
    server = serving(exact)
    with pytest.raises(ProtocolError, match="another network or policy") as caught:
        Client(server.address, key, expected=agree(exact.network, other_policy))
    one_line(caught)
    server.join()
    assert isinstance(server.failure, ProtocolError)


def test_images_that_do_not_fit_are_refused_and_the_session_goes_on(exact, serving, key, digits):
    good = digits.confirm.x[0]
    holes = good.copy()
    holes[0, 3, 3] = np.nan
    server = serving(exact)
    with Client(server.address, key) as client:
        for bad in (good[0], good[None], np.zeros((1, 8, 9)), np.zeros(0), holes, good + np.inf):
            with pytest.raises(BadInput, match=r"\(1, 8, 8\)"):
                client.infer(bad)
        assert np.array_equal(client.infer(good).logits, reference_logits(exact, good[None])[0])
    server.join()
    assert server.lines[1:] == ["served 1 inferences"]


# Hostile clients: each speaks to a server that must go on; `say` is a socket, `key` the right one.


def nothing(say, key, deployed):
    pass


def random_bytes(say, key, deployed):
    say.sendall(np.random.default_rng(1).bytes(5000))


def a_huge_frame(say, key, deployed):
    say.sendall(bytes([Kind.PROOF]) + b"\xff" * 7)


def half_a_proof(say, key, deployed):
    say.sendall(bytes([Kind.PROOF, NONCE_BYTES + KEY_BYTES]) + bytes(6) + bytes(10))


def a_reset(say, key, deployed):
    say.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def another_key(say, key, deployed):
    channel = Channel(say, 5)
    channel.receive(Kind.GREETING, len(GREETING) + NONCE_BYTES)
    channel.send(Kind.PROOF, os.urandom(NONCE_BYTES), os.urandom(KEY_BYTES))
    with pytest.raises(ProtocolError):
        channel.receive(Kind.PROOF, KEY_BYTES)


def greeted(say, key):
    channel = Channel(say, 5)
    _, acceptance = greet_as_client(channel, key)
    channel.send(Kind.PROOF, acceptance)
    return channel


def first_key_bytes(deployed):
    return public_key_bytes(deployed.agreement.layers[0].policy.he_set("he2024"))


def half_a_public_key(say, key, deployed):
    greeted(say, key)
    say.sendall(bytes([Kind.PUBLIC_KEY]) + first_key_bytes(deployed).to_bytes(7, "little") + bytes(100))


def no_public_key(say, key, deployed):
    greeted(say, key).send(Kind.PUBLIC_KEY, b"\xff" * first_key_bytes(deployed))


def no_point(say, key, deployed):
    channel = greeted(say, key)
    channel.send(Kind.PUBLIC_KEY, b"\1" * first_key_bytes(deployed))
    channel.send(Kind.BASE_OT, b"\xff" * 32)


BEFORE_SETUP = (
    nothing,
    random_bytes,
    a_huge_frame,
    half_a_proof,
    a_reset,
    another_key,
    half_a_public_key,
    no_public_key,
    no_point,
)


@contextmanager
def attacking(address, key):
    """A client whose session is set up, and that does not say good-bye."""
    client = Client(address, key)
    try:
        yield client, client._channel
    finally:
        client._channel.close()


def unknown_command(client, channel):
    channel.send(Kind.COMMAND, b"\7")


def disconnect_after_the_command(client, channel):
    channel.send(Kind.COMMAND, INFER)


def ciphertext_bytes(client):
    policy = client.agreement.layers[0].policy
    return 2 * policy.n * policy.limbs[0].bit_length() // 8 * client.agreement.layers[0].layout.in_groups


def words_out_of_range(client, channel):
    channel.send(Kind.COMMAND, INFER)
    channel.send(Kind.CIPHERTEXTS, b"\xff" * ciphertext_bytes(client))


def a_ciphertext_too_short(client, channel):
    channel.send(Kind.COMMAND, INFER)
    channel.send(Kind.CIPHERTEXTS, bytes(ciphertext_bytes(client) - 1))


def a_transparent_ciphertext(client, channel):
    channel.send(Kind.COMMAND, INFER)
    channel.send(Kind.CIPHERTEXTS, bytes(ciphertext_bytes(client)))


def disconnect_within_a_layer(client, channel):
    channel.send(Kind.COMMAND, INFER)
    channel.send(Kind.CIPHERTEXTS, np.random.default_rng(3).bytes(ciphertext_bytes(client) // 8) + bytes(1))


def random_answer_in_the_middle(client, channel):
    layer = client.agreement.layers[0]
    share = np.zeros((1, 8, 8), np.int64)
    requests = session.linear_layer.request(client._parties[0], layer.layout, share)
    channel.send(Kind.COMMAND, INFER)
    channel.send(Kind.CIPHERTEXTS, *requests)
    channel.send(Kind.OT_COLUMNS, b"\1\2\3")


AFTER_SETUP = (
    unknown_command,
    disconnect_after_the_command,
    words_out_of_range,
    a_ciphertext_too_short,
    disconnect_within_a_layer,
    random_answer_in_the_middle,
)


def check_it_still_serves(server, deployed, key, image):
    with Client(server.address, key, expected=deployed.agreement) as client:
        logits = client.infer(image).logits
    server.join()
    assert server.failure is None
    assert server.lines[-1] == "served 1 inferences"
    return logits


def test_a_server_outlives_clients_that_misbehave(exact, serving, key, digits):
    server = serving(exact, once=False)
    for attack in BEFORE_SETUP:
        with server.connect() as say:
            attack(say, key, exact)
    for attack in AFTER_SETUP:
        with attacking(server.address, key) as (client, channel):
            attack(client, channel)
    logits = check_it_still_serves(server, exact, key, digits.confirm.x[0])
    assert np.array_equal(logits, reference_logits(exact, digits.confirm.x[:1])[0])
    dropped = server.lines[1:-1]
    assert len(dropped) == len(BEFORE_SETUP) + len(AFTER_SETUP)
    assert all(line.startswith("dropped a client: ") and "\n" not in line for line in dropped)


def test_a_server_outlives_a_ciphertext_without_its_second_polynomial(exact, serving, key, digits):
    server = serving(exact, once=False)
    with attacking(server.address, key) as (client, channel):
        a_transparent_ciphertext(client, channel)
        with pytest.raises(ProtocolError):
            channel.receive(Kind.RESPONSES, 1)
    check_it_still_serves(server, exact, key, digits.confirm.x[0])


def test_a_client_that_sends_nothing_holds_a_server_only_for_its_patience(exact, serving, key, digits, monkeypatch):
    monkeypatch.setattr(serving_module, "Channel", partial(Channel, timeout_s=0.5))
    server = serving(exact, once=False)
    with server.connect():
        check_it_still_serves(server, exact, key, digits.confirm.x[0])
    assert "silent" in server.lines[1]


def test_a_session_that_ends_at_once_is_no_failure(exact, serving, key):
    server = serving(exact)
    Client(server.address, key).close()
    server.join()
    assert server.failure is None
    assert server.lines[1:] == ["served 0 inferences"]


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
        yield "127.0.0.1:{}".format(listener.getsockname()[1])
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


def test_a_silent_server_is_one_error(key, monkeypatch):
    monkeypatch.setattr(session, "connect", partial(connect, timeout_s=0.2))
    gone = threading.Event()
    with hostile_server(lambda _: gone.wait(10)) as address:
        with pytest.raises(ProtocolError, match="silent"):
            Client(address, key)
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


@pytest.mark.parametrize("kind", [Kind.RESPONSES, Kind.GARBLED, Kind.LOGIT_SHARE])
def test_a_server_that_garbles_an_answer_is_one_error(tolerant, serving, key, digits, monkeypatch, kind):
    class Lying(Channel):
        def send(self, sent, *parts):
            content = b"".join(parts)
            super().send(sent, b"\xff" * (len(content) - (sent == kind)) if sent == kind else content)

    monkeypatch.setattr(serving_module, "Channel", Lying)
    server = serving(tolerant)
    with pytest.raises(ProtocolError) as caught, Client(server.address, key) as client:
        client.infer(digits.confirm.x[0])
    one_line(caught)
    server.join()
    assert isinstance(server.failure, ProtocolError)


def test_a_server_that_dies_is_one_error(exact, digits, tmp_path):
    with server_process(exact, tmp_path) as (address, shared, process):
        client = Client(address, shared)
        process.kill()
        process.wait(10)
        with pytest.raises(ProtocolError) as caught:
            client.infer(digits.confirm.x[0])
        one_line(caught)
        with pytest.raises(ProtocolError):
            client.close()
