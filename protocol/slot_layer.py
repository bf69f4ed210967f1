"""The server's part of a layer in packing `slots`, written once, for every interpreter (`he_interface`).

Inputs are rotated and go to NTT form; products are summed there; sums come back, are rotated into one another, across
rows and onto their copies. Each rotation of an input is made once.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np

from autoprivacy.protocol.he_interface import C, P, ServerHe, W
from autoprivacy.protocol.slot_packing import SlotLayout


def totals(
    he: ServerHe[W, C, P],
    layout: SlotLayout,
    weights: Sequence[Sequence[P | None]],
    received: Callable[[int], C],
    chosen: Sequence[int],
) -> Iterator[C | None]:
    """For each of the `chosen` responses, ascending, all its sums in one ciphertext; None where all weights are zero.

    `weights` are [sums][products] of `products_shape`, `received` gives an input by its number and is asked once for
    each that is needed.
    """
    per_response = layout.swaps * layout.giants
    for slab, responses in groupby(chosen, lambda response: response // layout.out_parts):
        first = slab % layout.group_slabs * layout.out_parts
        starts = [(first + response % layout.out_parts) * per_response for response in responses]
        sums = [[weights[start + i] for i in range(per_response)] for start in starts]
        used = np.any([[weight is not None for weight in products] for each in sums for products in each], axis=0)
        rotated: list[C | None] = []
        for part, of_input in enumerate(used.reshape(layout.in_parts, -1).tolist()):
            of_one = _rotations(he, layout, received(slab * layout.in_parts + part), of_input)
            rotated.extend(of_one)
        for each in sums:
            yield _response(he, layout, rotated, each)


def _rotations(he: ServerHe[W, C, P], layout: SlotLayout, ciphertext: C, used: Sequence[bool]) -> list[C | None]:
    """For every product of one input its rotation in NTT form; None where no sum uses it."""
    made: dict[int, C] = {0: ciphertext}
    transformed: dict[int, C] = {}

    def rotation(step: int) -> C:
        if step not in made:
            parent = layout.parents[step]
            made[step] = he.rotate(rotation(parent), (step - parent) % layout.row)
        return made[step]

    found: list[C | None] = []
    for step, wanted in zip(layout.baby_rotations.ravel().tolist(), used, strict=True):
        if wanted and step not in transformed:
            transformed[step] = he.to_ntt(rotation(step))
        found.append(transformed[step] if wanted else None)
    return found


def _response(
    he: ServerHe[W, C, P], layout: SlotLayout, rotated: Sequence[C | None], sums: Sequence[Sequence[P | None]]
) -> C | None:
    """All sums of one response in one ciphertext; None where every weight is zero."""
    total = _giants(he, layout, rotated, sums[: layout.giants])
    if layout.swaps == 2:
        other = _giants(he, layout, rotated, sums[layout.giants :])
        total = _plus(he, total, None if other is None else he.swap_rows(other))
    if total is not None:
        for step in layout.folds:
            total = he.add([total, he.rotate(total, step)])
    return total


def _giants(
    he: ServerHe[W, C, P], layout: SlotLayout, rotated: Sequence[C | None], sums: Sequence[Sequence[P | None]]
) -> C | None:
    """Sum of `sums`, the i-th rotated i times by `giant_rotation`: by Horner's rule, with one Galois key."""
    total: C | None = None
    for products in reversed(sums):
        if total is not None:
            total = he.rotate(total, layout.giant_rotation)
        pairs = [(c, w) for c, w in zip(rotated, products, strict=True) if c is not None and w is not None]
        found = he.weighted_sum([c for c, _ in pairs], [w for _, w in pairs])
        total = _plus(he, total, None if found is None else he.from_ntt(found))
    return total


def _plus(he: ServerHe[W, C, P], left: C | None, right: C | None) -> C | None:
    if left is None or right is None:
        return right if left is None else left
    return he.add([left, right])
