"""One encrypted linear layer, in whichever packing: where its values sit, and what both parties do.

Each packing is a layout (`packing.py`, `slot_packing.py`), which says where values sit, and a layer
(`coefficient_layer.py`, `slot_layer.py`), which is the computation on ciphertexts.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol import coefficient_layer, slot_layer
from autoprivacy.protocol.he_interface import C, ClientHe, P, Packing, ServerHe, W
from autoprivacy.protocol.layer_counts import LayerCounts, Products, coefficient_counts
from autoprivacy.protocol.linear_shape import IntArray, LinearShape
from autoprivacy.protocol.packing import CoefficientLayout, Tile
from autoprivacy.protocol.slot_counts import slot_counts
from autoprivacy.protocol.slot_packing import SlotLayout, SlotTile
from autoprivacy.protocol.slot_tiles import default_slot_tile
from autoprivacy.protocol.tiles import default_tile

Layout: TypeAlias = CoefficientLayout | SlotLayout
AnyTile: TypeAlias = Tile | SlotTile


@lru_cache(maxsize=4096)
def layout_of(shape: LinearShape, packing: Packing, tile: AnyTile, n: int) -> Layout:
    """Where every value of a layer sits.

    Raises:
        InvalidPolicy: if the tile is one of the other packing, or does not fit the ring or the layer.
    """
    match packing, tile:
        case "coefficients", Tile():
            return CoefficientLayout(shape, tile, n)
        case "slots", SlotTile():
            return SlotLayout(shape, tile, n)
    raise InvalidPolicy(f"packing `{packing}` cannot use {tile}; give it a tile of its own")


def default_tile_of(shape: LinearShape, packing: Packing, n: int) -> AnyTile:
    """A good tile from counts alone.

    Raises:
        InvalidPolicy: if `n` is too small for any.
    """
    return default_slot_tile(shape, n) if packing == "slots" else default_tile(shape, n)


def counts_of(layout: Layout, nonzero: Products | None = None) -> LayerCounts:
    """What a layer does whose products are `nonzero` (`Layout.nonzero`); by default none is zero."""
    if isinstance(layout, SlotLayout):
        return slot_counts(layout, nonzero)
    return coefficient_counts(layout, nonzero)


def rotation_steps_of(layout: Layout) -> tuple[int, ...]:
    """The Galois steps that the layer needs a key for."""
    return layout.steps if isinstance(layout, SlotLayout) else ()


def encode_layer(he: ServerHe[W, C, P], layout: Layout, weight: IntArray) -> list[list[P | None]]:
    """Encode a weight tensor (M, C / groups, kh, kw) once for all inferences; products of a sum lie together."""
    return [[he.encode_weights(values) for values in products] for products in layout.encode_weights(weight)]


def request(he: ClientHe[W], layout: Layout, share: IntArray) -> list[W]:
    """The client's message: its share (C, H, W) of the input, encrypted."""
    return [he.encrypt(values) for values in layout.encode_input(share)]


def answer(
    he: ServerHe[W, C, P],
    layout: Layout,
    weights: Sequence[Sequence[P | None]],
    requests: Sequence[W],
    share: IntArray | None,
    chosen: Sequence[int] | None = None,
) -> tuple[list[W], IntArray]:
    """The server's message and its share of the output, flat (M H' W'), in [0, t) before the bias.

    `share` is the server's share (C, H, W) of the input, or None where the input is the client's alone. With `chosen`,
    ascending, only those responses are made, and the share is zero where others belong.
    """
    chosen = range(layout.responses) if chosen is None else chosen
    own = None if share is None else layout.encode_input(share)

    def received(i: int) -> C:
        return he.receive(requests[i], None if own is None else own[i])

    totals = _totals(he, layout, weights, received, chosen)
    responses: list[W] = []
    kept = np.zeros(layout.shape.output_values, np.int64)
    for response, total in zip(chosen, totals, strict=True):
        positions, index = layout.outputs[response]
        sent, kept[index] = he.respond(total, positions)
        responses.append(sent)
    return responses, kept


def _totals(
    he: ServerHe[W, C, P],
    layout: Layout,
    weights: Sequence[Sequence[P | None]],
    received: Callable[[int], C],
    chosen: Sequence[int],
) -> Iterator[C | None]:
    if isinstance(layout, SlotLayout):
        yield from slot_layer.totals(he, layout, weights, received, chosen)
    else:
        yield from coefficient_layer.totals(he, layout, weights, received, chosen)


def finish(he: ClientHe[W], layout: Layout, responses: Sequence[W]) -> IntArray:
    """The client's share of the output, flat (M H' W'), in [0, t)."""
    share = np.zeros(layout.shape.output_values, np.int64)
    for sent, (positions, index) in zip(responses, layout.outputs, strict=True):
        share[index] = he.decrypt(sent, positions)
    return share
