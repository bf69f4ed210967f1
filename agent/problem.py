"""The choice as numbers: options of every layer, terms that couple layers, a budget for what they cost in accuracy.

| symbol | meaning |
|---|---|
| option | one policy of one layer: its seconds, its penalty, and attributes that terms look at |
| policy | an option for every layer (layers,), or many policies (P, layers) |
| term | seconds that several layers decide together, a table over one attribute of each; infinite where forbidden |
| penalty | what an option costs in accuracy, in whole units of `UNIT`; penalties of layers add up (problem A) |

latency(policy) = constant + the sum of the options' seconds + the sum of the terms. Penalties are whole numbers, so
that sums and comparisons with the budget are exact in every method.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, prod
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import Refused

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

UNIT: Final = 1e-5
"""One unit of penalty: this share of all images."""

MOST_PENALTY: Final = 10**6
"""Penalties are at most this: ten times all images."""


def units(share: float) -> int:
    """A share of images in units, rounded, at least 0."""
    return min(MOST_PENALTY, max(0, round(share / UNIT)))


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The options of one layer, all arrays (O,): `seconds`, `penalty`, and the number of its `family`.

    A family is what "one set for all layers" fixes; layers name families by the same numbers. `traits` (O, T), from 0
    to 1, are what an agent may ask for by name, and `facts` what it is told of the layer; both may be empty.
    """

    name: str
    seconds: Floats
    penalty: Ints
    family: Ints
    traits: Floats | None = None
    facts: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """How many options there are."""
        return len(self.seconds)

    def only(self, kept: Ints) -> "Layer":
        """The same layer with only the options `kept`, in that order."""
        traits = None if self.traits is None else self.traits[kept]
        return Layer(self.name, self.seconds[kept], self.penalty[kept], self.family[kept], traits, self.facts)


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """Seconds over attributes of `layers`: table (A_1, A_2, ...), `attributes[i]` (O_i,) the attribute of each option.

    `forbids` says that some entry is infinite.
    """

    layers: tuple[int, ...]
    attributes: tuple[Ints, ...]
    table: Floats

    @property
    def forbids(self) -> bool:
        """Whether some combination cannot be."""
        return bool(np.isinf(self.table).any())


