"""Convolutions of batches in numpy: in floats, and in integers without a single rounding.

Shapes: x (N, C, H, W), weight (M, C, kh, kw), result (N, M, H', W').
"""

from typing import TypeAlias, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]

Number = TypeVar("Number", np.float32, np.float64, np.int64)


def convolve(weight: NDArray[Number], x: NDArray[Number], *, stride: int, padding: int) -> NDArray[Number]:
    """Cross-correlation with zero padding on all four sides, in the arithmetic of the operands' type."""
    out_channels, _, kernel_h, kernel_w = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, (kernel_h, kernel_w), axis=(2, 3))[:, :, ::stride, ::stride]
    images, _, height, width = windows.shape[:4]
    # One large product is faster than one per image: rows are output positions, columns are kernel taps.
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(images * height * width, -1)
    product: NDArray[Number] = rows @ weight.reshape(out_channels, -1).T
    return np.ascontiguousarray(product.reshape(images, height, width, out_channels).transpose(0, 3, 1, 2))


def convolve_exact(weight: Ints, x: Ints, *, stride: int, padding: int) -> Ints:
    """Cross-correlation of integers, exact: in the fastest type that holds every partial sum.

    Raises:
        OverflowError: if a sum could leave 64 bits.
    """
    per_channel = np.abs(weight).reshape(len(weight), -1).sum(axis=1)
    largest = int(per_channel.max(initial=0)) * int(np.abs(x).max(initial=0))
    if largest < 1 << 24:
        narrow = convolve(weight.astype(np.float32), x.astype(np.float32), stride=stride, padding=padding)
        return narrow.astype(np.int64)
    if largest < 1 << 53:
        wide = convolve(weight.astype(np.float64), x.astype(np.float64), stride=stride, padding=padding)
        return wide.astype(np.int64)
    if largest >= 1 << 63:
        raise OverflowError(f"sums up to {largest} do not fit 64 bits")
    return convolve(weight, x, stride=stride, padding=padding)
