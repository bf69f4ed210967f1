"""Training for any precision: fake quantisation to widths drawn anew in every step ([Any-Precision DNNs] section 3).

Weights and activations are rounded as `quantisation` rounds them, and gradients pass straight through the rounding
where it does not saturate ([STE]). One checkpoint can then be quantised to any widths when it is loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from autoprivacy.networks.graph import (
    INPUT,
    AnyLayer,
    AvgPool,
    Flatten,
    LinearLayer,
    MaxPool,
    Network,
    ReLU,
    ReLU6,
    Reshape,
)
from autoprivacy.networks.torch_network import Parameters, apply, forward

if TYPE_CHECKING:
    from torch import Tensor

LEAST_BITS: Final = 2
MOST_BITS: Final = 8
END_BITS: Final = 8
"""What the first and the last layer mostly have."""
CHANCE_OF_END_BITS: Final = 0.7
"""How often the first and the last layer have END_BITS; else they are drawn like the others."""
_SAMPLE: Final = 1 << 14
"""From how many values of a tensor its step is chosen."""


@dataclass(frozen=True, slots=True)
class DrawnWidths:
    """Bits of every linear layer's weights, and of every tensor that linear layers read, by name."""

    weights: Mapping[str, int]
    tensors: Mapping[str, int]


Exponents: TypeAlias = "dict[tuple[str, int], Tensor]"
"""By name and width: e such that an integer q stands for q * 2^-e; per output channel of weights, one per tensor."""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The step exponents of weights and tensors at every width, chosen on the weights and activations of a moment."""

    weights: Exponents
    tensors: Exponents
    signed: Mapping[str, bool]


def quantised_tensors(network: Network) -> dict[str, str]:
    """The tensor that each linear layer reads, before pools and views: what is rounded for it, by the layer's name."""
    layers = {layer.name: layer for layer in network.layers}

    def source(name: str) -> str:
        layer = layers.get(name)
        return source(layer.inputs[0]) if isinstance(layer, AvgPool | MaxPool | Flatten | Reshape) else name

    return {layer.name: source(layer.inputs[0]) for layer in network.linear_layers}


def draw_widths(network: Network, rng: np.random.Generator) -> DrawnWidths:
    """Random widths per layer, between two random bounds, so that uniformly narrow networks are met often too."""
    low = int(rng.integers(LEAST_BITS, MOST_BITS + 1))
    high = int(rng.integers(low, MOST_BITS + 1))
    read = quantised_tensors(network)
    weights = {layer: int(rng.integers(low, high + 1)) for layer in read}
    tensors = {tensor: int(rng.integers(low, high + 1)) for tensor in dict.fromkeys(read.values())}
    for end in (network.linear_layers[0].name, network.linear_layers[-1].name):
        if rng.random() < CHANCE_OF_END_BITS:
            weights[end] = tensors[read[end]] = END_BITS
    return DrawnWidths(weights, tensors)


def choose_steps(network: Network, parameters: Parameters, x: "Tensor") -> Steps:
    """The steps of least squared error, on the float network's values for images x."""
    import torch

    read = set(quantised_tensors(network).values())
    weights: Exponents = {}
    tensors: Exponents = {}
    signed: dict[str, bool] = {}

    def note(name: str, values: "Tensor", *, rectified: bool) -> None:
        if name in read:
            sample = values.detach().float().flatten()
            sample = sample[:: max(1, len(sample) // _SAMPLE)]
            signed[name] = not rectified and bool(sample.min() < 0)
            for bits in range(LEAST_BITS, MOST_BITS + 1):
                tensors[name, bits] = least_squares_exponents(sample[None], *bounds(bits, signed=signed[name]))[0]

    def after(layer: AnyLayer, values: "Tensor") -> "Tensor":
        note(layer.name, values, rectified=isinstance(layer, ReLU | ReLU6))
        return values

    def linear(layer: LinearLayer, entering: "Tensor") -> "Tensor":
        return apply(layer, entering, parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"])

    with torch.no_grad():
        note(INPUT, x, rectified=False)
        forward(network, x, linear, after)
        for layer in network.linear_layers:
            rows = parameters[f"{layer.name}.weight"].detach().flatten(1)
            for bits in range(LEAST_BITS, MOST_BITS + 1):
                weights[layer.name, bits] = least_squares_exponents(rows, *bounds(bits, signed=True))
    return Steps(weights, tensors, signed)


def quantised_forward(
    network: Network, parameters: Parameters, x: "Tensor", widths: DrawnWidths, steps: Steps
) -> "Tensor":
    """The logits of images x at these widths; gradients reach the parameters straight through."""

    def rounded(name: str, values: "Tensor") -> "Tensor":
        if name not in widths.tensors:
            return values
        bits = widths.tensors[name]
        low, high = bounds(bits, signed=steps.signed[name])
        return fake_quantise(values, 2.0 ** -float(steps.tensors[name, bits]), low, high)

    def linear(layer: LinearLayer, entering: "Tensor") -> "Tensor":
        bits = widths.weights[layer.name]
        weight = parameters[f"{layer.name}.weight"]
        per_channel = 2.0 ** -steps.weights[layer.name, bits].reshape(-1, *[1] * (weight.ndim - 1))
        weight = fake_quantise(weight, per_channel, *bounds(bits, signed=True))
        return apply(layer, entering, weight, parameters[f"{layer.name}.bias"])

    return forward(network, rounded(INPUT, x), linear, lambda layer, values: rounded(layer.name, values))


def bounds(bits: int, *, signed: bool) -> tuple[int, int]:
    """The least and the greatest integer of that many bits."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def least_squares_exponents(rows: "Tensor", low: int, high: int) -> "Tensor":
    """For every row, the e for which rounding to q * 2^-e, q in [low, high], has the least squared error."""
    import torch

    top = rows.amax(dim=1).clamp(min=0) / high
    bottom = -rows.amin(dim=1).clamp(max=0) / -low if low else torch.zeros_like(top)
    finest = torch.floor(-torch.log2(torch.maximum(top, bottom).clamp(min=2.0**-60)))
    best, best_error = finest, torch.full_like(finest, float("inf"))
    for offset in range(-4, 5):
        scale = torch.exp2(finest + offset)[:, None]
        error = (rows - (rows * scale).round().clamp(low, high) / scale).square().sum(dim=1)
        better = error < best_error
        best = torch.where(better, finest + offset, best)
        best_error = torch.where(better, error, best_error)
    return best


def fake_quantise(values: "Tensor", step: "float | Tensor", low: int, high: int) -> "Tensor":
    """Rounded to multiples of a step and saturated; the gradient is one inside the range, zero outside."""
    from autoprivacy.networks.straight_through import FakeQuantise

    quantise: Callable[..., Tensor] = FakeQuantise.apply
    return quantise(values, step, low, high)
