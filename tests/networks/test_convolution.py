import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from autoprivacy.networks.convolution import convolve, convolve_exact, window_max, window_sum
from autoprivacy.networks.graph import Padding
from autoprivacy.networks.integer_network import IntegerLinear
from tests.networks.integers import linears, plain_linear, random_inputs

NUMBERS = (np.float32, np.float64, np.int64)


def _torch_padded(x: np.ndarray, padding: Padding, value: float = 0.0) -> torch.Tensor:
    top, left, bottom, right = padding
    return functional.pad(torch.from_numpy(x).double(), (left, right, top, bottom), value=value)


@settings(max_examples=60, deadline=None)
@given(layer=linears(), seed=st.integers(0, 2**32), kind=st.sampled_from(NUMBERS), transposed=st.booleans())
def test_convolutions_are_those_of_torch(
    layer: IntegerLinear, seed: int, kind: type[np.number], *, transposed: bool
) -> None:
    x = random_inputs(layer.input_shape, *layer.input_range, images=3, seed=seed)
    if transposed:  # as layers give it to each other: channel by channel
        x = np.ascontiguousarray(x.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
    found = convolve(
        layer.weight.astype(kind), x.astype(kind), stride=layer.stride, padding=layer.padding, groups=layer.groups
    )
    weight = torch.from_numpy(layer.weight).double()
    expected = functional.conv2d(_torch_padded(x, layer.padding), weight, stride=layer.stride, groups=layer.groups)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, expected.numpy())


@settings(max_examples=60, deadline=None)
@given(layer=linears(), seed=st.integers(0, 2**32), kind=st.sampled_from(NUMBERS))
def test_pools_are_those_of_torch(layer: IntegerLinear, seed: int, kind: type[np.number]) -> None:
    x = random_inputs(layer.input_shape, *layer.input_range, images=3, seed=seed)
    kernel, stride, padding = (layer.weight.shape[2], layer.weight.shape[3]), layer.stride, layer.padding
    sums = functional.avg_pool2d(_torch_padded(x, padding), kernel, stride, divisor_override=1)
    greatest = functional.max_pool2d(_torch_padded(x, padding, -1e9), kernel, stride)
    for found, expected in (
        (window_sum(x.astype(kind), kernel, stride, padding), sums),
        (window_max(x.astype(kind), kernel, stride, padding), greatest),
    ):
        assert found.dtype == kind
        np.testing.assert_array_equal(found, expected.numpy())


# Up to 40 + 16 bits and 9 taps a channel: sums pass 2^24 and 2^53, where the arithmetic underneath changes.
@settings(max_examples=100, deadline=None)
@given(layer=linears(most_weight_bits=40, most_input_bits=16), seed=st.integers(0, 2**32))
def test_exact_sums_are_plain_sums(layer: IntegerLinear, seed: int) -> None:
    x = random_inputs(layer.input_shape, *layer.input_range, images=2, seed=seed)
    found = convolve_exact(layer.weight, x, stride=layer.stride, padding=layer.padding, groups=layer.groups)
    expected = [plain_linear(layer, image) for image in x.tolist()]
    assert (found + layer.bias[:, None, None]).tolist() == expected


@pytest.mark.parametrize("edge", [1 << 24, 1 << 53, 1 << 62])
@pytest.mark.parametrize("offset", [-1, 0, 1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_sums_are_exact_on_both_sides_of_what_a_float_holds(edge: int, offset: int, sign: int) -> None:
    large = sign * (edge + offset - 1)
    terms, ones = np.array([[[[large]], [[sign]]]]), np.ones((1, 2, 1, 1), dtype=np.int64)
    assert convolve_exact(terms, ones, stride=(1, 1), padding=(0, 0, 0, 0), groups=1).item() == large + sign
    one, x = np.ones((1, 1, 1, 1), dtype=np.int64), np.array([[[[large, sign]]]])
    found = convolve_exact(one, x, stride=(1, 1), padding=(0, 0, 0, 0), groups=1)
    assert found.ravel().tolist() == [large, sign]


@pytest.mark.parametrize(("weight", "x"), [(1 << 40, 1 << 22), (1 << 62, 1), (1, 1 << 62)])
def test_sums_beyond_64_bits_are_refused(weight: int, x: int) -> None:
    with pytest.raises(OverflowError):
        convolve_exact(
            np.full((1, 2, 1, 1), weight), np.full((1, 2, 1, 1), x), stride=(1, 1), padding=(0, 0, 0, 0), groups=1
        )
