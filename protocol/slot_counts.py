"""What one layer in packing `slots` does, in closed form."""

import numpy as np

from autoprivacy.protocol.layer_counts import LayerCounts, Products
from autoprivacy.protocol.slot_geometry import BoolArray
from autoprivacy.protocol.slot_packing import SlotLayout


def slot_counts(layout: SlotLayout, nonzero: Products | None = None) -> LayerCounts:
    """The counts of a layer with `nonzero` products (`SlotLayout.nonzero`); by default no weight is zero."""
    if nonzero is None:
        # Without zero weights all group slabs do the same.
        there, slabs = layout.structure[:1], layout.window_slabs * layout.group_slabs
    else:
        there, slabs = nonzero, layout.window_slabs
    products = int(np.count_nonzero(there))
    sums = np.logical_or.reduce(there, axis=(4, 5, 6))
    highest = np.where(sums, np.arange(layout.giants), 0).max(axis=3)
    crossed = np.logical_or.reduce(sums[:, :, 1:], axis=(2, 3))
    answered = int(np.count_nonzero(np.logical_or.reduce(sums, axis=(2, 3))))
    rotated, transformed = _input_rotations(layout, np.logical_or.reduce(there, axis=(1, 2, 3)))
    found = int(np.count_nonzero(sums))
    return LayerCounts(
        encrypt=layout.inputs,
        receive=layout.inputs,
        rotate=slabs * (rotated + int(highest.sum()) + answered * len(layout.folds)),
        swap_rows=slabs * int(np.count_nonzero(crossed)),
        to_ntt=slabs * transformed,
        weighted_sum=slabs * found,
        multiply_accumulate=slabs * products,
        from_ntt=slabs * found,
        add=slabs * (found - answered + answered * len(layout.folds)),
        respond=layout.responses,
        decrypt=layout.responses,
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
