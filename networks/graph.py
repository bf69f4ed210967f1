"""The graph of a network: layers, their shapes, and what they cost.

A network that does not fit together cannot exist: building one infers every shape.

>>> network = Network("tiny", (1, 4, 4), (Flatten("flat", ("input",)), Linear("fc", ("flat",), out_features=3)))
>>> infer_shapes(network)["fc"]
(3,)
>>> total(network).multiply_accumulates
48
"""

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record

INPUT: Final = "input"
"""The name under which layers refer to the network's input."""

Shape: TypeAlias = tuple[int, ...]
"""The shape of one image's tensor: (C, H, W), or (F,) once flattened."""


@record
class Conv2d:
    """A convolution with a square kernel and a bias; pads with zeros on all four sides."""

    name: str
    inputs: tuple[str, ...]
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
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
class Flatten:
    """(C, H, W) seen as (C·H·W,), in that order."""

    name: str
    inputs: tuple[str, ...]
    kind: Literal["flatten"] = "flatten"


LinearLayer: TypeAlias = Conv2d | Linear
Layer: TypeAlias = Annotated[Conv2d | Linear | ReLU | Flatten, Field(discriminator="kind")]


@record
class Network:
    """Layers in an order in which each comes after its inputs; the last one gives the logits.

    Raises:
        BadInput: if the layers do not fit together; the message names the layer.
    """

    name: str
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]

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
    shapes: dict[str, Shape] = {INPUT: network.input_shape}
    unused: set[str] = set()
    for layer in network.layers:
        where = f"network {network.name!r}: layer {layer.name!r}"
        if not layer.name or layer.name in shapes:
            raise BadInput(f"{where}: names must be unique and neither empty nor {INPUT!r}")
        if len(layer.inputs) != 1:
            raise BadInput(f"{where}: a {layer.kind} layer takes one input, not {len(layer.inputs)}")
        source = layer.inputs[0]
        if source not in shapes:
            raise BadInput(f"{where}: its input {source!r} is no earlier layer; list layers after their inputs")
        try:
            shapes[layer.name] = _output_shape(layer, shapes[source])
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
        unused.discard(source)
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
    """Every parameter tensor by name: `LAYER.weight` (M, C, k, k) or (M, F), and `LAYER.bias` (M,)."""
    shapes = infer_shapes(network)
    found: dict[str, Shape] = {}
    for layer in network.linear_layers:
        inputs = shapes[layer.inputs[0]]
        if isinstance(layer, Conv2d):
            weight: Shape = (layer.out_channels, inputs[0], layer.kernel, layer.kernel)
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
                relus=prod(out) if isinstance(layer, ReLU) else 0,
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


def _output_shape(layer: Conv2d | Linear | ReLU | Flatten, shape: Shape) -> Shape:
    match layer:
        case Conv2d():
            return _convolved(layer, shape)
        case Linear():
            if len(shape) != 1:
                raise BadInput(f"a linear layer takes a flat tensor, not {shape}; put a Flatten before it")
            if layer.out_features < 1:
                raise BadInput(f"out_features must be positive, not {layer.out_features}")
            return (layer.out_features,)
        case Flatten():
            return (prod(shape),)
        case ReLU():
            return shape


def _convolved(layer: Conv2d, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise BadInput(f"a convolution takes (C, H, W), not {shape}")
    if min(layer.out_channels, layer.kernel, layer.stride) < 1:
        raise BadInput(
            f"out_channels {layer.out_channels}, kernel {layer.kernel} and stride {layer.stride} must be positive"
        )
    if not 0 <= layer.padding < layer.kernel:
        raise BadInput(f"padding {layer.padding} must lie in 0..{layer.kernel - 1}, below the kernel")
    height, width = (size + 2 * layer.padding - layer.kernel for size in shape[1:])
    if min(height, width) < 0:
        raise BadInput(f"kernel {layer.kernel} is larger than its padded input {shape}; use a smaller one")
    return (layer.out_channels, height // layer.stride + 1, width // layer.stride + 1)
