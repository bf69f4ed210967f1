import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import reference
from autoprivacy.networks.accumulators import accumulator_bounds, least_modulus_bits, linear_bounds, signed_bits
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.convolution import Ints
from autoprivacy.networks.graph import INPUT
from autoprivacy.networks.integer_network import (
    IntegerLinear,
    IntegerSum,
    Operation,
    QuantisedNetwork,
    Range,
    Requantisation,
    Requantise,
    Stage,
    View,
    Widths,
    WindowMax,
    WindowSum,
    chain_operations,
    meetings,
    value_shapes,
)
from autoprivacy.networks.overflow import overflow
from tests.networks.integers import (
    any_widths,
    linears,
    networks,
    plain_linear,
    quantiser_of,
    random_images,
    random_inputs,
)


def linear(
    name: str, source: str, weight: Sequence[Sequence[int]], bias: Sequence[int] = (), entering: Range = (0, 7)
) -> IntegerLinear:
    matrix = np.array(weight)[:, :, None, None]
    return IntegerLinear(
        name=name,
        kind="linear",
        source=source,
        weight=matrix,
        bias=np.array(bias or [0] * len(matrix)),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        groups=1,
        input_shape=(matrix.shape[1], 1, 1),
        output_shape=(len(matrix), 1, 1),
        input_range=entering,
    )


def relu(name: str, source: str, shifts: Sequence[int], bits: int = 3) -> Requantisation:
    return Requantisation(name, source, Requantise(np.array(shifts), bits, relu=True))


def added(name: str, *terms: tuple[str, Sequence[int]], bias: Sequence[int]) -> IntegerSum:
    return IntegerSum(name, tuple((source, np.array(shifts)) for source, shifts in terms), np.array(bias))


def net(*operations: Operation, shape: tuple[int, int, int] = (2, 1, 1), entering: Range = (0, 7)) -> QuantisedNetwork:
    return QuantisedNetwork("net", "", Widths(()), operations, shape, entering, 1.0, 1.0)


def column(*values: int) -> Ints:
    return np.array(values).reshape(1, -1, 1, 1)


@settings(max_examples=80, deadline=None)
@given(layer=linears())
def test_bounds_are_attained_by_the_extreme_inputs(layer: IntegerLinear) -> None:
    lows, highs = linear_bounds(layer)
    reached_low, reached_high = _extremes(layer)
    assert lows.tolist() == reached_low
    assert highs.tolist() == reached_high


