"""What couples the layers of a network: circuits, moduli and widths that several of them decide together.

| symbol | meaning |
|---|---|
| origin | a tensor of activations by the requantisation that makes it, or the input: its bits are one choice |
| site | a garbled layer: layers that meet in it, other activations that enter it, what it makes and who reads that |
| w, a | weight bits of a layer, bits of the activations that enter it |

How far accumulators reach and how many bits a circuit drops are read off real quantisations, at every combination of
the widths that decide them. One quantisation answers for all sites at once: origins that meet at a site get different
colours, and so do layers that meet; all origins (layers) of one colour share their bits.

A tensor may be asked for with a step as fine as that of the accumulators it is made of: then their step, not its bits,
decides, and so do widths further up. Such widths waste bits: `Requantised.starved` marks them, tables forbid them, and
what lies after such a tensor is read off another quantisation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.common.progress import Advance
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.convolution import Ints
from autoprivacy.networks.graph import INPUT
from autoprivacy.networks.integer_network import (
    Image,
    IntegerLinear,
    IntegerSum,
    LayerWidths,
    Operation,
    QuantisedNetwork,
    Requantisation,
    Widths,
    WindowMax,
    meetings,
    sources,
    summed_layers,
    value_shapes,
)
from autoprivacy.networks.quantisation import Quantiser, shared_inputs, uniform_widths
from autoprivacy.protocol.agreement import Windows

BASELINE_BITS: Final = 8
"""Accuracy drops are measured from the same checkpoint at these widths."""

Key: TypeAlias = tuple[int, ...]
"""Widths that decide something, in the order that its `scope` says."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which widths decide: the weights of `layers`, and the activations of `origins` (both by name, in order)."""

    layers: tuple[str, ...]
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """One garbled layer: it requantises a sum of `meeting` layers and makes the origin `name`.

    `readers` are layers whose t its shares are made for.
    """

    name: str
    shape: Image
    windows: Windows | None
    relu: bool
    meeting: tuple[str, ...]
    scope: Scope
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Requantised:
    """How a site requantises: how many channels drop how many bits, the bits kept, and the cap of ReLU6."""

    shifts: tuple[tuple[int, int], ...]
    bits: int
    maximum: int | None

    @property
    def starved(self) -> bool:
        """Whether some channel drops no bits: what comes out is no coarser than what entered."""
        return self.shifts[0][0] == 0


@dataclass(frozen=True, slots=True)
class Meets:
    """Layers that meet, and which widths decide the least t that holds their sums."""

    layers: tuple[str, ...]
    scope: Scope


@dataclass(slots=True, eq=False)
class Coupling:
    """The graph of one network, and what its quantisations at all widths say.

    `requantised[site][key]` and `least_bits[layers of a meeting][key]` take keys of their scopes. `weights[layer, w]`
    are integer weights; `units[layer, w, a]` (M,) is what one unit of an accumulator is worth, in steps of what is made
    of it at 8 bits (of logits: in 2^-8 of their root mean square).
    """

    layers: tuple[str, ...]
    origin_of: dict[str, str]
    sites: tuple[Site, ...]
    meetings: tuple[Meets, ...]
    shared: tuple[tuple[str, ...], ...]
    baseline: QuantisedNetwork
    requantised: dict[str, dict[Key, Requantised]] = field(default_factory=dict)
    least_bits: dict[tuple[str, ...], dict[Key, int]] = field(default_factory=dict)
    weights: dict[tuple[str, int], Ints] = field(default_factory=dict)
    units: dict[tuple[str, int, int], np.ndarray] = field(default_factory=dict)

    def readers_of(self, origin: str) -> tuple[str, ...]:
        """The layers that read an origin; their activation bits are its bits."""
        return tuple(layer for layer in self.layers if self.origin_of[layer] == origin)


def couple(
    quantiser: Quantiser,
    weight_bits: Sequence[int],
    activation_bits: Sequence[int],
    logits_rms: float,
    advance: Advance = lambda: None,
) -> Coupling:
    """Read the graph, and quantise at all combinations of widths that meet somewhere.

    `logits_rms` is the root mean square of the float logits.

    Raises:
        BadInput: if a circuit takes no linear layer's output.
    """
    found = _graph(quantiser)
    for widths in _colourings(found, weight_bits, activation_bits):
        _record(found, quantiser.quantise(widths), logits_rms, forced=False)
        advance()
    for widths in _missing(found, weight_bits, activation_bits):
        _record(found, quantiser.quantise(widths), logits_rms, forced=True)
    return found


def colourings(quantiser: Quantiser, weight_bits: Sequence[int], activation_bits: Sequence[int]) -> int:
    """How many quantisations `couple` makes."""
    return sum(1 for _ in _colourings(_graph(quantiser), weight_bits, activation_bits))


