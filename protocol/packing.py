"""Packing `coefficients`: a convolution read off products of polynomials [Cheetah, section 3.1].

| symbol | meaning |
|---|---|
| C, M | input and output channels of the layer |
| H, W | height and width of the padded input |
| C_w, M_w, H_w, W_w | the tile: what one product covers (`Tile`) |

A fully connected layer is the 1x1 case on a (C, 1, 1) input. docs/protocol.md has the index formulas.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record

IntArray = NDArray[np.int64]


@record
class LinearShape:
    """The public shape of one linear layer; `height` and `width` are those of the unpadded input."""

    in_channels: int
    height: int
    width: int
    out_channels: int
    kernel: int
    stride: int
    padding: int

    def __post_init__(self) -> None:
        if min(self.in_channels, self.height, self.width, self.out_channels, self.kernel, self.stride) < 1:
            raise InvalidPolicy(f"a layer's dimensions must be at least 1, got {self}")
        if self.padding < 0 or self.kernel > min(self.padded):
            raise InvalidPolicy(f"kernel {self.kernel} does not fit the padded input {self.padded}")

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width after padding."""
        return self.height + 2 * self.padding, self.width + 2 * self.padding

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = self.padded
        return (height - self.kernel) // self.stride + 1, (width - self.kernel) // self.stride + 1

    @property
    def input_values(self) -> int:
        """Values of the input tensor."""
        return self.in_channels * self.height * self.width

    @property
    def output_values(self) -> int:
        """Values of the output tensor."""
        height, width = self.out_size
        return self.out_channels * height * width


@record
class Tile:
    """What one product covers: channels in and out, and a window of the padded input (with halo)."""

    in_channels: int
    out_channels: int
    height: int
    width: int


