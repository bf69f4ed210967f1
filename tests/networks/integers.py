"""Integer layers written as plainly as can be, in Python's own integers, and random stages to try them on."""

import itertools

import numpy as np
from hypothesis import strategies as st

from autoprivacy.networks.convolution import Ints
from autoprivacy.networks.quantisation import Stage


def plain_accumulator(stage: Stage, image: list[list[list[int]]], where: tuple[int, int, int]) -> int:
    """One accumulator of one image [C][H][W] at output (m, row, column)."""
    m, row, column = where
    _, channels, kernel_h, kernel_w = stage.weight.shape
    _, height, width = stage.input_shape
    total = int(stage.bias[m])
    for c, i, j in itertools.product(range(channels), range(kernel_h), range(kernel_w)):
        y, x = row * stage.stride + i - stage.padding, column * stage.stride + j - stage.padding
        if 0 <= y < height and 0 <= x < width:
            total += int(stage.weight[m, c, i, j]) * image[c][y][x]
    return total


def plain_linear(stage: Stage, images: Ints) -> list[list[list[list[int]]]]:
    """All accumulators [N][M][H'][W']."""
    channels, height, width = stage.output_shape
    return [
        [
            [[plain_accumulator(stage, image, (m, row, column)) for column in range(width)] for row in range(height)]
            for m in range(channels)
        ]
        for image in images.tolist()
    ]


@st.composite
def stages(draw: st.DrawFn, *, most_weight_bits: int = 8, most_input_bits: int = 8) -> Stage:
    """A small convolution or fully connected layer with random integers."""
    kernel_h, kernel_w = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = draw(st.integers(0, min(kernel_h, kernel_w) - 1))
    stride = draw(st.integers(1, 3))
    channels, out_channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height = draw(st.integers(max(1, kernel_h - 2 * padding), 5))
    width = draw(st.integers(max(1, kernel_w - 2 * padding), 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    reach = 1 << (draw(st.integers(2, most_weight_bits)) - 1)
    bias_reach = 1 << draw(st.integers(0, 20))
    return Stage(
        name="layer",
        kind="conv2d",
        weight=rng.integers(-reach, reach, (out_channels, channels, kernel_h, kernel_w)),
        bias=rng.integers(-bias_reach, bias_reach + 1, out_channels),
        stride=stride,
        padding=padding,
        input_shape=(channels, height, width),
        output_shape=(
            out_channels,
            (height + 2 * padding - kernel_h) // stride + 1,
            (width + 2 * padding - kernel_w) // stride + 1,
        ),
        input_bits=draw(st.integers(1, most_input_bits)),
        requantise=None,
    )


def random_inputs(stage: Stage, images: int, seed: int) -> Ints:
    """Images of the whole range that the stage takes, the extremes among them."""
    rng = np.random.default_rng(seed)
    largest = (1 << stage.input_bits) - 1
    values = rng.integers(0, largest + 1, (images, *stage.input_shape))
    values[rng.random(values.shape) < 0.2] = largest
    return values
