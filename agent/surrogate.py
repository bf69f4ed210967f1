"""Predicted latency of policies from tables: what `predict` says, thousands of policies at a time.

Every layer's options are priced once; what layers decide together (circuits, moduli that must be equal) becomes terms
of a `Problem`. A policy's latency is then a sum of table entries, equal to `predict` (tests/agent/test_surrogate.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from autoprivacy.agent.circuit_work import circuit_work, transfer
from autoprivacy.agent.coupling import BASELINE_BITS, Coupling, Requantised, Site
from autoprivacy.agent.options import Choices, Option, layer_facts, layer_options, least_t_bits
from autoprivacy.agent.pricing import Pricing
from autoprivacy.agent.problem import Ints, Layer, Problem, Term, units
from autoprivacy.common.errors import Refused
from autoprivacy.common.progress import Advance
from autoprivacy.networks.integer_network import LayerWidths, Widths, value_shapes
from autoprivacy.protocol.agreeing import linear_shape
from autoprivacy.protocol.agreement import irreducible
from autoprivacy.protocol.nonlinear_circuits import width_of
from autoprivacy.protocol.policy import LayerPolicy
from autoprivacy.protocol.transport import HEADER_BYTES

Field: TypeAlias = Literal["w", "a", "t", "t_bits"]
_FIELDS: Final[tuple[Field, ...]] = ("w", "a", "t", "t_bits")


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """All options of a network on a deployment; `problem` has penalties of zero until `with_penalties`.

    `unpriced` says which sets no layer can take, because the deployment's profiles did not measure them.
    """

    coupling: Coupling
    options: tuple[tuple[Option, ...], ...]
    problem: Problem
    unpriced: tuple[str, ...]

    def policy(self, chosen: Ints) -> dict[str, LayerPolicy]:
        """The layer policies that option numbers (layers,) stand for."""
        return {
            name: options[number].chosen
            for name, options, number in zip(self.coupling.layers, self.options, chosen.tolist(), strict=True)
        }

    def widths(self, chosen: Ints) -> Widths:
        """The widths of a policy."""
        return Widths(
            tuple(
                LayerWidths(name, each.weight_bits, each.activation_bits) for name, each in self.policy(chosen).items()
            )
        )

    def with_penalties(self, drop: Callable[[str, Option], float]) -> "Surrogate":
        """The same with the accuracy that each option of a layer costs, as a share of images.

        Of options with one set, one (w, a, t) and one penalty only the fastest is left.
        """
        kept, penalties = [], []
        for name, options in zip(self.coupling.layers, self.options, strict=True):
            penalty = np.array([units(drop(name, option)) for option in options], np.int64)
            first: dict[tuple[object, ...], int] = {}
            for number in sorted(range(len(options)), key=lambda index: options[index].seconds):
                first.setdefault((*_kind(options[number]), int(penalty[number])), number)
            numbers = np.array(sorted(first.values()))
            kept.append(numbers)
            penalties.append(penalty[numbers])
        smaller = self.problem.kept(kept)
        layers = tuple(
            Layer(layer.name, layer.seconds, penalty, layer.family)
            for layer, penalty in zip(smaller.layers, penalties, strict=True)
        )
        problem = Problem(layers, smaller.terms, smaller.constant_s)
        return Surrogate(self.coupling, _picked(self.options, kept), problem, self.unpriced)

    def only(self, wanted: Callable[[str, Option], bool]) -> "Surrogate":
        """The same with fewer options.

        Raises:
            Refused: if a layer has none left.
        """
        kept = [
            np.array([number for number, option in enumerate(options) if wanted(name, option)], np.int64)
            for name, options in zip(self.coupling.layers, self.options, strict=True)
        ]
        for name, numbers in zip(self.coupling.layers, kept, strict=True):
            if not len(numbers):
                raise Refused(f"layer {name}: no option of the space is left")
        return Surrogate(self.coupling, _picked(self.options, kept), self.problem.kept(kept), self.unpriced)


def surrogate(coupling: Coupling, choices: Choices, pricing: Pricing, advance: Advance = lambda: None) -> Surrogate:
    """Price every option of every layer, and every term.

    Raises:
        Refused: if a layer has no option that is secure, private, large enough and priced.
    """
    shapes = {layer.name: linear_shape(layer) for layer in coupling.baseline.linear_layers}
    options: list[tuple[Option, ...]] = []
    unpriced: dict[str, None] = {}
    for name in coupling.layers:
        facts = layer_facts(coupling, choices, shapes[name], name)
        found, without = layer_options(facts, coupling, choices, pricing, len(coupling.layers))
        unpriced.update(dict.fromkeys(sorted(without)))
        if not found:
            reason = f"; {next(iter(unpriced))}" if unpriced else "; allow more HE sets, or another circuit privacy"
            raise Refused(f"layer {name}: no HE set of the space can run it{reason}")
        options.append(tuple(found))
        advance()
    families: dict[tuple[object, ...], int] = {}
    layers = []
    for name, own in zip(coupling.layers, options, strict=True):
        seconds = np.array([option.seconds + _opening(coupling, name, option, pricing) for option in own])
        family = np.array([families.setdefault(_family(option), len(families)) for option in own], np.int64)
        layers.append(Layer(name, seconds, np.zeros(len(own), np.int64), family))
    terms = [*_equal_widths(coupling, options), *_equal_moduli(coupling, options, choices)]
    for site in coupling.sites:
        terms.append(_circuit_term(site, coupling, options, pricing))
        advance()
    problem = Problem(tuple(layers), tuple(terms), pricing.layer_s * len(layers))
    return Surrogate(coupling, tuple(options), problem, tuple(unpriced))


def steps(coupling: Coupling) -> int:
    """How often `surrogate` tells that it advances."""
    return len(coupling.layers) + len(coupling.sites)


def _picked(options: Sequence[tuple[Option, ...]], kept: Sequence[Ints]) -> tuple[tuple[Option, ...], ...]:
    """The options of these numbers, layer by layer."""
    return tuple(tuple(own[number] for number in numbers.tolist()) for own, numbers in zip(options, kept, strict=True))


def _family(option: Option) -> tuple[object, ...]:
    """What one set for all layers has in common."""
    return option.set_choice, option.chosen.weight_bits, option.chosen.activation_bits


def _kind(option: Option) -> tuple[object, ...]:
    return *_family(option), option.chosen.t


def _field(option: Option, name: Field) -> int:
    chosen = option.chosen
    found: dict[Field, int] = {
        "w": chosen.weight_bits,
        "a": chosen.activation_bits,
        "t": chosen.t,
        "t_bits": option.t_bits,
    }
    return found[name]


def _opening(coupling: Coupling, layer: str, option: Option, pricing: Pricing) -> float:
    """Seconds to send the server's share of the logits, counted with the first layer that they are a sum of."""
    last = coupling.baseline.operations[-1].name
    in_circuits = {name for site in coupling.sites for name in site.meeting}
    opened = next(meets for meets in coupling.meetings if not in_circuits.issuperset(meets.layers))
    if layer != opened.layers[0]:
        return 0.0
    channels, height, width = value_shapes(coupling.baseline)[last]
    opened_bytes = HEADER_BYTES + -(-channels * height * width * width_of(option.chosen.t) // 8)
    return pricing.seconds([transfer("down", opened_bytes)])


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """One layer in a term: the values of the fields that the term looks at, and which of them each option has."""

    layer: str
    index: int
    values: tuple[dict[Field, int], ...]
    of_option: Ints


def _axis(coupling: Coupling, options: Sequence[Sequence[Option]], layer: str, fields: set[Field]) -> _Axis:
    index = coupling.layers.index(layer)
    names = [name for name in _FIELDS if name in fields]
    rows = [tuple(_field(option, name) for name in names) for option in options[index]]
    numbers = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    values = tuple(dict(zip(names, row, strict=True)) for row in numbers)
    return _Axis(layer, index, values, np.array([numbers[row] for row in rows], np.int64))


def _term(axes: Sequence[_Axis], seconds: Callable[[dict[str, dict[Field, int]]], float]) -> Term:
    table = np.empty([len(axis.values) for axis in axes])
    names = [axis.layer for axis in axes]
    for place in np.ndindex(table.shape):
        chosen = {name: axis.values[at] for name, axis, at in zip(names, axes, place, strict=True)}
        table[place] = seconds(chosen)
    return Term(tuple(axis.index for axis in axes), tuple(axis.of_option for axis in axes), table)


def _equal_widths(coupling: Coupling, options: Sequence[Sequence[Option]]) -> list[Term]:
    """Layers that read one tensor have one `a`."""
    found = []
    for group in coupling.shared:
        for other in group[1:]:
            axes = [_axis(coupling, options, layer, {"a"}) for layer in (group[0], other)]
            found.append(_term(axes, lambda chosen: _allowed(len({each["a"] for each in chosen.values()}) == 1)))
    return found


def _equal_moduli(coupling: Coupling, options: Sequence[Sequence[Option]], choices: Choices) -> list[Term]:
    """Layers that meet have one t: the least that holds what they add up to."""
    found = []
    for meets in coupling.meetings:
        if len(meets.layers) == 1:
            continue
        least = least_t_bits(coupling, choices, meets.layers)
        axes = [_axis(coupling, options, layer, set(_FIELDS)) for layer in meets.layers]

        def allowed(
            chosen: dict[str, dict[Field, int]],
            least: dict[tuple[int, ...], int] = least,
            layers: tuple[str, ...] = meets.layers,
        ) -> float:
            own = [chosen[layer] for layer in layers]
            bits = least.get((*(each["w"] for each in own), *(each["a"] for each in own)))
            return _allowed(len({each["t"] for each in own}) == 1 and all(each["t_bits"] == bits for each in own))

        found.append(_term(axes, allowed))
    return found


def _allowed(holds: bool) -> float:  # noqa: FBT001 - a truth, not a switch
    return 0.0 if holds else np.inf


def _circuit_term(site: Site, coupling: Coupling, options: Sequence[Sequence[Option]], pricing: Pricing) -> Term:
    """Seconds of a garbled layer, by all that decides its circuits."""
    fields: dict[str, set[Field]] = {}
    for layer in site.meeting:
        fields.setdefault(layer, set()).update({"w", "a", "t"})
    readers = {origin: coupling.readers_of(origin) for origin in site.scope.origins}
    for own in readers.values():
        if own:
            fields.setdefault(own[0], set()).add("a")
    for layer in site.readers:
        fields.setdefault(layer, set()).add("t")
    known: dict[tuple[Requantised, int, tuple[int, ...]], float] = {}
    rules = coupling.requantised[site.name]

    def seconds(chosen: dict[str, dict[Field, int]]) -> float:
        weights = [chosen[layer]["w"] for layer in site.scope.layers]
        bits = [chosen[own[0]]["a"] if own else BASELINE_BITS for own in readers.values()]
        rule = rules[*weights, *bits]
        modulus_in = chosen[site.meeting[0]]["t"]
        moduli_out = irreducible({chosen[layer]["t"] for layer in site.readers} or {2})
        at = rule, modulus_in, moduli_out
        if at not in known:
            # Layers may be combined here that another term forbids, with shares too small for their values.
            fits = not rule.starved and all(1 << rule.bits <= modulus for modulus in moduli_out)
            known[at] = pricing.circuit(circuit_work(site, *at)) if fits else np.inf
        return known[at]

    return _term([_axis(coupling, options, layer, needed) for layer, needed in fields.items()], seconds)
