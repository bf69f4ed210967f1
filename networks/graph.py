"""The graph of a network: layers, their shapes, and what they cost.

A network that does not fit together cannot exist: building one infers every shape.

>>> network = Network("tiny", (1, 4, 4), (Flatten("flat", ("input",)), Linear("fc", ("flat",), out_features=3)))
>>> infer_shapes(network)["fc"]
(3,)
>>> total(network).multiply_accumulates
48
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record

INPUT: Final = "input"
"""The name under which layers refer to the network's input."""

LARGEST_TENSOR: Final = 1 << 26
"""The most values that one tensor may have; more cannot be computed in private, and would only fill the memory."""

Shape: TypeAlias = tuple[int, ...]
"""The shape of one image's tensor: (C, H, W), or (F,) once flattened."""


Pair: TypeAlias = tuple[int, int]
"""Along the height and the width."""

Padding: TypeAlias = tuple[int, int, int, int]
"""Rows above, columns to the left, rows below, columns to the right: ONNX's order."""


@record
class Conv2d:
    """A convolution with a bias, padded with zeros; each of `groups` equal runs of channels sees only its own.

    With as many groups as input channels it is a depthwise convolution.
    """

    name: str
    inputs: tuple[str, ...]
    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    groups: int = 1
    kind: Literal["conv2d"] = "conv2d"


@record
class Linear:
    """A fully connected layer with a bias, on a flat tensor."""

    name: str
    inputs: tuple[str, ...]
    out_features: int
    kind: Literal["linear"] = "linear"


@record
class ReLU:
    """max(x, 0)."""

    name: str
    inputs: tuple[str, ...]
    kind: Literal["relu"] = "relu"


@record
class ReLU6:
    """min(max(x, 0), 6)."""

    name: str
    inputs: tuple[str, ...]
    kind: Literal["relu6"] = "relu6"


@record
class MaxPool:
    """The greatest value of each window; padding never wins."""

    name: str
    inputs: tuple[str, ...]
    kernel: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)
    kind: Literal["maxpool"] = "maxpool"


@record
class AvgPool:
    """The mean of each window, in which padding counts as zeros; a global one has the input's size as its kernel."""

    name: str
    inputs: tuple[str, ...]
    kernel: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)
    kind: Literal["avgpool"] = "avgpool"


@record
class Add:
    """The sum of two or more tensors of one shape."""

    name: str
    inputs: tuple[str, ...]
    kind: Literal["add"] = "add"


@record
class Flatten:
    """(C, H, W) seen as (C·H·W,), in that order."""

    name: str
    inputs: tuple[str, ...]
    kind: Literal["flatten"] = "flatten"


@record
class Reshape:
    """The same values in the same order, seen in another shape."""

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    kind: Literal["reshape"] = "reshape"


LinearLayer: TypeAlias = Conv2d | Linear
Activation: TypeAlias = ReLU | ReLU6
Pool: TypeAlias = MaxPool | AvgPool
View: TypeAlias = Flatten | Reshape
AnyLayer: TypeAlias = LinearLayer | Activation | Pool | Add | View
Layer: TypeAlias = Annotated[AnyLayer, Field(discriminator="kind")]


@record
class Network:
    """Layers in an order in which each comes after its inputs; the last one gives the logits.

    A network that was imported from a file whose images are (H, W, C) has `channels_last` set: it takes images in that
    order too.

    Raises:
        BadInput: if the layers do not fit together; the message names the layer.
    """

    name: str
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    channels_last: bool = False

    def __post_init__(self) -> None:
        infer_shapes(self)

    @property
    def linear_layers(self) -> tuple[LinearLayer, ...]:
        """The layers that are evaluated under homomorphic encryption, in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, Conv2d | Linear))

    @property
    def classes(self) -> int:
        """How many logits the network gives."""
        return infer_shapes(self)[self.layers[-1].name][0]


@record
class LayerCounts:
    """What one layer does for one image.

    `activations` counts the values it puts out, `relus` those that pass a ReLU in it.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    multiply_accumulates: int
    activations: int
    relus: int
    parameters: int


@record
class TotalCounts:
    """What a whole network does for one image."""

    multiply_accumulates: int
    activations: int
    relus: int
    parameters: int


@lru_cache(maxsize=64)
def infer_shapes(network: Network) -> Mapping[str, Shape]:
    """The shape of every layer's output, and of the input, by name.

    Raises:
        BadInput: naming the layer that does not fit, and why.
    """
    if not network.layers:
        raise BadInput(f"network {network.name!r}: it has no layers; give at least one Linear")
    if min(network.input_shape) < 1:
        raise BadInput(f"network {network.name!r}: input_shape {network.input_shape} must be positive")
    shapes: dict[str, Shape] = {INPUT: _limited(network.input_shape)}
    unused: set[str] = set()
    for layer in network.layers:
        where = f"network {network.name!r}: layer {layer.name!r}"
        if not layer.name or layer.name in shapes:
            raise BadInput(f"{where}: names must be unique and neither empty nor {INPUT!r}")
        for source in layer.inputs:
            if source not in shapes:
                raise BadInput(f"{where}: its input {source!r} is no earlier layer; list layers after their inputs")
        try:
            shapes[layer.name] = _limited(_output_shape(layer, [shapes[source] for source in layer.inputs]))
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
        unused.difference_update(layer.inputs)
        unused.add(layer.name)
    last = network.layers[-1].name
    if dead := sorted(unused - {last}):
        raise BadInput(f"network {network.name!r}: layer {dead[0]!r}: nothing uses its output; remove it")
    if len(shapes[last]) != 1:
        raise BadInput(
            f"network {network.name!r}: layer {last!r}: the last layer must give a flat tensor of logits, "
            f"not {shapes[last]}; end with a Linear"
        )
    return MappingProxyType(shapes)


