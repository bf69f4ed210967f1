import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoprivacy.common import records
from autoprivacy.common.errors import BadInput
from autoprivacy.networks import zoo
from autoprivacy.networks.graph import (
    INPUT,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    Network,
    ReLU,
    counts,
    infer_shapes,
    parameter_shapes,
    total,
)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    out_channels=st.integers(1, 4),
    kernel_and_padding=st.integers(1, 4).flatmap(lambda k: st.tuples(st.just(k), st.integers(0, k - 1))),
    stride=st.integers(1, 3),
)
def test_shapes_and_parameters_are_those_of_torch(
    shape: tuple[int, int, int], out_channels: int, kernel_and_padding: tuple[int, int], stride: int
) -> None:
    kernel, padding = kernel_and_padding
    layers: tuple[Layer, ...] = (
        Conv2d("conv", (INPUT,), out_channels, kernel, stride, padding),
        ReLU("relu", ("conv",)),
        Flatten("flat", ("relu",)),
        Linear("fc", ("flat",), 5),
    )
    if min(shape[1:]) + 2 * padding < kernel:
        with pytest.raises(BadInput, match="layer 'conv'"):
            Network("net", shape, layers)
        return
    network = Network("net", shape, layers)
    convolution = torch.nn.Conv2d(shape[0], out_channels, kernel, stride, padding)
    convolved = convolution(torch.zeros(1, *shape))
    fully_connected = torch.nn.Linear(convolved.numel(), 5)
    assert infer_shapes(network)["conv"] == tuple(convolved.shape[1:])
    assert infer_shapes(network)["flat"] == (convolved.numel(),)
    assert parameter_shapes(network) == {
        "conv.weight": tuple(convolution.weight.shape),
        "conv.bias": (convolution.out_channels,),
        "fc.weight": tuple(fully_connected.weight.shape),
        "fc.bias": tuple(fully_connected.bias.shape),
    }
    sizes = [parameter.numel() for module in (convolution, fully_connected) for parameter in module.parameters()]
    assert total(network).parameters == sum(sizes)


def test_counts_of_digits_cnn_are_those_worked_out_by_hand() -> None:
    network = zoo.architecture("digits-cnn")
    assert {layer.name: layer.multiply_accumulates for layer in counts(network)} == {
        "conv1": 8 * 8 * (8 * 1 * 9),
        "relu1": 0,
        "conv2": 4 * 4 * (16 * 8 * 9),
        "relu2": 0,
        "flatten": 0,
        "fc": 256 * 10,
    }
    assert total(network).relus == 8 * 8 * 8 + 16 * 4 * 4
    assert total(network).parameters == (72 + 8) + (1152 + 16) + (2560 + 10)
    assert network.classes == 10


FC = Linear("fc", ("flat",), 2)
FLAT = Flatten("flat", (INPUT,))


@pytest.mark.parametrize(
    ("layers", "named", "reason"),
    [
        ((), "net", "no layers"),
        ((Linear("fc", (INPUT,), 2),), "fc", "flat"),
        ((FLAT, Linear("fc", ("flat",), 0)), "fc", "positive"),
        ((FLAT, Linear("fc", ("flt",), 2)), "fc", "'flt'"),
        ((FC, FLAT), "fc", "earlier"),
        ((FLAT, Linear("fc", ("flat", "flat"), 2)), "fc", "one input"),
        ((FLAT, Linear("fc", (), 2)), "fc", "one input"),
        ((FLAT, FLAT, FC), "flat", "unique"),
        ((Flatten("", (INPUT,)),), "''", "empty"),
        ((Flatten("input", (INPUT,)),), "input", "unique"),
        ((FLAT, ReLU("relu", ("flat",)), FC), "relu", "nothing uses"),
        ((ReLU("relu", (INPUT,)),), "relu", "flat tensor of logits"),
        ((FLAT, Conv2d("conv", ("flat",), 1, 1)), "conv", "(C, H, W)"),
        ((Conv2d("conv", (INPUT,), 1, 5),), "conv", "larger"),
        ((Conv2d("conv", (INPUT,), 1, 3, padding=3),), "conv", "padding 3"),
        ((Conv2d("conv", (INPUT,), 1, 3, padding=-1),), "conv", "padding -1"),
        ((Conv2d("conv", (INPUT,), 1, 3, stride=0),), "conv", "stride 0"),
        ((Conv2d("conv", (INPUT,), 0, 3),), "conv", "out_channels 0"),
    ],
)
def test_a_graph_that_does_not_fit_is_one_line_that_names_the_layer(
    layers: tuple[Layer, ...], named: str, reason: str
) -> None:
    with pytest.raises(BadInput) as caught:
        Network("net", (1, 4, 4), layers)
    message = str(caught.value)
    assert named in message
    assert reason in message
    assert "\n" not in message


def test_an_input_without_size_is_refused() -> None:
    with pytest.raises(BadInput, match="input_shape"):
        Network("net", (1, 0, 4), (FLAT, FC))


def test_a_graph_survives_json() -> None:
    network = zoo.architecture("digits-cnn")
    assert records.parse(Network, records.to_json(network), source="net") == network


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"kind":"relu"', '"kind":"softmax"', "softmax"),
        ('"out_features":10', '"out_features":"ten"', "out_features"),
        ('"out_features":10', '"out_feature":10', "out_feature"),
        ('"stride":2', '"stride":2.5', "stride"),
        ('"padding":1', '"padding":7', "conv1"),
        ('"input_shape":[1,8,8]', '"input_shape":[1,8]', "input_shape"),
    ],
)
def test_json_that_is_no_graph_is_one_line_that_names_the_field(old: str, new: str, named: str) -> None:
    text = records.to_json(zoo.architecture("digits-cnn"), indent=None)
    assert old in text
    with pytest.raises(BadInput) as caught:
        records.parse(Network, text.replace(old, new, 1), source="net.json")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