def _extremes(layer: IntegerLinear) -> tuple[list[int], list[int]]:
    """The least and greatest accumulators over images that were built to reach them, at every output position."""
    reached: tuple[list[int], list[int]] = ([], [])
    low, high = layer.input_range
    _, height, width = layer.input_shape
    share = layer.output_shape[0] // layer.groups
    for m in range(layer.output_shape[0]):
        found: tuple[list[int], list[int]] = ([], [])
        for row, col in itertools.product(*map(range, layer.output_shape[1:])):
            for sign, kept in zip((-1, 1), found, strict=True):
                image = np.zeros(layer.input_shape, dtype=np.int64)
                for c, y, x in itertools.product(range(layer.weight.shape[1]), range(height), range(width)):
                    i, j = y - row * layer.stride[0] + layer.padding[0], x - col * layer.stride[1] + layer.padding[1]
                    if 0 <= i < layer.weight.shape[2] and 0 <= j < layer.weight.shape[3]:
                        value = high if layer.weight[m, c, i, j] * sign > 0 else low
                        image[m // share * layer.weight.shape[1] + c, y, x] = value
                kept.append(plain_linear(layer, image.tolist())[m][row][col])
        reached[0].append(min(found[0]))
        reached[1].append(max(found[1]))
    return reached


@settings(max_examples=40, deadline=None)
@given(trained=networks(), data=st.data(), seed=st.integers(0, 2**32), signed=st.booleans())
def test_no_run_passes_the_bounds_and_the_least_moduli_change_nothing(
    trained: TrainedNetwork, data: st.DataObject, seed: int, *, signed: bool
) -> None:
    network = trained.network
    quantiser = quantiser_of(trained, random_images(network, 8, seed, signed=signed))
    quantised = quantiser.quantise(data.draw(st.composite(any_widths)(network, 8)))
    x = random_inputs(quantised.input_shape, *quantised.input_range, images=20, seed=seed)
    trace = reference.run(quantised, x)
    last = quantised.operations[-1].name
    values = {**trace.circuit_inputs, last: trace.logits.reshape(20, -1, 1, 1)}
    for name, (lows, highs) in accumulator_bounds(quantised).items():
        assert (lows[:, None, None] <= values[name]).all()
        assert (values[name] <= highs[:, None, None]).all()
    bits = least_modulus_bits(quantised)
    assert list(bits) == [layer.name for layer in network.linear_layers]
    wrapped = reference.logits(quantised, x, moduli={name: 1 << each for name, each in bits.items()})
    np.testing.assert_array_equal(wrapped, trace.logits)
    shapes = value_shapes(quantised)
    assert all(found.shape[1:] == shapes[name] for name, found in trace.activations.items())


@pytest.mark.parametrize(
    ("weight", "bias", "entering", "bits"),
    [
        (1, 0, (0, 7), 4),  # 0..7 needs a sign bit more
        (-1, 0, (0, 7), 4),  # -7..0
        (-1, -1, (0, 7), 4),  # -8..-1 just fits 4 bits
        (-1, -2, (0, 7), 5),  # -9 does not
        (1, 1, (0, 7), 5),  # 8 does not
        (0, 0, (0, 63), 6),  # the inputs themselves need 6 bits
        (0, 0, (-32, 31), 6),
        (1, 0, (-8, 7), 4),
        (-1, 0, (-8, 7), 5),  # -1 times -8
    ],
)
def test_least_modulus_on_both_sides_of_a_boundary(weight: int, bias: int, entering: Range, bits: int) -> None:
    network = net(linear("fc", INPUT, [[weight]], [bias], entering), shape=(1, 1, 1), entering=entering)
    assert least_modulus_bits(network) == {"fc": bits}


@given(low=st.integers(-(2**40), 2**40), size=st.integers(0, 2**40))
def test_signed_bits_are_the_least_that_hold_both_ends(low: int, size: int) -> None:
    high, bits = low + size, signed_bits(low, low + size)
    assert -(2**bits) <= 2 * min(low, 0)
    assert 2 * max(high, 0) < 2**bits
    assert bits == 1 or -(2 ** (bits - 1)) > 2 * low or 2 * high >= 2 ** (bits - 1)


RESIDUAL = (
    linear("a", INPUT, [[1, 2], [3, -1]]),
    relu("ra", "a", [0, 1]),
    linear("b", "ra", [[1, 1], [-2, 0]]),
    linear("skip", INPUT, [[2, 0], [0, 2]]),
    added("sum", ("b", [0, 1]), ("skip", [2, 0]), ("ra", [0, 0]), bias=[4, 1]),
    relu("rs", "sum", [3, 1]),
    linear("c", "rs", [[1, 0], [0, 1]]),
)


def test_layers_that_meet_in_a_sum_have_one_modulus() -> None:
    network = net(*RESIDUAL)
    found = [(meeting.layers, meeting.circuit_inputs) for meeting in meetings(network)]
    assert found == [(("a",), ("a",)), (("b", "skip"), ("sum",)), (("c",), ("c",))]
    bounds = {name: (lows.tolist(), highs.tolist()) for name, (lows, highs) in accumulator_bounds(network).items()}
    assert bounds["a"] == ([0, -7], [21, 21])
    # b in [0, 14] and [-14, 0], skip in [0, 14] twice, ra in [0, 7]; shifted, and the constant added.
    assert bounds["sum"] == ([0 + 0 + 0 + 4, -28 + 0 + 0 + 1], [14 + 56 + 7 + 4, 0 + 14 + 7 + 1])
    assert least_modulus_bits(network) == {"a": 6, "b": 8, "skip": 8, "c": 4}


def test_layers_that_meet_take_one_modulus_in_a_run() -> None:
    network = net(*RESIDUAL)
    wrapped = reference.run(network, column(7, 7), moduli={"b": 64, "skip": 64})
    # There "a" is 21 and 14, "ra" 7 and 7, "b" 14 and -14, "skip" 14 and 14.
    assert wrapped.circuit_inputs["sum"].ravel().tolist() == [(14 + 56 + 7 + 4) - 64, -28 + 14 + 7 + 1]
    assert wrapped.accumulators["b"].ravel().tolist() == [14, -14]
    assert wrapped.activations["rs"].ravel().tolist() == [17 // 8, 0]
    for moduli in ({"b": 64}, {"b": 64, "skip": 128}):
        with pytest.raises(BadInput, match=r"b, skip meet"):
            reference.run(network, column(7, 7), moduli=moduli)


def test_a_trunk_of_sums_is_one_meeting_with_every_circuit_it_enters() -> None:
    network = net(
        linear("a", INPUT, [[1, 2], [3, -1]]),
        relu("r", "a", [0, 0]),
        linear("b", "r", [[1, 1], [-2, 0]]),
        added("sum", ("a", [0, 0]), ("b", [0, 0]), bias=[0, 0]),
    )
    (meeting,) = meetings(network)
    assert meeting.layers == ("a", "b")
    assert meeting.circuit_inputs == ("a", "sum")


def test_pools_and_views_carry_bounds() -> None:
    pooled = WindowSum("pool", INPUT, (2, 2), (1, 1), (0, 0, 1, 0))
    flat = View("flat", "pool", (4, 1, 1))
    cut = View("cut", "flat", (2, 2, 1))
    network = net(pooled, flat, cut, shape=(2, 2, 2), entering=(-1, 3))
    lows, highs = accumulator_bounds(network)["cut"]
    assert lows.tolist() == [-4, -4]
    assert highs.tolist() == [12, 12]
    best = WindowMax("max", INPUT, (2, 2), (2, 2), (0, 0, 0, 0))
    lows, highs = accumulator_bounds(net(best, shape=(2, 2, 2), entering=(-1, 3)))["max"]
    assert (lows.tolist(), highs.tolist()) == ([-1, -1], [3, 3])


def test_overflows_are_counted_by_hand() -> None:
    network = net(*RESIDUAL)
    x = np.concatenate([column(7, 7), column(0, 0), column(1, 0), column(0, 7)])
    # "a" is 21, 14 | 0, 0 | 1, 3 | 14, -7 and "sum" 81, -6 | 4, 1 | 15, -2 | 18, -13; 5 bits hold -16..15.
    found = overflow(network, x, {"a": 5, "b": 5, "skip": 5})
    assert (found["a"].values, found["a"].outside, found["a"].wrapped_images) == (8, 1, 1)
    assert (found["b"].values, found["b"].outside, found["b"].wrapped_images) == (8, 2, 2)
    assert replace(found["skip"], layer="b") == found["b"]
    # Clopper-Pearson: with that probability, so few or fewer of 4 have a chance of 5 %.
    p, q = found["a"].upper, found["b"].upper
    assert (1 - p) ** 4 + 4 * p * (1 - p) ** 3 == pytest.approx(0.05)
    assert (1 - q) ** 4 + 4 * q * (1 - q) ** 3 + 6 * (q * (1 - q)) ** 2 == pytest.approx(0.05)
    assert set(found) == {"a", "b", "skip"}


def test_logits_overflow_too_and_nothing_does_at_the_least_modulus() -> None:
    network = net(*RESIDUAL)
    x = random_inputs((2, 1, 1), 0, 7, images=50, seed=1)
    assert overflow(network, x, {"c": 3})["c"].outside > 0
    for each in overflow(network, x, least_modulus_bits(network)).values():
        assert (each.outside, each.wrapped_images, each.images) == (0, 0, 50)
        assert each.upper == pytest.approx(1 - 0.05 ** (1 / 50))


@pytest.mark.parametrize(
    ("x", "bits", "named"),
    [
        (column(1, 1), {"d": 8}, "'d'"),
        (column(1, 1), {"a": 0}, "1..62"),
        (column(1, 1), {"b": 8, "skip": 9}, "meet"),
        (column(1, 1)[:0], {"a": 8}, "at least one image"),
    ],
)
def test_overflows_that_cannot_be_counted_are_refused(x: Ints, bits: dict[str, int], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        overflow(net(*RESIDUAL), x, bits)


def _stage(name: str, shape: tuple[int, int, int], channels: int, requantise: Requantise | None) -> Stage:
    weight = np.random.default_rng(len(name)).integers(-4, 4, (channels, shape[0], 1, 1))
    return Stage(
        name=name,
        kind="conv2d",
        weight=weight,
        bias=np.zeros(channels, np.int64),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        groups=1,
        input_shape=shape,
        output_shape=(channels, *shape[1:]),
        input_bits=4,
        requantise=requantise,
    )


STAGES = (
    _stage("conv", (2, 3, 3), 2, Requantise(np.array([1, 2]), 4, relu=True)),
    _stage("wide", (2, 3, 3), 3, Requantise(np.array([0, 2, 2]), 4, relu=True)),
    _stage("fc", (27, 1, 1), 5, None),
)


def test_a_chain_is_its_stages_and_back() -> None:
    network = net(*chain_operations(STAGES), shape=(2, 3, 3), entering=(0, 15))
    assert [type(operation).__name__ for operation in network.operations] == [
        *("IntegerLinear", "Requantisation") * 2,
        *("View", "IntegerLinear"),
    ]
    for again, stage in zip(network.stages, STAGES, strict=True):
        for field in Stage.__dataclass_fields__:
            assert getattr(again, field) is getattr(stage, field) or getattr(again, field) == getattr(stage, field)
    x = random_inputs((2, 3, 3), 0, 15, images=3, seed=1)
    entering = x
    for stage in STAGES:
        sums = reference.linear(stage, entering)
        entering = sums if stage.requantise is None else reference.requantise(stage.requantise, sums)
    np.testing.assert_array_equal(reference.logits(network, x), sums.reshape(3, 5))


def _signed(operation: Operation) -> Operation:
    assert isinstance(operation, Requantisation)
    return replace(operation, rule=replace(operation.rule, relu=False))


def _capped(operation: Operation) -> Operation:
    assert isinstance(operation, Requantisation)
    return replace(operation, rule=replace(operation.rule, maximum=6))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda chain: [*chain[:3], _signed(chain[3]), *chain[4:]], "'wide.activation'"),
        (lambda chain: [chain[0], _capped(chain[1]), *chain[2:]], "'conv.activation'"),
        (lambda chain: [chain[0], *chain[2:]], "'wide'"),
        (lambda chain: [*chain, relu("end", "fc", [0] * 5)], "'end'"),
        (lambda chain: [WindowSum("pool", INPUT, (2, 2), (1, 1), (0, 0, 0, 0)), *chain], "'pool'"),
        (lambda chain: [relu("first", INPUT, [0, 0]), *chain], "'first'"),
        (lambda chain: [*chain[:3], added("sum", ("wide", [0] * 3), ("wide", [0] * 3), bias=[0] * 3)], "'sum'"),
        (lambda chain: [*chain[:2], replace(chain[2], source="conv")], "'wide'"),
        (lambda chain: [replace(chain[0], input_range=(-8, 7)), *chain[1:]], "'conv'"),
    ],
)
def test_what_is_no_chain_is_refused_by_its_first_misfit(
    change: Callable[[Sequence[Operation]], Sequence[Operation]], named: str
) -> None:
    network = net(*change(chain_operations(STAGES)), shape=(2, 3, 3), entering=(0, 15))
    with pytest.raises(BadInput, match=f"{named}.*chains") as caught:
        _ = network.stages
    assert "\n" not in str(caught.value)
