"""One encrypted linear layer in packing `slots`, written once, for every interpreter (`linear_layer`).

Inputs are rotated and go to NTT form; products are summed there; sums come back, are rotated into one another, across
rows and onto their copies. Each rotation of an input is made once.
"""

from collections.abc import Sequence

import numpy as np

from autoprivacy.protocol.linear_layer import C, ClientHe, P, ServerHe, W
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.slot_packing import SlotLayout


def encode_layer(he: ServerHe[W, C, P], layout: SlotLayout, weight: IntArray) -> list[list[P | None]]:
    """Encode a weight tensor (M, C / groups, kh, kw) once for all inferences: [sums][products] of `products_shape`."""
    return [[he.encode_weights(values) for values in products] for products in layout.encode_weights(weight)]


def request(he: ClientHe[W], layout: SlotLayout, share: IntArray) -> list[W]:
    """The client's message: its share (C, H, W) of the input, encrypted."""
    return [he.encrypt(values) for values in layout.encode_input(share)]


def answer(
    he: ServerHe[W, C, P],
    layout: SlotLayout,
    weights: Sequence[Sequence[P | None]],
    requests: Sequence[W],
    share: IntArray | None,
) -> tuple[list[W], IntArray]:
    """The server's message and its share of the output, flat (M H' W'), in [0, t) before the bias.

    `share` is the server's share (C, H, W) of the input, or None where the input is the client's alone.
    """
    own = None if share is None else layout.encode_input(share)
    inputs = (he.receive(sent, None if own is None else own[i]) for i, sent in enumerate(requests))
    responses: list[W] = []
    kept = np.zeros(layout.shape.output_values, np.int64)
    per_response = layout.swaps * layout.giants
    per_slab = layout.out_parts * per_response
    for slab in range(layout.window_slabs * layout.group_slabs):
        first = slab % layout.group_slabs * per_slab
        sums = weights[first : first + per_slab]
        used = [any(weight is not None for weight in product) for product in zip(*sums, strict=True)]
        rotated: list[C | None] = []
        for of_input in np.array(used).reshape(layout.in_parts, -1).tolist():
            of_one = _rotations(he, layout, next(inputs), of_input)
            rotated.extend(of_one)
        for start in range(0, per_slab, per_response):
            positions, index = layout.outputs[len(responses)]
            total = _response(he, layout, rotated, sums[start : start + per_response])
            sent, kept[index] = he.respond(total, positions)
            responses.append(sent)
    return responses, kept


def finish(he: ClientHe[W], layout: SlotLayout, responses: Sequence[W]) -> IntArray:
    """The client's share of the output, flat (M H' W'), in [0, t)."""
    share = np.zeros(layout.shape.output_values, np.int64)
    for sent, (positions, index) in zip(responses, layout.outputs, strict=True):
        share[index] = he.decrypt(sent, positions)
    return share


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
