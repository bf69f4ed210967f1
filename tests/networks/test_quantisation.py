import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import reference
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Splits
from autoprivacy.networks.graph import INPUT, Flatten, Layer, Linear, Network, ReLU, parameter_shapes
from autoprivacy.networks.quantisation import (
    LayerWidths,
    QuantisedNetwork,
    Stage,
    Widths,
    accumulator_bounds,
    least_modulus_bits,
    quantise,
    signed_range,
    step_exponent,
    to_integers,
    uniform_widths,
)
from tests.networks.integers import plain_accumulator, stages

LAYERS = ("conv1", "conv2", "fc")

layer_bits = st.tuples(st.integers(2, 10), st.integers(2, 10))
any_widths = st.tuples(layer_bits, layer_bits, layer_bits).map(
    lambda bits: Widths(tuple(LayerWidths(name, w, a) for name, (w, a) in zip(LAYERS, bits, strict=True)))
)


@settings(max_examples=25, deadline=None)
@given(widths=any_widths)
def test_everything_has_the_width_that_was_asked_for(trained: TrainedNetwork, digits: Splits, widths: Widths) -> None:
    quantised = quantise(trained, widths, digits.calibrate.x)
    x = quantised.quantise_input(digits.search.x[:50])
    trace = reference.run(quantised, x)
    entering = [x, trace.activations["conv1"], trace.activations["conv2"]]
    for stage, width, values in zip(quantised.stages, widths.layers, entering, strict=True):
        low, high = signed_range(width.weight_bits)
        assert low <= stage.weight.min() <= stage.weight.max() <= high
        assert stage.input_bits == width.activation_bits
        assert 0 <= values.min() <= values.max() <= 2**width.activation_bits - 1
        lows, highs = accumulator_bounds(stage)
        sums = trace.accumulators[stage.name]
        assert (lows <= sums.min(axis=(0, 2, 3))).all()
        assert (sums.max(axis=(0, 2, 3)) <= highs).all()
    for before, after in itertools.pairwise(quantised.stages):
        assert before.requantise is not None
        assert before.requantise.bits == after.input_bits
        assert before.requantise.shift >= 0
        assert before.requantise.relu
    assert quantised.stages[-1].requantise is None


@settings(max_examples=25, deadline=None)
@given(widths=any_widths)
def test_integers_are_the_float_network_with_every_value_rounded_to_its_step(
    trained: TrainedNetwork, digits: Splits, widths: Widths
) -> None:
    # In float64 all of these values are exact, so the two must agree to the last bit.
    quantised = quantise(trained, widths, digits.calibrate.x)
    x = torch.from_numpy(digits.search.x[:20].astype(np.float64))
    values, step = x, quantised.input_step
    for stage, width in zip(quantised.stages, widths.layers, strict=True):
        values = _rounded(values, step, 0, 2**width.activation_bits - 1)
        weight = torch.from_numpy(trained.weights[f"{stage.name}.weight"].astype(np.float64))
        bias = torch.from_numpy(trained.weights[f"{stage.name}.bias"].astype(np.float64))
        low, high = signed_range(width.weight_bits)
        weight_step = 2.0 ** -step_exponent(weight.numpy(), low, high)
        weight, step = _rounded(weight, weight_step, low, high), step * weight_step
        bias = _rounded(bias, step, -(2**62), 2**62)
        if stage.kind == "conv2d":
            values = functional.conv2d(values, weight, bias, stride=stage.stride, padding=stage.padding)
        else:
            values = functional.linear(values.flatten(1), weight, bias)
        if stage.requantise is not None:
            step *= 2**stage.requantise.shift
            values = functional.relu(values)
    logits = reference.run(quantised, quantised.quantise_input(digits.search.x[:20])).logits
    assert step == quantised.logit_scale
    np.testing.assert_array_equal(logits * quantised.logit_scale, values.numpy())


def _rounded(values: torch.Tensor, step: float, low: int, high: int) -> torch.Tensor:
    return torch.clamp(torch.floor(values / step + 0.5), low, high) * step


def test_logits_approach_those_in_float_as_widths_grow(trained: TrainedNetwork, digits: Splits) -> None:
    wanted = trained.run(digits.search.x)
    spread = float(wanted.std())
    distances = []
    for bits in (4, 6, 8, 12):
        quantised = quantise(trained, uniform_widths(trained.network, bits), digits.calibrate.x)
        logits = reference.run(quantised, quantised.quantise_input(digits.search.x)).logits * quantised.logit_scale
        distances.append(float(np.sqrt(np.square(logits - wanted).mean())) / spread)
    assert distances == sorted(distances, reverse=True)
    assert distances[2] < 0.03
    assert distances[3] < 0.003


def test_digits_enter_without_loss_from_5_bits_on(trained: TrainedNetwork, digits: Splits) -> None:
    for bits in (5, 6, 8):
        quantised = quantise(trained, uniform_widths(trained.network, bits), digits.calibrate.x)
        x = digits.confirm.x
        np.testing.assert_array_equal(quantised.quantise_input(x) * quantised.input_step, x)


