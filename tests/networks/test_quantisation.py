import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import calibration, reference, zoo
from autoprivacy.networks.accumulators import accumulator_bounds, least_modulus_bits
from autoprivacy.networks.calibration import calibrate
from autoprivacy.networks.checkpoint import TrainedNetwork, untrained
from autoprivacy.networks.convolution import Floats
from autoprivacy.networks.data import Splits
from autoprivacy.networks.graph import (
    INPUT,
    Add,
    AvgPool,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Network,
    ReLU,
    ReLU6,
    parameter_shapes,
)
from autoprivacy.networks.integer_network import (
    IntegerLinear,
    IntegerSum,
    LayerWidths,
    QuantisedNetwork,
    Requantisation,
    Stage,
    Widths,
)
from autoprivacy.networks.quantisation import Quantiser, uniform_widths
from autoprivacy.networks.rounding import signed_range, step_exponent
from tests.networks.integers import networks, quantiser_of, random_images

LAYERS = ("conv1", "conv2", "fc")

layer_bits = st.tuples(st.integers(2, 10), st.integers(2, 10))
widths_of_digits = st.tuples(layer_bits, layer_bits, layer_bits).map(
    lambda bits: Widths(tuple(LayerWidths(name, w, a) for name, (w, a) in zip(LAYERS, bits, strict=True)))
)


@pytest.fixture(scope="module")
def quantiser(trained: TrainedNetwork, digits: Splits) -> Quantiser:
    return Quantiser(trained, digits.calibrate.x)


@settings(max_examples=25, deadline=None)
@given(widths=widths_of_digits)
def test_everything_has_the_width_that_was_asked_for(quantiser: Quantiser, digits: Splits, widths: Widths) -> None:
    quantised = quantiser.quantise(widths)
    x = quantised.quantise_input(digits.search.x[:50])
    trace = reference.run(quantised, x)
    entering = [x, trace.activations["relu1"], trace.activations["relu2"]]
    bounds = accumulator_bounds(quantised)
    for stage, width, values in zip(quantised.stages, widths.layers, entering, strict=True):
        low, high = signed_range(width.weight_bits)
        assert low <= stage.weight.min() <= stage.weight.max() <= high
        assert stage.input_bits == width.activation_bits
        assert 0 <= values.min() <= values.max() <= 2**width.activation_bits - 1
        lows, highs = bounds[stage.name]
        sums = trace.accumulators[stage.name]
        assert (lows <= sums.min(axis=(0, 2, 3))).all()
        assert (sums.max(axis=(0, 2, 3)) <= highs).all()
    for before, after in itertools.pairwise(quantised.stages):
        assert before.requantise is not None
        assert before.requantise.bits == after.input_bits
        assert (before.requantise.shifts >= 0).all()
        assert before.requantise.relu
    assert quantised.stages[-1].requantise is None


@settings(max_examples=25, deadline=None)
@given(widths=widths_of_digits)
def test_integers_are_the_float_network_with_every_value_rounded_to_its_step(
    trained: TrainedNetwork, quantiser: Quantiser, digits: Splits, widths: Widths
) -> None:
    # In float64 all of these values are exact, so the two must agree to the last bit.
    quantised = quantiser.quantise(widths)
    values, step = torch.from_numpy(digits.search.x[:20].astype(np.float64)), quantised.input_step
    for stage, width in zip(quantised.stages, widths.layers, strict=True):
        values = _rounded(values, torch.tensor(step), 0, 2**width.activation_bits - 1)
        weight = trained.weights[f"{stage.name}.weight"].astype(np.float64)
        shifts = np.zeros(len(weight), np.int64) if stage.requantise is None else stage.requantise.shifts
        following = _step_after(weight, stage, step, shifts, width.weight_bits)
        by_channel = torch.from_numpy(following * 2.0**-shifts)
        weight_step = (by_channel / step).reshape(-1, *[1] * (weight.ndim - 1))
        rounded = _rounded(torch.from_numpy(weight), weight_step, *signed_range(width.weight_bits))
        bias = torch.from_numpy(trained.weights[f"{stage.name}.bias"].astype(np.float64))
        bias = _rounded(bias, by_channel, -(2**62), 2**62)
        if stage.kind == "conv2d":
            assert stage.padding == (1, 1, 1, 1)
            values = functional.conv2d(values, rounded, bias, stride=stage.stride, padding=1)
        else:
            values = functional.linear(values.flatten(1), rounded, bias)
        if stage.requantise is not None:
            values = functional.relu(values)
        step = following
    logits = reference.run(quantised, quantised.quantise_input(digits.search.x[:20])).logits
    assert step == quantised.logit_scale
    np.testing.assert_array_equal(logits * quantised.logit_scale, values.numpy())