def _graph(quantiser: Quantiser) -> Coupling:
    network = quantiser.trained.network
    baseline = quantiser.quantise(uniform_widths(network, BASELINE_BITS))
    made = {operation.name: operation for operation in baseline.operations}
    origin_of = {layer.name: _origin(layer.source, made) for layer in baseline.linear_layers}
    summed, shapes = summed_layers(baseline), value_shapes(baseline)
    sites = []
    for operation in baseline.operations:
        if not isinstance(operation, Requantisation):
            continue
        if operation.source not in summed:
            raise BadInput(f"{operation.name}: a search needs a linear layer before every circuit; there is none here")
        pools = [each for each in baseline.operations if isinstance(each, WindowMax) and each.source == operation.name]
        windows = Windows(pools[0].kernel, pools[0].stride, pools[0].padding) if pools else None
        scope = _scope(operation.source, made, origin_of)
        sites.append(
            Site(
                name=operation.name,
                shape=shapes[operation.source],
                windows=windows,
                relu=operation.rule.relu,
                meeting=summed[operation.source],
                scope=Scope(scope.layers, (*scope.origins, operation.name)),
                readers=_modulus_readers(pools[0].name if pools else operation.name, baseline, summed),
            )
        )
    met = []
    for meeting in meetings(baseline):
        scopes = [_scope(name, made, origin_of) for name in meeting.circuit_inputs]
        # Rounding adds half a step of what is made: its bits decide a little, too.
        after = [site.name for site in sites if set(site.meeting) & set(meeting.layers)]
        origins = dict.fromkeys([*(origin for scope in scopes for origin in scope.origins), *after])
        met.append(Meets(meeting.layers, Scope(meeting.layers, tuple(origins))))
    layers = tuple(layer.name for layer in baseline.linear_layers)
    return Coupling(layers, origin_of, tuple(sites), tuple(met), shared_inputs(network), baseline)


def _origin(value: str, made: dict[str, Operation]) -> str:
    """The requantisation that a value of activations comes from, through views, sums of windows and maxima."""
    while value != INPUT and not isinstance(made[value], Requantisation):
        value = sources(made[value])[0]
    return value


def _scope(value: str, made: dict[str, Operation], origin_of: dict[str, str]) -> Scope:
    """What an accumulator is a sum of: linear layers, with their inputs, and activations."""
    layers: dict[str, None] = {}
    origins: dict[str, None] = {}
    waiting = [value]
    while waiting:
        name = waiting.pop(0)
        operation = made.get(name)
        if isinstance(operation, IntegerLinear):
            layers[name] = None
            origins[origin_of[name]] = None
        elif operation is None or isinstance(operation, Requantisation):
            origins[name] = None
        else:
            waiting += sources(operation)
    return Scope(tuple(layers), tuple(origins))


