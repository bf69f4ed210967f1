"""A network's graph in torch, to be trained: forward pass, first weights, batch norm and its folding.

Batch norm is no layer of a graph. In the float phase each convolution is normalised over its batch, and at the end
the normalisation is folded into its weights ([BatchNorm]); what is stored and run never knows of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from autoprivacy.networks.convolution import Floats
from autoprivacy.networks.graph import (
    INPUT,
    Add,
    AnyLayer,
    AvgPool,
    Conv2d,
    Flatten,
    Linear,
    LinearLayer,
    MaxPool,
    Network,
    ReLU,
    ReLU6,
    Reshape,
)

if TYPE_CHECKING:
    from torch import Tensor

Parameters: TypeAlias = "dict[str, Tensor]"
"""By the names of `parameter_shapes`."""

NORM_EPSILON: Final = 1e-5
NORM_MOMENTUM: Final = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Norms:
    """Batch norm of every convolution, by its name: scale and shift are learnt, mean and variance are running."""

    scale: Parameters
    shift: Parameters
    mean: Parameters
    variance: Parameters


def forward(
    network: Network,
    x: "Tensor",
    linear: "Callable[[LinearLayer, Tensor], Tensor]",
    after: "Callable[[AnyLayer, Tensor], Tensor] | None" = None,
) -> "Tensor":
    """The logits (N, classes) of images x; `linear` computes linear layers, `after` sees (and may replace) outputs."""
    values = {INPUT: x}
    for layer in network.layers:
        entering = [values[name] for name in layer.inputs]
        found = linear(layer, entering[0]) if isinstance(layer, Conv2d | Linear) else _fixed(layer, entering)
        values[layer.name] = found if after is None else after(layer, found)
    return values[network.layers[-1].name]


def apply(layer: LinearLayer, x: "Tensor", weight: "Tensor", bias: "Tensor | None") -> "Tensor":
    """A linear layer on a batch."""
    from torch.nn import functional

    if isinstance(layer, Linear):
        return functional.linear(x, weight, bias)
    return functional.conv2d(_padded(x, layer), weight, bias, stride=layer.stride, groups=layer.groups)


def normalised(layer: LinearLayer, x: "Tensor", parameters: Parameters, norms: Norms) -> "Tensor":
    """A linear layer on a batch; a convolution is normalised over it, and the running figures move along."""
    from torch.nn import functional

    name = layer.name
    if isinstance(layer, Linear):
        return apply(layer, x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
    # The norm's shift takes the bias' place.
    found = apply(layer, x, parameters[f"{name}.weight"], None)
    return functional.batch_norm(
        found,
        norms.mean[name],
        norms.variance[name],
        norms.scale[name],
        norms.shift[name],
        training=True,
        momentum=NORM_MOMENTUM,
        eps=NORM_EPSILON,
    )


def folded(network: Network, parameters: Parameters, norms: Norms) -> Parameters:
    """The parameters that compute without batch norm what `parameters` compute with its running figures."""
    import torch

    found = {name: values.detach().clone() for name, values in parameters.items()}
    for layer in network.linear_layers:
        if isinstance(layer, Conv2d):
            name = layer.name
            factor = norms.scale[name].detach() / torch.sqrt(norms.variance[name] + NORM_EPSILON)
            found[f"{name}.weight"] = parameters[f"{name}.weight"].detach() * factor[:, None, None, None]
            found[f"{name}.bias"] = norms.shift[name].detach() - norms.mean[name] * factor
    return found


def as_parameters(weights: Mapping[str, Floats]) -> Parameters:
    """Copies, in float32, that can be trained."""
    import torch

    return {name: torch.from_numpy(np.array(w)).requires_grad_() for name, w in weights.items()}


def first_norms(network: Network) -> Norms:
    """Norms that do nothing yet."""
    import torch

    channels = {layer.name: layer.out_channels for layer in network.linear_layers if isinstance(layer, Conv2d)}
    return Norms(
        scale={name: torch.ones(count, requires_grad=True) for name, count in channels.items()},
        shift={name: torch.zeros(count, requires_grad=True) for name, count in channels.items()},
        mean={name: torch.zeros(count) for name, count in channels.items()},
        variance={name: torch.ones(count) for name, count in channels.items()},
    )


def _fixed(layer: AnyLayer, entering: "list[Tensor]") -> "Tensor":
    from torch.nn import functional

    x = entering[0]
    match layer:
        case ReLU():
            found = functional.relu(x)
        case ReLU6():
            found = functional.relu6(x)
        case MaxPool():
            found = functional.max_pool2d(_padded(x, layer, float("-inf")), layer.kernel, layer.stride)
        case AvgPool():
            found = functional.avg_pool2d(_padded(x, layer), layer.kernel, layer.stride)
        case Add():
            found = sum(entering[1:], start=x)
        case Flatten():
            found = x.flatten(1)
        case Reshape():
            found = x.reshape(len(x), *layer.shape)
        case _:
            raise TypeError(f"a {layer.kind} layer has weights")
    return found


def _padded(x: "Tensor", layer: Conv2d | MaxPool | AvgPool, value: float = 0.0) -> "Tensor":
    from torch.nn import functional

    if not any(layer.padding):
        return x
    top, left, bottom, right = layer.padding
    return functional.pad(x, (left, right, top, bottom), value=value)