def _rounded(values: torch.Tensor, step: torch.Tensor, low: int, high: int) -> torch.Tensor:
    return torch.clamp(torch.floor(values / step + 0.5), low, high) * step


def _step_after(weight: np.ndarray, stage: Stage, step: float, shifts: np.ndarray, bits: int) -> float:
    """The step of what comes out of a stage: the one that every channel's float and integer weights agree on."""
    low, high = signed_range(bits)
    integers = stage.weight.reshape(weight.shape)
    agreed = set(range(-30, 30))
    for channel, whole, shift in zip(weight, integers, shifts.tolist(), strict=True):
        fitting = [e for e in range(-30, 60) if (np.floor(channel * 2.0**e + 0.5).clip(low, high) == whole).all()]
        agreed &= {e - shift for e in fitting}
    (exponent,) = agreed
    return step * 2.0**-exponent


def test_logits_approach_those_in_float_as_widths_grow(
    trained: TrainedNetwork, quantiser: Quantiser, digits: Splits
) -> None:
    distances = [_distance(quantiser, trained, digits.search.x, bits) for bits in (4, 6, 8, 12)]
    assert distances == sorted(distances, reverse=True)
    assert distances[2] < 0.03
    assert distances[3] < 0.003


def _distance(quantiser: Quantiser, trained: TrainedNetwork, x: Floats, bits: int) -> float:
    """Root mean square of the logits' errors, in units of their own."""
    quantised = quantiser.quantise(uniform_widths(trained.network, bits))
    logits = reference.logits(quantised, quantised.quantise_input(x)) * quantised.logit_scale
    wanted = trained.run(x)
    return float(np.sqrt(np.square(logits - wanted).mean() / np.square(wanted).mean()))


@settings(max_examples=60, deadline=None)
@given(trained=networks(), seed=st.integers(0, 2**32), signed=st.booleans())
def test_any_network_at_16_bits_is_close_to_float(trained: TrainedNetwork, seed: int, *, signed: bool) -> None:
    x = random_images(trained.network, 16, seed, signed=signed)
    quantiser = quantiser_of(trained, x)
    if np.abs(trained.run(x)).mean() > 1e-3:  # else next to nothing gets through
        assert _distance(quantiser, trained, x, 16) < 0.01


def test_a_deep_network_keeps_close_to_float() -> None:
    trained = untrained(zoo.architecture("resnet20"), np.random.default_rng(1))
    x = random_images(trained.network, 1, 1, signed=True)
    quantiser = Quantiser(trained, x)
    distance = _distance(quantiser, trained, x, 16)
    assert distance < 0.05
    assert distance < _distance(quantiser, trained, x, 8) / 8


def test_digits_enter_without_loss_from_5_bits_on(
    trained: TrainedNetwork, quantiser: Quantiser, digits: Splits
) -> None:
    for bits in (5, 6, 8):
        quantised = quantiser.quantise(uniform_widths(trained.network, bits))
        x = digits.confirm.x
        np.testing.assert_array_equal(quantised.quantise_input(x) * quantised.input_step, x)


