"""What layers decide together, as terms: widths and moduli that must be equal, circuits, what enters and what leaves.

| word | meaning |
|---|---|
| field | what a term looks at of an option: weight bits w, activation bits a, t, and the bits that t holds |
| turn | a linear layer and the garbled layers (sites) that run after it, before the next linear layer |
| outcome | how a site turns out: its rule, the t of what enters, the moduli of what it makes |

Garbled layers of one turn are priced together: what their parts take once a layer is taken once, and garbling one goes
on while another is evaluated. Networks of the zoo have one site a turn at most.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from autoprivacy.agent.circuit_work import circuit_work, prepared_work, transfer
from autoprivacy.agent.coupling import BASELINE_BITS, Coupling, Requantised, Site
from autoprivacy.agent.options import Choices, Option, least_t_bits
from autoprivacy.agent.pricing import CircuitSeconds, Pricing
from autoprivacy.agent.problem import Floats, Ints, Term
from autoprivacy.common.errors import Refused
from autoprivacy.networks.graph import INPUT
from autoprivacy.networks.integer_network import IntegerLinear, value_shapes
from autoprivacy.protocol.agreement import irreducible
from autoprivacy.protocol.nonlinear_circuits import width_of
from autoprivacy.protocol.transport import HEADER_BYTES

Field: TypeAlias = Literal["w", "a", "t", "t_bits"]
_FIELDS: Final[tuple[Field, ...]] = ("w", "a", "t", "t_bits")
Options: TypeAlias = Sequence[Sequence[Option]]

MOST_ENTRIES: Final = 50_000_000
"""A table of more entries is refused: it takes gigabytes."""


def field(option: Option, name: Field) -> int:
    """What an option has of a field."""
    chosen = option.chosen
    found: dict[Field, int] = {
        "w": chosen.weight_bits,
        "a": chosen.activation_bits,
        "t": chosen.t,
        "t_bits": option.t_bits,
    }
    return found[name]


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """One layer in a term: the values of the fields that the term looks at, and which of them each option has."""

    layer: str
    index: int
    values: tuple[dict[Field, int], ...]
    of_option: Ints


def _axis(coupling: Coupling, options: Options, layer: str, fields: set[Field]) -> _Axis:
    index = coupling.layers.index(layer)
    names = [name for name in _FIELDS if name in fields]
    rows = [tuple(field(option, name) for name in names) for option in options[index]]
    numbers = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    values = tuple(dict(zip(names, row, strict=True)) for row in numbers)
    return _Axis(layer, index, values, np.array([numbers[row] for row in rows], np.int64))


def _term(axes: Sequence[_Axis], table: Floats) -> Term:
    return Term(tuple(axis.index for axis in axes), tuple(axis.of_option for axis in axes), table)


_Chosen: TypeAlias = dict[str, dict[Field, int]]


def _tabulated(axes: Sequence[_Axis], entry: Callable[[_Chosen], float]) -> Term:
    table = np.empty([len(axis.values) for axis in axes])
    for place in np.ndindex(table.shape):
        table[place] = entry({axis.layer: axis.values[at] for axis, at in zip(axes, place, strict=True)})
    return _term(axes, table)


def _allowed(holds: bool) -> float:  # noqa: FBT001 - a truth, not a switch
    return 0.0 if holds else np.inf


def equal_widths(coupling: Coupling, options: Options) -> Iterator[Term]:
    """Layers that read one tensor have one `a`."""
    for group in coupling.shared:
        for other in group[1:]:
            axes = [_axis(coupling, options, layer, {"a"}) for layer in (group[0], other)]
            yield _tabulated(axes, lambda chosen: _allowed(len({each["a"] for each in chosen.values()}) == 1))


def equal_moduli(coupling: Coupling, options: Options, choices: Choices) -> Iterator[Term]:
    """Layers that meet have one t: the least that holds what they add up to."""
    for meets in coupling.meetings:
        if len(meets.layers) == 1:
            continue
        least = least_t_bits(coupling, choices, meets.layers)
        axes = [_axis(coupling, options, layer, set(_FIELDS)) for layer in meets.layers]

        def entry(
            chosen: _Chosen, least: dict[tuple[int, ...], int] = least, layers: tuple[str, ...] = meets.layers
        ) -> float:
            own = [chosen[layer] for layer in layers]
            bits = least.get((*(each["w"] for each in own), *(each["a"] for each in own)))
            return _allowed(len({each["t"] for each in own}) == 1 and all(each["t_bits"] == bits for each in own))

        yield _tabulated(axes, entry)


def opening(coupling: Coupling, options: Options, pricing: Pricing) -> Term:
    """Seconds to send the server's share of the logits, by the t of the layers that they are a sum of."""
    last = coupling.baseline.operations[-1].name
    in_circuits = {name for site in coupling.sites for name in site.meeting}
    opened = next(meets for meets in coupling.meetings if not in_circuits.issuperset(meets.layers))
    count = prod(value_shapes(coupling.baseline)[last])

    def entry(chosen: _Chosen) -> float:
        (own,) = chosen.values()
        share = transfer("down", HEADER_BYTES + -(-count * width_of(own["t"]) // 8))
        # With all of it online the last response goes the same way before it; in schedule `preprocessed` nothing does.
        return pricing.behind(share) if pricing.objective == "total" else pricing.seconds([share])

    return _tabulated([_axis(coupling, options, opened.layers[0], {"t"})], entry)


def entering(coupling: Coupling, options: Options, pricing: Pricing) -> Term:
    """Seconds to send the masked input online, modulo each t that it is read modulo."""
    readers = coupling.readers_of(INPUT)
    count = prod(coupling.baseline.input_shape)

    def entry(chosen: _Chosen) -> float:
        moduli = irreducible({own["t"] for own in chosen.values()})
        sent = sum(-(-count * width_of(modulus) // 8) for modulus in moduli)
        return pricing.seconds([transfer("up", HEADER_BYTES + sent)])

    return _tabulated([_axis(coupling, options, layer, {"t"}) for layer in readers], entry)


def turns(coupling: Coupling) -> tuple[tuple[Site, ...], ...]:
    """The sites of every turn that has any."""
    sites = {site.name: site for site in coupling.sites}
    found: list[list[Site]] = []
    for operation in coupling.baseline.operations:
        if isinstance(operation, IntegerLinear):
            found.append([])
        elif operation.name in sites:
            found[-1].append(sites[operation.name])
    return tuple(tuple(each) for each in found if each)


def circuits(coupling: Coupling, sites: Sequence[Site], options: Options, pricing: Pricing) -> Term:
    """Seconds of the garbled layers of one turn, by all that decides them; infinite where shares are too small.

    Raises:
        Refused: if so many layers decide that the table would not fit in memory.
    """
    fields: dict[str, set[Field]] = {}
    for site in sites:
        for layer, own in _fields(coupling, site).items():
            fields.setdefault(layer, set()).update(own)
    axes = [_axis(coupling, options, layer, own) for layer, own in fields.items()]
    entries = prod(len(axis.values) for axis in axes)
    if entries > MOST_ENTRIES:
        raise Refused(
            f"circuits {', '.join(site.name for site in sites)} depend on the choices of {', '.join(fields)} at once: "
            f"{entries:.3g} combinations are too many to tabulate; allow fewer widths or packings"
        )
    whole = np.zeros((len(CircuitSeconds._fields), *(len(axis.values) for axis in axes)))
    for site in sites:
        whole += _site_seconds(coupling, site, axes, pricing)
    return _term(axes, pricing.turn(whole))


def _fields(coupling: Coupling, site: Site) -> dict[str, set[Field]]:
    """By layer, what its circuits depend on: layers that meet have one t, readers of a tensor one `a`."""
    found: dict[str, set[Field]] = {layer: {"w"} for layer in site.scope.layers}
    found.setdefault(site.meeting[0], set()).add("t")
    for origin in site.scope.origins:
        for layer in coupling.readers_of(origin)[:1]:
            found.setdefault(layer, set()).add("a")
    for layer in site.readers:
        found.setdefault(layer, set()).add("t")
    return found


def _site_seconds(coupling: Coupling, site: Site, axes: Sequence[_Axis], pricing: Pricing) -> Floats:
    """What one site adds (fields of `CircuitSeconds`, axes): outcomes are priced once each, then spread."""
    rule = _rules(coupling, site, axes)
    modulus_in = _numbered(axes, [(site.meeting[0], "t")], lambda found: found[0])
    readers: list[tuple[str, Field]] = [(layer, "t") for layer in site.readers]
    made = _numbered(axes, readers, lambda found: irreducible({*found} or {2}))
    sizes = len(rule.known), len(modulus_in.known), len(made.known)
    outcome = np.ravel_multi_index(np.broadcast_arrays(rule.numbers, modulus_in.numbers, made.numbers), sizes)
    used, places = np.unique(outcome, return_inverse=True)
    prices = np.empty((len(CircuitSeconds._fields), len(used)))
    for at, number in enumerate(used.tolist()):
        which, entering, leaving = np.unravel_index(number, sizes)
        prices[:, at] = _outcome_seconds(
            site, rule.known[which], modulus_in.known[entering], made.known[leaving], pricing
        )
    return prices[:, places.reshape(outcome.shape)]


@dataclass(frozen=True, slots=True, eq=False)
class _Numbered:
    """Something that fields decide: what it can be, and which of it at every place of the axes (broadcast)."""

    known: tuple[Any, ...]
    numbers: Ints


def _numbered(
    axes: Sequence[_Axis], fields: Sequence[tuple[str, Field]], made_of: Callable[[tuple[int, ...]], Hashable]
) -> _Numbered:
    code = np.zeros((1,) * len(axes), np.int64)
    choices = []
    for layer, name in fields:
        at = next(number for number, axis in enumerate(axes) if axis.layer == layer)
        values, numbers = np.unique([value[name] for value in axes[at].values], return_inverse=True)
        shape = [1] * len(axes)
        shape[at] = -1
        code = code * len(values) + numbers.reshape(shape)
        choices.append(values.tolist())
    found = [made_of(each) for each in product(*choices)]
    numbers_of = {each: number for number, each in enumerate(dict.fromkeys(found))}
    return _Numbered(tuple(numbers_of), np.array([numbers_of[each] for each in found], np.int64)[code])


def _rules(coupling: Coupling, site: Site, axes: Sequence[_Axis]) -> _Numbered:
    """How the site requantises; bits of a tensor that no layer reads are the baseline's."""
    readers = [coupling.readers_of(origin)[:1] for origin in site.scope.origins]
    fields: list[tuple[str, Field]] = [(layer, "w") for layer in site.scope.layers]
    fields += [(own[0], "a") for own in readers if own]
    weights, rules = len(site.scope.layers), coupling.requantised[site.name]

    def rule(found: tuple[int, ...]) -> Requantised:
        bits = iter(found[weights:])
        return rules[*found[:weights], *(next(bits) if own else BASELINE_BITS for own in readers)]

    return _numbered(axes, fields, rule)


def _outcome_seconds(
    site: Site, rule: Requantised, modulus_in: int, moduli_out: tuple[int, ...], pricing: Pricing
) -> CircuitSeconds:
    """One outcome; layers may be combined here that another term forbids, with shares too small for their values."""
    if rule.starved or any(1 << rule.bits > modulus for modulus in moduli_out):
        return CircuitSeconds(np.inf)
    work = circuit_work if pricing.objective == "total" else prepared_work
    return pricing.circuit(work(site, rule, modulus_in, moduli_out))
