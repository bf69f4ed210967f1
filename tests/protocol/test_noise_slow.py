"""The noise of many settings, and its tails, against the model: minutes, hence `make test-slow`.

docs/protocol.md, "Decryption error", records what these print.
"""

import sys

import numpy as np
import pytest

from autoprivacy.protocol.circuit_privacy import UNIFORM, CircuitPrivacy
from autoprivacy.protocol.error_injection import injection_gap
from autoprivacy.protocol.error_model import decryption_error
from autoprivacy.protocol.error_noise import Setting
from autoprivacy.protocol.he_set import he_set_for, ntt_prime
from autoprivacy.protocol.linear_layer import default_tile_of, layout_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.seal_context import seal_context
from tests.protocol.noise_settings import Case, deviation_ratio, normalised_noise, random_case

pytestmark = pytest.mark.slow

SETTINGS = 200
COEFFICIENTS = 10_000_000
SIGMAS = np.arange(1, 6)
NORMAL_TAILS = np.array([0.31731050786, 0.04550026390, 0.00269979606, 6.3342484e-05, 5.7330314e-07])
"""P(|z| > 1), ... P(|z| > 5) [Abramowitz, Stegun, table 26.1]."""


def report(capsys, line):
    with capsys.disabled():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def test_the_deviation_of_random_settings_is_within_five_per_cent(capsys):
    ratios = []
    for seed in range(SETTINGS):
        rng = np.random.default_rng([2026, seed])
        case = random_case(rng, ("coefficients", "slots")[seed % 2])
        ratio, error, count = deviation_ratio(case, rng)
        ratios.append(ratio)
        report(capsys, f"{seed} ratio {ratio:.4f} +- {error:.4f} of {count}: {case}")
        assert count >= 10_000
        seal_context.cache_clear()  # they are large
    off = np.abs(np.array(ratios) - 1)
    report(
        capsys,
        f"{SETTINGS} settings: worst {off.max():.4f}, 95 % within {np.quantile(off, 0.95):.4f}, "
        f"median {np.median(ratios):.4f}, median distance {np.median(off):.4f}, within 5 %: {(off < 0.05).sum()}",
    )
    assert off.max() < 0.05


@pytest.mark.parametrize("packing", ["coefficients", "slots"])
def test_noise_is_normal_up_to_five_sigma(packing, capsys):
    if packing == "coefficients":
        he_set = he_set_for(1024, (26,), 1 << 8)
        shape, privacy = LinearShape(2, 16, 16, 2, (1, 1)), UNIFORM
        layout = layout_of(shape, packing, default_tile_of(shape, packing, he_set.n), he_set.n)
        of_a_run, key_sets = shape.output_values, 400
    else:
        he_set = he_set_for(8192, (50, 50), ntt_prime(8192, 20), special_bits=60)
        shape, privacy = LinearShape(64, 1, 1, 64, (1, 1)), CircuitPrivacy("rerandomise")
        layout = layout_of(shape, packing, default_tile_of(shape, packing, he_set.n), he_set.n)
        of_a_run, key_sets = layout.responses * he_set.n, 40
    setting = Setting(he_set, layout, 4, privacy)
    rng = np.random.default_rng(41)
    weight = rng.integers(-8, 8, shape.weight_shape)
    runs = -(-COEFFICIENTS // (key_sets * of_a_run))
    own_kernels = packing == "coefficients"
    case = Case(setting, weight, decryption_error(setting, weight), key_sets, runs, own_kernels)
    counts, total, square = np.zeros(5), 0, 0.0
    for z in normalised_noise(case, rng):
        counts += [(np.abs(z) > sigma).sum() for sigma in SIGMAS]
        total += z.size
        square += float(z @ z)
    expected = total * NORMAL_TAILS
    rows = "; ".join(
        f"{sigma} sigma {int(seen)} ({mean:.1f})" for sigma, seen, mean in zip(SIGMAS, counts, expected, strict=True)
    )
    report(capsys, f"{packing}: {total} coefficients, deviation {np.sqrt(square / total):.5f}: {rows}")
    assert total >= COEFFICIENTS
    # Coefficients of one key are not independent: its own variance moves tails by some per cent.
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected) + 0.1 * expected + 1).all()


def test_the_gap_between_both_injections(tolerant, digits, capsys):
    x = np.repeat(tolerant.network.quantise_input(digits.confirm.x), 10, axis=0)
    gap = injection_gap(tolerant.network, tolerant.agreement, x, np.random.default_rng(1))
    for layer in gap.layers:
        report(
            capsys,
            f"{layer.layer}: rate stated {layer.stated_rate:.4f}, fast {layer.fast.rate:.4f}, exact "
            f"{layer.exact.rate:.4f}; deviation {layer.stated_deviation:.4f}, {layer.fast.deviation:.4f}, "
            f"{layer.exact.deviation:.4f}; correlation fast {layer.fast.correlation}, exact {layer.exact.correlation}",
        )
        assert layer.fast.rate == pytest.approx(layer.stated_rate, rel=0.1)
        assert layer.exact.rate == pytest.approx(layer.stated_rate, rel=0.1)
    logits = gap.logits
    report(
        capsys,
        f"{gap.images} images: class kept fast {logits.same_class_fast:.4f}, exact {logits.same_class_exact:.4f}; "
        f"logits off by fast {logits.deviation_fast:.3f}, exact {logits.deviation_exact:.3f}",
    )
    assert abs(logits.same_class_fast - logits.same_class_exact) < 0.05
    assert logits.deviation_fast == pytest.approx(logits.deviation_exact, rel=0.2)