def test_input_saturates_and_what_is_not_finite_is_refused(trained: TrainedNetwork, digits: Splits) -> None:
    quantised = quantise(trained, uniform_widths(trained.network, 5), digits.calibrate.x)
    x = np.zeros((1, 1, 8, 8), np.float32)
    x[0, 0, 0, :3] = (-1, 1, 1e9)
    assert quantised.quantise_input(x)[0, 0, 0].tolist() == [0, 16, 31, 0, 0, 0, 0, 0]
    for wrong in (x[0], np.full((1, 1, 8, 8), np.nan, np.float32)):
        with pytest.raises(BadInput, match="digits-cnn"):
            quantised.quantise_input(wrong)


def test_quantising_again_gives_the_same(trained: TrainedNetwork, digits: Splits) -> None:
    one, other = (quantise(trained, uniform_widths(trained.network, 4), digits.calibrate.x) for _ in range(2))
    assert one.trained_hash == trained.hash
    for first, second in zip(one.stages, other.stages, strict=True):
        np.testing.assert_array_equal(first.weight, second.weight)
        np.testing.assert_array_equal(first.bias, second.bias)
        assert first.requantise == second.requantise


@given(scaled=st.floats(-1000, 1000, width=32))
def test_rounding_is_half_up(scaled: float) -> None:
    expected = (Fraction(scaled) + Fraction(1, 2)).__floor__()
    for kind in (np.float32, np.float64):
        assert to_integers(np.array([scaled], dtype=kind), -2000, 2000).item() == expected


def test_rounding_does_not_round_twice() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert to_integers(np.array([below]), 0, 9).item() == 0


@given(
    sixteenths=st.lists(st.integers(-2000, 2000), min_size=1, max_size=8),
    bits=st.integers(2, 6),
    signed=st.booleans(),
)
def test_the_step_has_the_least_squared_error_of_all_powers_of_two(
    sixteenths: list[int], bits: int, *, signed: bool
) -> None:
    low, high = signed_range(bits) if signed else (0, 2**bits - 1)
    values = [Fraction(each if signed else abs(each), 16) for each in sixteenths]

    def error(exponent: int) -> Fraction:
        step = Fraction(2) ** -exponent
        rounded = [min(max((value / step + Fraction(1, 2)).__floor__(), low), high) * step for value in values]
        return sum(((value - each) ** 2 for value, each in zip(values, rounded, strict=True)), Fraction(0))

    chosen = step_exponent(np.array([float(value) for value in values]), low, high)
    assert error(chosen) == min(error(exponent) for exponent in range(-12, 14))


@settings(max_examples=60, deadline=None)
@given(stage=stages())
def test_bounds_are_reached_by_the_extreme_inputs_and_one_bit_less_is_not_enough(stage: Stage) -> None:
    lows, highs = accumulator_bounds(stage)
    reached_low, reached_high = _extremes(stage)
    assert lows.tolist() == reached_low
    assert highs.tolist() == reached_high
    bits = least_modulus_bits(stage)
    assert _fits(stage, bits, reached_low + reached_high)
    assert not _fits(stage, bits - 1, reached_low + reached_high)


def _fits(stage: Stage, bits: int, sums: list[int]) -> bool:
    holds_sums = all(-(2**bits) <= 2 * value < 2**bits for value in sums)
    return bits >= stage.input_bits and bits >= 1 and holds_sums


def _extremes(stage: Stage) -> tuple[list[int], list[int]]:
    """The least and greatest accumulators over inputs that were built to reach them, at every output position."""
    channels, height, width = stage.input_shape
    lows, highs = [], []
    for m in range(stage.output_shape[0]):
        found = []
        for row, column in itertools.product(range(stage.output_shape[1]), range(stage.output_shape[2])):
            for sign in (-1, 1):
                image = np.zeros(stage.input_shape, dtype=np.int64)
                for c, y, x in itertools.product(range(channels), range(height), range(width)):
                    i, j = y - row * stage.stride + stage.padding, x - column * stage.stride + stage.padding
                    inside = 0 <= i < stage.weight.shape[2] and 0 <= j < stage.weight.shape[3]
                    if inside and stage.weight[m, c, i, j] * sign > 0:
                        image[c, y, x] = 2**stage.input_bits - 1
                found.append(plain_accumulator(stage, image.tolist(), (m, row, column)))
        lows.append(min(found))
        highs.append(max(found))
    return lows, highs