@dataclass(frozen=True)
class CoefficientLayout:
    """Where every value of one layer sits, for ring degree `n` and one tile.

    Raises:
        InvalidPolicy: if the tile does not fit the ring or the layer.
    """

    shape: LinearShape
    tile: Tile
    n: int

    def __post_init__(self) -> None:
        shape, tile = self.shape, self.tile
        height, width = shape.padded
        limits = (
            (1, shape.in_channels),
            (1, shape.out_channels),
            (shape.kernel, height),
            (shape.kernel, width),
        )
        sides = (tile.in_channels, tile.out_channels, tile.height, tile.width)
        for name, side, (low, high) in zip(("C_w", "M_w", "H_w", "W_w"), sides, limits, strict=True):
            if not low <= side <= high:
                raise InvalidPolicy(f"tile {name} = {side} must lie between {low} and {high} for {shape}")
        if np.prod(sides) > self.n:
            raise InvalidPolicy(f"tile {sides} needs {np.prod(sides)} coefficients, but n = {self.n}")

    @property
    def window_out(self) -> tuple[int, int]:
        """Output rows and columns that one window yields."""
        tile, shape = self.tile, self.shape
        return (tile.height - shape.kernel) // shape.stride + 1, (tile.width - shape.kernel) // shape.stride + 1

    @property
    def in_groups(self) -> int:
        """Groups of input channels: ciphertexts per window."""
        return -(-self.shape.in_channels // self.tile.in_channels)

    @property
    def out_groups(self) -> int:
        """Groups of output channels: responses per window."""
        return -(-self.shape.out_channels // self.tile.out_channels)

    @cached_property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """First output row and column of each window."""
        rows, columns = self.window_out
        height, width = self.shape.out_size
        return tuple((i, j) for i in range(0, height, rows) for j in range(0, width, columns))

    @property
    def _window_values(self) -> int:
        return self.tile.height * self.tile.width

    @property
    def _origin(self) -> int:
        tile, k = self.tile, self.shape.kernel
        return self._window_values * (tile.out_channels * tile.in_channels - 1) + tile.width * (k - 1) + k - 1

    def encode_input(self, tensor: IntArray) -> IntArray:
        """Polynomials (windows, in_groups, n) of one input tensor (C, height, width)."""
        shape, tile = self.shape, self.tile
        k, s, p = shape.kernel, shape.stride, shape.padding
        rows, columns = self.window_out
        last_i, last_j = self.windows[-1]
        channels = self.in_groups * tile.in_channels
        canvas = np.zeros(
            (
                channels,
                max(last_i * s + tile.height, shape.padded[0]),
                max(last_j * s + tile.width, shape.padded[1]),
            ),
            np.int64,
        )
        canvas[: shape.in_channels, p : p + shape.height, p : p + shape.width] = tensor
        polynomials = np.zeros((len(self.windows), self.in_groups, self.n), np.int64)
        used_h, used_w = (rows - 1) * s + k, (columns - 1) * s + k
        cut = np.zeros((channels, tile.height, tile.width), np.int64)
        for index, (i, j) in enumerate(self.windows):
            cut[:, :used_h, :used_w] = canvas[:, i * s : i * s + used_h, j * s : j * s + used_w]
            polynomials[index, :, : tile.in_channels * self._window_values] = cut.reshape(self.in_groups, -1)
        return polynomials

    def encode_weights(self, weight: IntArray) -> IntArray:
        """Polynomials (out_groups, in_groups, n) of a weight tensor (M, C, k, k); the same for every window."""
        shape, tile, k = self.shape, self.tile, self.shape.kernel
        full = np.zeros((self.out_groups * tile.out_channels, self.in_groups * tile.in_channels, k, k), np.int64)
        full[: shape.out_channels, : shape.in_channels] = weight
        m, c, row, column = np.ogrid[: tile.out_channels, : tile.in_channels, :k, :k]
        at = self._origin - (m * tile.in_channels + c) * self._window_values - row * tile.width - column
        polynomials = np.zeros((self.out_groups, self.in_groups, self.n), np.int64)
        for group_out in range(self.out_groups):
            for group_in in range(self.in_groups):
                block = full[
                    group_out * tile.out_channels : (group_out + 1) * tile.out_channels,
                    group_in * tile.in_channels : (group_in + 1) * tile.in_channels,
                ]
                polynomials[group_out, group_in, at] = block
        return polynomials

    @cached_property
    def outputs(self) -> tuple[tuple[IntArray, IntArray], ...]:
        """Per response (window-major, then output group): coefficients that hold outputs, and their flat output index.

        Both arrays have one entry a value that is sent; the output tensor (M, H', W') is indexed flat.
        """
        shape, tile = self.shape, self.tile
        rows, columns = self.window_out
        height, width = shape.out_size
        found = []
        for i, j in self.windows:
            for group in range(self.out_groups):
                first = group * tile.out_channels
                m, r, c = (
                    grid.ravel()
                    for grid in np.meshgrid(
                        np.arange(min(tile.out_channels, shape.out_channels - first)),
                        np.arange(min(rows, height - i)),
                        np.arange(min(columns, width - j)),
                        indexing="ij",
                    )
                )
                coefficient = (
                    self._origin
                    - m * tile.in_channels * self._window_values
                    + r * shape.stride * tile.width
                    + c * shape.stride
                )
                found.append((coefficient, ((first + m) * height + i + r) * width + j + c))
        return tuple(found)

    @property
    def sent_coefficients(self) -> int:
        """Coefficients of c0 sent back in all responses together: every output once."""
        return self.shape.output_values


def default_tile(shape: LinearShape, n: int) -> Tile:
    """A good tile from counts alone: the whole image where it fits, else bands; channels by least work.

    The weights are the rough cost of an input ciphertext, of a response and of a multiply-accumulate in units
    of one encryption; the search may choose otherwise.

    Raises:
        InvalidPolicy: if not even one kernel fits `n`.
    """
    height, width = shape.padded
    if shape.kernel * shape.kernel > n:
        raise InvalidPolicy(f"a {shape.kernel}x{shape.kernel} kernel does not fit n = {n}")
    while height * width > n:
        if height > shape.kernel and (height >= width or width == shape.kernel):
            height = max(shape.kernel, -(-height // 2))
        else:
            width = max(shape.kernel, -(-width // 2))
    best: tuple[float, Tile] | None = None
    for channels in range(1, min(shape.in_channels, n // (height * width)) + 1):
        out = min(shape.out_channels, n // (height * width * channels))
        tile = Tile(in_channels=channels, out_channels=out, height=height, width=width)
        layout = CoefficientLayout(shape, tile, n)
        cost = layout.in_groups * 1.5 + layout.out_groups * 2.5 + layout.in_groups * layout.out_groups * 0.12
        if best is None or cost < best[0]:
            best = cost, tile
    assert best is not None  # noqa: S101 - at least one channel fits by the loop above
    return best[1]
