"""Packing `coefficients`: a convolution read off products of polynomials [Cheetah, section 3.1].

| symbol | meaning |
|---|---|
| C, M, G | input channels, output channels and groups of the layer |
| kh, kw | taps of the kernel that matter (`axis.py`) |
| C_w, M_w, H_w, W_w, G_w | the tile: what one product covers (`Tile`) |
| block | the M_w C_w H_w W_w coefficients that the product of one group takes |

A fully connected layer is the 1x1 case on a (C, 1, 1) input. docs/protocol.md has the index formulas.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record
from autoprivacy.protocol.axis import Windows, axes
from autoprivacy.protocol.linear_shape import IntArray, LinearShape


@record
class Tile:
    """What one product covers: channels in and out of each of `groups` groups, and a window of the input.

    The window has the halo that its outputs need. Where it holds a whole axis, only the wider of the two paddings is
    added: zeros after one row, or one channel, are those before the next.
    """

    in_channels: int
    out_channels: int
    height: int
    width: int
    groups: int = 1


def slot(index: int) -> int:
    """The slot of a polynomial that a group takes: the binary digits of its index read in base 3.

    No slot is midway between two others, so products of one group's input with another's weights, which land at the sum
    of their slots, never meet a group's own product at twice its slot [ErdosTuran].

    >>> [slot(index) for index in range(8)]
    [0, 1, 3, 4, 9, 10, 12, 13]
    """
    return int(f"{index:b}", 3)


def blocks(groups: int) -> int:
    """Blocks that the product of so many groups takes: up to twice the last slot."""
    return 2 * slot(groups - 1) + 1


@dataclass(frozen=True)
class CoefficientLayout:
    """Where every value of one layer sits, for ring degree `n` and one tile.

    Inputs (ciphertexts on their way up) are ordered by window, bundle of groups that share a ciphertext, and part of
    the input channels; responses by window and row, which is a bundle and a part of the output channels. A response
    sums the products of its row of weights with the inputs of its window and bundle.

    Raises:
        InvalidPolicy: if the tile does not fit the ring or the layer.
    """

    shape: LinearShape
    tile: Tile
    n: int

    def __post_init__(self) -> None:
        shape, tile = self.shape, self.tile
        down, across = axes(shape)
        limits = {
            "C_w": (tile.in_channels, 1, shape.in_channels // shape.groups),
            "M_w": (tile.out_channels, 1, shape.out_channels // shape.groups),
            "H_w": (tile.height, down.kernel, down.whole),
            "W_w": (tile.width, across.kernel, across.whole),
            "G_w": (tile.groups, 1, shape.groups),
        }
        for name, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise InvalidPolicy(f"tile {name} = {value} must lie between {low} and {high} for {shape}")
        needed = blocks(tile.groups) * self._block
        if needed > self.n:
            raise InvalidPolicy(f"{tile} needs {needed} coefficients, but n = {self.n}")

    @cached_property
    def windows(self) -> tuple[Windows, Windows]:
        """How the height and the width are cut."""
        down, across = axes(self.shape)
        return Windows(down, self.tile.height), Windows(across, self.tile.width)

    @property
    def window_count(self) -> int:
        """Windows of the whole input."""
        down, across = self.windows
        return down.count * across.count

    @property
    def bundles(self) -> int:
        """Runs of groups that share ciphertexts."""
        return -(-self.shape.groups // self.tile.groups)

    @property
    def in_parts(self) -> int:
        """Inputs of a window and bundle: what a group's input channels are cut into."""
        return -(-(self.shape.in_channels // self.shape.groups) // self.tile.in_channels)

    @property
    def out_parts(self) -> int:
        """Responses of a window and bundle: what a group's output channels are cut into."""
        return -(-(self.shape.out_channels // self.shape.groups) // self.tile.out_channels)

    @property
    def rows(self) -> int:
        """Responses of a window, each with its row of `in_parts` weight polynomials."""
        return self.bundles * self.out_parts

    @property
    def inputs(self) -> int:
        """Ciphertexts on their way up."""
        return self.window_count * self.bundles * self.in_parts

    @property
    def responses(self) -> int:
        """Ciphertexts on their way down."""
        return self.window_count * self.rows

    def inputs_of(self, response: int) -> slice:
        """The inputs that a response sums over; its weights are row `response % rows`."""
        first = response // self.out_parts * self.in_parts
        return slice(first, first + self.in_parts)

    @property
    def response_sizes(self) -> IntArray:
        """Coefficients of c0 that each response sends (responses,); together every output once."""
        shape, tile = self.shape, self.tile
        down, across = self.windows
        height, width = shape.out_size
        sizes: IntArray = (
            _cut(height, down.outputs)[:, None, None, None]
            * _cut(width, across.outputs)[:, None, None]
            * _cut(shape.groups, tile.groups)[:, None]
            * _cut(shape.out_channels // shape.groups, tile.out_channels)
        )
        return sizes.ravel()

    @property
    def _plane(self) -> int:
        return self.tile.height * self.tile.width

    @property
    def _block(self) -> int:
        return self.tile.in_channels * self.tile.out_channels * self._plane

    @property
    def _slots(self) -> IntArray:
        return np.array([slot(index) for index in range(self.tile.groups)]) * self._block

    @property
    def _origin(self) -> int:
        down, across = self.windows
        last_plane = self._plane * (self.tile.out_channels * self.tile.in_channels - 1)
        return last_plane + self.tile.width * (down.axis.kernel - 1) + across.axis.kernel - 1

    def encode_input(self, tensor: IntArray) -> IntArray:
        """Polynomials (inputs, n) of one input tensor (C, height, width)."""
        encoded: IntArray = np.append(tensor, 0)[self._sources]
        return encoded

    @cached_property
    def _sources(self) -> NDArray[np.int32]:
        """(inputs, n): the flat input value in every coefficient; one past the last for zero."""
        shape = self.shape
        numbers = np.arange(1, shape.input_values + 1).reshape(shape.in_channels, shape.height, shape.width)
        found = self._placed(numbers)
        return np.where(found > 0, found - 1, shape.input_values).astype(np.int32)

    def _placed(self, tensor: IntArray) -> IntArray:
        """The values of a tensor where they belong (inputs, n)."""
        tile = self.tile
        down, across = self.windows
        places = self._canvas(tensor)
        windows = sliding_window_view(places, (tile.height, tile.width), axis=(4, 5))
        # (bundle, group, part, channel, down, across, row, column) to (group; down, across, bundle, part; the rest).
        windows = windows[:, :, :, :, :: down.step, :: across.step].transpose(1, 4, 5, 0, 2, 3, 6, 7)
        polynomials = np.zeros((*windows.shape[1:5], self.n), np.int64)
        for first, group in zip(self._slots, windows, strict=True):
            taken = polynomials[..., first : first + tile.in_channels * self._plane]
            taken.reshape(group.shape)[...] = group
        return polynomials.reshape(-1, self.n)

    def _canvas(self, tensor: IntArray) -> IntArray:
        """The rows that are read, with zeros for padding and missing channels.

        (bundles, groups, in_parts, in_channels, places down, places across).
        """
        shape, tile = self.shape, self.tile
        down, across = self.windows
        grouped = tensor.reshape(shape.groups, -1, shape.height, shape.width)
        read = grouped[:, :, np.array(down.axis.rows)[:, None], np.array(across.axis.rows)]
        canvas = np.zeros(
            (self.bundles * tile.groups, self.in_parts * tile.in_channels, down.length, across.length), np.int64
        )
        top, left = down.first_row, across.first_row
        canvas[: shape.groups, : read.shape[1], top : top + read.shape[2], left : left + read.shape[3]] = read
        return canvas.reshape(self.bundles, tile.groups, self.in_parts, tile.in_channels, down.length, across.length)

    @property
    def weight_rows(self) -> int:
        """Rows of `encode_weights`."""
        return self.rows

    def encode_weights(self, weight: IntArray, rows: Sequence[int] | None = None) -> Iterator[IntArray]:
        """Polynomials (in_parts, n), row by row, of a weight tensor (M, C / groups, kh, kw); windows share them.

        By default of all rows.
        """
        tile = self.tile
        tiles = self._weight_tiles(weight)
        m, c, i, j = np.ogrid[tuple(slice(size) for size in tiles.shape[4:])]
        within = self._origin - (m * tile.in_channels + c) * self._plane - i * tile.width - j
        at = self._slots[:, None, None, None, None] + within
        by_row = tiles.reshape(self.rows, *tiles.shape[2:])
        for row in range(self.rows) if rows is None else rows:
            polynomials = np.zeros((self.in_parts, self.n), np.int64)
            polynomials[:, at] = by_row[row]
            yield polynomials

    def nonzero(self, weight: IntArray) -> NDArray[np.bool_]:
        """Which polynomials (rows, in_parts) of `encode_weights` are not all zeros; products of others are skipped."""
        tiles = self._weight_tiles(weight)
        used: NDArray[np.bool_] = np.logical_or.reduce(tiles.reshape(self.rows, self.in_parts, -1) != 0, axis=2)
        return used

    def row_weights(self, weight: IntArray) -> IntArray:
        """The weights in each row of `encode_weights` (rows, weights), with zeros between: all add to its noise."""
        return self._weight_tiles(weight).reshape(self.rows, -1)

    @property
    def row_of_channel(self) -> IntArray:
        """The row that yields each output channel (M,)."""
        group, channel = np.divmod(np.arange(self.shape.out_channels), self.shape.out_channels // self.shape.groups)
        row: IntArray = group // self.tile.groups * self.out_parts + channel // self.tile.out_channels
        return row

    def _weight_tiles(self, weight: IntArray) -> IntArray:
        """Taps that matter, with zeros for missing channels.

        (bundles, out_parts, in_parts, groups, out_channels, in_channels, kh, kw), a view.
        """
        shape, tile = self.shape, self.tile
        taps = tuple(slice(side.axis.first_tap, side.axis.first_tap + side.axis.kernel) for side in self.windows)
        grouped = weight.reshape(shape.groups, -1, *weight.shape[1:])[:, :, :, taps[0], taps[1]]
        kernel = grouped.shape[3:]
        full = np.zeros(
            (self.bundles * tile.groups, self.out_parts * tile.out_channels, self.in_parts * tile.in_channels, *kernel),
            np.int64,
        )
        full[: grouped.shape[0], : grouped.shape[1], : grouped.shape[2]] = grouped
        # (bundle, group, part out, channel out, part in, channel in, row, column)
        parts = full.reshape(
            self.bundles, tile.groups, self.out_parts, tile.out_channels, self.in_parts, tile.in_channels, *kernel
        )
        return parts.transpose(0, 2, 4, 1, 3, 5, 6, 7)

    @cached_property
    def outputs(self) -> tuple[tuple[IntArray, IntArray], ...]:
        """Per response: the coefficients that hold outputs, and their flat output index.

        Both arrays have one entry a value that is sent; the output tensor (M, H', W') is indexed flat.
        """
        shape, tile = self.shape, self.tile
        down, across = self.windows
        height, width = shape.out_size
        channels = shape.out_channels // shape.groups
        g, m, i, j = np.ogrid[: tile.groups, : tile.out_channels, : down.outputs, : across.outputs]
        places = (down.first_output + i * down.axis.stride) * tile.width + across.first_output + j * across.axis.stride
        coefficients = self._origin + 2 * self._slots[g] - m * tile.in_channels * self._plane + places
        indices = ((g * channels + m) * height + i) * width + j
        found = []
        for first in product(
            range(0, height, down.outputs),
            range(0, width, across.outputs),
            range(0, shape.groups, tile.groups),
            range(0, channels, tile.out_channels),
        ):
            row, column, group, channel = first
            kept = (
                slice(shape.groups - group),
                slice(channels - channel),
                slice(height - row),
                slice(width - column),
            )
            offset = ((group * channels + channel) * height + row) * width + column
            found.append((coefficients[kept].ravel(), (indices[kept] + offset).ravel()))
        return tuple(found)


def _cut(total: int, size: int) -> IntArray:
    """The sizes of the pieces when `total` is cut into pieces of `size`, the last one maybe smaller."""
    pieces = np.full(-(-total // size), size)
    pieces[-1] = total - size * (len(pieces) - 1)
    return pieces
