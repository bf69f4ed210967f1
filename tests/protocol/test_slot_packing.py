"""Packing `slots` against plain convolution, its closed form against what runs, its keys against what is rotated."""

from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol import linear_layer
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.clear import ClearHe
from autoprivacy.protocol.counting import CountingHe
from autoprivacy.protocol.he_set import he_set_for, ntt_prime
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.seal_keys import SWAP
from autoprivacy.protocol.slot_counts import slot_counts
from autoprivacy.protocol.slot_packing import SlotLayout, SlotTile
from autoprivacy.protocol.slot_tiles import default_slot_tile, slot_tiles
from autoprivacy.protocol.tiles import default_tile
from tests.protocol.interpreters import seal_pair
from tests.protocol.layers import KINDS, ZOO, T, convolve, run, shapes, tensors

SEAL_SET = he_set_for(8192, (50, 50), ntt_prime(8192, 20), special_bits=60)


class TurningHe(ClearHe):
    """The clear interpreter, which also remembers by how much it rotated."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.steps = set()

    def rotate(self, ciphertext, steps):
        self.steps.add(steps)
        return super().rotate(ciphertext, steps)

    def swap_rows(self, ciphertext):
        self.steps.add(SWAP)
        return super().swap_rows(ciphertext)


def check(layout, rng, *, dense=False):
    """Both shares against plain convolution; every rotation has its key."""
    x, weight = tensors(layout.shape, rng)
    if dense:
        weight[weight == 0] = 1
    share = rng.integers(0, T, x.shape)
    he = TurningHe(layout.n, T, rng, "slots")
    result = run(he, he, layout, weight, share, (x - share) % T, T)
    assert np.array_equal(result, convolve(layout.shape, x, weight))
    assert he.steps == set(layout.steps) if dense else he.steps <= set(layout.steps)


def counted(layout, weight):
    he = CountingHe(he_set_for(layout.n, (26,), 1 << 8), "slots")
    nothing = np.zeros((layout.shape.in_channels, layout.shape.height, layout.shape.width), np.int64)
    run(he, he, layout, weight, nothing, None, T)
    return he.operations


def expected(layout, nonzero=None):
    """The closed form under the names that interpreters count by."""
    counts = asdict(slot_counts(layout, nonzero))
    del counts["weighted_sum"]
    return +Counter(counts)


@st.composite
def layouts(draw):
    shape, n = draw(shapes()), draw(st.sampled_from((256, 512, 1024)))
    return SlotLayout(shape, draw(st.sampled_from(slot_tiles(shape, n))), n)


@settings(max_examples=150, deadline=None)
@given(layouts(), st.integers(0, 2**32))
def test_every_layout_gives_plain_convolution(layout, seed):
    check(layout, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [512, 4096])
def test_every_candidate_tile_gives_plain_convolution_with_exactly_its_keys(kind, n):
    rng = np.random.default_rng(7)
    for tile in slot_tiles(KINDS[kind], n):
        check(SlotLayout(KINDS[kind], tile, n), rng, dense=True)


@st.composite
def any_layout(draw):
    """Not only tiles that are worth it."""
    shape, n = draw(shapes()), draw(st.sampled_from((256, 512)))
    powers = st.integers(0, 8).map(lambda bit: 1 << bit)
    window = (draw(st.integers(1, shape.out_size[0])), draw(st.integers(1, shape.out_size[1])))
    rows = draw(st.sampled_from(("channels", "outputs", "groups", "windows")))
    tile = SlotTile(window, draw(powers), draw(powers), draw(powers), rows, draw(powers))
    try:
        return SlotLayout(shape, tile, n)
    except InvalidPolicy:
        return SlotLayout(shape, default_slot_tile(shape, n), n)


@settings(max_examples=150, deadline=None)
@given(any_layout(), st.integers(0, 2**32))
def test_whatever_tile_is_accepted_gives_plain_convolution(layout, seed):
    check(layout, np.random.default_rng(seed))


@settings(max_examples=100, deadline=None)
@given(layouts())
def test_every_output_is_sent_once(layout):
    indices = np.concatenate([index for _, index in layout.outputs])
    assert sorted(indices.tolist()) == list(range(layout.shape.output_values))
    assert len(layout.outputs) == layout.responses
    for positions, _ in layout.outputs:
        assert len(set(positions.tolist())) == len(positions)


@settings(max_examples=80, deadline=None)
@given(shapes(), st.data(), st.integers(0, 2**32))
def test_closed_form_counts_are_those_of_the_counting_interpreter(shape, data, seed):
    layout = SlotLayout(shape, data.draw(st.sampled_from(slot_tiles(shape, 1024))), 1024)
    assert counted(layout, np.ones(shape.weight_shape, np.int64)) == expected(layout)
    weight = tensors(shape, np.random.default_rng(seed))[1]
    assert counted(layout, weight) == expected(layout, layout.nonzero(weight))


@pytest.mark.parametrize("n", [4096, 8192])
@pytest.mark.parametrize("name", ZOO)
def test_every_layer_of_the_zoo_has_tiles_and_their_structure_is_what_dense_weights_use(name, n):
    shape = ZOO[name]
    layout = SlotLayout(shape, default_slot_tile(shape, n), n)
    if np.prod(layout.products_shape) < 1 << 16:
        assert np.array_equal(layout.structure, layout.nonzero(np.ones(shape.weight_shape, np.int64)))


@pytest.mark.parametrize("kind", KINDS)
def test_seal_gives_plain_convolution_and_does_what_was_counted(kind):
    shape, rng = KINDS[kind], np.random.default_rng(11)
    layout = SlotLayout(shape, default_slot_tile(shape, SEAL_SET.n), SEAL_SET.n)
    client, server, _ = seal_pair(SEAL_SET, "slots", privacy=CircuitPrivacy("rerandomise"), steps=layout.steps)
    x, weight = tensors(shape, rng, high=8)
    share = rng.integers(0, SEAL_SET.t, x.shape)
    result = run(client, server, layout, weight, share, (x - share) % SEAL_SET.t, SEAL_SET.t)
    assert np.array_equal(result, convolve(shape, x, weight))
    counts = expected(layout, layout.nonzero(weight))
    counts["receive_add_share"] = counts.pop("receive")
    assert client.operations + server.operations == counts


@pytest.mark.parametrize("packing", ["coefficients", "slots"])
def test_a_part_of_the_responses_is_what_all_of_them_hold(packing):
    shape, rng = KINDS["grouped"], np.random.default_rng(3)
    tile = default_slot_tile(shape, 512) if packing == "slots" else default_tile(shape, 256)
    layout = linear_layer.layout_of(shape, packing, tile, 512 if packing == "slots" else 256)
    x, weight = tensors(shape, rng)
    he = ClearHe(layout.n, T, rng, packing)
    encoded = linear_layer.encode_layer(he, layout, weight)
    requests = linear_layer.request(he, layout, x)
    result = np.zeros(shape.output_values, np.int64)
    for worker in range(3):
        chosen = range(worker, layout.responses, 3)
        sent, kept = linear_layer.answer(he, layout, encoded, requests, None, chosen)
        assert len(sent) == len(chosen)
        result += kept
        for response, message in zip(chosen, sent, strict=True):
            positions, index = layout.outputs[response]
            result[index] += he.decrypt(message, positions)
    assert np.array_equal((result + T // 2) % T - T // 2, convolve(shape, x, weight))


def test_a_tile_of_the_other_packing_is_refused():
    shape = KINDS["square"]
    with pytest.raises(InvalidPolicy, match="cannot use"):
        linear_layer.layout_of(shape, "slots", default_tile(shape, 4096), 4096)
    with pytest.raises(InvalidPolicy, match="cannot use"):
        linear_layer.layout_of(shape, "coefficients", default_slot_tile(shape, 4096), 4096)


def test_what_does_not_fit_is_refused():
    shape = LinearShape(4, 8, 8, 4, (3, 3), (1, 1), (1, 1, 1, 1), 2)
    good = SlotTile((8, 8), 1, 1, 1, "channels", 1)
    SlotLayout(shape, good, 256)
    for tile, name in (
        (SlotTile((9, 8), 1, 1, 1, "channels", 1), "window"),
        (SlotTile((8, 8), 3, 1, 1, "channels", 1), "in_channels"),
        (SlotTile((8, 8), 1, 0, 1, "channels", 1), "out_channels"),
        (SlotTile((8, 8), 1, 1, 4, "channels", 1), "lanes"),
        (SlotTile((8, 8), 4, 1, 1, "channels", 1), "slots in a row"),
        (SlotTile((8, 8), 1, 1, 1, "channels", 2), "baby_steps"),
    ):
        with pytest.raises(InvalidPolicy, match=name):
            SlotLayout(shape, tile, 256)
    with pytest.raises(InvalidPolicy, match="larger n"):
        default_slot_tile(LinearShape(1, 80, 80, 1, (70, 70)), 1024)
