"""Policies next to the one that was found, to be measured beside it: predictions this close decide nothing.

Each takes, in one layer, the best option of another family (another HE set, or other widths), the other layers as
they are; each in a layer of its own, and each was simulated as a whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from autoprivacy.agent.confirmation import Runs
from autoprivacy.agent.problem import Ints, units
from autoprivacy.agent.searching import Search
from autoprivacy.agent.surrogate import Surrogate
from autoprivacy.profiler.statistics import paired_ratio
from autoprivacy.protocol.policy import Policy

TRIED: Final = 3
"""So many are simulated for each that is wanted, at most."""


def runners_up(search: Search, found: Policy, count: int) -> tuple[Policy, ...]:
    """At most `count` policies, the fastest by prediction first, that keep the search's limit too."""
    limit, tables = search.settings.max_accuracy_drop, search.tables()
    chosen: list[Policy] = []
    if count < 1:
        return ()
    for tried, numbers in enumerate(neighbours(tables, numbers_of(tables, found), units(2 * limit))):
        if len(chosen) == count or tried == TRIED * count:
            break
        policy = search.policy(tables, numbers, method_name=found.made_by.method)
        drop = search.simulate(policy)
        if drop.upper <= limit:
            latency_s = float(tables.problem.latency(numbers[None])[0])
            made_by = replace(policy.made_by, predicted_latency_s=latency_s, accuracy_drop_upper=max(0.0, drop.upper))
            chosen.append(replace(policy, made_by=made_by))
    return tuple(chosen)


def numbers_of(tables: Surrogate, policy: Policy) -> Ints:
    """The option numbers (layers,) of a policy that was made from these tables."""
    return np.array(
        [
            next(number for number, option in enumerate(options) if option.chosen == policy.layers[name])
            for name, options in zip(tables.coupling.layers, tables.options, strict=True)
        ],
        np.int64,
    )


def neighbours(tables: Surrogate, best: Ints, budget: int) -> Iterator[Ints]:
    """The fastest policy within the budget that differs in each layer's family, layers by latency."""
    found: list[tuple[float, Ints]] = []
    for index, layer in enumerate(tables.problem.layers):
        others = np.flatnonzero(layer.family != layer.family[best[index]])
        if not len(others):
            continue
        changed = np.repeat(best[None], len(others), axis=0)
        changed[:, index] = others
        seconds = np.where(tables.problem.penalty(changed) <= budget, tables.problem.latency(changed), np.inf)
        at = int(seconds.argmin())
        if np.isfinite(seconds[at]):
            found.append((float(seconds[at]), changed[at]))
    yield from (numbers for _, numbers in sorted(found, key=lambda each: each[0]))


def winner(runs: Sequence[Runs]) -> Runs:
    """The first (the fastest by prediction) unless another one was measured to be faster, with confidence."""
    best, most = runs[0], 1.0
    for own in runs[1:]:
        ratio, interval = paired_ratio(runs[0].seconds, own.seconds)
        if interval is not None and interval[0] > 1 and ratio > most:
            best, most = own, ratio
    return best