def test_input_saturates_and_what_is_not_finite_is_refused(trained: TrainedNetwork, quantiser: Quantiser) -> None:
    quantised = quantiser.quantise(uniform_widths(trained.network, 5))
    x = np.zeros((1, 1, 8, 8), np.float32)
    x[0, 0, 0, :3] = (-1, 1, 1e9)
    assert quantised.quantise_input(x)[0, 0, 0].tolist() == [0, 16, 31, 0, 0, 0, 0, 0]
    for wrong in (x[0], np.full((1, 1, 8, 8), np.nan, np.float32)):
        with pytest.raises(BadInput, match="digits-cnn"):
            quantised.quantise_input(wrong)


def test_what_was_quantised_before_changes_nothing(
    trained: TrainedNetwork, quantiser: Quantiser, digits: Splits
) -> None:
    for bits in (3, 8, 5, 4):
        quantiser.quantise(uniform_widths(trained.network, bits))
    fresh = Quantiser(trained, digits.calibrate.x)
    one, other = (each.quantise(uniform_widths(trained.network, 4)) for each in (quantiser, fresh))
    assert one.trained_hash == trained.hash
    for first, second in zip(one.stages, other.stages, strict=True):
        np.testing.assert_array_equal(first.weight, second.weight)
        np.testing.assert_array_equal(first.bias, second.bias)
        if first.requantise and second.requantise:
            np.testing.assert_array_equal(first.requantise.shifts, second.requantise.shifts)


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
def test_widths_that_do_not_fit_are_refused(quantiser: Quantiser, widths: Widths, named: str) -> None:
    with pytest.raises(BadInput) as caught:
        quantiser.quantise(widths)
    assert named in str(caught.value)


def test_calibration_needs_images_that_fit(trained: TrainedNetwork, digits: Splits) -> None:
    for wrong in (digits.calibrate.x[:0], digits.calibrate.x[:, :, 1:]):
        with pytest.raises(BadInput, match="digits-cnn"):
            Quantiser(trained, wrong)


# Small networks, computed by hand. Steps of least squares for values that are themselves small integers over a power
# of two are the ones at which nothing is lost.

FLAT = Flatten("flat", (INPUT,))


def small(
    weights: Mapping[str, Sequence[float]], *layers: Layer, shape: tuple[int, int, int] = (2, 1, 1)
) -> TrainedNetwork:
    """A network with the weights given by `LAYER.weight` or `LAYER.bias`, zeros elsewhere."""
    network = Network("net", shape, layers)
    found = {name: np.zeros(size, np.float32) for name, size in parameter_shapes(network).items()}
    found |= {name: np.array(values, np.float32).reshape(found[name].shape) for name, values in weights.items()}
    return TrainedNetwork(network, found)


def quantised_at(
    trained: TrainedNetwork, pixels: list[list[float]], bits: int = 4, weight_bits: int = 4
) -> tuple[QuantisedNetwork, np.ndarray]:
    """The network calibrated on images of these pixels, and its logits on them."""
    x = np.array(pixels, np.float32).reshape(-1, *trained.network.input_shape)
    widths = Widths(tuple(LayerWidths(each.name, weight_bits, bits) for each in trained.network.linear_layers))
    quantised = Quantiser(trained, x).quantise(widths)
    return quantised, reference.logits(quantised, quantised.quantise_input(x)) * quantised.logit_scale


def requantisations(network: QuantisedNetwork) -> dict[str, Requantisation]:
    return {each.name: each for each in network.operations if isinstance(each, Requantisation)}


def layers_of(network: QuantisedNetwork) -> dict[str, IntegerLinear]:
    return {each.name: each for each in network.linear_layers}


HIDDEN = (FLAT, Linear("a", ("flat",), 2), ReLU("r", ("a",)), Linear("b", ("r",), 1))


