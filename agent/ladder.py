"""The gain of a choice, told as a ladder: each step frees one thing more, from a published set to what was found.

| step | what it adds to the one before |
|---|---|
| DELPHI's set, as published | one HE set for all layers, and its t |
| at its least t | t is the least that holds each layer's accumulators |
| best packing | each layer is packed in `slots` or `coefficients`, with the same n and data limbs |
| best uniform set at 2^-40 | n and limbs are chosen, one for all layers |
| per layer at 2^-40 | ... for each layer |
| with tolerated errors | decryption errors are let through that the network stands |
| with per-layer widths | weights and activations have fewer than 8 bits: what the search found |

Beside the steps stand all sets as published, and the best uniform set with all that the last step may use. All rungs
run on our runtime, with our tiling and wire format ("DELPHI's set", never "DELPHI"), at 8 bits until the last step.
Circuit privacy is the search's; a set that cannot run under it is under `flood:40`, and its note says so: two rungs
are comparable only if `circuit_privacy` is the same (`Search.under` searches under another).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import log2
from typing import Final, Literal, TypeAlias

from autoprivacy.agent.accuracy import AccuracyDrop
from autoprivacy.agent.coupling import BASELINE_BITS
from autoprivacy.agent.methods.interface import Solution
from autoprivacy.agent.named_policies import fitting_policy
from autoprivacy.agent.options import Option
from autoprivacy.agent.searching import Search, solved
from autoprivacy.common.errors import Refused, UnmodelledOperation
from autoprivacy.common.records import record
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.error_model import FAILURE_BITS
from autoprivacy.protocol.named_sets import NAMED_SETS, NamedSet
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import Policy

PUBLISHED: Final = ("gazelle", "delphi", "cryptflow2", "cheetah", "seal-4096", "seal-8192")
START: Final = "delphi"
"""The set that the steps start from: the paper's baseline."""

BEST_UNIFORM: Final = "best uniform set with tolerated errors and widths"

Kind: TypeAlias = Literal["published", "step", "beside"]
Wanted: TypeAlias = Callable[[str, Option], bool]


@record
class Rung:
    """One rung: a policy, its predicted seconds, and its joint drop where it was simulated.

    Without a policy, or without a price for it, `note` says why. `circuit_privacy` is that of the policy.
    """

    kind: Kind
    name: str
    circuit_privacy: str
    policy: Policy | None
    latency_s: float | None
    drop: AccuracyDrop | None
    note: str


def ladder(search: Search, best: Solution, *, judge: bool = True) -> tuple[Rung, ...]:
    """All rungs of a search that found `best` in its tables: published sets, steps, and what stands beside them.

    `judge` simulates the accuracy of each as a whole, on the images that the search judges policies by.
    """
    made = [
        *published(search),
        *_steps(search, best),
        _chosen(search, "beside", BEST_UNIFORM, "uniform", best.penalty, _free),
    ]
    if not judge:
        return tuple(made)
    with search.progress("judging the ladder", len(made)) as advance:
        found = []
        for rung in made:
            found.append(rung if rung.policy is None else replace(rung, drop=search.simulate(rung.policy)))
            advance()
    return tuple(found)


def published(search: Search) -> tuple[Rung, ...]:
    """The sets of known systems as published, beside one another; not judged."""
    return tuple(_named(search, "published", _called(each), each, own_t=True) for each in map(_set, PUBLISHED))


def _steps(search: Search, best: Solution) -> Iterator[Rung]:
    start = _set(START)
    yield _named(search, "step", f"{_called(start)}, as published", start, own_t=True)
    least = _named(search, "step", f"{_called(start)} at its least t", start, own_t=False)
    yield least
    yield _best_packing(search, least, start)
    yield _chosen(search, "step", "best uniform set at 2^-40", "uniform", best.penalty, ruled(search))
    yield _chosen(search, "step", "per layer at 2^-40", "exact", best.penalty, ruled(search))
    yield _chosen(search, "step", "per layer with tolerated errors", "exact", best.penalty, _wide)
    policy = search.policy(search.tables(), best.policy, method_name=search.settings.method)
    name = "per layer with tolerated errors and widths"
    yield Rung("step", name, policy.circuit_privacy, policy, best.latency_s, None, "")


def _set(name: str) -> NamedSet:
    return NAMED_SETS[name]


def _called(chosen: NamedSet) -> str:
    return chosen.title if "default" in chosen.title else f"{chosen.title}'s set"


def _named(search: Search, kind: Kind, name: str, chosen: NamedSet, *, own_t: bool) -> Rung:
    found = fitting_policy(search.coupling.baseline, chosen, search.settings.circuit_privacy, own_t=own_t)
    if found.policy is None:
        return Rung(kind, name, search.settings.circuit_privacy, None, None, None, found.note)
    notes = [found.note] if found.note else []
    if found.policy.security != search.settings.security:
        notes.append(f"security {found.policy.security}")
    seconds = None
    try:
        seconds = _seconds(search, found.policy)
    except UnmodelledOperation as error:
        notes.append(str(error))
    return Rung(kind, name, found.policy.circuit_privacy, found.policy, seconds, None, "; ".join(notes))


def _best_packing(search: Search, least: Rung, start: NamedSet) -> Rung:
    """All layers in the quicker packing: layers that meet need one t, and those of packings differ."""
    name = f"{start.title}'s n and data limbs, best packing"
    repacked = replace(start, packing="coefficients", special_bits=None)
    other = _named(search, "step", name, repacked, own_t=False)
    both = [rung for rung in (other, least) if rung.latency_s is not None]
    return replace(min(both, key=lambda rung: rung.latency_s or 0.0, default=other), name=name)


def _seconds(search: Search, policy: Policy) -> float:
    network = search.quantiser.quantise(policy.widths())
    return search.pricing.inference(plan_network(network, agree(network, policy), search.schedule))


def _chosen(search: Search, kind: Kind, name: str, method: str, budget: int, wanted: Wanted) -> Rung:
    """What a method finds among some options."""
    privacy = search.settings.circuit_privacy
    try:
        tables = search.with_costs(search.surrogate().only(wanted))
        found = solved(search, tables, budget, method)
    except Refused as error:
        return Rung(kind, name, privacy, None, None, None, str(error))
    if found is None:
        return Rung(kind, name, privacy, None, None, None, "no policy of this kind keeps the limit")
    policy = search.policy(tables, found.policy, method_name=method)
    return Rung(kind, name, privacy, policy, found.latency_s, None, "")


def _free(layer: str, option: Option) -> bool:  # noqa: ARG001 - one signature for all filters
    return True


def _wide(layer: str, option: Option) -> bool:  # noqa: ARG001
    return option.chosen.weight_bits == option.chosen.activation_bits == BASELINE_BITS


def ruled(search: Search) -> Wanted:
    """Options at 8 bits whose noise fails less than 2^-40 in all layers together."""
    least = FAILURE_BITS + log2(len(search.coupling.layers))

    def wanted(layer: str, option: Option) -> bool:
        return _wide(layer, option) and option.noise_bits >= least

    return wanted
