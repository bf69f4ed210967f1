"""Which tiles of packing `slots` are worth considering for a layer, from counts alone."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from math import inf
from typing import Final

import numpy as np

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.slot_counts import slot_counts
from autoprivacy.protocol.slot_geometry import Geometry, power_of_two
from autoprivacy.protocol.slot_packing import Rows, SlotLayout, SlotTile

TRAFFIC: Final = {"encrypt": 22.0, "respond": 30.0}
ROTATIONS: Final = {"rotate": 12.0, "swap_rows": 12.0}
PRODUCTS: Final = {"multiply_accumulate": 1.0, "add": 0.15, "to_ntt": 3.0, "from_ntt": 3.0}
"""Rough costs in products: SEAL's times at n = 4096 and 8192, which differ little as ratios. An input is encrypted,
sent and received; a response is rerandomised, masked, sent and decrypted."""

SCALES: Final = (0.3, 1.0, 3.0)
"""How far a machine and link may be from these: factors on traffic, and on rotations."""

MOST_STEPS: Final = 64
"""Tiles that need more Galois keys are considered only where all do."""


def default_slot_tile(shape: LinearShape, n: int) -> SlotTile:
    """The cheapest tile at rough costs of the operations.

    Raises:
        InvalidPolicy: if not even one output fits a row of n / 2 slots.
    """
    return slot_tiles(shape, n)[0]


@lru_cache(maxsize=4096)
def slot_tiles(shape: LinearShape, n: int) -> tuple[SlotTile, ...]:
    """Tiles for a search to choose from, at most nine: each the cheapest at some prices, the default first.

    Raises:
        InvalidPolicy: if not even one output fits a row of n / 2 slots.
    """
    layouts = [SlotLayout(shape, tile, n) for tile in _candidates(shape, n)]
    layouts = [layout for layout in layouts if len(layout.steps) <= MOST_STEPS] or layouts
    costs = np.array([_costs(layout) for layout in layouts])
    scales = np.array([(1.0, 1.0, 1.0), *((traffic, rotations, 1.0) for traffic, rotations in product(SCALES, SCALES))])
    cheapest = (costs @ scales.T).argmin(axis=0)
    return tuple({layouts[index].tile: None for index in cheapest})


def _costs(layout: SlotLayout) -> list[float]:
    """Costs of traffic, rotations and the rest."""
    counts = slot_counts(layout)
    return [
        sum(price * int(getattr(counts, name)) for name, price in prices.items())
        for prices in (TRAFFIC, ROTATIONS, PRODUCTS)
    ]


def _candidates(shape: LinearShape, n: int) -> Iterator[SlotTile]:
    """Tiles with responses as full as can be; inputs may hold fewer channels, in more copies."""
    for geometry, rows in ((g, rows) for g in _geometries(shape, n // 2) for rows in _ways(shape, g)):
        inputs = shape.in_channels // shape.groups * len(geometry.phases)
        for lanes in _powers(min(_share(shape.groups, rows, "groups"), n // 2 // geometry.block)):
            pitches = n // 2 // (lanes * geometry.block)
            o = min(pitches, _share(shape.out_channels // shape.groups, rows, "channels", "outputs"))
            most = min(pitches, _share(inputs, rows, "channels"))
            for p in _powers(most, least=most >> 3):
                for baby_steps in _powers(min(max(1, p * o // pitches), MOST_STEPS)):
                    yield SlotTile(geometry.window, p, o, lanes, rows, baby_steps)


def _geometries(shape: LinearShape, row: int) -> Iterator[Geometry]:
    """The fewest bands of even heights that fit a row, more where that takes fewer slots; columns are cut last."""
    height, width = shape.out_size
    for columns in range(1, width + 1):
        least = inf
        for bands in range(1, height + 1):
            geometry = Geometry(shape, (-(-height // bands), -(-width // columns)))
            slots = len(geometry.windows) * geometry.block
            if geometry.block <= row and slots < least:
                least = slots
                yield geometry
        if least < inf:
            return
    raise InvalidPolicy(f"one output of {shape} reads more than the {row} slots of a row; take a larger n")


def _ways(shape: LinearShape, geometry: Geometry) -> Iterator[Rows]:
    yield "channels"
    yield "outputs"
    if shape.groups > 1:
        yield "groups"
    if len(geometry.windows) > 1:
        yield "windows"


def _share(total: int, rows: Rows, *differing: Rows) -> int:
    """The power of two that holds what a row takes of `total` channels or groups."""
    return power_of_two(-(-total // 2) if rows in differing else total)


def _powers(most: int, least: int = 1) -> Iterator[int]:
    """Powers of two."""
    return (1 << bit for bit in range(max(least, 1).bit_length() - 1, most.bit_length()))