def test_channels_have_steps_of_their_own_and_shifts_that_undo_them() -> None:
    trained = small({"a.weight": [7, -4, 0.875, 0.5], "b.weight": [1, 1]}, *HIDDEN)
    quantised, logits = quantised_at(trained, [[1, 0], [0, 1], [15, 0]], weight_bits=4)
    a, rule = layers_of(quantised)["a"], requantisations(quantised)["r"].rule
    assert a.weight[:, :, 0, 0].tolist() == [[7, -4], [7, 4]]  # steps 1 and 1/8
    assert quantised.input_step == 1
    # r reaches 105: the best of 16 levels are 8 apart, and 1/8 of the second channel's.
    assert rule.shifts.tolist() == [3, 6]
    assert a.bias.tolist() == [4, 32]
    # 105 / 8 = 13.1 and 13.1 / 8 = 1.6 are rounded; 7, 0.875 vanish or not.
    assert logits.ravel().tolist() == [8 + 0, 0, 8 * 13 + 8 * 2]


def test_logits_have_one_step() -> None:
    trained = small({"b.weight": [7, -4, 0.875, 0.5]}, FLAT, Linear("b", ("flat",), 2))
    quantised, logits = quantised_at(trained, [[1, 0], [0, 1], [15, 0]])
    assert layers_of(quantised)["b"].weight[:, :, 0, 0].tolist() == [[7, -4], [1, 1]]
    assert logits.tolist() == [[7, 1], [-4, 1], [105, 15]]


def test_a_channel_of_zeros_takes_the_finest_step_of_the_others() -> None:
    trained = small({"a.weight": [7, 7, 0, 0], "a.bias": [0, 3], "b.weight": [1, 1]}, *HIDDEN)
    quantised, _ = quantised_at(trained, [[1, 0], [0, 1]])
    assert requantisations(quantised)["r"].rule.shifts.tolist() == [0, 0]
    assert layers_of(quantised)["a"].bias.tolist() == [0, 3]


def test_a_channel_of_tiny_weights_does_not_make_its_bias_huge() -> None:
    weights: dict[str, list[float]] = {"a.weight": [7, 7, 2.0**-30, 0], "a.bias": [0, 8], "b.weight": [1, 1]}
    quantised, logits = quantised_at(small(weights, *HIDDEN), [[1, 0], [0, 1]])
    a = layers_of(quantised)["a"]
    lows, highs = accumulator_bounds(quantised)["a"]
    assert max(highs) < 2 * (7 + 7) * 15
    assert a.weight[1].ravel().tolist() == [0, 0]
    assert a.bias[1] * 2.0 ** -requantisations(quantised)["r"].rule.shifts[1] >= 8
    np.testing.assert_allclose(logits.ravel(), [15, 15])
    assert lows.min() >= 0


def test_a_tiny_channel_does_not_make_the_rounding_constant_huge() -> None:
    weights: dict[str, list[float]] = {"a.weight": [7, 7, 2.0**-30, 0], "b.weight": [1, 1]}
    quantised, logits = quantised_at(small(weights, *HIDDEN), [[1, 0], [0, 1]])
    assert least_modulus_bits(quantised)["a"] <= 9
    np.testing.assert_allclose(logits.ravel(), [7, 7])


def test_negative_tensors_are_signed() -> None:
    layers = (FLAT, Linear("a", ("flat",), 2), Linear("b", ("a",), 1))
    trained = small({"a.weight": [1, 0, 0, -1], "b.weight": [1, 1]}, *layers)
    quantised, logits = quantised_at(trained, [[7, 0], [0, 7], [-8, 8]])
    assert quantised.input_range == (-8, 7)
    (rounded,) = requantisations(quantised).values()
    assert rounded.source == "a"
    assert rounded.rule.range == (-8, 7)
    assert layers_of(quantised)["b"].input_range == (-8, 7)
    assert logits.ravel().tolist() == [7, -7, -8 + -7]  # 8 saturates on its way in
    x = np.array([[9, -9]], np.float32).reshape(1, 2, 1, 1)
    assert quantised.quantise_input(x).ravel().tolist() == [7, -8]


