import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import reference
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.convolution import convolve_exact
from autoprivacy.networks.data import Splits
from autoprivacy.networks.quantisation import QuantisedNetwork, Requantise, Stage, quantise, uniform_widths
from tests.networks.integers import plain_linear, random_inputs, stages


@pytest.fixture(scope="module")
def quantised(trained: TrainedNetwork, digits: Splits) -> QuantisedNetwork:
    return quantise(trained, uniform_widths(trained.network, 5), digits.calibrate.x)


# Up to 40 + 16 bits and a kernel of 27 taps: sums pass 2^24 and 2^53, where the arithmetic underneath changes.
@settings(max_examples=150, deadline=None)
@given(stage=stages(most_weight_bits=40, most_input_bits=16), seed=st.integers(0, 2**32))
def test_linear_is_the_plain_sum_of_products(stage: Stage, seed: int) -> None:
    x = random_inputs(stage, 2, seed)
    assert reference.linear(stage, x).tolist() == plain_linear(stage, x)


@settings(max_examples=60, deadline=None)
@given(stage=stages(), seed=st.integers(0, 2**32))
def test_linear_is_the_convolution_of_torch(stage: Stage, seed: int) -> None:
    x = random_inputs(stage, 3, seed)
    weight, bias, images = (torch.from_numpy(values).double() for values in (stage.weight, stage.bias, x))
    expected = torch.nn.functional.conv2d(images, weight, bias, stride=stage.stride, padding=stage.padding)
    np.testing.assert_array_equal(reference.linear(stage, x), expected.numpy())


@pytest.mark.parametrize("edge", [1 << 24, 1 << 53])
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_sums_are_exact_on_both_sides_of_what_a_float_holds(edge: int, offset: int) -> None:
    large = edge + offset - 1
    weight, x = np.array([[[[large]], [[1]]]]), np.ones((1, 2, 1, 1), dtype=np.int64)
    assert convolve_exact(weight, x, stride=1, padding=0).item() == large + 1


def test_sums_beyond_64_bits_are_refused() -> None:
    weight, x = np.full((1, 2, 1, 1), 1 << 40), np.full((1, 2, 1, 1), 1 << 22)
    with pytest.raises(OverflowError):
        convolve_exact(weight, x, stride=1, padding=0)


@given(
    values=st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=20),
    shift=st.integers(0, 40),
    bits=st.integers(1, 16),
    relu=st.booleans(),
)
def test_requantisation_is_floor_division_then_saturation(
    values: list[int], shift: int, bits: int, *, relu: bool
) -> None:
    low, high = (0, 2**bits - 1) if relu else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    expected = [min(max(value // 2**shift, low), high) for value in values]
    assert reference.requantise(Requantise(shift, bits, relu), np.array(values)).tolist() == expected


@given(values=st.lists(st.integers(-(2**61), 2**61), min_size=1), bits=st.integers(1, 62))
def test_wrapping_gives_the_signed_representative(values: list[int], bits: int) -> None:
    for before, after in zip(values, reference.wrap(np.array(values), bits).tolist(), strict=True):
        assert (after - before) % 2**bits == 0
        assert -(2 ** (bits - 1)) <= after < 2 ** (bits - 1)


def test_a_run_chains_the_stages(quantised: QuantisedNetwork, digits: Splits) -> None:
    x = quantised.quantise_input(digits.search.x[:3])
    trace = reference.run(quantised, x)
    entering = x
    for stage in quantised.stages:
        sums = np.array(plain_linear(stage, entering.reshape(3, *stage.input_shape)))
        np.testing.assert_array_equal(trace.accumulators[stage.name], sums)
        if stage.requantise is not None:
            entering = np.clip(sums // 2**stage.requantise.shift, 0, 2**stage.requantise.bits - 1)
            np.testing.assert_array_equal(trace.activations[stage.name], entering)
    np.testing.assert_array_equal(trace.logits, sums.reshape(3, 10))
    assert set(trace.activations) == {"conv1", "conv2"}


def test_a_batch_is_its_images_one_by_one(quantised: QuantisedNetwork, digits: Splits) -> None:
    x = quantised.quantise_input(digits.search.x[:8])
    alone = [reference.run(quantised, x[index : index + 1]).logits for index in range(8)]
    np.testing.assert_array_equal(reference.run(quantised, x).logits, np.concatenate(alone))


def test_errors_enter_at_the_linear_output_and_carry_on(quantised: QuantisedNetwork, digits: Splits) -> None:
    x = quantised.quantise_input(digits.search.x[:5])
    clean = reference.run(quantised, x)
    rng = np.random.default_rng(3)
    conv2, fc = quantised.stages[1:]
    errors = {each.name: rng.integers(-40, 41, (5, *each.output_shape)) for each in (conv2, fc)}
    noisy = reference.run(quantised, x, errors=errors)
    np.testing.assert_array_equal(noisy.accumulators["conv1"], clean.accumulators["conv1"])
    sums = clean.accumulators["conv2"] + errors["conv2"]
    np.testing.assert_array_equal(noisy.accumulators["conv2"], sums)
    assert conv2.requantise is not None
    activations = reference.requantise(conv2.requantise, sums)
    np.testing.assert_array_equal(noisy.accumulators["fc"], reference.linear(fc, activations) + errors["fc"])
    assert (noisy.logits != clean.logits).any()


def test_a_modulus_wraps_sums_with_their_errors(quantised: QuantisedNetwork, digits: Splits) -> None:
    x = quantised.quantise_input(digits.search.x[:5])
    errors = {"fc": np.full((5, 10, 1, 1), 7)}
    free = reference.run(quantised, x, errors=errors)
    wrapped = reference.run(quantised, x, errors=errors, modulus_bits={"fc": 6})
    assert (wrapped.logits != free.logits).any()
    np.testing.assert_array_equal(wrapped.logits, (free.logits + 32) % 64 - 32)


@pytest.mark.parametrize(
    ("shape", "errors", "modulus_bits", "named"),
    [
        ((2, 8, 8), {}, {}, "(N, 1, 8, 8)"),
        ((2, 1, 7, 8), {}, {}, "(N, 1, 8, 8)"),
        ((2, 1, 8, 8), {"conv3": np.zeros((2, 8, 8, 8), np.int64)}, {}, "conv3"),
        ((2, 1, 8, 8), {"conv1": np.zeros((1, 8, 8, 8), np.int64)}, {}, "(2, 8, 8, 8)"),
        ((2, 1, 8, 8), {"conv1": np.zeros((2, 8, 8, 8))}, {}, "int64"),
        ((2, 1, 8, 8), {}, {"relu1": 12}, "relu1"),
        ((2, 1, 8, 8), {}, {"conv1": 0}, "1..62"),
        ((2, 1, 8, 8), {}, {"conv1": 63}, "1..62"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    quantised: QuantisedNetwork,
    shape: tuple[int, ...],
    errors: dict[str, np.ndarray],
    modulus_bits: dict[str, int],
    named: str,
) -> None:
    with pytest.raises(BadInput) as caught:
        reference.run(quantised, np.zeros(shape, np.int64), errors=errors, modulus_bits=modulus_bits)
    assert named in str(caught.value)


def test_images_that_were_not_quantised_are_refused(quantised: QuantisedNetwork, digits: Splits) -> None:
    with pytest.raises(BadInput, match="float32"):
        reference.run(quantised, digits.search.x)  # type: ignore[arg-type]  # wrong on purpose
