"""Convolutions and pools of batches in numpy: in floats, and in integers without a single rounding.

| symbol | meaning |
|---|---|
| x | (N, C, H, W): a batch of tensors |
| weight | (M, C / groups, kh, kw) |

Results (N, M, H', W') lie in memory as (M, N, H', W'): so a convolution is one matrix product whose rows are channels
and whose columns are the output positions of all images, and what comes out goes into the next one as it is.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, Final, TypeAlias, TypedDict, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from autoprivacy.networks.graph import Padding, Pair

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]

Number = TypeVar("Number", np.float32, np.float64, np.int64)


class Geometry(TypedDict):
    """How a convolution slides: keyword arguments of `convolve`."""

    stride: Pair
    padding: Padding
    groups: int


BLOCK_BYTES: Final = 1 << 22
"""Of the columns that a convolution copies together: as many images at a time as the cache holds, at least one."""


def convolve(
    weight: NDArray[Number], x: NDArray[Number], *, stride: Pair, padding: Padding, groups: int
) -> NDArray[Number]:
    """Cross-correlation with zero padding, in the arithmetic of the operands' type."""
    kernel = (weight.shape[2], weight.shape[3])
    padded = _padded(x, padding, 0)
    taps = sliding_window_view(padded, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    images, channels, height, width = taps.shape[:4]
    out: NDArray[Number] = np.empty((len(weight), images, height, width), dtype=x.dtype)
    if channels == groups:
        _by_taps(weight, taps, out)
    else:
        _by_products(weight, taps, groups, out)
    return out.transpose(1, 0, 2, 3)


def window_sum(x: NDArray[Number], kernel: Pair, stride: Pair, padding: Padding) -> NDArray[Number]:
    """The sum of each window of each channel; padding counts as zeros."""
    return _slid(np.add, _padded(x, padding, 0), kernel, stride)


def window_max(x: NDArray[Number], kernel: Pair, stride: Pair, padding: Padding) -> NDArray[Number]:
    """The greatest value of each window of each channel; padding never wins."""
    least = np.iinfo(np.int64).min if x.dtype == np.int64 else -np.inf
    return _slid(np.maximum, _padded(x, padding, least), kernel, stride)


def _padded(x: NDArray[Number], padding: Padding, fill: float) -> NDArray[Number]:
    if not any(padding):
        return x
    top, left, bottom, right = padding
    images, channels, height, width = x.shape
    padded: NDArray[Number] = np.full(
        (channels, images, height + top + bottom, width + left + right), fill, dtype=x.dtype
    ).transpose(1, 0, 2, 3)
    padded[:, :, top : top + height, left : left + width] = x
    return padded


def _by_products(weight: NDArray[Number], taps: NDArray[Number], groups: int, out: NDArray[Number]) -> None:
    """One matrix product a group, over blocks of images: rows are taps, columns are output positions."""
    images, channels, height, width, kernel_h, kernel_w = taps.shape
    positions, depth = height * width, channels // groups * kernel_h * kernel_w
    rows = weight.reshape(groups, -1, depth)
    results = out.reshape(groups, rows.shape[1], images * positions)
    # A 1x1 kernel needs no copy if the images lie channel by channel.
    at_once = images if kernel_h * kernel_w == 1 else BLOCK_BYTES // (groups * depth * positions * out.itemsize)
    block = max(1, at_once)
    for start in range(0, images, block):
        columns = taps[start : start + block].transpose(1, 4, 5, 0, 2, 3).reshape(groups, depth, -1)
        np.matmul(rows, columns, out=results[:, :, start * positions : (start + block) * positions])


def _by_taps(weight: NDArray[Number], taps: NDArray[Number], out: NDArray[Number]) -> None:
    """A depthwise convolution: the sum over taps of shifted products; a channel in may have several out."""
    images, channels, height, width, kernel_h, kernel_w = taps.shape
    scales = weight.reshape(channels, len(weight) // channels, kernel_h, kernel_w)[:, :, :, :, None, None, None]
    entering = taps.transpose(4, 5, 1, 0, 2, 3)[:, :, :, None]
    results = out.reshape(channels, len(weight) // channels, images, height, width)
    results[...] = 0
    for i, j in product(range(kernel_h), range(kernel_w)):
        results += scales[:, :, i, j] * entering[i, j]


def _slid(
    combine: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]], x: NDArray[Number], kernel: Pair, stride: Pair
) -> NDArray[Number]:
    """Windows combined along the height, then along the width."""
    for axis, size, step in ((2, kernel[0], stride[0]), (3, kernel[1], stride[1])):
        moved = np.moveaxis(x, axis, 0)
        ends = len(moved) - size + 1
        total = moved[0:ends:step]
        for offset in range(1, size):
            total = combine(total, moved[offset : ends + offset : step])
        x = np.moveaxis(total, 0, axis)
    return x


def convolve_exact(weight: Ints, x: Ints, *, stride: Pair, padding: Padding, groups: int) -> Ints:
    """Cross-correlation of integers, exact: in float32 or float64 where these hold every partial sum.

    Beyond that the larger operand is split into two halves of its bits, so that matrix products stay fast.

    Raises:
        OverflowError: if a sum could leave 64 bits.
    """
    geometry: Geometry = {"stride": stride, "padding": padding, "groups": groups}
    largest_weight, largest_x = int(np.abs(weight).max(initial=0)), int(np.abs(x).max(initial=0))
    largest = weight_reach(weight) * largest_x
    if largest < 1 << 24:
        return convolve(weight.astype(np.float32), x.astype(np.float32), **geometry).astype(np.int64)
    if largest < 1 << 53:
        return convolve(weight.astype(np.float64), x.astype(np.float64), **geometry).astype(np.int64)
    if largest >= 1 << 63:
        raise OverflowError(f"sums up to {largest} do not fit 64 bits")
    if largest_weight > largest_x:
        kept = largest_weight.bit_length() // 2
        high, low = _split(weight, kept)
        return (convolve_exact(high, x, **geometry) << kept) + convolve_exact(low, x, **geometry)
    kept = largest_x.bit_length() // 2
    high, low = _split(x, kept)
    return (convolve_exact(weight, high, **geometry) << kept) + convolve_exact(weight, low, **geometry)


def weight_reach(weight: Ints) -> int:
    """The greatest sum of magnitudes of an output channel: times the greatest input, no sum passes it."""
    magnitudes = np.abs(weight).reshape(len(weight), -1)
    if int(magnitudes.max(initial=0)) * magnitudes.shape[1] >= 1 << 63:
        magnitudes = magnitudes.astype(object)
    return int(magnitudes.sum(axis=1).max(initial=0))


def _split(values: Ints, kept: int) -> tuple[Ints, Ints]:
    """`high` and `low` such that high * 2^kept + low are the values; neither is larger in magnitude than these."""
    high = np.sign(values) * (np.abs(values) >> kept)
    return high, values - (high << kept)