@pytest.mark.parametrize(
    ("scale", "bits", "maximum"),
    [
        (1.0, 4, 12),  # steps of 1/2: 12 of 15 levels
        (1.0, 3, 6),  # steps of 1
        (1.0, 2, None),  # steps of 2: 3 of 3 levels
        (0.25, 4, None),  # never reaches 6: steps of 1/8 end at 15/8
    ],
)
def test_relu6_is_a_maximum_where_saturation_is_not(scale: float, bits: int, maximum: int | None) -> None:
    layers = (FLAT, Linear("a", ("flat",), 2), ReLU6("r", ("a",)), Linear("b", ("r",), 1))
    trained = small({"a.weight": [scale, 0, 0, scale], "b.weight": [1, 0]}, *layers)
    pixels = [[pixel / 2, 0] for pixel in range(16)]
    x = np.array(pixels, np.float32).reshape(-1, 2, 1, 1)
    widths = Widths((LayerWidths("a", 4, 4), LayerWidths("b", 4, bits)))
    quantised = Quantiser(trained, x).quantise(widths)
    rule = requantisations(quantised)["r"].rule
    assert rule.maximum == maximum
    assert rule.range == (0, 2**bits - 1 if maximum is None else maximum)
    logits = reference.logits(quantised, quantised.quantise_input(x)) * quantised.logit_scale
    assert logits.max() <= 6
    if bits == 4:
        assert logits.ravel().tolist() == [min(6.0, scale * pixel[0]) for pixel in pixels]


def test_sums_align_their_terms_to_the_finest_step_of_each_channel() -> None:
    layers = (
        *(FLAT, Linear("a", ("flat",), 2), Linear("c", ("flat",), 2)),
        *(Add("sum", ("a", "c", "flat")), ReLU("r", ("sum",)), Linear("b", ("r",), 1)),
    )
    trained = small({"a.weight": [7, 0, 0, 0.875], "c.weight": [3.5, 0, 0, 3.5], "b.weight": [1, 1]}, *layers)
    quantised, logits = quantised_at(trained, [[1, 0], [0, 1]], bits=6)
    (added,) = (each for each in quantised.operations if isinstance(each, IntegerSum))
    # Weights have the exponents 0 and 3 in "a", 1 and 1 in "c"; the input's comes to each, and to "flat" alone.
    assert {name: shifts.tolist() for name, shifts in added.terms} == {"a": [1, 0], "c": [0, 2], "flat": [1, 3]}
    rule = requantisations(quantised)["r"].rule
    assert added.bias.tolist() == [1 << (shift - 1) for shift in rule.shifts]
    assert logits.ravel().tolist() == [7 + 3.5 + 1, 0.875 + 3.5 + 1 + 0.125]  # 5.375 is rounded to quarters


def test_a_mean_over_a_power_of_two_is_a_sum_at_a_finer_step() -> None:
    layers = (AvgPool("p", (INPUT,), (2, 2), (2, 2)), Flatten("f", ("p",)), Linear("b", ("f",), 1))
    quantised, logits = quantised_at(small({"b.weight": [1]}, *layers, shape=(1, 2, 2)), [[15, 8, 3, 1]])
    assert layers_of(quantised)["b"].input_range == (0, 60)
    assert logits.item() == 27 / 4


def test_a_mean_over_another_window_leaves_a_factor_to_the_next_weights() -> None:
    layers = (AvgPool("p", (INPUT,), (1, 6), (1, 1)), Flatten("f", ("p",)), Linear("b", ("f",), 1))
    trained = small({"b.weight": [6]}, *layers, shape=(1, 1, 6))
    quantised, logits = quantised_at(trained, [[15, 8, 3, 1, 0, 2]])
    # The mean is the sum over 6: 2 goes to the exponent, 3 into the weight, which is 6 / 3 = 2.
    assert layers_of(quantised)["b"].input_range == (0, 90)
    assert layers_of(quantised)["b"].weight.item() * quantised.logit_scale == 1
    assert logits.item() == 29


