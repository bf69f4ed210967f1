"""Which tiles are worth considering for a layer, from counts alone.

| symbol | meaning |
|---|---|
| inputs, responses, products | what `CoefficientLayout` counts under the same names |
"""

from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.axis import Axis, axes
from autoprivacy.protocol.linear_shape import IntArray, LinearShape
from autoprivacy.protocol.packing import Tile, blocks

PRICES: Final = (1.5, 2.5, 0.12)
"""Rough cost of an input, a response and a product, in units of one encryption; the same at all n.

An input is encrypted, sent, received and transformed; a response is transformed back, rerandomised, masked, sent and
decrypted. Read off the single operations of SEAL (docs/protocol.md); a search that knows its machine need not use them.
"""

SCALES: Final = (0.2, 1.0, 5.0)
"""How far a machine and link may be from `PRICES`: factors on what an input costs, and on what a product does."""

TOGETHER: Final = (None, 4, 1)
"""At most so many output channels in a product: they share its noise, so fewer err less and cost more."""


def default_tile(shape: LinearShape, n: int) -> Tile:
    """The cheapest tile at `PRICES`.

    Raises:
        InvalidPolicy: if not even one kernel fits `n`.
    """
    return tiles(shape, n)[0]


@lru_cache(maxsize=4096)
def tiles(shape: LinearShape, n: int) -> tuple[Tile, ...]:
    """Tiles for a search to choose from, at most 27: each the cheapest at some prices, the default first.

    Raises:
        InvalidPolicy: if not even one kernel fits `n`.
    """
    scales = np.array(
        [(1.0, 1.0, 1.0), *((of_input, 1.0, of_product) for of_input, of_product in product(SCALES, SCALES))]
    )
    found: dict[Tile, None] = {}
    for together in TOGETHER:
        fields, counts = _all_tiles(shape, n, together or shape.out_channels)
        # Of equal costs the one with the fewest channels in a product, then with the smallest window.
        order = np.lexsort((fields[:, 2] * fields[:, 3], fields[:, 1] * fields[:, 4]))
        cheapest = (counts[order] @ (scales * PRICES).T).argmin(axis=0)
        found.update((Tile(*fields[order[index]].tolist()), None) for index in cheapest)
    return tuple(found)


def _all_tiles(shape: LinearShape, n: int, together: int) -> tuple[IntArray, IntArray]:
    """Every tile that is not wasteful: its fields (k, 5), and its inputs, responses and products (k, 3)."""
    (heights, down), (widths, across) = (_cuts(axis) for axis in axes(shape))
    in_channels, out_channels = shape.in_channels // shape.groups, shape.out_channels // shape.groups
    i, j, c, g = (
        grid.ravel()
        for grid in np.meshgrid(
            np.arange(len(heights)), np.arange(len(widths)), _pieces(in_channels), _pieces(shape.groups), indexing="ij"
        )
    )
    taken = np.array([blocks(size) for size in range(1, shape.groups + 1)])[g - 1]
    room = np.minimum(n // (heights[i] * widths[j] * c * taken), together // g)
    fits = room > 0
    if not fits.any():
        raise InvalidPolicy(f"a kernel {shape.kernel} does not fit n = {n}; choose a greater n")
    i, j, c, g, room = (values[fits] for values in (i, j, c, g, room))
    out_parts = _divide(out_channels, np.minimum(room, out_channels))
    bundles = down[i] * across[j] * _divide(shape.groups, g)
    inputs, responses = bundles * _divide(in_channels, c), bundles * out_parts
    fields = np.stack([c, _divide(out_channels, out_parts), heights[i], widths[j], g], axis=1)
    return fields, np.stack([inputs, responses, inputs * out_parts], axis=1)


def _cuts(axis: Axis) -> tuple[IntArray, IntArray]:
    """Sides of windows worth considering, and how many windows each makes."""
    outputs = _pieces(axis.outputs)
    sides = np.array([axis.side(each) for each in outputs.tolist()])
    kept = (sides < axis.whole) | (outputs == axis.outputs)
    return sides[kept], _divide(axis.outputs, outputs[kept])


def _pieces(total: int) -> IntArray:
    """The least sizes that cut `total` into 1, 2, 3, ... pieces, each size once."""
    return np.unique(_divide(total, np.arange(1, total + 1)))


def _divide(total: int, by: IntArray) -> IntArray:
    """Rounded up."""
    quotient: IntArray = -(-total // by)
    return quotient
