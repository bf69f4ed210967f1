import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoprivacy.common import records
from autoprivacy.common.errors import BadInput
from autoprivacy.networks import zoo
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
    Reshape,
    counts,
    infer_shapes,
    parameter_shapes,
    total,
)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    multiple=st.integers(1, 3),
    depthwise=st.booleans(),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_shapes_and_parameters_are_those_of_torch(
    shape: tuple[int, int, int],
    multiple: int,
    kernel: tuple[int, int],
    share: tuple[float, float],
    stride: tuple[int, int],
    *,
    depthwise: bool,
) -> None:
    sides = (int(share[0] * (kernel[0] - 1)), int(share[1] * (kernel[1] - 1)))
    groups, out_channels = (shape[0], shape[0] * multiple) if depthwise else (1, multiple)
    layers: tuple[Layer, ...] = (
        Conv2d("conv", (INPUT,), out_channels, kernel, stride, (*sides, *sides), groups),
        ReLU("relu", ("conv",)),
        Flatten("flat", ("relu",)),
        Linear("fc", ("flat",), 5),
    )
    if any(size + 2 * side < taps for size, side, taps in zip(shape[1:], sides, kernel, strict=True)):
        with pytest.raises(BadInput, match="layer 'conv'"):
            Network("net", shape, layers)
        return
    network = Network("net", shape, layers)
    convolution = torch.nn.Conv2d(shape[0], out_channels, kernel, stride, sides, groups=groups)
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


def test_asymmetric_padding_is_that_of_onnx_order() -> None:
    conv = Conv2d("conv", (INPUT,), 2, (3, 3), (2, 2), (0, 1, 1, 2))
    network = Network("net", (1, 6, 8), (conv, Flatten("flat", ("conv",))))
    # Rows: 6 + 0 + 1 - 3 = 4, so 3 windows at stride 2; columns: 8 + 1 + 2 - 3 = 8, so 5.
    assert infer_shapes(network)["conv"] == (2, 3, 5)


def test_pools_adds_and_views_keep_their_shapes() -> None:
    network = Network(
        "net",
        (2, 6, 6),
        (
            MaxPool("max", (INPUT,), (2, 2), (2, 2)),
            AvgPool("mean", (INPUT,), (2, 2), (2, 2)),
            Add("sum", ("max", "mean")),
            ReLU6("relu", ("sum",)),
            Reshape("wide", ("relu",), (1, 2, 9)),
            Flatten("flat", ("wide",)),
            Linear("fc", ("flat",), 3),
        ),
    )
    shapes = infer_shapes(network)
    assert [shapes[name] for name in ("max", "mean", "sum", "wide", "flat")] == [(2, 3, 3)] * 3 + [(1, 2, 9), (18,)]
    assert total(network).relus == 18


# By hand: MiniONN's network from its table of shapes; the others from the figures that their papers give.
@pytest.mark.parametrize(
    ("name", "parameters", "multiply_accumulates", "relus"),
    [
        ("minionn", 164_954, 61_089_792, 64 * 1024 * 2 + 64 * 256 * 2 + 64 * 64 * 2 + 16 * 64),
        # ResNet-20 and -32 have 0.27 M and 0.46 M parameters ([ResNet] table 6), and 41 and 69 M multiply-accumulates.
        ("resnet20", 271_690, 40_813_184, 188_416),
        ("resnet32", 465_674, 69_124_736, 303_104),
        # 2.2 M without the 1000-class head of [MobileNetV2].
        ("mobilenetv2", 2_219_626, 87_976_448, 1_502_208),
        ("lenet5", 61_706, 416_520, 6_508),
    ],
)
def test_counts_of_the_zoo_are_those_published(
    name: str, parameters: int, multiply_accumulates: int, relus: int
) -> None:
    counted = total(zoo.architecture(name))
    assert (counted.parameters, counted.multiply_accumulates, counted.relus) == (
        parameters,
        multiply_accumulates,
        relus,
    )


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
        ((FLAT, Conv2d("conv", ("flat",), 1, (1, 1))), "conv", "(C, H, W)"),
        ((Conv2d("conv", (INPUT,), 1, (5, 1)),), "conv", "larger"),
        ((Conv2d("conv", (INPUT,), 1, (3, 3), padding=(0, 0, 3, 0)),), "conv", "padding (0, 0, 3, 0)"),
        ((Conv2d("conv", (INPUT,), 1, (3, 3), padding=(-1, 0, 0, 0)),), "conv", "padding (-1, 0, 0, 0)"),
        ((Conv2d("conv", (INPUT,), 1, (3, 3), stride=(1, 0)),), "conv", "stride (1, 0)"),
        ((Conv2d("conv", (INPUT,), 0, (3, 3)),), "conv", "out_channels 0"),
        ((Conv2d("conv", (INPUT,), 2, (3, 3), groups=2),), "conv", "2 groups must divide"),
        ((MaxPool("pool", (INPUT,), (0, 2), (1, 1)),), "pool", "kernel (0, 2)"),
        ((MaxPool("pool", (INPUT,), (1 << 31, 1), (1, 1), (1 << 30, 0, 1 << 30, 0)),), "pool", "more than 67108864"),
        ((Conv2d("conv", (INPUT,), 1 << 23, (1, 1)),), "conv", "more than 67108864"),
        ((FLAT, AvgPool("pool", ("flat",), (1, 1), (1, 1))), "pool", "(C, H, W)"),
        ((Add("sum", (INPUT,)),), "sum", "two inputs or more"),
        ((FLAT, Add("sum", (INPUT, "flat"))), "sum", "must be equal"),
        ((Reshape("view", (INPUT,), (3, 5)),), "view", "(C, H, W) or (F,)"),
        ((Reshape("view", (INPUT,), (3, 5, 1)),), "view", "15 values"),
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


@pytest.mark.parametrize("name", zoo.names())
def test_a_graph_survives_json(name: str) -> None:
    network = zoo.architecture(name)
    assert records.parse(Network, records.to_json(network), source="net") == network


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"kind":"relu"', '"kind":"softmax"', "softmax"),
        ('"out_features":10', '"out_features":"ten"', "out_features"),
        ('"out_features":10', '"out_feature":10', "out_feature"),
        ('"stride":[2,2]', '"stride":[2.5,2]', "stride"),
        ('"padding":[1,', '"padding":[7,', "conv1"),
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
