"""The exact integer reference: what the private protocol must compute, on batches, with hooks for decryption errors.

Values are kept in the fastest type that holds every partial sum without rounding: float32 below 2^24, float64 below
2^53, else 64-bit integers. Images go through in chunks, so that what is in flight fits the cache.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.convolution import (
    Geometry,
    Ints,
    convolve,
    convolve_exact,
    weight_reach,
    window_max,
    window_sum,
)
from autoprivacy.networks.graph import INPUT
from autoprivacy.networks.integer_network import (
    IntegerLinear,
    IntegerSum,
    Operation,
    QuantisedNetwork,
    Requantisation,
    Requantise,
    Stage,
    View,
    WindowMax,
    WindowSum,
    meetings,
    sources,
    values_per_image,
)

VALUES_AT_ONCE: Final = 1 << 20
"""A chunk has as many images as give its largest tensor about so many values."""
MOST_MODULUS: Final = 1 << 62

Numbers: TypeAlias = NDArray[Any]
"""Integers, in float32, float64 or int64."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What a run gave, by name: (N, C, H, W) each, logits (N, classes).

    `accumulators` are those of linear layers, errors included; `circuit_inputs` are what was requantised, modulo t in
    [-t/2, t/2) where one is given; `activations` are named as the `Requantisation`s.
    """

    accumulators: dict[str, Ints]
    circuit_inputs: dict[str, Ints]
    activations: dict[str, Ints]
    logits: Ints


def run(
    quantised: QuantisedNetwork,
    x: Ints,
    *,
    errors: Mapping[str, Ints] | None = None,
    moduli: Mapping[str, int] | None = None,
) -> Trace:
    """Run quantised images x (N, C, H, W) through the network, and keep everything.

    Args:
        quantised: the network.
        x: integers in `input_range`, from `QuantisedNetwork.quantise_input`.
        errors: by linear layer, integers (N, M, H', W') that are added to its output, where decryption errors enter.
        moduli: by linear layer, the t >= 2 of its plaintext modulus, modulo which circuit inputs and logits wrap.

    Raises:
        BadInput: if the images, or an error's shape, do not fit; if a name is not that of a linear layer; if layers
            that meet in an Add give different moduli.
        OverflowError: if a sum could leave 64 bits.
    """
    chunks = list(traces(quantised, x, errors=errors, moduli=moduli))

    def joined(part: Callable[[Trace], dict[str, Ints]]) -> dict[str, Ints]:
        return {name: np.concatenate([part(chunk)[name] for chunk in chunks]) for name in part(chunks[0])}

    return Trace(
        accumulators=joined(lambda chunk: chunk.accumulators),
        circuit_inputs=joined(lambda chunk: chunk.circuit_inputs),
        activations=joined(lambda chunk: chunk.activations),
        logits=np.concatenate([chunk.logits for chunk in chunks]),
    )


def logits(
    quantised: QuantisedNetwork,
    x: Ints,
    *,
    errors: Mapping[str, Ints] | None = None,
    moduli: Mapping[str, int] | None = None,
) -> Ints:
    """The logits (N, classes) of `run`, without keeping anything else."""
    return np.concatenate([chunk.logits for chunk in _chunks(quantised, x, errors or {}, moduli or {}, kept=False)])


def traces(
    quantised: QuantisedNetwork,
    x: Ints,
    *,
    errors: Mapping[str, Ints] | None = None,
    moduli: Mapping[str, int] | None = None,
) -> Iterator[Trace]:
    """The traces of `run`, of some images at a time, so that memory stays bounded."""
    return _chunks(quantised, x, errors or {}, moduli or {}, kept=True)


def errors_in(
    quantised: QuantisedNetwork, x: Ints, opened: Mapping[str, Ints], *, moduli: Mapping[str, int] | None = None
) -> dict[str, Ints]:
    """The decryption errors of a run on x (N, C, H, W) that gave the accumulators `opened`, by linear layer.

    Each layer (N, M, H', W') is judged on what the opened accumulators before it give, so errors do not add up; modulo
    its t, where one is given, an error is the representative closest to zero.

    Raises:
        BadInput: as `run`, or if an accumulator is missing or does not fit.
    """
    given = {name: opened[name] for name in opened if name in {layer.name for layer in quantised.linear_layers}}
    if len(given) < len(quantised.linear_layers):
        missing = next(layer.name for layer in quantised.linear_layers if layer.name not in given)
        raise BadInput(f"network {quantised.name!r}: no accumulators of layer {missing!r} were opened")
    _check(quantised, x, given)
    finder = _ErrorFinder(quantised, moduli_of_circuit_inputs(quantised, moduli or {}), moduli or {})
    found = [
        finder.errors(x[[index]], {name: sums[[index]] for name, sums in given.items()}) for index in range(len(x))
    ]
    return {name: np.concatenate([one[name] for one in found]) for name in given}


def linear(layer: IntegerLinear | Stage, activations: Ints) -> Ints:
    """The accumulators (N, M, H', W') of inputs (N, C, H, W), or of any shape with as many values per image."""
    entering = activations.reshape(len(activations), *layer.input_shape)
    sums = convolve_exact(layer.weight, entering, stride=layer.stride, padding=layer.padding, groups=layer.groups)
    return sums + layer.bias[:, None, None]


def requantise(rule: Requantise, values: Numbers) -> Numbers:
    """floor(value / 2^shift of its channel), saturated; values (N, C, H, W), in their own type."""
    shifts = rule.shifts[:, None, None]
    if values.dtype == np.int64:
        # A right shift of a signed integer is the floor of the division.
        kept = values >> shifts
    else:
        kept = values * np.ldexp(values.dtype.type(1), -shifts)
        np.floor(kept, out=kept)
    return np.clip(kept, *rule.range, out=kept)


def wrap(values: Numbers, t: int) -> Numbers:
    """The representatives modulo t in [-t/2, t/2 - 1], or for odd t in [-(t-1)/2, (t-1)/2]."""
    low = -(t // 2)
    if not values.size or (low <= values.min() and values.max() < low + t):
        return values
    return (values.astype(np.int64) - low) % t + low


def _chunks(
    quantised: QuantisedNetwork, x: Ints, errors: Mapping[str, Ints], moduli: Mapping[str, int], *, kept: bool
) -> Iterator[Trace]:
    _check(quantised, x, errors)
    runner = _Runner(quantised, moduli_of_circuit_inputs(quantised, moduli), kept=kept)
    at_once = max(1, VALUES_AT_ONCE // values_per_image(quantised))
    for start in range(0, max(1, len(x)), at_once):
        part = slice(start, start + at_once)
        yield runner.trace(x[part], {name: error[part] for name, error in errors.items()})


@dataclass(frozen=True, slots=True, eq=False)
class _Value:
    """Integers in a type that holds them, and a magnitude that none of them passes."""

    array: Numbers
    reach: int

    def as_type(self, kind: type[Any]) -> Numbers:
        """The same integers in another type."""
        return self.array.astype(kind, copy=False)


class _Runner:
    """Runs chunks of images through one network; `kept` says whether traces hold more than logits."""

    def __init__(self, network: QuantisedNetwork, moduli: Mapping[str, int], *, kept: bool) -> None:
        self._network = network
        self._moduli = moduli
        self._kept = kept
        self._last_reader = {name: each.name for each in network.operations for name in sources(each)}
        self._weights: dict[tuple[str, type], Numbers] = {}
        self._weight_reach = {layer.name: weight_reach(layer.weight) for layer in network.linear_layers}

    def trace(self, x: Ints, errors: Mapping[str, Ints]) -> Trace:
        """One chunk."""
        trace = Trace({}, {}, {}, logits=np.empty((0, 0), np.int64))
        values = {INPUT: _Value(x, _greatest(x))}
        for operation in self._network.operations:
            values[operation.name] = self._evaluate(operation, values, errors, trace)
            for name in sources(operation):
                if self._last_reader[name] == operation.name:
                    values.pop(name, None)
        last = self._network.operations[-1].name
        opened = self._wrapped(last, values[last]).as_type(np.int64)
        return replace(trace, logits=opened.reshape(len(x), prod(opened.shape[1:])))

    def _evaluate(
        self, operation: Operation, values: Mapping[str, _Value], errors: Mapping[str, Ints], trace: Trace
    ) -> _Value:
        match operation:
            case IntegerLinear():
                made = self._linear(operation, values[operation.source], errors.get(operation.name))
                self._keep(trace.accumulators, operation.name, made)
            case IntegerSum():
                made = _sum(operation, values)
            case Requantisation():
                entering = self._wrapped(operation.source, values[operation.source])
                self._keep(trace.circuit_inputs, operation.source, entering)
                array = requantise(operation.rule, entering.array)
                made = _Value(array, max(map(abs, operation.rule.range)))
                self._keep(trace.activations, operation.name, made)
            case WindowSum():
                made = _window_sum(operation, values[operation.source])
            case WindowMax():
                source = values[operation.source]
                array = window_max(source.array, operation.kernel, operation.stride, operation.padding)
                made = _Value(array, source.reach)
            case View():
                source = values[operation.source]
                made = _Value(source.array.reshape(len(source.array), *operation.shape), source.reach)
        return made

    def _keep(self, kept: dict[str, Ints], name: str, value: _Value) -> None:
        if self._kept:
            kept[name] = value.as_type(np.int64)

    def _linear(self, layer: IntegerLinear, entering: _Value, errors: Ints | None) -> _Value:
        reach = self._weight_reach[layer.name] * entering.reach + _greatest(layer.bias)
        reach += 0 if errors is None else _greatest(errors)
        kind = _type_for(reach)
        geometry: Geometry = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
        sums: Numbers
        if kind is np.int64:
            sums = convolve_exact(layer.weight, entering.as_type(np.int64), **geometry)
        else:
            if (layer.name, kind) not in self._weights:
                self._weights[layer.name, kind] = layer.weight.astype(kind)
            sums = convolve(self._weights[layer.name, kind], entering.as_type(kind), **geometry)
        sums += layer.bias.astype(kind)[:, None, None]
        if errors is not None:
            sums += errors.astype(kind)
        return _Value(sums, reach)

    def _wrapped(self, name: str, value: _Value) -> _Value:
        if name not in self._moduli:
            return value
        t = self._moduli[name]
        if value.reach + t >= 1 << 63:
            raise OverflowError(f"sums up to {value.reach} cannot be taken modulo {t} in 64 bits")
        return _Value(wrap(value.array, t), min(value.reach, t // 2))


class _ErrorFinder(_Runner):
    """Takes opened accumulators for a layer's output, and notes by how much they are off."""

    def __init__(self, network: QuantisedNetwork, moduli: Mapping[str, int], layer_moduli: Mapping[str, int]) -> None:
        super().__init__(network, moduli, kept=False)
        self._layer_moduli = layer_moduli
        self._found: dict[str, Ints] = {}

    def errors(self, x: Ints, opened: Mapping[str, Ints]) -> dict[str, Ints]:
        """Of one chunk."""
        self._found = {}
        self.trace(x, opened)
        return self._found

    def _linear(self, layer: IntegerLinear, entering: _Value, errors: Ints | None) -> _Value:
        assert errors is not None  # noqa: S101 - `errors_in` checked that every layer is opened
        off = errors - super()._linear(layer, entering, None).as_type(np.int64)
        t = self._layer_moduli.get(layer.name)
        self._found[layer.name] = off if t is None else wrap(off, t)
        return _Value(errors, _greatest(errors))


