"""The public shape of a linear layer: what packings, plans and both parties agree on."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record
from autoprivacy.networks.graph import Conv2d, LinearLayer, Padding, Pair, Shape

IntArray: TypeAlias = NDArray[np.int64]


@record
class LinearShape:
    """One linear layer; `height` and `width` are those of the unpadded input, a fully connected one takes (C, 1, 1).

    The weight is (M, C / groups, kh, kw): each of `groups` equal runs of channels sees only its own.

    Raises:
        InvalidPolicy: if it has no output.
    """

    in_channels: int
    height: int
    width: int
    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        sizes = (self.in_channels, self.height, self.width, self.out_channels, self.groups, *self.kernel, *self.stride)
        if min(sizes) < 1:
            raise InvalidPolicy(f"a layer's dimensions must be at least 1, got {self}")
        if min(self.padding) < 0 or any(pad >= k for pad, k in zip(self.padding, self.kernel * 2, strict=True)):
            raise InvalidPolicy(f"padding {self.padding} must lie between 0 and the kernel {self.kernel} less 1")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise InvalidPolicy(
                f"{self.groups} groups must divide {self.in_channels} input and {self.out_channels} output channels"
            )
        height, width = self.padded
        if self.kernel[0] > height or self.kernel[1] > width:
            raise InvalidPolicy(f"kernel {self.kernel} does not fit the padded input {self.padded}")

    @property
    def padded(self) -> Pair:
        """Height and width after padding."""
        top, left, bottom, right = self.padding
        return self.height + top + bottom, self.width + left + right

    @property
    def out_size(self) -> Pair:
        """Height and width of the output."""
        height, width = self.padded
        return (height - self.kernel[0]) // self.stride[0] + 1, (width - self.kernel[1]) // self.stride[1] + 1

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(M, C / groups, kh, kw)."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def input_values(self) -> int:
        """Values of the input tensor."""
        return self.in_channels * self.height * self.width

    @property
    def output_values(self) -> int:
        """Values of the output tensor."""
        height, width = self.out_size
        return self.out_channels * height * width


def linear_shape(layer: LinearLayer, input_shape: Shape) -> LinearShape:
    """The public shape of a layer of the graph that reads a tensor (C, H, W) or (F,)."""
    channels, height, width = input_shape if len(input_shape) == 3 else (input_shape[0], 1, 1)
    if isinstance(layer, Conv2d):
        return LinearShape(
            channels, height, width, layer.out_channels, layer.kernel, layer.stride, layer.padding, layer.groups
        )
    return LinearShape(channels, height, width, layer.out_features, (1, 1))
