"""Real sessions: what comes out, and what is refused."""

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from autoprivacy.common.errors import BadInput, ProtocolError
from autoprivacy.common.records import save
from autoprivacy.networks import reference
from autoprivacy.protocol import serving as serving_module
from autoprivacy.protocol import transport
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.error_model import decryption_errors
from autoprivacy.protocol.session import Client
from autoprivacy.protocol.transport import Channel, Kind, load_key, new_key

IMAGES = 10
SIGMAS = 6
SCHEDULES = ("online", "preprocessed")


# What comes out


def test_logits_are_the_integer_reference_bit_for_bit(exact, serving, key, digits):
    images = digits.confirm.x[:IMAGES]
    server = serving(exact)
    with Client(server.address, key, expected=exact.agreement) as client:
        logits = np.stack([client.infer(image).logits for image in images])
    server.join()
    assert np.array_equal(logits, exact.logits(images))
    assert server.lines[1:] == [f"served {IMAGES} inferences"]
    # The network works: what was compared is not noise.
    assert (logits.argmax(axis=1) == digits.confirm.y[:IMAGES]).mean() >= 0.8


def test_other_moduli_and_tiles_per_layer_change_nothing(deploy, serving, key, digits):
    tiles = ((1, 8, 4, 5), (2, 3, 5, 4), (50, 3, 1, 1))
    mixed = deploy(((2048, 53), (2048, 40), (4096, 60)), 6, tiles)
    images = digits.confirm.x[:2]
    with Client(serving(mixed).address, key, expected=mixed.agreement) as client:
        logits = np.stack([client.infer(image).logits for image in images])
    assert np.array_equal(logits, mixed.logits(images))


def test_extreme_images_saturate_as_in_the_reference(exact, serving, key):
    images = np.stack([np.full((1, 8, 8), value) for value in (0.0, 1e6, -1e6)])
    with Client(serving(exact).address, key) as client:
        logits = np.stack([client.infer(image).logits for image in images])
    assert np.array_equal(logits, exact.logits(images))


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


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_with_a_small_set_logits_are_the_reference_with_the_errors_that_the_model_states(
    tolerant, serving, key, digits, schedule
):
    images = digits.confirm.x[: 2 * IMAGES]
    server = serving(tolerant, reveal=True)
    with Client(server.address, key, expected=tolerant.agreement, schedule=schedule) as client:
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

    for name, model in decryption_errors(tolerant.network, tolerant.agreement).items():
        seen = errors[name]
        rates = np.broadcast_to(model.error_rates[:, None, None], seen.shape)
        deviation = np.sqrt((rates * (1 - rates)).sum())
        assert abs(np.count_nonzero(seen) - rates.sum()) <= SIGMAS * deviation + 1
        spread = np.sqrt((np.broadcast_to(model.deviation[:, None, None], seen.shape) ** 2 + rates).sum())
        assert abs(seen.sum()) <= SIGMAS * spread + 1  # rounding a share is as often one too many as one too few
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


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_same_image_is_never_sent_or_answered_the_same_way_twice(
    tolerant, serving, key, digits, monkeypatch, schedule
):
    contents = []

    class Recording(Channel):
        def receive(self, kind, length):
            content = super().receive(kind, length)
            if kind > Kind.BASE_OT and kind != Kind.COMMAND:
                contents.append((kind, content))
            return content

        def receive_parts(self, kind, sizes):
            for part in super().receive_parts(kind, sizes):
                contents.append((kind, bytes(part)))
                yield part

    monkeypatch.setattr(transport, "Channel", Recording)
    monkeypatch.setattr(serving_module, "Channel", Recording)
    with Client(serving(tolerant).address, key, schedule=schedule) as client:
        for _ in range(3):
            client.infer(digits.confirm.x[0])
    assert len(contents) >= 3 * 11
    assert len(set(contents)) == len(contents)


@contextmanager
def server_process(deployed, folder, *options):
    """A server of its own process; gives its address, its key and the process."""
    new_key(folder / "key")
    save(deployed.policy, folder / "policy.json")
    command = [sys.executable, "-m", "autoprivacy.cli.main", "serve", deployed.policy.network, "--once", *options]
    command += ["--policy", str(folder / "policy.json"), "--key-file", str(folder / "key")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().removeprefix("listening on "), load_key(folder / "key"), process
        finally:
            process.kill()


@pytest.mark.parametrize("options", [(), ("--workers", "2", "--weight-memory-gib", "0.00001")], ids=["plain", "split"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_two_processes_infer(exact, digits, tmp_path, options, schedule):
    images = digits.confirm.x[:3]
    with server_process(exact, tmp_path, *options) as (address, shared, process):
        with Client(address, shared, expected=exact.agreement, schedule=schedule) as client:
            logits = np.stack([client.infer(image).logits for image in images])
        assert process.wait(20) == 0
        assert process.stderr.read() == "served 3 inferences\n"
    assert np.array_equal(logits, exact.logits(images))


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
    assert "\n" not in str(caught.value)
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
        assert np.array_equal(client.infer(good).logits, exact.logits(good[None])[0])
    server.join()
    assert server.lines[1:] == ["served 1 inferences"]


def test_a_session_that_ends_at_once_is_no_failure(exact, serving, key):
    server = serving(exact)
    Client(server.address, key).close()
    server.join()
    assert server.failure is None
    assert server.lines[1:] == ["served 0 inferences"]


def test_a_server_that_dies_is_one_error(exact, digits, tmp_path):
    with server_process(exact, tmp_path) as (address, shared, process):
        client = Client(address, shared)
        process.kill()
        process.wait(10)
        with pytest.raises(ProtocolError) as caught:
            client.infer(digits.confirm.x[0])
        assert "\n" not in str(caught.value)
        with pytest.raises(ProtocolError):
            client.close()
