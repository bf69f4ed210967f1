"""What one layer in packing `slots` does, in closed form, and the tile that does least."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import numpy as np

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record
from autoprivacy.protocol.linear_shape import LinearShape, Pair
from autoprivacy.protocol.slot_geometry import BoolArray, Geometry, power_of_two
from autoprivacy.protocol.slot_packing import Rows, SlotLayout, SlotTile


@record
class SlotCounts:
    """Calls of the interface of one inference; `encode` counts products that are encoded ahead, once for all."""

    encrypt: int
    rotate: int
    swap_rows: int
    to_ntt: int
    weighted_sum: int
    multiply_accumulate: int
    from_ntt: int
    add: int
    respond: int
    encode: int


def slot_counts(layout: SlotLayout, nonzero: BoolArray | None = None) -> SlotCounts:
    """The counts of a layer with `nonzero` products (`SlotLayout.nonzero`); by default no weight is zero."""
    if nonzero is None:
        # Without zero weights all group slabs do the same.
        there, slabs = layout.structure[:1], layout.window_slabs * layout.group_slabs
    else:
        there, slabs = nonzero, layout.window_slabs
    products = int(np.count_nonzero(there))
    sums = there.any(axis=(4, 5, 6))
    highest = np.where(sums, np.arange(layout.giants), 0).max(axis=3)
    crossed = sums[:, :, 1:].any(axis=(2, 3))
    answered = int(np.count_nonzero(sums.any(axis=(2, 3))))
    rotated, transformed = _input_rotations(layout, there.any(axis=(1, 2, 3)))
    found = int(np.count_nonzero(sums))
    return SlotCounts(
        encrypt=layout.inputs,
        rotate=slabs * (rotated + int(highest.sum()) + answered * len(layout.folds)),
        swap_rows=slabs * int(np.count_nonzero(crossed)),
        to_ntt=slabs * transformed,
        weighted_sum=slabs * found,
        multiply_accumulate=slabs * products,
        from_ntt=slabs * found,
        add=slabs * (found - answered + answered * len(layout.folds)),
        respond=layout.responses,
        encode=products * (layout.group_slabs if nonzero is None else 1),
    )


def _input_rotations(layout: SlotLayout, used: BoolArray) -> tuple[int, int]:
    """How many rotations of inputs are made, and how many distinct ones (none included) go to NTT form."""
    steps, which = np.unique(layout.baby_rotations, return_inverse=True)
    products = used.reshape(-1, which.size).astype(np.float32)
    transformed = products @ (which.reshape(-1, 1) == np.arange(len(steps))) > 0
    made = transformed.astype(np.float32) @ _made_for(layout, steps.tolist()) > 0
    return int(np.count_nonzero(made)), int(np.count_nonzero(transformed))


def _made_for(layout: SlotLayout, steps: list[int]) -> BoolArray:
    """(steps, rotations): which rotations of an input have to be made for each of `steps`."""
    at = {step: index for index, step in enumerate(layout.parents)}
    table = np.zeros((len(steps), len(at)), bool)
    for row, wanted in enumerate(steps):
        step = wanted
        while step in at:
            table[row, at[step]] = True
            step = layout.parents[step]
    return table


_COSTS: Final = {
    "multiply_accumulate": 1.0,
    "add": 0.15,
    "to_ntt": 3.0,
    "from_ntt": 3.0,
    "rotate": 12.0,
    "swap_rows": 12.0,
    "encrypt": 22.0,
    "respond": 30.0,
}
"""Rough costs in products: SEAL's times at n = 4096 and 8192 on one machine, which differ little as ratios. An input is
encrypted, sent and received; a response is masked, sent and decrypted."""

_MOST_STEPS: Final = 64
"""No default needs more Galois keys than this: a key takes as much as some twenty ciphertexts."""


@lru_cache(maxsize=4096)
def default_slot_tile(shape: LinearShape, n: int) -> SlotTile:
    """A good tile from counts alone, for rough costs of the operations; the search may choose otherwise.

    Raises:
        InvalidPolicy: if not even one output fits a row of n / 2 slots.
    """
    window = _window(shape, n // 2)
    return min(_candidates(shape, n, window), key=lambda tile: _cost(SlotLayout(shape, tile, n)))


def _cost(layout: SlotLayout) -> float:
    counts = slot_counts(layout)
    cost = sum(price * getattr(counts, name) for name, price in _COSTS.items())
    return cost if len(layout.steps) <= _MOST_STEPS else np.inf


def _window(shape: LinearShape, row: int) -> Pair:
    """The whole output if its block fits a row, else the fewest bands, of even heights; only then columns are cut."""
    height, width = shape.out_size
    for columns in range(1, width + 1):
        for rows in range(1, height + 1):
            window = -(-height // rows), -(-width // columns)
            if Geometry(shape, window).block <= row:
                return window
    raise InvalidPolicy(f"one output of {shape} reads more than the {row} slots of a row; take a larger n")


def _candidates(shape: LinearShape, n: int, window: Pair) -> Iterator[SlotTile]:
    """Tiles whose responses are as full as can be; inputs may hold fewer channels, in more copies."""
    geometry = Geometry(shape, window)
    inputs = max(1, shape.in_channels // shape.groups * len(geometry.phases))
    outputs = shape.out_channels // shape.groups
    for rows in _ways(shape, geometry):
        most_lanes = min(_half(shape.groups, rows == "groups"), n // 2 // geometry.block)
        for lanes in _powers(most_lanes):
            pitches = n // 2 // (lanes * geometry.block)
            o = min(pitches, _half(outputs, rows in {"channels", "outputs"}))
            for p in _powers(min(pitches, _half(inputs, rows == "channels"))):
                for babies in _powers(min(max(1, p * o // pitches), _MOST_STEPS)):
                    yield SlotTile(window, p, o, lanes, rows, babies)


def _ways(shape: LinearShape, geometry: Geometry) -> Iterator[Rows]:
    yield "channels"
    yield "outputs"
    if shape.groups > 1:
        yield "groups"
    if len(geometry.windows) > 1:
        yield "windows"


def _half(total: int, halved: bool) -> int:
    """The power of two that holds all of `total`, or half of it."""
    return power_of_two(-(-total // 2) if halved else total)


def _powers(most: int) -> Iterator[int]:
    return (1 << bit for bit in range(most.bit_length()))