def _modulus_readers(value: str, network: QuantisedNetwork, summed: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Layers whose t a value is read modulo: those that read it, and those whose sums it enters."""
    found: dict[str, None] = {}
    waiting = [value]
    while waiting:
        name = waiting.pop(0)
        for operation in network.operations:
            if name not in sources(operation):
                continue
            if isinstance(operation, Requantisation):
                raise BadInput(f"{operation.name}: it requantises activations; a search cannot price that yet")
            if operation.name in summed:
                found[summed[operation.name][0]] = None
            else:
                waiting.append(operation.name)
    return tuple(found)


def _colourings(found: Coupling, weight_bits: Sequence[int], activation_bits: Sequence[int]) -> Iterator[Widths]:
    """Widths of the whole network, the baseline's first."""
    scopes = [site.scope for site in found.sites] + [meets.scope for meets in found.meetings]
    of_origin = _coloured([scope.origins for scope in scopes])
    of_layer = _coloured([scope.layers for scope in scopes])
    weight_choices = sorted({*weight_bits, BASELINE_BITS}, reverse=True)
    activation_choices = sorted({*activation_bits, BASELINE_BITS}, reverse=True)
    of_origin.setdefault(INPUT, 0)
    weight_colours = product(weight_choices, repeat=1 + max(of_layer.values(), default=0))
    activation_colours = list(product(activation_choices, repeat=1 + max(of_origin.values())))
    for weights in weight_colours:
        for activations in activation_colours:
            yield Widths(
                tuple(
                    LayerWidths(layer, weights[of_layer[layer]], activations[of_origin[found.origin_of[layer]]])
                    for layer in found.layers
                )
            )


def _missing(found: Coupling, weight_bits: Sequence[int], activation_bits: Sequence[int]) -> Iterator[Widths]:
    """Widths for every key that is not known yet: those of its scope, and the baseline's everywhere else."""
    known: list[tuple[Scope, dict[Key, Any]]] = [
        (site.scope, found.requantised.setdefault(site.name, {})) for site in found.sites
    ]
    known += [(meets.scope, found.least_bits.setdefault(meets.layers, {})) for meets in found.meetings]
    for scope, of_key in known:
        choices = [sorted({*weight_bits, BASELINE_BITS})] * len(scope.layers)
        choices += [sorted({*activation_bits, BASELINE_BITS})] * len(scope.origins)
        for key in product(*choices):
            if key in of_key:
                continue
            weights = dict(zip(scope.layers, key, strict=False))
            activations = dict(zip(scope.origins, key[len(scope.layers) :], strict=True))
            widths = Widths(
                tuple(
                    LayerWidths(
                        layer,
                        weights.get(layer, BASELINE_BITS),
                        activations.get(found.origin_of[layer], BASELINE_BITS),
                    )
                    for layer in found.layers
                )
            )
            if key_of(scope, found, {each.layer: each for each in widths.layers}) == key:
                yield widths


def _coloured(together: Sequence[tuple[str, ...]]) -> dict[str, int]:
    """Colours such that names of one tuple differ, few of them."""
    found: dict[str, int] = {}
    for names in together:
        for name in names:
            if name not in found:
                near = {other for others in together if name in others for other in others}
                taken = {found[other] for other in near if other in found}
                found[name] = next(colour for colour in range(len(taken) + 1) if colour not in taken)
    return found


def key_of(scope: Scope, coupling: Coupling, widths: dict[str, LayerWidths]) -> Key:
    """The widths that decide, in the order of the scope; an origin that no layer reads has the baseline's bits."""
    bits = [widths[layer].weight_bits for layer in scope.layers]
    for origin in scope.origins:
        readers = coupling.readers_of(origin)
        bits.append(widths[readers[0]].activation_bits if readers else BASELINE_BITS)
    return tuple(bits)


def _record(found: Coupling, network: QuantisedNetwork, logits_rms: float, *, forced: bool) -> None:
    """Note what a quantisation says of every key that is new; unless `forced`, not after starved tensors."""
    widths = {each.layer: each for each in network.widths.layers}
    made = {operation.name: operation for operation in network.operations}
    starved = {site.name for site in found.sites if not made[site.name].rule.shifts.all()}  # type: ignore[union-attr]
    if forced:
        starved = set()
    for site in found.sites:
        if not starved.isdisjoint(site.scope.origins[:-1]):
            continue
        key = key_of(site.scope, found, widths)
        rule = made[site.name].rule  # type: ignore[union-attr]
        values, counts = np.unique(rule.shifts, return_counts=True)
        shifts = tuple(zip(values.tolist(), counts.tolist(), strict=True))
        found.requantised.setdefault(site.name, {}).setdefault(key, Requantised(shifts, rule.bits, rule.maximum))
    least = least_modulus_bits(network)
    for meets in found.meetings:
        made_here = {site.name for site in found.sites if set(site.meeting) & set(meets.layers)}
        if not starved.isdisjoint(set(meets.scope.origins) - made_here):
            continue
        key = key_of(meets.scope, found, widths)
        found.least_bits.setdefault(meets.layers, {}).setdefault(key, least[meets.layers[0]])
    for layer in network.linear_layers:
        own = widths[layer.name]
        if found.origin_of[layer.name] in starved:
            continue
        found.weights.setdefault((layer.name, own.weight_bits), layer.weight)
        at = layer.name, own.weight_bits, own.activation_bits
        if at not in found.units and (unit := _unit(found, network, layer.name, widths, logits_rms)) is not None:
            found.units[at] = unit


def _unit(
    found: Coupling, network: QuantisedNetwork, layer: str, widths: dict[str, LayerWidths], logits_rms: float
) -> np.ndarray | None:
    """What a unit of the layer's accumulators (M,) is worth; None where what is made of them has not 8 bits here."""
    site = next((site for site in found.sites if layer in site.meeting), None)
    channels = next(each.output_shape[0] for each in network.linear_layers if each.name == layer)
    if site is None:
        return np.full(channels, network.logit_scale * 2.0**BASELINE_BITS / logits_rms)
    readers = found.readers_of(site.name)
    if readers and widths[readers[0]].activation_bits != BASELINE_BITS:
        return None
    made = {operation.name: operation for operation in network.operations}
    rule = made[site.name].rule  # type: ignore[union-attr]
    worth = 2.0 ** -rule.shifts.astype(np.float64)
    for operation in network.operations:
        if isinstance(operation, IntegerSum):
            for source, shifts in operation.terms:
                if source == layer:
                    worth = worth * 2.0**shifts
    return np.resize(worth, channels) if len(worth) != channels else worth
