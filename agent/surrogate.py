"""Predicted latency of policies from tables: what `predict` says, thousands of policies at a time.

Every layer's options are priced once; what layers decide together (circuits, moduli that must be equal) becomes terms
of a `Problem`. A policy's latency is then a sum of table entries, equal to `predict` (tests/agent/test_surrogate.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from autoprivacy.agent.circuit_work import spill_read
from autoprivacy.agent.coupling import Coupling
from autoprivacy.agent.facts import deployment_facts, size_facts, traits
from autoprivacy.agent.options import Choices, Option, layer_facts, layer_options
from autoprivacy.agent.pricing import Pricing
from autoprivacy.agent.problem import Ints, Layer, Problem, units
from autoprivacy.agent.pruning import worth_trying
from autoprivacy.agent.terms import circuits, entering, equal_moduli, equal_widths, opening, turns
from autoprivacy.common.errors import Refused
from autoprivacy.common.progress import Advance
from autoprivacy.networks.integer_network import LayerWidths, Widths
from autoprivacy.protocol.agreeing import linear_shape
from autoprivacy.protocol.conversation import KEPT_BYTES
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.plan import Work
from autoprivacy.protocol.policy import LayerPolicy


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
            replace(layer, penalty=penalty) for layer, penalty in zip(smaller.layers, penalties, strict=True)
        )
        problem = replace(smaller, layers=layers)
        return Surrogate(self.coupling, _picked(self.options, kept), problem, self.unpriced)

    def same_outside(self, chosen: Ints) -> tuple[Ints, ...]:
        """By layer, the options with the widths and t of a policy (layers,): what other layers see of them is equal."""
        found = []
        for options, number in zip(self.options, chosen.tolist(), strict=True):
            seen = [(each.chosen.weight_bits, each.chosen.activation_bits, each.chosen.t) for each in options]
            found.append(np.array([at for at, each in enumerate(seen) if each == seen[number]], np.int64))
        return tuple(found)

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


def priced_options(
    coupling: Coupling, choices: Choices, pricing: Pricing, advance: Advance = lambda: None
) -> tuple[tuple[tuple[Option, ...], ...], tuple[str, ...]]:
    """Every option of every layer, priced; and which sets have no price.

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
    return tuple(options), tuple(unpriced)


def surrogate(
    coupling: Coupling,
    choices: Choices,
    pricing: Pricing,
    advance: Advance = lambda: None,
    *,
    prune: Callable[[Coupling, Sequence[tuple[Option, ...]]], tuple[tuple[Option, ...], ...]] = worth_trying,
) -> Surrogate:
    """Price every option of every layer, and every term of those of them that `prune` leaves.

    Raises:
        Refused: as `priced_options`; or if terms would not fit in memory.
    """
    priced, unpriced = priced_options(coupling, choices, pricing, advance)
    options = prune(coupling, priced)
    families: dict[tuple[object, ...], int] = {}
    layers = []
    linear = {layer.name: layer for layer in coupling.baseline.linear_layers}
    online = pricing.objective == "online"
    for name, own in zip(coupling.layers, options, strict=True):
        first = name == coupling.layers[0]
        clear_s = _clear_seconds(linear_shape(linear[name]), pricing, first=first) if online else 0.0
        seconds = np.array([clear_s if online else option.seconds for option in own])
        family = np.array([families.setdefault(_family(option), len(families)) for option in own], np.int64)
        free = np.zeros(len(own), np.int64)
        layers.append(Layer(name, seconds, free, family, traits(own), size_facts(linear_shape(linear[name]))))
    found = [
        opening(coupling, options, pricing),
        *([entering(coupling, options, pricing)] if online else []),
        *equal_widths(coupling, options),
        *equal_moduli(coupling, options, choices),
    ]
    for sites in turns(coupling):
        found.append(circuits(coupling, sites, options, pricing))
        advance()
    problem = Problem(tuple(layers), tuple(found), pricing.beside_s(len(layers)), deployment_facts(pricing))
    return Surrogate(coupling, options, problem, unpriced)


def _clear_seconds(shape: LinearShape, pricing: Pricing, *, first: bool) -> float:
    """A linear layer on the server's share, online: no HE set makes a difference."""
    products = shape.output_values * prod(shape.weight_shape[1:])
    work = (
        spill_read("server", KEPT_BYTES * shape.output_values),
        Work("clear_linear", 0, 0, calls=1, items=products, values=shape.output_values),
    )
    return pricing.seconds(work) + pricing.once(work, first=first)


def steps(coupling: Coupling) -> int:
    """How often `surrogate` tells that it advances."""
    return len(coupling.layers) + len(turns(coupling))


def _picked(options: Sequence[tuple[Option, ...]], kept: Sequence[Ints]) -> tuple[tuple[Option, ...], ...]:
    """The options of these numbers, layer by layer."""
    return tuple(tuple(own[number] for number in numbers.tolist()) for own, numbers in zip(options, kept, strict=True))


def _family(option: Option) -> tuple[object, ...]:
    """What one set for all layers has in common."""
    return option.set_choice, option.chosen.weight_bits, option.chosen.activation_bits


def _kind(option: Option) -> tuple[object, ...]:
    return *_family(option), option.chosen.t
