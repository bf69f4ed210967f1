"""Decryption errors of real SEAL runs against what is stated of them, and what counts as error-free."""

from math import inf, log2

import numpy as np
import pytest

from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.clear import ClearHe
from autoprivacy.protocol.error_model import (
    FAILURE_BITS,
    decryption_error,
    decryption_errors,
    expected_error,
    layer_settings,
    network_failure_bits,
)
from autoprivacy.protocol.error_noise import Setting, noise_bound
from autoprivacy.protocol.he_set import he_set_for, ntt_prime
from autoprivacy.protocol.linear_layer import default_tile_of, layout_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.slot_packing import SlotLayout
from autoprivacy.protocol.wire import Response
from tests.protocol.interpreters import seal_pair
from tests.protocol.layers import convolve, run

SHAPE = LinearShape(3, 14, 14, 4, (3, 3), (1, 1), (1, 1, 1, 1))


def setting_of(packing, he_set, privacy="uniform", response=None, shape=SHAPE, weight_bits=8):
    layout = layout_of(shape, packing, default_tile_of(shape, packing, he_set.n), he_set.n)
    return Setting(he_set, layout, weight_bits, CircuitPrivacy.parse(privacy), response or Response())


def observed_errors(setting, weight, key_sets, runs, rng):
    """Errors (runs, M, H' W') of real decryptions, between -t/2 and t/2."""
    he_set, layout, shape = setting.he_set, setting.layout, setting.layout.shape
    slots = isinstance(layout, SlotLayout)
    tensor = (shape.in_channels, shape.height, shape.width)
    found = []
    for _ in range(key_sets):
        client, server, _ = seal_pair(
            he_set,
            "slots" if slots else "coefficients",
            setting.response,
            setting.privacy,
            noise_bound=noise_bound(setting),
            steps=layout.steps if slots else (),
        )
        for _ in range(runs):
            x, mine = rng.integers(0, 4, tensor), rng.integers(0, he_set.t, tensor)
            opened = run(client, server, layout, weight, mine, (x - mine) % he_set.t, he_set.t)
            found.append((opened - convolve(shape, x, weight) + he_set.t // 2) % he_set.t - he_set.t // 2)
    return np.array(found).reshape(len(found), shape.out_channels, -1)


@pytest.mark.parametrize(
    ("he_set", "privacy", "response", "weight_bits"),
    [
        (he_set_for(1024, (26,), 1 << 12), "uniform", Response(), 4),
        (he_set_for(1024, (26,), 1 << 17), "uniform", Response(), 4),
        (he_set_for(1024, (26,), 1 << 16), "rerandomise", Response(), 4),
        (he_set_for(1024, (26,), 1 << 19), "none", Response(), 7),
        (he_set_for(1024, (26,), 1 << 13), "uniform", Response(11, 0), 4),
        (he_set_for(1024, (26,), 1 << 14), "rerandomise", Response(12, 6), 4),
        (he_set_for(2048, (53,), 1 << 44), "uniform", Response(), 8),
        (he_set_for(2048, (27, 26), 1 << 21), "uniform", Response(), 4),
        (he_set_for(4096, (36, 36, 34), 1 << 30), "flood:10", Response(), 4),
        (he_set_for(4096, (54, 52), 10_905_191), "flood:10", Response(31, 0), 4),
    ],
)
def test_errors_of_coefficients_are_as_often_and_as_large_as_stated(he_set, privacy, response, weight_bits):
    rng = np.random.default_rng(he_set.n + he_set.t_bits)
    setting = setting_of("coefficients", he_set, privacy, response, weight_bits=weight_bits)
    half = 1 << (weight_bits - 1)
    weight = rng.integers(-half, half, SHAPE.weight_shape)
    errors = observed_errors(setting, weight, 10, 3, rng)
    model = decryption_error(setting, weight)
    assert model.error_rates.max() > 1e-3
    count = errors[:, 0].size
    for channel, (rate, deviation) in enumerate(zip(model.error_rates, model.standard_deviation, strict=True)):
        seen = errors[:, channel]
        # Values of a run share its keys and inputs: allow twice the independent standard error, five times over.
        assert abs((seen != 0).mean() - rate) < 10 * np.sqrt(rate * (1 - rate) / count) + 1e-4
        assert seen.std() == pytest.approx(deviation, rel=0.1 if rate > 0.05 else 0.3)
        assert abs(seen.mean()) < 10 * deviation / np.sqrt(count)
    assert (errors != 0).sum() / len(errors) == pytest.approx(model.expected_errors, rel=0.3)


@pytest.mark.parametrize(
    ("privacy", "response", "least_rate"),
    [("none", Response(limbs=2), 0.05), ("rerandomise", Response(16, 0), 0.05), ("uniform", Response(), 0.05)],
)
def test_a_failing_coefficient_spoils_its_response_as_often_as_stated(privacy, response, least_rate):
    rng = np.random.default_rng(3)
    shape = LinearShape(4, 8, 8, 16, (3, 3), (1, 1), (1, 1, 1, 1))
    weight = rng.integers(-8, 8, shape.weight_shape)
    # The modulus at which about every fourth response fails: t is searched by what the model says.
    for bits in range(16, 60):
        he_set = he_set_for(4096, (36, 36), ntt_prime(4096, bits), special_bits=34)
        setting = setting_of("slots", he_set, privacy, response, shape, 4)
        if expected_error(setting, weight).error_rates.max() > least_rate:
            break
    model = decryption_error(setting, weight)
    errors = observed_errors(setting, weight, 24, 1, rng) != 0
    spoiled, total, variance = 0, 0.0, 0.0
    for response_number, (_, index) in enumerate(setting.layout.outputs):
        wrong = errors.reshape(len(errors), -1)[:, index].mean(axis=1)
        # Either all slots, up to chance, or none.
        assert ((wrong == 0) | (wrong > 0.99)).all()
        rate = model.error_rates[setting.layout.outputs[response_number][1][0] // 64]
        spoiled += int((wrong > 0).sum())
        total += rate * len(errors)
        variance += rate * (1 - rate) * len(errors)
    # Coefficients of a response are not quite independent, and runs under one key less so.
    assert abs(spoiled - total) < 5 * np.sqrt(variance) + 0.1 * total + 1


def test_what_never_fails_has_bits_to_spare_and_what_fails_has_none():
    weight = np.ones(SHAPE.weight_shape, np.int64)
    safe = decryption_error(setting_of("coefficients", he_set_for(4096, (54, 52), 1 << 20), "rerandomise"), weight)
    assert safe.worst_slack_bits > 0
    assert safe.slack_bits > safe.worst_slack_bits
    assert safe.failure_bits == inf
    assert safe.error_rates.max() == safe.expected_errors == 0
    unsafe = decryption_error(setting_of("coefficients", he_set_for(1024, (26,), 1 << 18), "rerandomise"), weight)
    assert unsafe.slack_bits < 1
    assert unsafe.worst_slack_bits < 0
    assert unsafe.failure_bits < 0  # more errors than one are expected


def test_share_rounding_fails_long_before_the_noise_reaches_half_a_step():
    weight = np.ones(SHAPE.weight_shape, np.int64)
    he_set = he_set_for(2048, (53,), 1 << 36)
    rounded = decryption_error(setting_of("coefficients", he_set, "rerandomise"), weight)
    shared = decryption_error(setting_of("coefficients", he_set, "uniform"), weight)
    # Far beyond what a floating-point probability holds.
    assert 5000 < rounded.failure_bits < inf
    values = SHAPE.output_values
    expected = -log2(values * np.sqrt(2 / np.pi) * float(shared.deviation[0]))
    assert shared.failure_bits == pytest.approx(expected, abs=0.01)


def test_failure_is_a_union_bound_over_values_channels_and_layers():
    one = LinearShape(3, 14, 14, 1, (3, 3), (1, 1), (1, 1, 1, 1))
    he_set = he_set_for(1024, (26,), 1 << 8)
    weight = np.ones(SHAPE.weight_shape, np.int64)
    wide = decryption_error(setting_of("coefficients", he_set), weight)
    narrow = decryption_error(setting_of("coefficients", he_set, shape=one), weight[:1])
    assert narrow.failure_bits == pytest.approx(-log2(float(narrow.error_rates[0]) * 196))
    assert wide.failure_bits == pytest.approx(-log2(float(wide.error_rates.sum()) * 196))
    assert network_failure_bits({"a": narrow, "b": narrow}) == pytest.approx(narrow.failure_bits - 1)


def test_failure_of_slots_counts_every_coefficient_of_every_response():
    he_set = he_set_for(4096, (36, 36), ntt_prime(4096, 26), special_bits=34)
    setting = setting_of("slots", he_set, "rerandomise", Response(limbs=2))
    model = decryption_error(setting, np.random.default_rng(1).integers(-8, 8, SHAPE.weight_shape))
    tails = np.exp(model.law.log_tail(0.5)) @ setting.coefficient_counts
    assert model.failure_bits == pytest.approx(-log2(tails.sum() * setting.layout.window_slabs))
    assert model.slack_bits > 0


@pytest.mark.parametrize("packing", ["coefficients", "slots"])
def test_samples_follow_the_stated_distribution(packing):
    if packing == "coefficients":
        setting = setting_of(packing, he_set_for(1024, (26,), 1 << 16))
    else:
        he_set = he_set_for(4096, (36, 36), ntt_prime(4096, 26), special_bits=34)
        setting = setting_of(packing, he_set, "uniform")
    weight = np.random.default_rng(2).integers(-8, 8, SHAPE.weight_shape)
    model = decryption_error(setting, weight)
    errors = model.sample(np.random.default_rng(1), 2000)
    assert errors.shape == (2000, 4, 14, 14)
    seen = (errors != 0).mean(axis=(0, 2, 3))
    assert seen == pytest.approx(model.error_rates, rel=0.1, abs=0.01)
    t = setting.he_set.t
    sizes = (errors + t // 2) % t - t // 2
    assert sizes.std(axis=(0, 2, 3)) == pytest.approx(model.standard_deviation, rel=0.1)
    again = model.sample(np.random.default_rng(1), 2000)
    assert np.array_equal(errors, again)


def test_the_figures_measured_before_this_code_existed():
    # n = 1024, 27 bits, t = 2^16, 4-bit weights, 3x3 kernels, 4 channels a tile: 0.06 with 16 tiles, 0.76 with 256.
    for tiles, measured in ((16, 0.06), (256, 0.76)):
        he_set = he_set_for(1024, (27,), 1 << 16, security="he2018")
        shape = LinearShape(4 * tiles, 14, 14, 1, (3, 3), (1, 1), (1, 1, 1, 1))
        weight = np.random.default_rng(1).integers(-7, 8, shape.weight_shape)
        model = decryption_error(setting_of("coefficients", he_set, "none", shape=shape, weight_bits=4), weight)
        assert model.standard_deviation[0] == pytest.approx(measured, abs=0.06)


def test_a_network_is_judged_by_its_agreement(exact, tolerant):
    settings = layer_settings(exact.agreement)
    assert [setting.shared for setting in settings.values()] == [False, True, True]
    good, bad = (network_failure_bits(decryption_errors(each.network, each.agreement)) for each in (exact, tolerant))
    assert bad < 0 < good < FAILURE_BITS


def test_the_noise_of_clear_runs_is_none():
    # The yardstick of the counts above: without noise nothing is wrong.
    rng = np.random.default_rng(1)
    setting = setting_of("coefficients", he_set_for(1024, (26,), 1 << 12))
    he = ClearHe(1024, 1 << 12, rng)
    x, mine = rng.integers(0, 4, (3, 14, 14)), rng.integers(0, 1 << 12, (3, 14, 14))
    weight = rng.integers(-8, 8, SHAPE.weight_shape)
    opened = run(he, he, setting.layout, weight, mine, (x - mine) % (1 << 12), 1 << 12)
    assert np.array_equal(opened, convolve(SHAPE, x, weight))