def test_a_factor_goes_through_circuits_and_to_the_logits() -> None:
    layers = (
        *(Conv2d("a", (INPUT,), 1, (1, 1)), AvgPool("p", ("a",), (1, 3), (1, 1))),
        *(ReLU6("r", ("p",)), Flatten("f", ("r",)), Linear("b", ("f",), 2), Flatten("g", ("b",))),
    )
    trained = small({"a.weight": [1], "b.weight": [3, 1.5]}, *layers, shape=(1, 1, 3))
    quantised, logits = quantised_at(trained, [[3, 6, 6], [0, 1, 2], [6, 6, 9], [1, 1, 3]], bits=5)
    rule = requantisations(quantised)["r"].rule
    # In thirds, 6 is 18, and one level at 5 bits is a third (it could be no finer: the sum's step is one).
    assert rule.maximum == 18
    assert rule.shifts.tolist() == [0]
    assert logits[:, 0].tolist() == [15, 3, 18, 5]
    ends = (AvgPool("p", (INPUT,), (1, 3), (1, 1)), Conv2d("a", ("p",), 1, (1, 1)))
    tail = (AvgPool("q", ("a",), (1, 3), (1, 1)), Flatten("f", ("q",)))
    trained = small({"a.weight": [3]}, *ends, *tail, shape=(1, 1, 5))
    quantised, logits = quantised_at(trained, [[1, 2, 3, 4, 5]])
    assert quantised.logit_scale * 3 == 1
    assert logits.item() == 9


def test_a_max_pool_before_its_relu_is_one_circuit() -> None:
    layers = (
        *(Conv2d("a", (INPUT,), 1, (1, 1)), MaxPool("p", ("a",), (2, 2), (2, 2), (1, 1, 1, 1))),
        *(ReLU("r", ("p",)), Flatten("f", ("r",)), Linear("b", ("f",), 1)),
    )
    trained = small({"a.weight": [-1], "a.bias": [8], "b.weight": [1, 2, 3, 4]}, *layers, shape=(1, 2, 2))
    quantised, logits = quantised_at(trained, [[15, 0, 3, 1]])
    assert [each.source for each in requantisations(quantised).values()] == ["a"]
    assert logits.item() == 0 + 2 * 8 + 3 * 5 + 4 * 7


def test_what_two_circuits_read_gets_each_constant_apart() -> None:
    layers = (
        *(FLAT, Linear("a", ("flat",), 2), ReLU("r", ("a",)), Linear("c", ("r",), 2), Add("s", ("c", "a"))),
        *(ReLU("t", ("s",)), Linear("b", ("t",), 1)),
    )
    trained = small({"a.weight": [7, 0, 0, 7], "c.weight": [1, 0, 0, 1], "b.weight": [1, 1]}, *layers)
    quantised, logits = quantised_at(trained, [[15, 0], [0, 3]])
    first = requantisations(quantised)["r"]
    (half,) = (each for each in quantised.operations if each.name == first.source)
    assert isinstance(half, IntegerSum)
    assert [name for name, _ in half.terms] == ["a"]
    assert half.bias.tolist() == [1 << (shift - 1) for shift in first.rule.shifts]
    assert not layers_of(quantised)["a"].bias.any()
    assert logits.ravel() == pytest.approx([210, 42], abs=10)


def test_layers_that_read_one_tensor_have_its_bits() -> None:
    layers = (FLAT, Linear("a", ("flat",), 2), Linear("c", ("flat",), 2), Add("s", ("a", "c")), ReLU("r", ("s",)))
    trained = small({}, *layers, Linear("b", ("r",), 1))
    x = np.ones((1, 2, 1, 1), np.float32)
    widths = Widths((LayerWidths("a", 4, 5), LayerWidths("c", 6, 4), LayerWidths("b", 4, 7)))
    with pytest.raises(BadInput, match=r"'a' and 'c'.*not 5 and 4"):
        Quantiser(trained, x).quantise(widths)


