"""Norms of packed weights, and what rotations do to coefficients."""

import numpy as np
import pytest

from autoprivacy.protocol.error_norms import (
    automorphism,
    centred,
    coefficient_norms,
    encoded_coefficients,
    expected_slot_norms,
    fold_gains,
    rotation_paths,
    slot_norms,
)
from autoprivacy.protocol.he_set import he_set_for, ntt_prime
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.packing import CoefficientLayout, Tile
from autoprivacy.protocol.seal_keys import SWAP
from autoprivacy.protocol.slot_packing import SlotLayout
from autoprivacy.protocol.slot_tiles import default_slot_tile

HE_SET = he_set_for(4096, (36, 36), ntt_prime(4096, 18), special_bits=34)


def test_channels_of_one_product_share_the_norm_of_its_polynomial():
    shape = LinearShape(2, 6, 6, 4, (3, 3), (1, 1), (1, 1, 1, 1))
    weight = np.arange(72).reshape(shape.weight_shape) % 9 - 4
    layout = CoefficientLayout(shape, Tile(1, 2, 7, 7), 512)
    norms = coefficient_norms(layout, weight)
    assert norms.fresh.tolist() == [(weight[:2] ** 2).sum(), (weight[2:] ** 2).sum()]
    assert norms.unknown.size == norms.switched.sum() == norms.after.sum() == 0


def test_values_modulo_t_are_centred_as_seal_lifts_them():
    assert centred(np.array([-3, -2, -1, 0, 1, 2, 3, 4]), 5).tolist() == [2, -2, -1, 0, 1, 2, -2, -1]
    assert centred(np.array([7, 8, 9]), 16).tolist() == [7, 8, -7]


@pytest.mark.parametrize("step", [SWAP, 1, 37, 1024, 2047])
def test_an_automorphism_of_coefficients_is_the_rotation_of_their_slots(step):
    slots = np.random.default_rng(1).integers(0, HE_SET.t, HE_SET.n)
    rows = slots.reshape(2, -1)
    turned = (rows[::-1] if step == SWAP else np.roll(rows, -step, axis=1)).ravel()
    found = automorphism(encoded_coefficients(HE_SET, slots), HE_SET.n, step)
    assert np.array_equal(centred(found.astype(np.int64), HE_SET.t), encoded_coefficients(HE_SET, turned))


@pytest.mark.parametrize("inputs", [3, 40, 500])
@pytest.mark.parametrize("outputs", [1, 5, 24])
def test_folding_does_to_white_noise_what_is_stated(inputs, outputs):
    n = 1024
    shape = LinearShape(inputs, 1, 1, outputs, (1, 1))
    layout = SlotLayout(shape, default_slot_tile(shape, n), n)
    counts, gains, added = fold_gains(layout)
    assert sum(counts) == n
    # Energy is kept on the average: every fold doubles it.
    assert np.dot(counts, gains) == pytest.approx(n * 2 ** len(layout.folds))
    if not layout.folds:
        return
    rng = np.random.default_rng(2)
    draws = 400
    noise, switched = rng.standard_normal((draws, n)), np.zeros((draws, n))
    for step in layout.folds:
        noise += np.array([automorphism(row, n, step) for row in noise])
        switched += np.array([automorphism(row, n, step) for row in switched]) + rng.standard_normal((draws, n))
    places = np.arange(n)
    twos = np.where(places, np.bitwise_count((places & -places) - 1), n.bit_length() - 1)
    for found, stated in ((noise, gains), (switched, added)):
        seen = (found**2).mean(axis=0)
        for number, gain in enumerate(stated):
            of_class = seen[twos == number]
            # Coefficients that folding turns into each other hold the same noise.
            apart = max(1, of_class.size >> len(layout.folds))
            assert of_class.mean() == pytest.approx(gain, rel=6 * np.sqrt(2 / draws / apart), abs=1e-9)


def test_rotating_by_half_a_row_and_adding_doubles_even_coefficients_and_kills_odd_ones():
    noise = np.arange(1.0, 17.0)
    total = noise + automorphism(noise, 16, 4)
    assert total.tolist() == [2 * value if place % 2 == 0 else 0 for place, value in enumerate(noise)]


@pytest.mark.parametrize(
    "shape",
    [
        LinearShape(4, 9, 9, 5, (3, 3), (1, 1), (1, 1, 1, 1)),
        LinearShape(300, 1, 1, 40, (1, 1)),
        LinearShape(6, 8, 8, 6, (3, 3), (2, 2), (1, 1, 1, 1), 6),
    ],
)
def test_dense_weights_have_the_norms_that_their_number_lets_expect(shape):
    layout = SlotLayout(shape, default_slot_tile(shape, HE_SET.n), HE_SET.n)
    weight = np.random.default_rng(3).integers(-7, 8, shape.weight_shape)
    weight[0] = 0
    known = slot_norms(HE_SET, layout, weight)
    expected = expected_slot_norms(HE_SET.t, layout, weight)
    assert known.fresh == pytest.approx(expected.fresh, rel=0.1)
    assert known.switched == pytest.approx(expected.switched, rel=0.1)
    assert np.array_equal(known.after, expected.after)
    # Running sums are dominated by a few waves: only their size is that expected.
    if known.fixed.any():
        assert 0.2 < known.fixed.sum() / expected.unknown.sum() < 3


def test_rotations_composed_of_others_pass_through_all_of_them():
    shape = LinearShape(1, 30, 30, 1, (9, 9), (1, 1), (4, 4, 4, 4))
    layout = SlotLayout(shape, default_slot_tile(shape, 4096), 4096)
    paths = rotation_paths(layout)
    assert paths[0] == ()
    assert max(map(len, paths.values())) > 1
    for step, path in paths.items():
        at = 0
        for key, end in path:
            assert layout.parents[end] == at
            assert key in layout.steps
            assert (at + key) % layout.row == end
            at = end
        assert at == step
