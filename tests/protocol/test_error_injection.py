"""Errors drawn from a layer's noise: as stated, correlated as in real runs, and what the fast way leaves out."""

from dataclasses import replace

import numpy as np
import pytest

from autoprivacy.networks import reference
from autoprivacy.protocol import linear_layer
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.error_injection import ExactErrors, NoiseHe, Ring, exact_errors, injection_gap
from autoprivacy.protocol.error_model import decryption_error
from autoprivacy.protocol.error_noise import Setting
from autoprivacy.protocol.error_norms import automorphism
from autoprivacy.protocol.he_set import he_set_for, ntt_prime
from autoprivacy.protocol.linear_layer import default_tile_of, layout_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.packing import Tile
from autoprivacy.protocol.slot_packing import SlotLayout
from autoprivacy.protocol.wire import Response
from tests.protocol.interpreters import seal_pair
from tests.protocol.layers import convolve, run
from tests.protocol.noise_settings import model_variance, random_case


class RecordingHe(NoiseHe):
    """The noise interpreter, which also keeps the noise of its responses."""

    seen: list[np.ndarray]

    def _final(self, total):
        self.seen.append(super()._final(total))
        return self.seen[-1]


def mean_square(case, rng, images):
    """Of the interpreter's noise over what is stated of it."""
    setting, layout, shape = case.setting, case.setting.layout, case.setting.layout.shape
    he = RecordingHe(setting, rng)
    encoded = linear_layer.encode_layer(he, layout, case.weight)
    nothing = np.zeros((shape.in_channels, shape.height, shape.width), np.int64)
    variance = model_variance(case.model)
    places = np.arange(layout.n)
    twos = np.where(places, np.bitwise_count((places & -places) - 1), layout.n.bit_length() - 1)
    found = []
    for _ in range(images):
        he.renew_keys()
        he.seen = []
        requests = linear_layer.request(he, layout, nothing)
        linear_layer.answer(he, layout, encoded, requests, nothing if setting.shared else None)
        for response, e in enumerate(he.seen):
            of_row = variance[response % setting.rows]
            stated = of_row[twos] if len(of_row) > 1 else np.full(layout.n, of_row[0])
            where = slice(None) if isinstance(layout, SlotLayout) else layout.outputs[response][0]
            found.append(np.mean(e[where] ** 2 / stated[where]))
    return float(np.mean(found))


@pytest.mark.parametrize("packing", ["coefficients", "slots"])
@pytest.mark.parametrize("seed", range(8))
def test_the_interpreters_noise_has_the_stated_deviation(packing, seed):
    rng = np.random.default_rng([11, seed])
    while (case := random_case(rng, packing, most_n=4096)).key_sets > 25:
        pass
    assert np.sqrt(mean_square(case, rng, 3 * case.key_sets)) == pytest.approx(1, abs=0.05), str(case)


def test_products_are_those_of_the_ring():
    rng = np.random.default_rng(1)
    a, b = rng.integers(-9, 10, (2, 16)).astype(float)
    full = np.convolve(a, b)
    ring = Ring(16)
    product = ring.polynomial(ring.spectrum(a) * ring.spectrum(b))
    assert product == pytest.approx(full[:16] - np.append(full[16:], 0))


def test_two_rotations_of_noise_are_one():
    noise = np.arange(16.0)
    assert np.array_equal(automorphism(automorphism(noise, 16, 2), 16, 5), automorphism(noise, 16, 7))


SHAPE = LinearShape(3, 10, 10, 4, (3, 3), (1, 1), (1, 1, 1, 1))


@pytest.mark.parametrize(
    ("t", "privacy", "response"),
    [
        (1 << 12, "uniform", Response()),
        (1 << 17, "uniform", Response()),
        (1 << 16, "rerandomise", Response()),
        (1 << 18, "none", Response()),
        (1 << 14, "rerandomise", Response(12, 6)),
    ],
)
def test_exact_errors_are_as_often_and_as_large_as_stated(t, privacy, response):
    he_set = he_set_for(1024, (26,), t)
    layout = layout_of(SHAPE, "coefficients", default_tile_of(SHAPE, "coefficients", 1024), 1024)
    setting = Setting(he_set, layout, 4, CircuitPrivacy.parse(privacy), response)
    weight = np.random.default_rng(3).integers(-8, 8, SHAPE.weight_shape)
    model = decryption_error(setting, weight)
    errors = ExactErrors(setting, weight).sample(np.random.default_rng(4), 150)
    assert errors.shape == (150, 4, 10, 10)
    spread = 6 * np.sqrt(model.error_rates[0] / (150 * 100))
    assert (errors != 0).mean(axis=(0, 2, 3)) == pytest.approx(model.error_rates, rel=0.02, abs=spread)
    assert errors.std() == pytest.approx(model.standard_deviation[0], rel=0.06)
    assert np.array_equal(errors, ExactErrors(setting, weight).sample(np.random.default_rng(4), 150))


