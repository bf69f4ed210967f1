"""The least that is still to come, layer after layer, given what was chosen before: variable elimination [Dechter].

| symbol | meaning |
|---|---|
| amount | something that options (O,) of layers and terms add up to: seconds, or penalty |
| bucket | of a layer: the terms that it is the last layer of, and what later layers pass back to it |
| message | least amount of a layer and all after it, over attributes of earlier layers: itself a term |

Layers are eliminated from the last to the first. A term's infinite entries forbid; where no completion is left the
amount to go is infinite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from autoprivacy.agent.problem import Floats, Ints, Term, compact
from autoprivacy.common.errors import Refused

MOST_ENTRIES: Final = 1 << 26
"""Of one table that is eliminated."""


@dataclass(frozen=True, slots=True, eq=False)
class _Bucket:
    """`own` (O,), and terms whose last axis is this layer's, with its attributes."""

    own: Floats
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ToGo:
    """Built once for a problem by `to_go`; `least` is the least amount of all policies."""

    buckets: tuple[_Bucket, ...]
    least: float

    def excess(self, index: int, policies: Ints) -> Floats:
        """By option of a layer (P, O), what it adds to the least amount of what earlier layers (P, ...) allow.

        Only the columns before `index` are looked at. Summed over the layers of a policy, that is its amount less
        `least`.
        """
        bucket = self.buckets[index]
        total = np.repeat(bucket.own[None], len(policies), axis=0)
        for term in bucket.terms:
            *earlier, _ = term.layers
            place = tuple(
                of_option[policies[:, layer]] for layer, of_option in zip(earlier, term.attributes, strict=False)
            )
            total += term.table[place][..., term.attributes[-1]]
        least: Floats = total.min(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return np.where(np.isinf(total), np.inf, total - least)


def to_go(amounts: Sequence[Floats], terms: Sequence[Term]) -> ToGo:
    """Eliminate layers whose options have `amounts`, under terms.

    Raises:
        Refused: if terms couple so many layers that a table would not fit.
    """
    waiting = [compact(*_in_order(term)) for term in terms]
    buckets: list[_Bucket] = []
    least = 0.0
    for index in reversed(range(len(amounts))):
        here = [term for term in waiting if term.layers[-1] == index]
        waiting = [term for term in waiting if term.layers[-1] != index]
        buckets.append(_Bucket(amounts[index], tuple(here)))
        message = _message(amounts[index], here)
        if message.layers:
            waiting.append(compact(message.layers, message.attributes, message.table))
        else:
            least += float(message.table)
    return ToGo(tuple(reversed(buckets)), least)


def forbidding(terms: Sequence[Term]) -> list[Term]:
    """What terms forbid, without their seconds."""
    return [
        Term(term.layers, term.attributes, np.where(np.isinf(term.table), np.inf, 0.0))
        for term in terms
        if term.forbids
    ]


def _in_order(term: Term) -> tuple[tuple[int, ...], tuple[Ints, ...], Floats]:
    """The same with layers from the first to the last."""
    order = sorted(range(len(term.layers)), key=term.layers.__getitem__)
    layers = tuple(term.layers[axis] for axis in order)
    return layers, tuple(term.attributes[axis] for axis in order), np.transpose(term.table, order)


def _message(own: Floats, terms: Sequence[Term]) -> Term:
    """The least over a layer's options, by attributes of the earlier layers that its terms look at."""
    earlier = sorted({layer for term in terms for layer in term.layers[:-1]})
    classes = [_classes([_attributes(term, layer) for term in terms if layer in term.layers]) for layer in earlier]
    own_rows, own_of = _classes([term.attributes[-1] for term in terms]) if terms else (np.zeros((1, 0), int), None)
    least_own = np.full(len(own_rows), np.inf)
    np.minimum.at(least_own, np.zeros(len(own), int) if own_of is None else own_of, own)
    shape = (*(len(rows) for rows, _ in classes), len(own_rows))
    if prod(shape) > MOST_ENTRIES:
        raise Refused(
            f"layers are coupled so densely that a table of {prod(shape):.1g} entries is needed; use the method exact"
        )
    total = np.broadcast_to(least_own, shape).copy()
    seen = dict.fromkeys(earlier, 0)
    for number, term in enumerate(terms):
        axes = []
        for layer in term.layers[:-1]:
            axis = earlier.index(layer)
            axes.append((axis, classes[axis][0][:, seen[layer]]))
            seen[layer] += 1
        axes.append((len(earlier), own_rows[:, number]))
        grid = []
        for axis, values in axes:
            spread = [1] * len(shape)
            spread[axis] = len(values)
            grid.append(values.reshape(spread))
        total += term.table[tuple(grid)]
    return Term(tuple(earlier), tuple(of for _, of in classes), total.min(axis=-1))


def _attributes(term: Term, layer: int) -> Ints:
    return term.attributes[term.layers.index(layer)]


def _classes(attributes: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Rows of attributes (C, terms) that occur together, and which of them each option has (O,)."""
    rows, of_option = np.unique(np.stack(attributes, axis=1), axis=0, return_inverse=True)
    return rows.astype(np.int64), of_option.ravel().astype(np.int64)
