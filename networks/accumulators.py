"""How far accumulators reach: by interval arithmetic for all inputs, and on given images."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from autoprivacy.networks.convolution import Ints
from autoprivacy.networks.graph import INPUT, Padding, Pair
from autoprivacy.networks.integer_network import (
    Image,
    IntegerLinear,
    IntegerSum,
    Operation,
    QuantisedNetwork,
    Requantisation,
    Stage,
    View,
    WindowMax,
    WindowSum,
    circuit_inputs,
    meetings,
    value_shapes,
)

Bounds: TypeAlias = tuple[Ints, Ints]
"""The least and the greatest value of each channel, (C,) both."""


def accumulator_bounds(network: QuantisedNetwork) -> dict[str, Bounds]:
    """The bounds of every circuit input, and of the logits, over all inputs in `input_range`.

    Of a value that is a linear layer's output they are attained (zero padding is no input); sums of values that depend
    on each other may stay within theirs.
    """
    found = _all_bounds(network)
    return {name: found[name] for name in circuit_inputs(network)}


def linear_bounds(layer: IntegerLinear | Stage) -> Bounds:
    """The bounds of a linear layer's accumulators, bias included, over all its inputs; they are attained."""
    low, high = layer.input_range
    # The extremes of all taps at one place of the kernel together; and which places an output may find input at.
    lows = np.minimum(layer.weight * low, layer.weight * high).sum(axis=1)
    highs = np.maximum(layer.weight * low, layer.weight * high).sum(axis=1)
    rows, columns = _taps(layer.input_shape, lows.shape[1:], layer.stride, layer.padding)
    least, greatest = (np.einsum("mij,ri,cj->mrc", values, rows, columns) for values in (lows, highs))
    return least.min(axis=(1, 2)) + layer.bias, greatest.max(axis=(1, 2)) + layer.bias


def least_modulus_bits(network: QuantisedNetwork) -> dict[str, int]:
    """By linear layer the least k for which t = 2^k holds all that becomes of its accumulators before a circuit.

    Circuit inputs and logits lie in [-2^(k-1), 2^(k-1) - 1], and the layer's own inputs fit k bits. Layers that meet
    get the same k.
    """
    bounds = accumulator_bounds(network)
    layers = {layer.name: layer for layer in network.linear_layers}
    found: dict[str, int] = {}
    for meeting in meetings(network):
        ends = [bounds[name] for name in meeting.circuit_inputs]
        values = [signed_bits(int(lows.min()), int(highs.max())) for lows, highs in ends]
        inputs = [_input_bits(layers[name]) for name in meeting.layers]
        found |= dict.fromkeys(meeting.layers, max(*values, *inputs))
    return {name: found[name] for name in layers}


def signed_bits(low: int, high: int) -> int:
    """The least k such that [-2^(k-1), 2^(k-1) - 1] holds `low` and `high`."""
    # For a negative value v, ~v = -v - 1 needs as many bits as v does beside its sign.
    return max(high, ~low, 0).bit_length() + 1


def _input_bits(layer: IntegerLinear) -> int:
    low, high = layer.input_range
    return signed_bits(low, high) if low < 0 else high.bit_length()


def _all_bounds(network: QuantisedNetwork) -> dict[str, Bounds]:
    shapes = value_shapes(network)
    channels = network.input_shape[0]
    found: dict[str, Bounds] = {INPUT: _constant(network.input_range, channels)}
    for operation in network.operations:
        found[operation.name] = _bounds(operation, found, shapes)
    return found


def _bounds(operation: Operation, found: Mapping[str, Bounds], shapes: Mapping[str, Image]) -> Bounds:
    match operation:
        case IntegerLinear():
            return linear_bounds(operation)
        case IntegerSum():
            lows = sum((found[name][0] << shifts for name, shifts in operation.terms), start=operation.bias)
            highs = sum((found[name][1] << shifts for name, shifts in operation.terms), start=operation.bias)
            return lows, highs
        case WindowSum():
            return _summed(operation, found[operation.source], shapes[operation.source])
        case Requantisation():
            return _constant(operation.rule.range, len(operation.rule.shifts))
        case WindowMax():
            return found[operation.source]
        case View():
            lows, highs = (
                np.repeat(values, shapes[operation.source][1] * shapes[operation.source][2]).reshape(
                    operation.shape[0], -1
                )
                for values in found[operation.source]
            )
            return lows.min(axis=1), highs.max(axis=1)


def _summed(pool: WindowSum, bounds: Bounds, shape: Image) -> Bounds:
    rows, columns = _taps(shape, pool.kernel, pool.stride, pool.padding)
    counts = np.unique(np.outer(rows.sum(axis=1), columns.sum(axis=1)))
    lows, highs = (values[:, None] * counts for values in bounds)
    return lows.min(axis=1), highs.max(axis=1)


def _taps(shape: Image, kernel: Pair, stride: Pair, padding: Padding) -> tuple[Ints, Ints]:
    """Which rows of the kernel, and which columns, lie on input and not on padding: each case (cases, taps) once."""
    found = []
    for size, taps, step, before, after in zip(shape[1:], kernel, stride, padding[:2], padding[2:], strict=True):
        starts = np.arange(0, size + before + after - taps + 1, step) - before
        places = starts[:, None] + np.arange(taps)
        found.append(np.unique((places >= 0) & (places < size), axis=0).astype(np.int64))
    return found[0], found[1]


def _constant(bounds: tuple[int, int], channels: int) -> Bounds:
    return np.full(channels, bounds[0]), np.full(channels, bounds[1])
