"""Integer networks evaluated as plainly as can be, in Python's own integers, and random networks to try them on."""

import itertools
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import graph
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.convolution import Floats, Ints
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
    Padding,
    Pair,
    ReLU,
    ReLU6,
    Reshape,
    parameter_shapes,
)
from autoprivacy.networks.integer_network import (
    IntegerLinear,
    IntegerSum,
    LayerWidths,
    Operation,
    QuantisedNetwork,
    Requantisation,
    Requantise,
    View,
    Widths,
    WindowMax,
    WindowSum,
)
from autoprivacy.networks.quantisation import Quantiser, shared_inputs

Tensor = list[list[list[int]]]
"""One image [C][H][W]."""


def plain_run(
    network: QuantisedNetwork,
    image: Tensor,
    errors: Mapping[str, Tensor] | None = None,
    moduli: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Every value by name; `moduli` by circuit input, whose wrapped form is NAME + " mod t"."""
    values: dict[str, Tensor] = {INPUT: image}
    for operation in network.operations:
        name = operation.name
        values[name] = _plain(operation, values)
        if errors and name in errors:
            values[name] = _each(lambda a, b: a + b, values[name], errors[name])
        if moduli and name in moduli:
            values[f"{name} mod t"] = plain_wrap(values[name], moduli[name])
    return values


def _plain(operation: Operation, values: Mapping[str, Tensor]) -> Tensor:
    match operation:
        case IntegerLinear():
            return plain_linear(operation, values[operation.source])
        case IntegerSum():
            return _plain_sum(operation, values)
        case WindowSum():
            return _windows(operation, values[operation.source], sum)
        case WindowMax():
            return _windows(operation, values[operation.source], max)
        case Requantisation():
            wrapped = values.get(f"{operation.source} mod t", values[operation.source])
            return plain_requantise(operation.rule, wrapped)
        case View():
            return _viewed(values[operation.source], operation.shape)


def plain_linear(layer: IntegerLinear, image: Tensor) -> Tensor:
    """Accumulators [M][H'][W']."""
    (out_channels, height, width), weight = layer.output_shape, layer.weight.tolist()
    share = out_channels // layer.groups
    found = []
    for m in range(out_channels):
        first = m // share * len(weight[m])
        rows = []
        for row, column in itertools.product(range(height), range(width)):
            total = int(layer.bias[m])
            for c, taps in enumerate(weight[m]):
                for i, j, value in _inside(layer, image[first + c], row, column):
                    total += taps[i][j] * value
            rows.append(total)
        found.append([rows[start : start + width] for start in range(0, height * width, width)])
    return found


def plain_requantise(rule: Requantise, image: Tensor) -> Tensor:
    """Floor division by the channel's power of two, then saturation."""
    if rule.relu:
        low, high = 0, 2**rule.bits - 1 if rule.maximum is None else rule.maximum
    else:
        low, high = -(2 ** (rule.bits - 1)), 2 ** (rule.bits - 1) - 1
    return [
        [[min(max(value // 2**shift, low), high) for value in row] for row in channel]
        for channel, shift in zip(image, rule.shifts.tolist(), strict=True)
    ]


def plain_wrap(image: Tensor, t: int) -> Tensor:
    """The representatives modulo t whose magnitude is least, the negative one of two."""
    return [[[(value + t // 2) % t - t // 2 for value in row] for row in channel] for channel in image]


def _plain_sum(operation: IntegerSum, values: Mapping[str, Tensor]) -> Tensor:
    terms = [
        [
            [[value * 2**shift for value in row] for row in channel]
            for channel, shift in zip(values[name], shifts, strict=True)
        ]
        for name, shifts in ((name, shifts.tolist()) for name, shifts in operation.terms)
    ]
    return [
        [[sum(places) + bias for places in zip(*rows, strict=True)] for rows in zip(*channels, strict=True)]
        for bias, *channels in zip(operation.bias.tolist(), *terms, strict=True)
    ]


def _inside(
    slid: IntegerLinear | WindowSum | WindowMax, channel: list[list[int]], row: int, column: int
) -> list[tuple[int, int, int]]:
    """Kernel place and value of every input that the window at an output position covers."""
    kernel = slid.weight.shape[2:] if isinstance(slid, IntegerLinear) else slid.kernel
    found = []
    for i, j in itertools.product(range(kernel[0]), range(kernel[1])):
        y, x = row * slid.stride[0] + i - slid.padding[0], column * slid.stride[1] + j - slid.padding[1]
        if 0 <= y < len(channel) and 0 <= x < len(channel[0]):
            found.append((i, j, channel[y][x]))
    return found


def _windows(pool: WindowSum | WindowMax, image: Tensor, combine: Callable[[list[int]], int]) -> Tensor:
    top, left, bottom, right = pool.padding
    rows = (len(image[0]) + top + bottom - pool.kernel[0]) // pool.stride[0] + 1
    columns = (len(image[0][0]) + left + right - pool.kernel[1]) // pool.stride[1] + 1
    return [
        [
            [combine([value for _, _, value in _inside(pool, channel, row, column)]) for column in range(columns)]
            for row in range(rows)
        ]
        for channel in image
    ]


def _viewed(image: Tensor, shape: tuple[int, int, int]) -> Tensor:
    flat = iter([value for channel in image for row in channel for value in row])
    return [[[next(flat) for _ in range(shape[2])] for _ in range(shape[1])] for _ in range(shape[0])]


def _each(function: Callable[[int, int], int], one: Tensor, other: Tensor) -> Tensor:
    return [
        [[function(a, b) for a, b in zip(*rows, strict=True)] for rows in zip(*channels, strict=True)]
        for channels in zip(one, other, strict=True)
    ]


def slides(draw: st.DrawFn, size: Pair) -> tuple[Pair, Pair, Padding]:
    """Kernel, stride and padding that fit an input of that size."""
    kernel = (draw(st.integers(1, min(3, size[0] + 1))), draw(st.integers(1, min(3, size[1] + 1))))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    sides = [
        draw(st.integers(max(0, kernel[axis % 2] - size[axis % 2]), kernel[axis % 2] - 1))
        if kernel[axis % 2] > size[axis % 2]
        else draw(st.integers(0, kernel[axis % 2] - 1))
        for axis in range(4)
    ]
    return kernel, stride, (sides[0], sides[1], sides[2], sides[3])


@st.composite
def linears(draw: st.DrawFn, *, most_weight_bits: int = 8, most_input_bits: int = 8) -> IntegerLinear:
    """A small convolution with random integers: any kernel, stride, padding, groups, and signed or unsigned inputs."""
    groups = draw(st.integers(1, 3))
    channels, out_channels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    kernel, stride, padding = slides(draw, (height, width))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    reach = 1 << (draw(st.integers(2, most_weight_bits)) - 1)
    bias_reach = 1 << draw(st.integers(0, 20))
    bits = draw(st.integers(1, most_input_bits))
    return IntegerLinear(
        name="layer",
        kind="conv2d",
        source=INPUT,
        weight=rng.integers(-reach, reach, (out_channels, channels // groups, *kernel)),
        bias=rng.integers(-bias_reach, bias_reach + 1, out_channels),
        stride=stride,
        padding=padding,
        groups=groups,
        input_shape=(channels, height, width),
        output_shape=(
            out_channels,
            (height + padding[0] + padding[2] - kernel[0]) // stride[0] + 1,
            (width + padding[1] + padding[3] - kernel[1]) // stride[1] + 1,
        ),
        input_range=draw(st.sampled_from([(0, 2**bits - 1), (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)])),
    )


def random_inputs(shape: tuple[int, ...], low: int, high: int, images: int, seed: int) -> Ints:
    """Images of the whole range, its ends among them."""
    rng = np.random.default_rng(seed)
    values = rng.integers(low, high + 1, (images, *shape))
    chance = rng.random(values.shape)
    values[chance < 0.2] = high
    values[chance > 0.8] = low
    return values


BLOCKS = (
    *("conv", "conv-relu", "conv-relu6", "depthwise", "maxpool", "avgpool", "conv-maxpool-relu", "conv-avgpool"),
    *("identity", "projection", "pre-activation", "bottleneck", "relu6-relu-relu6"),
)


@st.composite
def networks(draw: st.DrawFn) -> TrainedNetwork:
    """A small random network with random weights: channels of unlike scales, and some that are dead."""
    chain = _Chain((draw(st.integers(1, 3)), draw(st.integers(2, 5)), draw(st.integers(2, 5))))
    for block in draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4)):
        chain.block(draw, block)
    chain.end(draw)
    network = Network("random", chain.shape, tuple(chain.layers))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = {}
    for name, shape in parameter_shapes(network).items():
        values = rng.standard_normal(shape) / np.sqrt(prod(shape[1:]))
        scales = np.exp(rng.normal(0, 0.7, len(values))) * (rng.random(len(values)) > 0.1)
        weights[name] = (values * scales.reshape(-1, *[1] * (len(shape) - 1))).astype(np.float32)
    return TrainedNetwork(network, weights)


class _Chain:
    """Layers that are added one after the other, in blocks."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.layers: list[Layer] = []
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: shape}
        self.last = INPUT

    def put(self, kind: type[Any], *inputs: str, **fields: object) -> str:
        self.last = f"{kind.__name__}{len(self.layers)}".lower()
        layer: Layer = kind(self.last, inputs, **fields)
        self.layers.append(layer)
        self.shapes[self.last] = graph._output_shape(layer, [self.shapes[name] for name in inputs])
        return self.last

    @property
    def size(self) -> tuple[int, ...]:
        """The shape of the last tensor."""
        return self.shapes[self.last]

    def conv(self, draw: st.DrawFn, *, channels: int | None = None, same: bool = False, groups: int = 1) -> str:
        kernel, stride, padding = slides(draw, (self.size[1], self.size[2]))
        if same:
            kernel, stride, padding = (3, 3), (1, 1), (1, 1, 1, 1)
        count = channels or draw(st.integers(1, 3))
        return self.put(
            Conv2d, self.last, out_channels=count, kernel=kernel, stride=stride, padding=padding, groups=groups
        )

    def pool(self, draw: st.DrawFn, kind: type[Layer]) -> str:
        kernel, stride, padding = slides(draw, (self.size[1], self.size[2]))
        return self.put(kind, self.last, kernel=kernel, stride=stride, padding=padding)

    def block(self, draw: st.DrawFn, kind: str) -> None:
        entering, channels = self.last, self.size[0]
        match kind.split("-"):
            case ["depthwise"]:
                self.conv(draw, channels=channels * draw(st.integers(1, 2)), groups=channels)
                self.put(ReLU6, self.last)
            case ["identity"]:
                self.put(ReLU, self.conv(draw, same=True, channels=channels))
                self.put(ReLU, self.put(Add, self.conv(draw, same=True, channels=channels), entering))
            case ["projection"]:
                main = self.put(ReLU, self.conv(draw, same=True, channels=2))
                self.last = entering
                self.put(ReLU, self.put(Add, main, self.conv(draw, same=True, channels=2)))
            case ["pre", "activation"]:
                self.conv(draw, same=True, channels=2)
                trunk = self.last
                self.put(ReLU, self.last)
                self.put(Add, trunk, self.conv(draw, same=True, channels=2))
            case ["bottleneck"]:
                self.put(Add, self.conv(draw, same=True, channels=channels), entering)
            case parts:
                for part in parts:
                    self.part(draw, part)

    def part(self, draw: st.DrawFn, kind: str) -> None:
        match kind:
            case "conv":
                self.conv(draw)
            case "maxpool" | "avgpool":
                self.pool(draw, MaxPool if kind == "maxpool" else AvgPool)
            case _:
                self.put(ReLU if kind == "relu" else ReLU6, self.last)

    def end(self, draw: st.DrawFn) -> None:
        if draw(st.booleans()):
            size = self.size[1:]
            self.put(AvgPool, self.last, kernel=size, stride=(1, 1))
        self.put(Flatten, self.last)
        if draw(st.booleans()):
            self.put(ReLU, self.put(Linear, self.last, out_features=4))
            if draw(st.booleans()):
                self.put(Flatten, self.put(Reshape, self.last, shape=(2, 2, 1)))
        self.put(Linear, self.last, out_features=3)


def quantiser_of(trained: TrainedNetwork, x: Floats) -> Quantiser:
    """The quantiser; random networks that add means over unlike windows are passed over."""
    try:
        return Quantiser(trained, x)
    except BadInput as error:
        assume("it adds means" not in str(error))
        raise


def any_widths(draw: st.DrawFn, network: Network, most: int) -> Widths:
    """Random bits of every layer, the same activation bits where layers read one tensor."""
    bits = st.integers(2, most)
    entering = {layer: width for group in shared_inputs(network) for width in [draw(bits)] for layer in group}
    return Widths(tuple(LayerWidths(layer.name, draw(bits), entering[layer.name]) for layer in network.linear_layers))


def random_images(network: Network, count: int, seed: int, *, signed: bool) -> Floats:
    """Pixels between 0 and 1, or between -1 and 1."""
    x = np.random.default_rng(seed).random((count, *network.input_shape), dtype=np.float32)
    return 2 * x - 1 if signed else x
