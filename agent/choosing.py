"""From a network and a deployment to the policy of least predicted latency that keeps its accuracy.

Problem A, where accuracy costs of layers add up, is solved by a method, which may be exact. Problem B, where accuracy
is what the whole network does under all choices at once, is what counts: the additive budget is then widened or
narrowed by bisection until the joint simulation's bound is just within the limit. Every policy that is promised was
simulated as a whole; that no other one is faster is proven for problem A at that budget only.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from autoprivacy.agent.accuracy import AccuracyDrop
from autoprivacy.agent.ladder import Rung, ladder
from autoprivacy.agent.methods.interface import Solution
from autoprivacy.agent.options import Option
from autoprivacy.agent.problem import UNIT, units
from autoprivacy.agent.searching import Search, most_accurate, solved
from autoprivacy.agent.surrogate import Surrogate
from autoprivacy.common.errors import Refused
from autoprivacy.common.records import record
from autoprivacy.protocol.policy import Policy

_LOG: Final = logging.getLogger(__name__)

MOST_SIMULATED: Final = 10
"""Joint simulations of one search."""

NEAR: Final = 10
"""Budgets are near enough when they differ by one part in so many."""

FRONT_POINTS: Final = 9


@record
class Point:
    """One policy: predicted seconds, the additive estimate of its drop, and the joint bound where it was simulated."""

    latency_s: float
    additive_drop: float
    drop_upper: float | None


@record
class Why:
    """Why a layer has its set, in words, and what the next cheaper one would cost."""

    layer: str
    chosen: str
    next_cheaper: str


@record
class Found:
    """What a search found; `proven` is about problem A (see the module)."""

    policy: Policy
    latency_s: float
    drop: AccuracyDrop
    additive_drop: float
    proven: bool
    priced: int
    simulated: int
    policies_in_space: float
    options: tuple[int, ...]
    options_reduced: tuple[int, ...]
    front: tuple[Point, ...]
    ladder: tuple[Rung, ...]
    why: tuple[Why, ...]
    unpriced: tuple[str, ...]


def run(search: Search) -> Found:
    """Search, and say what was found.

    Raises:
        Refused: if no policy keeps the limit; says how close the best came.
    """
    search.sensitivities()
    whole, tables = search.surrogate(), search.tables()
    best, drop, simulated = choose(search, tables)
    reduced, _ = tables.problem.reduced()
    return Found(
        policy=_promising(search.policy(tables, best.policy, method_name=search.settings.method), best, drop),
        latency_s=best.latency_s,
        drop=drop,
        additive_drop=best.penalty * UNIT,
        proven=best.proven,
        priced=best.priced,
        simulated=simulated,
        policies_in_space=float(tables.problem.size),
        options=tuple(map(len, whole.options)),
        options_reduced=tuple(layer.size for layer in reduced.layers),
        front=_front(search, tables, best),
        ladder=ladder(search, best),
        why=tuple(_why(tables, best)),
        unpriced=whole.unpriced,
    )


def choose(search: Search, tables: Surrogate) -> tuple[Solution, AccuracyDrop, int]:
    """The best policy that was simulated as a whole, its drop, and how many were.

    Raises:
        Refused: if no simulated policy keeps the limit.
    """
    settings = search.settings
    if settings.latency_budget_s is not None:
        found = most_accurate(search, tables, settings.latency_budget_s)
        with search.progress("simulating", 1) as advance:
            drop = search.simulate(search.policy(tables, found.policy, method_name=""))
            advance()
        return found, drop, 1
    limit = settings.max_accuracy_drop
    low, budget, high = -1, _likely_budget(search, limit), None
    best: tuple[Solution, AccuracyDrop] | None = None
    closest, tried = 1.0, 0
    with search.progress("simulating", MOST_SIMULATED) as advance:
        while tried < MOST_SIMULATED and budget > low and (high is None or budget < high):
            solution = solved(search, tables, budget)
            advance()
            tried += 1
            if solution is None:
                low = budget
            else:
                drop = search.simulate(search.policy(tables, solution.policy, method_name=""))
                _LOG.info("budget %d units: %.6f s, drop at most %.4f", budget, solution.latency_s, drop.upper)
                closest = min(closest, drop.upper)
                if drop.upper <= limit:
                    low = budget
                    if best is None or solution.latency_s < best[0].latency_s:
                        best = solution, drop
                else:
                    high = budget
            budget = 2 * budget + 1 if high is None else (max(low, 0) + high) // 2
            if high is not None and high - max(low, 0) <= max(1, high // NEAR):
                break
    if best is None:
        raise Refused(
            f"no policy was found that keeps the accuracy drop below {limit:.2%} with confidence; the best bound of "
            f"{tried} simulated ones is {np.ceil(closest * 1e4) / 1e4:.2%}: allow that much with --max-accuracy-drop"
        )
    return *best, tried


def _likely_budget(search: Search, limit: float) -> int:
    """The additive budget whose joint bound is likely just within the limit."""
    sensitivities, images = search.sensitivities(), len(search.judged.y)
    low, high = 0, units(limit)
    while high - low > 1:
        middle = (low + high) // 2
        fits = sensitivities.likely_upper(middle * UNIT, images) <= limit
        low, high = (middle, high) if fits else (low, middle)
    return high


def _promising(policy: Policy, best: Solution, drop: AccuracyDrop) -> Policy:
    made_by = replace(policy.made_by, predicted_latency_s=best.latency_s, accuracy_drop_upper=max(0.0, drop.upper))
    return replace(policy, made_by=made_by)


def _front(search: Search, tables: Surrogate, best: Solution) -> tuple[Point, ...]:
    """Latency against the additive drop, exact at each of its budgets, and the joint bound where it is known."""
    most = max(2 * best.penalty, units(2 * search.settings.max_accuracy_drop), 8)
    found: dict[tuple[int, ...], Solution] = {}
    budgets = np.unique(np.geomspace(1, most, FRONT_POINTS - 1).astype(np.int64)).tolist()
    for budget in (*budgets, best.penalty, 0):
        solution = solved(search, tables, int(budget), "exact")
        if solution is not None:
            found[tuple(solution.policy.tolist())] = solution
    points = []
    least = np.inf
    for solution in sorted(found.values(), key=lambda each: (each.penalty, each.latency_s)):
        if solution.latency_s < least:
            least = solution.latency_s
            known = search.simulated(search.policy(tables, solution.policy, method_name=""))
            points.append(Point(solution.latency_s, solution.penalty * UNIT, None if known is None else known.upper))
    return tuple(points)


def _why(tables: Surrogate, best: Solution) -> Iterator[Why]:
    for index, name in enumerate(tables.coupling.layers):
        options, number = tables.options[index], int(best.policy[index])
        changed = np.repeat(best.policy[None], len(options), axis=0)
        changed[:, index] = np.arange(len(options))
        seconds, penalty = tables.problem.latency(changed), tables.problem.penalty(changed)
        cheaper = np.flatnonzero(seconds < best.latency_s * (1 - 1e-12))
        said = "none is cheaper while the other layers stay as they are"
        if len(cheaper):
            at = int(cheaper[np.lexsort((seconds[cheaper], penalty[cheaper]))[0]])
            saved, cost = best.latency_s - seconds[at], (int(penalty[at]) - best.penalty) * UNIT
            said = f"{described(options[at])} saves {1000 * saved:.3f} ms, and costs {100 * cost:.3f} points more"
        yield Why(name, described(options[number]), said)


def described(option: Option) -> str:
    """An option in words."""
    chosen = option.chosen
    error = f"error {option.error:.2g} steps" if option.error else "error-free"
    dropped = f", drops {chosen.response.dropped_c0} and {chosen.response.dropped_c1} bits"
    some = dropped if chosen.response.dropped_c0 or chosen.response.dropped_c1 else ""
    return (
        f"{option.set_choice}, t of {option.t_bits} bits, {chosen.weight_bits}-bit weights, "
        f"{chosen.activation_bits}-bit activations{some}, {error}"
    )
