"""Packing `coefficients` against plain convolution, its closed forms against what runs, its tiles against all tiles."""

from collections import Counter
from dataclasses import asdict
from itertools import combinations, product
from math import prod

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.networks.graph import Conv2d, Linear
from autoprivacy.protocol.axis import axes
from autoprivacy.protocol.clear import ClearHe
from autoprivacy.protocol.counting import CountingHe
from autoprivacy.protocol.he_set import HeSet, ntt_prime
from autoprivacy.protocol.layer_counts import coefficient_counts
from autoprivacy.protocol.linear_shape import LinearShape, linear_shape
from autoprivacy.protocol.packing import CoefficientLayout, Tile, blocks, slot
from autoprivacy.protocol.seal_he import SealClient, SealServer
from autoprivacy.protocol.seal_keys import ClientKeys, ServerKeys
from autoprivacy.protocol.tiles import PRICES, default_tile, tiles
from tests.protocol.layers import KINDS, ZOO, T, convolve, run, shapes, tensors


@st.composite
def layouts(draw):
    shape, n = draw(shapes()), draw(st.sampled_from((64, 128, 256, 1024)))
    if draw(st.booleans()):
        return CoefficientLayout(shape, draw(st.sampled_from(tiles(shape, n))), n)
    down, across = axes(shape)
    height = draw(st.integers(down.kernel, down.whole))
    width = draw(st.integers(across.kernel, min(across.whole, n // height)))
    room = n // (height * width)
    groups = draw(st.integers(1, max(g for g in range(1, shape.groups + 1) if blocks(g) <= room)))
    room //= blocks(groups)
    in_channels = draw(st.integers(1, min(shape.in_channels // shape.groups, room)))
    out_channels = draw(st.integers(1, min(shape.out_channels // shape.groups, room // in_channels)))
    return CoefficientLayout(shape, Tile(in_channels, out_channels, height, width, groups), n)


def check(layout, rng):
    """Both shares, full of values modulo t, against plain convolution; every response as large as it says."""
    x, weight = tensors(layout.shape, rng)
    share = rng.integers(0, T, x.shape)
    he = ClearHe(layout.n, T, rng)
    result = run(he, he, layout, weight, share, (x - share) % T, T)
    assert np.array_equal(result, convolve(layout.shape, x, weight))


@settings(max_examples=300, deadline=None)
@given(layouts(), st.integers(0, 2**32))
def test_every_layout_gives_plain_convolution(layout, seed):
    check(layout, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [512, 1024])
def test_every_candidate_tile_gives_plain_convolution(kind, n):
    rng = np.random.default_rng(7)
    for tile in tiles(KINDS[kind], n):
        check(CoefficientLayout(KINDS[kind], tile, n), rng)


@settings(max_examples=100, deadline=None)
@given(layouts())
def test_every_output_is_sent_once_in_responses_of_the_stated_sizes(layout):
    assert layout.response_sizes.tolist() == [len(positions) for positions, _ in layout.outputs]
    indices = np.concatenate([index for _, index in layout.outputs])
    assert sorted(indices.tolist()) == list(range(layout.shape.output_values))
    for positions, _ in layout.outputs:
        assert len(set(positions.tolist())) == len(positions)
        assert 0 <= positions.min() <= positions.max() < layout.n


def calls(layout, nonzero=None):
    """The closed form under the names that interpreters count by."""
    counts = asdict(coefficient_counts(layout, nonzero))
    del counts["weighted_sum"]
    return +Counter(counts)


def count(layout, weight):
    he = CountingHe(HeSet(n=layout.n, limbs=(ntt_prime(layout.n, 26),), t=1 << 8))
    nothing = np.zeros((layout.shape.in_channels, layout.shape.height, layout.shape.width), np.int64)
    run(he, he, layout, weight, nothing, None, T)
    return he.operations


@settings(max_examples=100, deadline=None)
@given(shapes(), st.integers(0, 2**32))
def test_closed_form_counts_are_those_of_the_counting_interpreter(shape, seed):
    rng = np.random.default_rng(seed)
    layout = CoefficientLayout(shape, default_tile(shape, 1024), 1024)
    weight = tensors(shape, rng)[1]
    weight[:, : weight.shape[1] // 2] = 0
    assert calls(layout, layout.nonzero(weight)) == count(layout, weight)
    assert calls(layout) == count(layout, np.ones(shape.weight_shape, np.int64))


@pytest.mark.parametrize("n", [1024, 2048, 4096, 8192])
def test_every_layer_of_the_zoo_has_tiles(n):
    for shape in ZOO.values():
        candidates = tiles(shape, n)
        assert candidates[0] == default_tile(shape, n)
        assert len(set(candidates)) == len(candidates) < 30
        for tile in candidates:
            layout = CoefficientLayout(shape, tile, n)
            assert layout.response_sizes.sum() == shape.output_values
            assert len(layout.response_sizes) == layout.responses


@pytest.mark.parametrize("name", ZOO)
def test_every_layer_of_the_zoo_does_what_was_counted(name):
    shape = ZOO[name]
    layout = CoefficientLayout(shape, default_tile(shape, 8192), 8192)
    weight = np.ones(shape.weight_shape, np.int64)
    weight[0] = 0
    assert calls(layout, layout.nonzero(weight)) == count(layout, weight)


@pytest.mark.parametrize("kind", KINDS)
def test_seal_gives_plain_convolution_for_every_kind_of_layer(kind, seal):
    he_set, client, server = seal
    shape, rng = KINDS[kind], np.random.default_rng(11)
    layout = CoefficientLayout(shape, default_tile(shape, he_set.n), he_set.n)
    x, weight = tensors(shape, rng, high=8)
    share = rng.integers(0, he_set.t, x.shape)
    result = run(client, server, layout, weight, share, (x - share) % he_set.t, he_set.t)
    # P(error) is below 1e-8 a value under these parameters (error_model).
    assert np.array_equal(result, convolve(shape, x, weight))


@pytest.fixture(scope="module")
def seal():
    he_set = HeSet(n=2048, limbs=(ntt_prime(2048, 53),), t=1 << 16)
    keys = ClientKeys.generate(he_set)
    return he_set, SealClient(he_set, keys), SealServer(he_set, ServerKeys(he_set, keys.public_message()))


def cost(shape, tile, n):
    layout = CoefficientLayout(shape, tile, n)
    return float(np.dot(PRICES, (layout.inputs, layout.responses, layout.inputs * layout.out_parts)))


@settings(max_examples=60, deadline=None)
@given(shapes(), st.sampled_from((32, 64, 100)))
def test_no_tile_is_cheaper_than_the_default(shape, n):
    assume(prod(shape.kernel) <= n and shape.height * shape.width <= 80)
    down, across = axes(shape)
    every = product(
        range(1, shape.in_channels // shape.groups + 1),
        range(1, shape.out_channels // shape.groups + 1),
        range(down.kernel, down.whole + 1),
        range(across.kernel, across.whole + 1),
        range(1, shape.groups + 1),
    )
    least = min(cost(shape, Tile(*fields), n) for fields in every if prod(fields[:4]) * blocks(fields[4]) <= n)
    assert cost(shape, default_tile(shape, n), n) == pytest.approx(least)


def test_candidates_trade_inputs_responses_and_shared_noise():
    candidates = tiles(ZOO["mobilenetv2.stage6.block2.expand"], 4096)
    layouts_ = [CoefficientLayout(ZOO["mobilenetv2.stage6.block2.expand"], tile, 4096) for tile in candidates]
    assert {1, 4} <= {tile.out_channels for tile in candidates}
    for one, other in combinations(layouts_, 2):
        better = [
            one.inputs - other.inputs,
            one.responses - other.responses,
            one.tile.out_channels - other.tile.out_channels,
        ]
        assert min(better) < 0 < max(better)


def test_slots_of_groups_have_no_midpoints():
    slots = [slot(index) for index in range(64)]
    assert slots[:16] == [0, 1, 3, 4, 9, 10, 12, 13, 27, 28, 30, 31, 36, 37, 39, 40]  # OEIS A005836
    sums = Counter(a + b for a, b in product(slots, slots))
    assert all(sums[2 * a] == 1 for a in slots)
    assert [blocks(groups) for groups in (1, 2, 3, 4, 8, 64)] == [1, 3, 7, 9, 27, 729]


def test_a_strided_1x1_convolution_costs_what_it_costs_on_the_smaller_image():
    strided, smaller = LinearShape(16, 32, 32, 32, (1, 1), (2, 2)), LinearShape(16, 16, 16, 32, (1, 1))
    for n in (1024, 4096):
        assert tiles(strided, n) == tiles(smaller, n)


def test_depthwise_channels_share_ciphertexts():
    shape = LinearShape(960, 4, 4, 960, (3, 3), (1, 1), (1, 1, 1, 1), 960)
    layout = CoefficientLayout(shape, default_tile(shape, 4096), 4096)
    # 16 channels fill 81 of 163 blocks: a product for 16 channels, not for one.
    assert layout.inputs == layout.responses <= 60


@settings(max_examples=60, deadline=None)
@given(layouts(), st.integers(0, 2**32))
def test_row_weights_are_those_of_the_polynomials(layout, seed):
    weight = np.random.default_rng(seed).integers(-8, 8, layout.shape.weight_shape)
    rows = layout.row_weights(weight)
    polynomials = list(layout.encode_weights(weight))
    assert [int((row**2).sum()) for row in rows] == [int((each**2).sum()) for each in polynomials]
    assert np.array_equal(layout.nonzero(weight), [each.any(axis=1) for each in polynomials])
    values = layout.shape.out_size[0] * layout.shape.out_size[1]
    for response, (_, index) in enumerate(layout.outputs):
        assert set(layout.row_of_channel[index // values].tolist()) == {response % layout.rows}


def test_what_does_not_fit_is_refused():
    shape = LinearShape(4, 8, 8, 4, (3, 3), (1, 1), (1, 1, 1, 1), 2)
    for tile, name in (
        (Tile(3, 1, 9, 9), "C_w"),
        (Tile(1, 0, 9, 9), "M_w"),
        (Tile(1, 1, 2, 9), "H_w"),
        (Tile(1, 1, 9, 10), "W_w"),
        (Tile(1, 1, 9, 9, 3), "G_w"),
        (Tile(2, 2, 9, 9, 2), "972 coefficients"),
    ):
        with pytest.raises(InvalidPolicy, match=name):
            CoefficientLayout(shape, tile, 971)
    CoefficientLayout(shape, Tile(2, 2, 9, 9, 2), 972)
    with pytest.raises(InvalidPolicy, match="choose a greater n"):
        default_tile(LinearShape(1, 40, 40, 1, (33, 33)), 1024)
    default_tile(LinearShape(1, 40, 40, 1, (32, 32)), 1024)


@pytest.mark.parametrize(
    "fields",
    [
        (0, 8, 8, 4, (3, 3)),
        (4, 8, 8, 4, (3, 0)),
        (4, 8, 8, 4, (3, 3), (0, 1)),
        (4, 8, 8, 4, (3, 3), (1, 1), (3, 0, 0, 0)),
        (4, 8, 8, 4, (3, 3), (1, 1), (0, 0, -1, 0)),
        (4, 8, 8, 4, (3, 9)),
        (4, 8, 8, 4, (3, 3), (1, 1), (0, 0, 0, 0), 3),
    ],
)
def test_a_shape_without_outputs_is_refused(fields):
    with pytest.raises(InvalidPolicy):
        LinearShape(*fields)


def test_layers_of_the_graph_have_shapes():
    conv = Conv2d("c", ("input",), 8, (3, 5), (2, 1), (1, 2, 0, 3), 2)
    assert linear_shape(conv, (4, 9, 10)) == LinearShape(4, 9, 10, 8, (3, 5), (2, 1), (1, 2, 0, 3), 2)
    assert linear_shape(Linear("f", ("input",), 10), (64,)) == LinearShape(64, 1, 1, 10, (1, 1))