@dataclass(frozen=True, eq=False)
class Problem:
    """Least latency of policies whose penalties add up to at most a budget.

    `deployment` is what an agent is told of it.
    """

    layers: tuple[Layer, ...]
    terms: tuple[Term, ...] = ()
    constant_s: float = 0.0
    deployment: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Policies, those that terms forbid included."""
        return prod(layer.size for layer in self.layers)

    @cached_property
    def terms_of(self) -> tuple[tuple[int, ...], ...]:
        """By layer, the terms that look at it."""
        return tuple(
            tuple(number for number, term in enumerate(self.terms) if index in term.layers)
            for index in range(len(self.layers))
        )

    def latency(self, policies: Ints) -> Floats:
        """Seconds (P,) of policies (P, layers); infinite where a term forbids one."""
        total = np.full(len(policies), self.constant_s)
        for index, layer in enumerate(self.layers):
            total += layer.seconds[policies[:, index]]
        for term, (attributes, strides, flat) in zip(self.terms, self._flat, strict=True):
            place = np.zeros(len(policies), np.int64)
            for index, of_option, stride in zip(term.layers, attributes, strides, strict=True):
                place += of_option[policies[:, index]] * stride
            total += flat[place]
        return total

    @cached_property
    def _flat(self) -> tuple[tuple[tuple[Ints, ...], tuple[int, ...], Floats], ...]:
        found = []
        for term in self.terms:
            strides = tuple(prod(term.table.shape[axis + 1 :]) for axis in range(term.table.ndim))
            found.append((term.attributes, strides, np.ascontiguousarray(term.table).ravel()))
        return tuple(found)

    def penalty(self, policies: Ints) -> Ints:
        """Units (P,) of policies (P, layers)."""
        total = np.zeros(len(policies), np.int64)
        for index, layer in enumerate(self.layers):
            total += layer.penalty[policies[:, index]]
        return total

    def everything(self, at_once: int = 1 << 16) -> Iterator[Ints]:
        """Every policy, in blocks (P, layers)."""
        sizes = [layer.size for layer in self.layers]
        for start in range(0, self.size, at_once):
            numbers = np.arange(start, min(self.size, start + at_once))
            yield np.stack(np.unravel_index(numbers, sizes), axis=1).astype(np.int64)

    def kept(self, chosen: Sequence[Ints]) -> "Problem":
        """The problem with only the options `chosen[layer]` of each layer, in that order."""
        layers = tuple(layer.only(keep) for layer, keep in zip(self.layers, chosen, strict=True))
        terms = tuple(
            compact(
                term.layers,
                tuple(of_option[chosen[at]] for at, of_option in zip(term.layers, term.attributes, strict=True)),
                term.table,
            )
            for term in self.terms
        )
        return replace(self, layers=layers, terms=terms)

    def reduced(self) -> tuple["Problem", tuple[Ints, ...]]:
        """The problem without options that another one beats whatever the other layers take; and the options kept.

        Option A beats B if its penalty is no greater, what terms forbid with A they forbid with B, and A's seconds are
        no more even where terms favour B most. So an optimum for every budget is left [Goldstein].
        """
        kept = [self._front(index) for index in range(len(self.layers))]
        problem = self.kept(kept)
        smaller = True
        while smaller:
            smaller = False
            for index in range(len(self.layers)):
                alive = problem._undominated(index)  # noqa: SLF001 - its own class
                if len(alive) < len(kept[index]):
                    smaller = True
                    kept[index] = kept[index][alive]
                    problem = problem._narrowed(index, alive)  # noqa: SLF001
            problem = self.kept(kept)
        return problem, tuple(kept)

    def _front(self, index: int) -> Ints:
        """Options of a layer that none with the same attributes beats in seconds and penalty."""
        layer = self.layers[index]
        columns = [np.zeros(layer.size, np.int64)]
        columns += [self.terms[n].attributes[self.terms[n].layers.index(index)] for n in self.terms_of[index]]
        _, group = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
        order = np.lexsort((np.arange(layer.size), layer.penalty, layer.seconds, group.ravel()))
        found, least, before = [], 0, -1
        for number in order.tolist():
            if group.ravel()[number] != before or layer.penalty[number] < least:
                found.append(number)
                before, least = group.ravel()[number], layer.penalty[number]
        return np.array(sorted(found), np.int64)

    def _narrowed(self, index: int, alive: Ints) -> "Problem":
        """Only the options `alive` of one layer, and of tables what they look at; cheaper than `kept`."""
        layer = self.layers[index]
        layers = list(self.layers)
        layers[index] = layer.only(alive)
        terms = list(self.terms)
        for number in self.terms_of[index]:
            term = terms[number]
            axis = term.layers.index(index)
            used, positions = np.unique(term.attributes[axis][alive], return_inverse=True)
            attributes = list(term.attributes)
            attributes[axis] = positions.ravel().astype(np.int64)
            terms[number] = Term(term.layers, tuple(attributes), np.take(term.table, used, axis=axis))
        return replace(self, layers=tuple(layers), terms=tuple(terms))

    def _undominated(self, index: int) -> Ints:
        layer = self.layers[index]
        worst = layer.seconds[:, None] - layer.seconds  # (A, B): how much slower A may be
        for number in self.terms_of[index]:
            term = self.terms[number]
            axis = term.layers.index(index)
            by_attribute = np.moveaxis(term.table, axis, 0).reshape(term.table.shape[axis], -1)
            worst = worst + _worst_difference(by_attribute)[np.ix_(term.attributes[axis], term.attributes[axis])]
        order = np.arange(layer.size)
        equal = (worst <= 0) & (worst.T <= 0) & (layer.penalty[:, None] == layer.penalty)
        beats = (worst <= 0) & (layer.penalty[:, None] <= layer.penalty) & (~equal | (order[:, None] < order))
        found: Ints = np.flatnonzero(~beats.any(axis=0))
        return found


def _worst_difference(rows: Floats) -> Floats:
    """(A, B): the greatest of row A - row B, infinite where A forbids what B allows."""
    found = np.empty((len(rows), len(rows)))
    for a, row in enumerate(rows):
        with np.errstate(invalid="ignore"):
            difference = row - rows
        # Where both forbid, nothing is lost; where only B does, A is better by any amount.
        difference[np.isinf(rows)] = -inf
        found[a] = difference.max(axis=1)
    # Rows that allow nothing lose to all.
    return np.where(np.isneginf(found), -1e18, found)


def infeasible(problem: Problem, budget: int) -> Refused:
    """The answer where even the most accurate options together pass the budget."""
    least = sum(int(layer.penalty.min()) for layer in problem.layers)
    return Refused(
        f"no policy keeps the drop within {budget / 1000:.3f} points: the most accurate options of all layers "
        f"add up to {least / 1000:.3f} or more; allow that much"
    )


def compact(layers: tuple[int, ...], attributes: tuple[Ints, ...], table: Floats) -> Term:
    """The same term with only the attributes that occur, equal slices of the table merged."""
    made = []
    for axis, of_option in enumerate(attributes):
        used, positions = np.unique(of_option, return_inverse=True)
        table = np.take(table, used, axis=axis)
        slices = np.moveaxis(table, axis, 0).reshape(len(used), -1)
        _, first, merged = np.unique(slices, axis=0, return_index=True, return_inverse=True)
        table = np.take(table, first, axis=axis)
        made.append(merged.ravel()[positions.ravel()].astype(np.int64))
    return Term(layers, tuple(made), table)
