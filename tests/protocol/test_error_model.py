"""The error model against real SEAL decryptions."""

import numpy as np
import pytest

from autoprivacy.protocol import linear_layer
from autoprivacy.protocol.error_model import DecryptionError, decryption_error
from autoprivacy.protocol.he_set import he_set_for
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.packing import CoefficientLayout
from autoprivacy.protocol.seal_he import SealClient, SealServer
from autoprivacy.protocol.seal_keys import ClientKeys, ServerKeys
from autoprivacy.protocol.tiles import default_tile


def observed_errors(he_set, weight_range, channels, repeats, seed):
    rng = np.random.default_rng(seed)
    shape = LinearShape(channels, 14, 14, 4, (3, 3), (1, 1), (1, 1, 1, 1))
    layout = CoefficientLayout(shape, default_tile(shape, he_set.n), he_set.n)
    weight = rng.integers(-weight_range, weight_range + 1, (4, channels, 3, 3))
    errors = []
    for _ in range(repeats):
        keys = ClientKeys.generate(he_set)
        client, server = SealClient(he_set, keys), SealServer(he_set, ServerKeys(he_set, keys.public_message()))
        encoded = linear_layer.encode_layer(server, layout, weight)
        requests = linear_layer.request(client, layout, np.zeros((channels, 14, 14), np.int64))
        responses, kept = linear_layer.answer(server, layout, encoded, requests, np.zeros((channels, 14, 14), np.int64))
        total = kept + linear_layer.finish(client, layout, responses)
        errors.append((total + he_set.t // 2) % he_set.t - he_set.t // 2)
    return layout, weight, np.array(errors).reshape(repeats, 4, -1)


@pytest.mark.parametrize(
    ("n", "q_bits", "t_bits", "weight_range", "channels"),
    [(1024, 26, 12, 7, 3), (1024, 26, 17, 7, 8), (1024, 26, 19, 60, 4), (2048, 53, 44, 100, 3)],
)
def test_the_model_predicts_real_decryptions(n, q_bits, t_bits, weight_range, channels):
    he_set = he_set_for(n, (q_bits,), 1 << t_bits)
    layout, weight, errors = observed_errors(he_set, weight_range, channels, repeats=30, seed=n + t_bits)
    model = decryption_error(he_set, layout, weight)
    count = errors[:, 0].size
    for channel in range(4):
        seen = errors[:, channel].ravel()
        rate = model.error_rates[channel]
        # Keys repeat within a repeat: allow twice the independent standard error, five times over.
        assert abs((seen != 0).mean() - rate) < 10 * np.sqrt(rate * (1 - rate) / count) + 1e-4
        assert seen.std() == pytest.approx(model.standard_deviation[channel], rel=0.1 if rate > 0.05 else 0.3)
        assert abs(seen.mean()) < 10 * model.standard_deviation[channel] / np.sqrt(count)


def test_samples_follow_the_stated_distribution():
    model = DecryptionError(np.array([0.02, 0.3, 2.5]))
    errors = model.sample(np.random.default_rng(1), (4000, 3, 5, 5))
    for channel in range(3):
        seen = errors[:, channel]
        assert (seen != 0).mean() == pytest.approx(model.error_rates[channel], rel=0.05)
        assert seen.std() == pytest.approx(model.standard_deviation[channel], rel=0.02)


def test_share_rounding_is_as_stated_for_small_noise():
    # P(error) = E|delta| = sqrt(2/pi) sd, from the definition of stochastic rounding.
    assert DecryptionError(np.array([0.01])).error_rates[0] == pytest.approx(0.01 * np.sqrt(2 / np.pi), rel=1e-6)
    assert DecryptionError(np.array([0.0])).error_rates[0] == 0