def _sum(operation: IntegerSum, values: Mapping[str, _Value]) -> _Value:
    reach = _greatest(operation.bias)
    reach += sum(values[name].reach << int(shifts.max()) for name, shifts in operation.terms)
    kind = _type_for(reach)
    total = operation.bias.astype(kind)[:, None, None]
    for name, shifts in operation.terms:
        term = values[name].as_type(kind)
        total = total + (term * (1 << shifts).astype(kind)[:, None, None] if shifts.any() else term)
    return _Value(total, reach)


def _window_sum(operation: WindowSum, entering: _Value) -> _Value:
    reach = entering.reach * prod(operation.kernel)
    array = window_sum(entering.as_type(_type_for(reach)), operation.kernel, operation.stride, operation.padding)
    return _Value(array, reach)


def _type_for(reach: int) -> type[Any]:
    """The fastest type in which sums that never pass `reach` are exact."""
    if reach < 1 << 24:
        return np.float32
    if reach < 1 << 53:
        return np.float64
    if reach < 1 << 63:
        return np.int64
    raise OverflowError(f"sums up to {reach} do not fit 64 bits")


def _greatest(values: Ints) -> int:
    return int(np.abs(values).max(initial=0))


def _check(quantised: QuantisedNetwork, x: Ints, errors: Mapping[str, Ints]) -> None:
    if x.ndim != 4 or x.shape[1:] != quantised.input_shape or x.dtype != np.int64:
        raise BadInput(
            f"network {quantised.name!r}: quantised images of shape {x.shape}, {x.dtype} given; it takes "
            f"(N, {', '.join(str(size) for size in quantised.input_shape)}), int64"
        )
    layers = {layer.name: layer for layer in quantised.linear_layers}
    _check_layers(quantised, errors)
    for name, error in errors.items():
        wanted = (len(x), *layers[name].output_shape)
        if error.shape != wanted or error.dtype != np.int64:
            raise BadInput(f"layer {name!r}: errors of shape {error.shape}, {error.dtype}; give {wanted}, int64")


def _check_layers(quantised: QuantisedNetwork, given: Iterable[str]) -> None:
    layers = [layer.name for layer in quantised.linear_layers]
    for name in given:
        if name not in layers:
            raise BadInput(f"network {quantised.name!r}: no linear layer is called {name!r}; there are {layers}")


def moduli_of_circuit_inputs(quantised: QuantisedNetwork, moduli: Mapping[str, int]) -> dict[str, int]:
    """The modulus of every circuit input (and of the logits) whose linear layers are given one.

    Raises:
        BadInput: if a name is not that of a linear layer, a modulus is out of range, or layers that meet differ.
    """
    _check_layers(quantised, moduli)
    for name, t in moduli.items():
        if not 2 <= t <= MOST_MODULUS:
            raise BadInput(f"layer {name!r}: modulus {t}; give 2..2^62")
    found: dict[str, int] = {}
    for meeting in meetings(quantised):
        given = {name: moduli.get(name) for name in meeting.layers}
        if len(set(given.values())) > 1:
            raise BadInput(f"layers {', '.join(meeting.layers)} meet in a sum: give them one modulus, not {given}")
        if meeting.layers[0] in moduli:
            found |= dict.fromkeys(meeting.circuit_inputs, moduli[meeting.layers[0]])
    return found