def parameter_shapes(network: Network) -> dict[str, Shape]:
    """Every parameter tensor by name: `LAYER.weight` (M, C / groups, kh, kw) or (M, F), and `LAYER.bias` (M,)."""
    shapes = infer_shapes(network)
    found: dict[str, Shape] = {}
    for layer in network.linear_layers:
        inputs = shapes[layer.inputs[0]]
        if isinstance(layer, Conv2d):
            weight: Shape = (layer.out_channels, inputs[0] // layer.groups, *layer.kernel)
        else:
            weight = (layer.out_features, inputs[0])
        found[f"{layer.name}.weight"] = weight
        found[f"{layer.name}.bias"] = weight[:1]
    return found


def counts(network: Network) -> tuple[LayerCounts, ...]:
    """What each layer does for one image, in order."""
    shapes = infer_shapes(network)
    parameters = parameter_shapes(network)
    found = []
    for layer in network.layers:
        out = shapes[layer.name]
        weight = parameters.get(f"{layer.name}.weight")
        found.append(
            LayerCounts(
                name=layer.name,
                kind=layer.kind,
                output_shape=out,
                multiply_accumulates=prod(weight) * prod(out[1:]) if weight else 0,
                activations=prod(out),
                relus=prod(out) if isinstance(layer, ReLU | ReLU6) else 0,
                parameters=prod(weight) + weight[0] if weight else 0,
            )
        )
    return tuple(found)


def total(network: Network) -> TotalCounts:
    """The sums of `counts` over all layers."""
    each = counts(network)
    return TotalCounts(
        multiply_accumulates=sum(layer.multiply_accumulates for layer in each),
        activations=sum(layer.activations for layer in each),
        relus=sum(layer.relus for layer in each),
        parameters=sum(layer.parameters for layer in each),
    )


def _output_shape(layer: AnyLayer, shapes: Sequence[Shape]) -> Shape:
    if isinstance(layer, Add):
        return _added(shapes)
    if len(shapes) != 1:
        raise BadInput(f"a {layer.kind} layer takes one input, not {len(shapes)}")
    shape = shapes[0]
    match layer:
        case Conv2d() | MaxPool() | AvgPool():
            return _slid(layer, shape)
        case Linear():
            return _connected(layer, shape)
        case Flatten():
            return (prod(shape),)
        case Reshape():
            return _reshaped(layer.shape, shape)
        case _:
            return shape


def _connected(layer: Linear, shape: Shape) -> Shape:
    if len(shape) != 1:
        raise BadInput(f"a linear layer takes a flat tensor, not {shape}; put a Flatten before it")
    if layer.out_features < 1:
        raise BadInput(f"out_features must be positive, not {layer.out_features}")
    return (layer.out_features,)


def _added(shapes: Sequence[Shape]) -> Shape:
    if len(shapes) < 2:
        raise BadInput(f"an add layer takes two inputs or more, not {len(shapes)}")
    if len(set(shapes)) != 1:
        raise BadInput(f"its inputs have the shapes {', '.join(map(str, shapes))}; they must be equal")
    return shapes[0]


def _reshaped(wanted: Shape, shape: Shape) -> Shape:
    if len(wanted) not in {1, 3} or min(wanted) < 1:
        raise BadInput(f"it reshapes to {wanted}; give (C, H, W) or (F,), all positive")
    if prod(wanted) != prod(shape):
        raise BadInput(f"it reshapes {shape}, {prod(shape)} values, to {wanted}, {prod(wanted)} values")
    return wanted


def _slid(layer: Conv2d | Pool, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise BadInput(f"a {layer.kind} layer takes (C, H, W), not {shape}")
    channels = shape[0]
    if isinstance(layer, Conv2d):
        if min(layer.out_channels, layer.groups) < 1:
            raise BadInput(f"out_channels {layer.out_channels} and groups {layer.groups} must be positive")
        if channels % layer.groups or layer.out_channels % layer.groups:
            raise BadInput(
                f"{layer.groups} groups must divide {channels} input and {layer.out_channels} output channels"
            )
        channels = layer.out_channels
    return (channels, *_windows(layer, shape))


def _windows(layer: Conv2d | Pool, shape: Shape) -> Pair:
    """How many windows fit along the height and the width."""
    if min(*layer.kernel, *layer.stride) < 1:
        raise BadInput(f"kernel {layer.kernel} and stride {layer.stride} must be positive")
    if min(layer.padding) < 0 or any(pad >= size for pad, size in zip(layer.padding, layer.kernel * 2, strict=True)):
        raise BadInput(
            f"padding {layer.padding} must not be negative, and below the kernel {layer.kernel} on every side"
        )
    top, left, bottom, right = layer.padding
    padded = _limited((shape[0], shape[1] + top + bottom, shape[2] + left + right))
    room = (padded[1] - layer.kernel[0], padded[2] - layer.kernel[1])
    if min(room) < 0:
        raise BadInput(f"kernel {layer.kernel} is larger than its padded input {shape}; use a smaller one")
    return room[0] // layer.stride[0] + 1, room[1] // layer.stride[1] + 1


def _limited(shape: Shape) -> Shape:
    if prod(shape) > LARGEST_TENSOR:
        raise BadInput(f"a tensor of shape {shape} has more than {LARGEST_TENSOR} values")
    return shape