def test_what_only_a_sum_reads_has_the_most_bits_that_follow() -> None:
    layers = (
        *(FLAT, Linear("a", ("flat",), 2), ReLU("r", ("a",)), Linear("c", ("flat",), 2), Add("s", ("r", "c"))),
        *(ReLU("t", ("s",)), Linear("b", ("t",), 2), Linear("d", ("t",), 2), Add("u", ("b", "d"))),
    )
    trained = small({"a.weight": [1, 0, 0, 1]}, *layers)
    bits = {"a": 3, "c": 3, "b": 6, "d": 6}
    widths = Widths(tuple(LayerWidths(name, 4, each) for name, each in bits.items()))
    quantised = Quantiser(trained, np.ones((1, 2, 1, 1), np.float32)).quantise(widths)
    assert {name: each.rule.bits for name, each in requantisations(quantised).items()} == {"r": 6, "t": 6}


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(BadInput, match="no linear layer"):
        Quantiser(small({}, FLAT), np.ones((1, 2, 1, 1), np.float32))


def test_a_dead_layer_quantises_to_zero() -> None:
    quantised, logits = quantised_at(small({}, *HIDDEN), [[1, 1]])
    assert logits.tolist() == [[0]]
    assert least_modulus_bits(quantised)["a"] <= 5


def test_a_bias_out_of_all_proportion_is_refused() -> None:
    trained = small({"b.bias": [1, 1]}, FLAT, Linear("b", ("flat",), 2))
    with pytest.raises(BadInput, match=r"'b'.*bias"):
        quantised_at(trained, [[1e-30, 1e-30]])


def test_a_shift_beyond_64_bits_is_refused() -> None:
    trained = small({"b.weight": [1, 1]}, ReLU("r", (INPUT,)), Flatten("flat", ("r",)), Linear("b", ("flat",), 1))
    with pytest.raises(BadInput, match=r"'r'.*bits would be dropped"):
        quantised_at(trained, [[-1e-20, -1e-20]])


def test_a_step_finer_than_the_accumulators_is_not_taken() -> None:
    # 2-bit weights and inputs of 1 have accumulators at a coarse step; 16 bits after them would want a finer one.
    trained = small({"a.weight": [1] * 4, "b.weight": [1, 1]}, *HIDDEN)
    widths = Widths((LayerWidths("a", 2, 2), LayerWidths("b", 2, 16)))
    x = np.ones((1, 2, 1, 1), np.float32)
    quantised = Quantiser(trained, x).quantise(widths)
    assert requantisations(quantised)["r"].rule.shifts.tolist() == [0, 0]
    logits = reference.logits(quantised, quantised.quantise_input(x))
    assert (logits * quantised.logit_scale).tolist() == trained.run(x).tolist()


def test_calibration_keeps_evenly_spread_samples_and_the_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST_SAMPLES", 100)
    trained = small({}, Flatten("f", (INPUT,)), Linear("b", ("f",), 1), shape=(2, 4, 4))
    x = random_images(trained.network, 30, 1, signed=True)
    x[7, 1, 2, 3], x[9, 0, 0, 1] = 50, -60
    whole = calibrate(trained, x)
    # 960 values: every 11th, as 10 would meet even positions alone; 11 and 32 have no common divisor.
    kept = x.reshape(-1)[::11].copy()
    kept[kept.argmin()], kept[kept.argmax()] = -60, 50
    np.testing.assert_array_equal(whole.samples[INPUT], kept)
    assert whole.least(INPUT) == -60
    monkeypatch.setattr(calibration, "VALUES_AT_ONCE", 200)
    np.testing.assert_array_equal(calibrate(trained, x).samples[INPUT], kept)


def test_the_steps_of_tensors_are_those_of_their_values(trained: TrainedNetwork, digits: Splits) -> None:
    found = calibrate(trained, digits.calibrate.x)
    outputs = trained.outputs(digits.calibrate.x)
    assert set(found.samples) == {INPUT, "relu1", "relu2"}
    for name in found.samples:
        for bits in (2, 4, 8):
            expected = step_exponent(outputs[name], 0, 2**bits - 1)
            assert found.exponent(name, bits, signed=False) == found.exponent(name, bits, signed=False) == expected