def test_exact_errors_of_slots_spoil_whole_responses_as_often_as_stated():
    rng = np.random.default_rng(6)
    shape = LinearShape(4, 8, 8, 16, (3, 3), (1, 1), (1, 1, 1, 1))
    weight = rng.integers(-8, 8, shape.weight_shape)
    layout = layout_of(shape, "slots", default_tile_of(shape, "slots", 4096), 4096)
    for bits in range(16, 40):
        he_set = he_set_for(4096, (36, 36), ntt_prime(4096, bits), special_bits=34)
        setting = Setting(he_set, layout, 4, CircuitPrivacy("rerandomise"), Response(limbs=2))
        model = decryption_error(setting, weight)
        if model.error_rates.max() > 0.1:
            break
    errors = ExactErrors(setting, weight).sample(rng, 150)
    wrong = (errors != 0).reshape(150, -1)
    for _, index in layout.outputs:
        share = wrong[:, index].mean(axis=1)
        assert ((share == 0) | (share > 0.99)).all()
    rates = model.error_rates.mean()
    assert wrong.mean() == pytest.approx(rates, abs=5 * np.sqrt(rates / 150 / layout.responses) + 0.1 * rates)
    assert ((errors >= 0) & (errors < he_set.t)).all()


def correlations(errors):
    """Between output channels 0 and 1, 0 and 2: errors (images, M, H', W')."""
    matrix = np.corrcoef(np.moveaxis(errors, 1, 0).reshape(errors.shape[1], -1))
    return matrix[0, 1], matrix[0, 2]


def test_channels_that_share_an_input_err_together_as_they_do_in_real_runs():
    # One output channel a product: 0 and 1 have the same weights, 2 has others.
    he_set = he_set_for(1024, (26,), 1 << 19)
    layout = layout_of(SHAPE, "coefficients", Tile(3, 1, 11, 11), 1024)
    weight = np.random.default_rng(3).integers(-8, 8, SHAPE.weight_shape)
    weight[1] = weight[0]
    setting = Setting(he_set, layout, 4, CircuitPrivacy("none"))
    exact = correlations(ExactErrors(setting, weight).sample(np.random.default_rng(1), 60))
    fast = correlations(decryption_error(setting, weight).sample(np.random.default_rng(1), 60))
    real = []
    rng = np.random.default_rng(2)
    for _ in range(20):
        client, server, _ = seal_pair(he_set, privacy=setting.privacy)
        for _ in range(3):
            x, mine = rng.integers(0, 4, (3, 10, 10)), rng.integers(0, he_set.t, (3, 10, 10))
            opened = run(client, server, layout, weight, mine, (x - mine) % he_set.t, he_set.t)
            off = (opened - convolve(SHAPE, x, weight) + he_set.t // 2) % he_set.t - he_set.t // 2
            real.append(off.reshape(4, 10, 10))
    seen = correlations(np.array(real))
    assert exact[0] > 0.8
    assert exact == pytest.approx(seen, abs=0.05)
    assert np.abs(fast).max() < 0.05


def test_both_injections_serve_the_reference_and_their_gap_is_told(tolerant, digits):
    network, agreement = tolerant.network, tolerant.agreement
    x = network.quantise_input(digits.confirm.x[:24])
    samplers = exact_errors(network, agreement)
    rng = np.random.default_rng(1)
    errors = {name: sampler.sample(rng, len(x)) for name, sampler in samplers.items()}
    trace = reference.run(network, x, errors=errors)
    assert trace.logits.shape == (24, 10)

    gap = injection_gap(network, agreement, x, np.random.default_rng(2))
    assert gap == injection_gap(network, agreement, x, np.random.default_rng(2))
    assert [layer.layer for layer in gap.layers] == [stage.name for stage in network.stages]
    assert gap.images == 24
    for layer, stage in list(zip(gap.layers, network.stages, strict=True))[:-1]:
        # Four deviations of the number of errors that are expected.
        rel = max(0.1, 4 / np.sqrt(layer.stated_rate * gap.images * np.prod(stage.output_shape)))
        assert layer.fast.rate == pytest.approx(layer.stated_rate, rel=rel)
        assert layer.exact.rate == pytest.approx(layer.stated_rate, rel=rel)
        assert layer.exact.deviation == pytest.approx(layer.stated_deviation, rel=rel)
    assert 0 < gap.logits.deviation_exact < 10 * gap.logits.deviation_fast
    assert min(gap.logits.same_class_fast, gap.logits.same_class_exact) > 0.5


def test_where_nothing_fails_nothing_is_injected():
    he_set = he_set_for(2048, (53,), 1 << 12)
    layout = layout_of(SHAPE, "coefficients", default_tile_of(SHAPE, "coefficients", 2048), 2048)
    setting = Setting(he_set, layout, 4, CircuitPrivacy("rerandomise"))
    weight = np.zeros(SHAPE.weight_shape, np.int64)
    weight[0] = 1
    for each in (setting, replace(setting, shared=False)):
        assert not ExactErrors(each, weight).sample(np.random.default_rng(1), 2).any()
        assert not decryption_error(each, weight).sample(np.random.default_rng(1), 2).any()
