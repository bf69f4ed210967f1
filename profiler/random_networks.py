"""Small networks of random weights, to be run and timed: nobody's weights, made again from a generator."""

from dataclasses import replace
from typing import Final

import numpy as np

from autoprivacy.networks.accumulators import linear_bounds
from autoprivacy.networks.integer_network import (
    LayerWidths,
    QuantisedNetwork,
    Requantise,
    Stage,
    Widths,
    chain_operations,
)

INPUT_BITS: Final = 5
"""Width of the input and of every activation."""


def convolution(
    name: str,
    rng: np.random.Generator,
    entering: tuple[int, int, int],
    out_channels: int,
    kernel: int,
    bits: int,
    *,
    stride: int | None = None,
) -> Stage:
    """A convolution and ReLU of a tensor (C, H, W), padded to keep its size; the stride is 1 or 2, at random.

    Channels drop different numbers of bits, so that a layer has several circuits, as trained ones do.
    """
    chosen = int(rng.integers(1, 3)) if stride is None else stride
    stage = linear(name, rng, entering, out_channels, bits, kernel=kernel, stride=chosen)
    most = int(np.abs(linear_bounds(stage)).max()).bit_length() - INPUT_BITS
    shifts = np.maximum(1, most - rng.integers(1, 4, out_channels))
    return replace(stage, requantise=Requantise(shifts, bits=INPUT_BITS, relu=True))


def linear(
    name: str,
    rng: np.random.Generator,
    entering: tuple[int, int, int],
    out_channels: int,
    bits: int,
    *,
    kernel: int = 1,
    stride: int = 1,
) -> Stage:
    """A linear layer of a tensor (C, H, W) alone, with weights of so many bits: fully connected where H = W = 1."""
    padding = kernel // 2
    out = tuple((side + 2 * padding - kernel) // stride + 1 for side in entering[1:])
    return Stage(
        name=name,
        kind="linear" if entering[1:] == (1, 1) else "conv2d",
        weight=rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (out_channels, entering[0], kernel, kernel)),
        bias=np.zeros(out_channels, np.int64),
        stride=(stride, stride),
        padding=(padding, padding, padding, padding),
        groups=1,
        input_shape=entering,
        output_shape=(out_channels, out[0], out[1]),
        input_bits=INPUT_BITS,
        requantise=None,
    )


def chain(name: str, stages: tuple[Stage, ...], bits: list[int]) -> QuantisedNetwork:
    """Stages one after the other, with weights of these widths."""
    return QuantisedNetwork(
        name=name,
        trained_hash=name,
        widths=Widths(tuple(LayerWidths(s.name, b, INPUT_BITS) for s, b in zip(stages, bits, strict=True))),
        operations=chain_operations(stages),
        input_shape=stages[0].input_shape,
        input_range=stages[0].input_range,
        input_step=1.0,
        logit_scale=1.0,
    )
