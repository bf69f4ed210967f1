"""A layer split among processes: the same results, no mask twice, and one line when something goes wrong."""

import numpy as np
import pytest

from autoprivacy.common.errors import ProtocolError
from autoprivacy.protocol import linear_layer
from autoprivacy.protocol.circuit_privacy import UNIFORM, CircuitPrivacy
from autoprivacy.protocol.encoded_weights import EncodedWeights, product_bytes
from autoprivacy.protocol.he_set import he_set_for, ntt_prime
from autoprivacy.protocol.layer_workers import LayerWorkers, ServerLayer, WorkerDied
from autoprivacy.protocol.linear_layer import default_tile_of, layout_of, rotation_steps_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.wire import ciphertext_bytes, response_bytes
from tests.protocol.interpreters import seal_pair
from tests.protocol.layers import convolve

SETS = {
    "coefficients": (he_set_for(1024, (26,), 1 << 8), UNIFORM),
    "slots": (he_set_for(8192, (50, 50), ntt_prime(8192, 20), special_bits=60), CircuitPrivacy("rerandomise")),
}
SHAPE = LinearShape(6, 12, 12, 10, (3, 3), (1, 1), (1, 1, 1, 1))
WIDE = LinearShape(4, 30, 40, 10, (3, 3), (1, 1), (1, 1, 1, 1))


def served(packing, shape, budget_bytes=1 << 30):
    he_set, privacy = SETS[packing]
    layout = layout_of(shape, packing, default_tile_of(shape, packing, he_set.n), he_set.n)
    client, server, _ = seal_pair(he_set, packing, privacy=privacy, steps=rotation_steps_of(layout))
    weight = np.random.default_rng(1).integers(-1, 2, shape.weight_shape)
    weights = EncodedWeights(server, layout, weight, product_bytes(he_set.n, he_set.limbs), budget_bytes)
    requests = [ciphertext_bytes(he_set.n, he_set.limbs)] * layout.inputs
    responses = [response_bytes(he_set.n, he_set.limbs, sent) for sent in layout.response_sizes.tolist()]
    return client, ServerLayer(server, layout, weights, requests, responses), weight, he_set.t


@pytest.mark.parametrize("shape", [SHAPE, WIDE], ids=["one window", "windows"])
@pytest.mark.parametrize("packing", SETS)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_give_plain_convolution(packing, shape, workers):
    client, layer, weight, t = served(packing, shape)
    rng = np.random.default_rng(2)
    x = rng.integers(0, 2, (shape.in_channels, shape.height, shape.width))
    share = rng.integers(0, t, x.shape)
    with LayerWorkers([layer], workers) as pool:
        for own in ((x - share) % t, None):
            requests = linear_layer.request(client, layer.layout, x if own is None else share)
            responses, kept = pool.answer(0, requests, own)
            assert [len(sent) for sent in responses] == list(layer.response_sizes)
            found = (kept + linear_layer.finish(client, layer.layout, responses) + t // 2) % t - t // 2
            off = found - convolve(shape, x, weight)
            # The small set errs by one now and then, by share rounding.
            assert np.abs(off).max() <= (1 if packing == "coefficients" else 0)


def test_masks_never_repeat_across_workers_or_calls():
    client, layer, _, _ = served("coefficients", SHAPE)
    with LayerWorkers([layer], 3) as pool:
        requests = linear_layer.request(client, layer.layout, np.zeros((6, 12, 12), np.int64))
        sent = [message for _ in range(6) for message in pool.answer(0, requests, None)[0]]
    assert len(set(sent)) == len(sent) == 6 * layer.layout.responses
    masks = [message[:64] for message in sent]
    assert len(set(masks)) == len(masks)


@pytest.mark.parametrize("packing", SETS)
def test_weights_beyond_the_budget_are_encoded_when_used(packing):
    client, layer, weight, t = served(packing, SHAPE)
    assert layer.weights.kept_bytes == sum(
        weights is not None for row in layer.weights for weights in row
    ) * product_bytes(layer.layout.n, SETS[packing][0].limbs)
    for budget in (0, layer.weights.kept_bytes // 2):
        client, lazy, weight, t = served(packing, SHAPE, budget)
        assert lazy.weights.kept_bytes <= budget < layer.weights.kept_bytes
        x = np.random.default_rng(3).integers(0, 2, (6, 12, 12))
        responses, kept = lazy.answer(linear_layer.request(client, lazy.layout, x), None)
        found = (kept + linear_layer.finish(client, lazy.layout, responses) + t // 2) % t - t // 2
        assert np.abs(found - convolve(SHAPE, x, weight)).max() <= 1


def test_what_the_peer_sends_wrong_is_one_error_and_workers_go_on():
    client, layer, _, _ = served("coefficients", SHAPE)
    requests = linear_layer.request(client, layer.layout, np.zeros((6, 12, 12), np.int64))
    with LayerWorkers([layer], 2) as pool:
        with pytest.raises(ProtocolError):
            pool.answer(0, [b"\xff" * len(requests[0]), *requests[1:]], None)
        assert len(pool.answer(0, requests, None)[0]) == layer.layout.responses


def test_a_worker_that_dies_is_one_error():
    client, layer, _, _ = served("coefficients", SHAPE)
    requests = linear_layer.request(client, layer.layout, np.zeros((6, 12, 12), np.int64))
    with LayerWorkers([layer], 2) as pool:
        pool._processes[1].kill()
        pool._processes[1].join()
        with pytest.raises(WorkerDied, match="memory"):
            pool.answer(0, requests, None)