@pytest.mark.parametrize(
    ("weight", "bias", "input_bits", "bits"),
    [
        (1, 0, 3, 4),  # 0..7 needs a sign bit more
        (-1, 0, 3, 4),  # -7..0
        (-1, -1, 3, 4),  # -8..-1 just fits 4 bits
        (-1, -2, 3, 5),  # -9 does not
        (1, 1, 3, 5),  # 8 does not
        (0, 0, 6, 6),  # the inputs themselves need 6 bits
    ],
)
def test_least_modulus_on_both_sides_of_a_boundary(weight: int, bias: int, input_bits: int, bits: int) -> None:
    stage = Stage(
        name="fc",
        kind="linear",
        weight=np.full((1, 1, 1, 1), weight),
        bias=np.array([bias]),
        stride=1,
        padding=0,
        input_shape=(1, 1, 1),
        output_shape=(1, 1, 1),
        input_bits=input_bits,
        requantise=None,
    )
    assert least_modulus_bits(stage) == bits


def test_the_least_modulus_changes_nothing_in_a_run(trained: TrainedNetwork, digits: Splits) -> None:
    quantised = quantise(trained, uniform_widths(trained.network, 6), digits.calibrate.x)
    rng = np.random.default_rng(1)
    x = rng.integers(0, 64, (50, 1, 8, 8))
    enough = {stage.name: least_modulus_bits(stage) for stage in quantised.stages}
    free, wrapped = reference.run(quantised, x), reference.run(quantised, x, modulus_bits=enough)
    np.testing.assert_array_equal(free.logits, wrapped.logits)


@pytest.mark.parametrize(
    ("widths", "named"),
    [
        (Widths(()), "conv1"),
        (Widths(tuple(LayerWidths(name, 4, 4) for name in ("conv2", "conv1", "fc"))), "in this order"),
        (Widths(tuple(LayerWidths(name, 4, 4) for name in ("conv1", "conv2", "fc", "fc"))), "conv1"),
        (Widths(tuple(LayerWidths(name, 1, 4) for name in LAYERS)), "weight_bits 1"),
        (Widths(tuple(LayerWidths(name, 4, 17) for name in LAYERS)), "activation_bits 17"),
    ],
)
def test_widths_that_do_not_fit_are_refused(
    trained: TrainedNetwork, digits: Splits, widths: Widths, named: str
) -> None:
    with pytest.raises(BadInput) as caught:
        quantise(trained, widths, digits.calibrate.x)
    assert named in str(caught.value)


def test_calibration_needs_images_without_negative_pixels(trained: TrainedNetwork, digits: Splits) -> None:
    widths = uniform_widths(trained.network, 4)
    for wrong in (digits.calibrate.x[:0], -digits.calibrate.x, digits.calibrate.x[:, :, 1:]):
        with pytest.raises(BadInput, match="digits-cnn"):
            quantise(trained, widths, wrong)


FLAT = Flatten("flat", (INPUT,))


def _network(*layers: Layer, scale: float = 1.0) -> TrainedNetwork:
    network = Network("net", (2, 1, 1), layers)
    weights = {name: np.full(shape, scale, np.float32) for name, shape in parameter_shapes(network).items()}
    return TrainedNetwork(network, weights)


def _quantise(trained: TrainedNetwork, x: float = 1.0) -> QuantisedNetwork:
    return quantise(trained, uniform_widths(trained.network, 4), np.full((1, 2, 1, 1), x, np.float32))


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ((FLAT, Linear("a", ("flat",), 2), Linear("b", ("a",), 2)), "'b'"),
        ((FLAT, ReLU("r", ("flat",)), Linear("a", ("r",), 2)), "'r'"),
        ((FLAT, Linear("a", ("flat",), 2), ReLU("r", ("a",))), "last ReLU"),
        ((FLAT,), "linear layer"),
    ],
)
def test_a_graph_without_an_integer_form_is_refused(layers: tuple[Layer, ...], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        _quantise(_network(*layers))


TWO = (FLAT, Linear("a", ("flat",), 2), ReLU("r", ("a",)), Linear("b", ("r",), 2))


def test_a_dead_layer_quantises_to_zero() -> None:
    quantised = _quantise(_network(*TWO, scale=0.0))
    assert reference.run(quantised, np.full((1, 2, 1, 1), 15)).logits.tolist() == [[0, 0]]


def test_a_bias_out_of_all_proportion_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'a'.*bias"):
        _quantise(_network(FLAT, Linear("a", ("flat",), 2)), 1e-30)


def test_a_shift_beyond_64_bits_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'a'.*bits would be dropped"):
        _quantise(_network(*TWO, scale=-1e-20))


def test_a_step_finer_than_the_accumulators_is_not_taken() -> None:
    # 2-bit weights and inputs of 1 have accumulators at a coarse step; 16 bits after them would want a finer one.
    trained = _network(*TWO)
    widths = Widths((LayerWidths("a", 2, 2), LayerWidths("b", 2, 16)))
    quantised = quantise(trained, widths, np.ones((1, 2, 1, 1), np.float32))
    first = quantised.stages[0].requantise
    assert first is not None
    assert first.shift == 0
    logits = reference.run(quantised, quantised.quantise_input(np.ones((1, 2, 1, 1), np.float32))).logits
    assert (logits * quantised.logit_scale).tolist() == trained.run(np.ones((1, 2, 1, 1), np.float32)).tolist()
