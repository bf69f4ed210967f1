"""Every interpreter of a linear layer agrees with torch, and executed counts with counted ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import InvalidPolicy, ProtocolError
from autoprivacy.protocol import linear_layer
from autoprivacy.protocol.axis import axes
from autoprivacy.protocol.clear import ClearHe
from autoprivacy.protocol.counting import CountingHe
from autoprivacy.protocol.he_set import he_set_for, ntt_prime
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.packing import CoefficientLayout, Tile
from autoprivacy.protocol.seal_he import SealServer
from autoprivacy.protocol.seal_keys import ServerKeys
from autoprivacy.protocol.tiles import default_tile
from tests.protocol.interpreters import seal_pair
from tests.protocol.noise import scaled_round


def convolve(shape, x, weight):
    import torch

    out = torch.nn.functional.conv2d(
        torch.from_numpy(x[None].astype(float)),
        torch.from_numpy(weight.astype(float)),
        stride=shape.stride,
        padding=shape.padding[:2],
    )
    return out[0].numpy().astype(np.int64).ravel()


@st.composite
def layouts(draw, n):
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = draw(st.integers(0, kernel - 1))
    shape = LinearShape(
        in_channels=draw(st.integers(1, 6)),
        height=draw(st.integers(kernel, 9)),
        width=draw(st.integers(kernel, 9)),
        out_channels=draw(st.integers(1, 6)),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(padding,) * 4,
    )
    if draw(st.booleans()):
        return CoefficientLayout(shape, default_tile(shape, n), n)
    down, across = axes(shape)
    height = draw(st.integers(down.kernel, down.whole))
    width = draw(st.integers(across.kernel, across.whole))
    channels = draw(st.integers(1, min(shape.in_channels, n // (height * width))))
    out = draw(st.integers(1, min(shape.out_channels, n // (height * width * channels))))
    return CoefficientLayout(shape, Tile(channels, out, height, width), n)


def tensors(layout, t, rng):
    shape = layout.shape
    x = rng.integers(0, 16, (shape.in_channels, shape.height, shape.width))
    weight = rng.integers(-8, 8, shape.weight_shape)
    weight[rng.random(shape.out_channels) < 0.2] = 0
    client = rng.integers(0, t, x.shape)
    return x, weight, client, (x - client) % t


def run(client, server, layout, weight, client_share, server_share, t):
    encoded = linear_layer.encode_layer(server, layout, weight)
    requests = linear_layer.request(client, layout, client_share)
    responses, kept = linear_layer.answer(server, layout, encoded, requests, server_share)
    opened = linear_layer.finish(client, layout, responses)
    return (kept + opened + t // 2) % t - t // 2, opened, requests, responses


@settings(max_examples=150, deadline=None)
@given(layouts(256), st.integers(0, 2**32))
def test_the_clear_interpreter_equals_torch(layout, seed):
    rng = np.random.default_rng(seed)
    t = 1 << 16
    x, weight, mine, theirs = tensors(layout, t, rng)
    he = ClearHe(layout.n, t, rng)
    result, *_ = run(he, he, layout, weight, mine, theirs, t)
    assert np.array_equal(result, convolve(layout.shape, x, weight))


@settings(max_examples=25, deadline=None)
@given(layouts(2048), st.integers(0, 2**32))
def test_seal_equals_torch_and_does_what_was_counted(layout, seed):
    rng = np.random.default_rng(seed)
    he_set = he_set_for(2048, (53,), 1 << 16)
    x, weight, mine, theirs = tensors(layout, he_set.t, rng)
    client, server, _ = seal_pair(he_set)
    result, _, requests, responses = run(client, server, layout, weight, mine, theirs, he_set.t)
    # P(error) is about 1e-8 a value under these parameters (error_model).
    assert np.array_equal(result, convolve(layout.shape, x, weight))

    counted = CountingHe(he_set)
    run(counted, counted, layout, weight, mine, theirs, he_set.t)
    assert client.operations + server.operations == counted.operations
    assert sum(map(len, requests)) == counted.bytes_up
    assert sum(map(len, responses)) == counted.bytes_down


def test_keys_made_for_one_plaintext_modulus_serve_another():
    _, _, keys = seal_pair(he_set_for(1024, (26,), 1 << 8))
    used_for = he_set_for(1024, (26,), 1 << 12)
    client, server, _ = seal_pair(used_for, keys=keys)
    shape = LinearShape(2, 5, 5, 3, (3, 3), (1, 1), (1, 1, 1, 1))
    layout = CoefficientLayout(shape, default_tile(shape, 1024), 1024)
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, (2, 5, 5))
    weight = rng.integers(-1, 2, (3, 2, 3, 3))
    result, *_ = run(client, server, layout, weight, x, None, used_for.t)
    assert np.abs(result - convolve(shape, x, weight)).max() <= 1


def test_what_the_client_opens_is_uniform_and_never_repeats():
    he_set = he_set_for(1024, (26,), 1 << 8)
    client, server, _ = seal_pair(he_set)
    shape = LinearShape(1, 16, 16, 4, (3, 3))
    layout = CoefficientLayout(shape, default_tile(shape, 1024), 1024)
    x, weight = np.ones((1, 16, 16), np.int64), np.ones((4, 1, 3, 3), np.int64)
    shares = [run(client, server, layout, weight, x, None, he_set.t)[1] for _ in range(20)]
    assert len({share.tobytes() for share in shares}) == len(shares)
    counts = np.bincount(np.concatenate(shares), minlength=256)
    expected = counts.sum() / 256
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 255 + 6 * np.sqrt(2 * 255)


def test_hostile_ciphertexts_are_refused_with_one_line():
    he_set = he_set_for(1024, (26,), 1 << 8)
    client, server, _ = seal_pair(he_set)
    good = client.encrypt(np.zeros(1024, np.int64))
    for bad in (b"", good[:-1], good + b"\0", b"\xff" * len(good)):
        with pytest.raises(ProtocolError):
            server.receive(bad, None)
    for bad in (b"", b"\xff" * len(good)):
        with pytest.raises(ProtocolError):
            SealServer(he_set, ServerKeys(he_set, bad))


def test_a_tile_that_does_not_fit_is_refused():
    shape = LinearShape(4, 8, 8, 4, (3, 3), (1, 1), (1, 1, 1, 1))
    for tile in (Tile(5, 1, 10, 10), Tile(4, 4, 10, 10), Tile(0, 1, 10, 10), Tile(1, 1, 2, 10), Tile(1, 1, 10, 11)):
        with pytest.raises(InvalidPolicy, match="tile"):
            CoefficientLayout(shape, tile, 1024)


@settings(deadline=None)
@given(st.integers(2, 40), st.lists(st.integers(0, ntt_prime(2048, 53) - 1), min_size=1))
def test_scaled_rounding_is_exact(t_bits, values):
    q, t = ntt_prime(2048, 53), 1 << t_bits
    found = scaled_round(np.array(values, np.uint64), t, q)
    assert found.tolist() == [(2 * v * t + q) // (2 * q) for v in values]
