"""Runs that share their beginning: what comes before the first difference is computed once.

| symbol | meaning |
|---|---|
| cut | an activation after which nothing reads anything earlier; the input is one |
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.networks import reference
from autoprivacy.networks.convolution import Ints
from autoprivacy.networks.graph import INPUT
from autoprivacy.networks.integer_network import (
    IntegerSum,
    Operation,
    QuantisedNetwork,
    Requantisation,
    View,
    WindowMax,
    WindowSum,
    sources,
    value_shapes,
)

_KEPT: Final = np.int32


@dataclass(frozen=True, slots=True, eq=False)
class Variation:
    """One network, with integer errors of one layer, or of none."""

    name: str
    network: QuantisedNetwork
    layer: str | None = None
    deviation: float = 0.0


def cuts(network: QuantisedNetwork) -> tuple[int, ...]:
    """Numbers of the operations whose values are cuts; -1 is the input."""
    made = {operation.name: number for number, operation in enumerate(network.operations)} | {INPUT: -1}
    reach = [-1] * (len(network.operations) + 1)  # by value: the last operation that reads it
    for number, operation in enumerate(network.operations):
        for name in sources(operation):
            reach[made[name] + 1] = max(reach[made[name] + 1], number)
    found = []
    furthest = -1
    for number in range(-1, len(network.operations) - 1):
        before = max([-1, *reach[: number + 1]])
        furthest = max(furthest, before)
        is_activation = number < 0 or isinstance(
            network.operations[number], Requantisation | WindowMax | WindowSum | View
        )
        if is_activation and furthest <= number and _is_made_of_activations(network, number):
            found.append(number)
    return tuple(found)


def _is_made_of_activations(network: QuantisedNetwork, number: int) -> bool:
    made = {operation.name: operation for operation in network.operations}
    name = network.operations[number].name if number >= 0 else INPUT
    while name != INPUT and isinstance(made[name], WindowSum | View | WindowMax):
        name = sources(made[name])[0]
    return name == INPUT or isinstance(made[name], Requantisation)


def between(network: QuantisedNetwork, first: int, last: int | None = None) -> QuantisedNetwork:
    """The operations after cut `first`, up to cut `last` or the end; the cut's value becomes the input."""
    if first < 0:
        return replace(network, operations=network.operations[: None if last is None else last + 1])
    name = network.operations[first].name
    kept = network.operations[first + 1 : None if last is None else last + 1]
    operations = tuple(_renamed(operation, name) for operation in kept)
    shape = value_shapes(network)[name]
    return replace(network, operations=operations, input_shape=shape)


def _renamed(operation: Operation, name: str) -> Operation:
    if isinstance(operation, IntegerSum):
        terms = tuple((INPUT if source == name else source, shifts) for source, shifts in operation.terms)
        return replace(operation, terms=terms)
    return replace(operation, source=INPUT) if operation.source == name else operation


def first_difference(a: QuantisedNetwork, b: QuantisedNetwork) -> int:
    """The number of the first operation in which two quantisations of one network differ; their count if in none."""
    if a.input_step != b.input_step or a.input_range != b.input_range:
        return -1
    for number, (one, other) in enumerate(zip(a.operations, b.operations, strict=True)):
        if not _same(one, other):
            return number
    return len(a.operations)


def _same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(
            _same(getattr(one, each.name), getattr(other, each.name))
            for each in fields(one)  # type: ignore[arg-type]
        )
    return bool(one == other)


def start_of(baseline: QuantisedNetwork, variation: Variation) -> int:
    """The last cut before which a variation is the baseline; -2 where even the input is quantised otherwise."""
    if variation.layer is None:
        differs = first_difference(baseline, variation.network)
        if differs < 0:
            return -2
    else:
        differs = [operation.name for operation in baseline.operations].index(variation.layer)
    return max(cut for cut in cuts(baseline) if cut < differs)


def logits_of(
    baseline: QuantisedNetwork, variations: list[Variation], x: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[Variation, NDArray[np.float64]]]:
    """The logits (N, classes) of images x under every variation, under one draw of its errors.

    Variations come in the order of where they start. Memory holds one activation of all images.
    """
    at, value = -1, baseline.quantise_input(x).astype(_KEPT)
    for variation in sorted(variations, key=lambda each: start_of(baseline, each)):
        start = start_of(baseline, variation)
        if start == -2:
            tail, entering = variation.network, variation.network.quantise_input(x).astype(_KEPT)
        else:
            if start > at:
                value, at = _advanced(baseline, value, at, start), start
            tail, entering = between(variation.network, at), value
        yield variation, _logits(tail, entering, variation, rng)


_AT_ONCE: Final = 64


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _AT_ONCE) for start in range(0, count, _AT_ONCE))


def _advanced(baseline: QuantisedNetwork, value: np.ndarray, first: int, last: int) -> np.ndarray:
    part = between(baseline, first, last)
    shape = value_shapes(baseline)[baseline.operations[last].name]
    made = [reference.logits(part, value[block].astype(np.int64)).astype(_KEPT) for block in _blocks(len(value))]
    return np.concatenate(made).reshape(len(value), *shape)


def _logits(
    tail: QuantisedNetwork, entering: np.ndarray, variation: Variation, rng: np.random.Generator
) -> NDArray[np.float64]:
    shapes = {layer.name: layer.output_shape for layer in tail.linear_layers}
    found = []
    for block in _blocks(len(entering)):
        x = entering[block].astype(np.int64)
        errors: Mapping[str, Ints] = {}
        if variation.layer is not None:
            errors = {variation.layer: drawn(rng, (len(x), *shapes[variation.layer]), variation.deviation)}
        found.append(reference.logits(tail, x, errors=errors))
    return np.concatenate(found).astype(np.float64) * tail.logit_scale


def drawn(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Ints:
    """Integer errors of this deviation: normal and rounded at random, or, where small, sparse and of size 1."""
    if deviation < 0.6:
        signs = rng.integers(0, 2, shape) * 2 - 1
        return np.where(rng.random(shape) < deviation**2, signs, 0).astype(np.int64)
    normal = rng.standard_normal(shape) * (deviation**2 - 1 / 6) ** 0.5
    found: Ints = np.floor(normal + rng.random(shape)).astype(np.int64)
    return found
