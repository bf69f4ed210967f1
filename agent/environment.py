"""The walk of an agent over the layers of a network: one episode chooses one policy, and never leaves its limit.

| symbol | meaning |
|---|---|
| cost | what is made least: seconds within a drop, or penalty within a latency |
| spend | what the limit is about: penalty, or seconds |
| slack | what is left of the limit after what was spent and the least that all layers to come must spend |
| excess | what an option adds to the least cost, or spend, that layers before it allow (`togo`) |
| action | (A,) in [0, 1]: the share of the slack that the layer may take, then the traits that are asked for |

An action becomes an option inside the step (`project`): of the options whose excess spend the action tolerates, those
of the nearest traits, and of these the one of least excess cost. So what couples layers is part of both: an option that
would force a later layer to something costly is costly here. An episode's rewards add up to its cost, scaled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, TypeAlias

import numpy as np

from autoprivacy.agent.problem import Floats, Ints, Problem, infeasible
from autoprivacy.agent.togo import ToGo, forbidding, to_go
from autoprivacy.common.errors import Refused

SHARPNESS: Final = 4.0
"""Actions tolerate shares of the slack as logarithms do: half of the greatest action is exp(-2) of it, or 12 %."""

REACH: Final = 0.95
"""From this action on all of the slack is tolerated: no draw is ever exactly 1."""

_ROUNDING: Final = 1e-9


def tolerated_share(action: Floats) -> Floats:
    """The share of the slack that a first component of actions tolerates.

    >>> tolerated_share(np.array([0.0, 0.5, 1.0])).round(3).tolist()
    [0.0, 0.135, 1.0]
    """
    found: Floats = np.expm1(SHARPNESS * np.minimum(action / REACH, 1.0)) / np.expm1(SHARPNESS)
    return found


def action_of_share(share: Floats) -> Floats:
    """The least action that tolerates a share, rounded up to single precision, in which actions are remembered."""
    found = REACH * np.log1p(share * np.expm1(SHARPNESS)) / SHARPNESS
    single = found.astype(np.float32)
    up = np.where(single < found, np.nextafter(single, np.float32(2)), single)
    actions: Floats = np.minimum(up.astype(np.float64), 1.0)
    return actions


def project(action: Floats, excess_cost: Floats, excess_spend: Floats, traits: Floats, slack: Floats) -> Ints:
    """The option (P,) that actions (P, A) become: the cheapest that is tolerated and nearest in traits.

    Excesses are (P, O), traits (O, A - 1) or (P, O, A - 1), slack (P,). What spends no excess is always tolerated,
    so that there always is one.
    """
    tolerated = tolerated_share(action[:, :1]) * slack[:, None] * (1 + _ROUNDING)
    meets = (excess_spend <= np.minimum(tolerated, slack[:, None])) | (excess_spend <= 0)
    away = np.abs(action[:, None, 1:] - traits).sum(axis=2)
    away = np.where(meets, away, np.inf)
    nearest = away <= away.min(axis=1, keepdims=True) + _ROUNDING
    found: Ints = np.where(nearest, excess_cost, np.inf).argmin(axis=1)
    return found


def action_of(option: Ints, excess_spend: Floats, traits: Floats, slack: Floats) -> Floats:
    """The action (P, A) that an option (P,) stands for: it tolerates just that, and asks for its traits."""
    own = np.broadcast_to(traits, (len(option), *traits.shape[-2:]))[np.arange(len(option)), option]
    spent = np.take_along_axis(excess_spend, option[:, None], axis=1)[:, 0]
    share = np.divide(spent, slack, out=np.zeros_like(spent), where=slack > 0)
    return np.concatenate([action_of_share(np.minimum(share, 1.0))[:, None], own], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """What a layer may choose from: excess cost and spend (P, O), traits (O, A - 1) or (P, O, A - 1), slack (P,)."""

    excess_cost: Floats
    excess_spend: Floats
    traits: Floats
    slack: Floats

    def chosen(self, action: Floats) -> Ints:
        """The options (P,) that actions (P, A) become."""
        return project(action, self.excess_cost, self.excess_spend, self.traits, self.slack)

    def carried_out(self, action: Floats) -> Floats:
        """Actions (P, A) as they would be carried out."""
        return action_of(self.chosen(action), self.excess_spend, self.traits, self.slack)


@dataclass(slots=True, eq=False)
class Walk:
    """Episodes side by side: the next layer, policies (P, layers) so far, slack and cost (P,), last action (P, A)."""

    policies: Ints
    slack: Floats
    cost: Floats
    action: Floats
    layer: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What came of a step: actions as they were carried out (P, A), and rewards (P,)."""

    action: Floats
    reward: Floats


Aim: TypeAlias = Literal["latency", "drop"]
"""What is made least; the other one is limited."""


@dataclass(frozen=True, eq=False)
class Environment:
    """A problem and a limit; made by `within_drop` or `within_latency`. Nothing in it changes.

    `problem` is the one that was `given` without beaten options; those left are numbered `original` (O,) there.
    """

    given: Problem
    problem: Problem
    original: tuple[Ints, ...]
    aim: Aim
    cost: ToGo
    spend: ToGo
    limit: float
    _traits: tuple[Floats, ...] = field(repr=False)

    @property
    def layers(self) -> int:
        """Steps of an episode."""
        return len(self.problem.layers)

    @property
    def action_size(self) -> int:
        """Components of an action."""
        return 1 + int(self._traits[0].shape[1])

    @property
    def slack(self) -> float:
        """What is left of the limit at the start."""
        return max(0.0, self.limit - self.spend.least)

    @cached_property
    def scale(self) -> float:
        """The cost beyond the least, of the policy that spends least: rewards are in units of it."""
        walk = self._spending_least()
        return max(float(walk.cost[0]), 1e-12 * max(abs(self.cost.least), 1e-12))

    @cached_property
    def observation_size(self) -> int:
        """Numbers that an agent sees."""
        return int(self.observe(self.start(1)).shape[1])

    def safest(self) -> Ints:
        """The policy (layers,) that spends least."""
        found: Ints = self.policies(self._spending_least())[0]
        return found

    def start(self, count: int) -> Walk:
        """Begin so many episodes."""
        return Walk(
            policies=np.zeros((count, self.layers), np.int64),
            slack=np.full(count, self.slack),
            cost=np.zeros(count),
            action=np.zeros((count, self.action_size)),
        )

    def observe(self, walk: Walk) -> Floats:
        """What an agent sees (P, S) before the layer that is next, or after the last one."""
        count = len(walk.policies)
        known = self._known[walk.layer]
        left = np.divide(walk.slack, self.slack, out=np.zeros(count), where=self.slack > 0)
        seen = [left, action_of_share(np.clip(left, 0, 1)), walk.cost / self.scale]
        return np.concatenate([np.repeat(known[None], count, axis=0), np.stack(seen, axis=1), walk.action], axis=1)

    def offer(self, walk: Walk) -> Offer:
        """What the layer that is next may choose from."""
        index, policies = walk.layer, walk.policies
        excess_cost, excess_spend = self.cost.excess(index, policies), self.spend.excess(index, policies)
        return Offer(excess_cost, excess_spend, self._traits[index], walk.slack)

    @cached_property
    def traits(self) -> Floats:
        """Those of all layers (layers, O, A - 1), as if all had as many options; what is no option has zeros."""
        found = np.zeros((self.layers, max(map(len, self._traits)), self.action_size - 1))
        for padded, own in zip(found, self._traits, strict=True):
            padded[: len(own)] = own
        return found

    def step(self, walk: Walk, action: Floats) -> Step:
        """Carry actions (P, A) out for the layer that is next."""
        before = walk.cost.copy()
        self._choose(walk, action)
        return Step(walk.action, (before - walk.cost) / self.scale)

    def policies(self, walk: Walk) -> Ints:
        """Finished policies (P, layers), as option numbers of the problem that was given."""
        columns = [original[walk.policies[:, index]] for index, original in enumerate(self.original)]
        return np.stack(columns, axis=1)

    def costs(self, policies: Ints) -> Floats:
        """Seconds, or units of penalty, of policies (P, layers) of the given problem; infinite beyond the limit."""
        seconds, penalty = self.given.latency(policies), self.given.penalty(policies).astype(np.float64)
        if self.aim == "latency":
            return np.where(penalty <= self.limit, seconds, np.inf)
        return np.where(seconds <= self.limit + self.given.constant_s, penalty, np.inf)

    def _spending_least(self) -> Walk:
        walk = self.start(1)
        while walk.layer < self.layers:
            self._choose(walk, np.zeros((1, self.action_size)))
        return walk

    def _choose(self, walk: Walk, action: Floats) -> None:
        offer = self.offer(walk)
        chosen = offer.chosen(action)
        walk.action = action_of(chosen, offer.excess_spend, offer.traits, offer.slack)
        walk.policies[:, walk.layer] = chosen
        spent, cost = (
            np.take_along_axis(excess, chosen[:, None], axis=1)[:, 0]
            for excess in (offer.excess_spend, offer.excess_cost)
        )
        walk.slack = np.maximum(0.0, walk.slack - spent)
        walk.cost = walk.cost + cost
        walk.layer += 1

    @cached_property
    def _known(self) -> tuple[Floats, ...]:
        """By layer, and after the last, what never changes: its number, facts and prices, and the deployment."""
        layers = self.problem.layers
        fastest = np.array([float(layer.seconds.min()) for layer in layers])
        whole = max(float(fastest.sum()), 1e-12)
        found = []
        for index in range(self.layers + 1):
            number = np.zeros(self.layers)
            own = np.zeros(len(layers[0].facts) + 3)
            if index < self.layers:
                number[index] = 1.0
                share, spread = fastest[index] / whole, float(layers[index].seconds.max()) / max(fastest[index], 1e-12)
                size = np.log10(len(layers[index].seconds))
                own = np.array([*layers[index].facts, np.sqrt(share), np.log10(spread), size / 3])
            found.append(np.concatenate([number, own, self.problem.deployment]))
        return tuple(found)


def within_drop(problem: Problem, budget: int) -> Environment:
    """Least seconds of policies whose penalties add up to at most `budget`.

    Raises:
        Refused: if there is none, or layers are coupled too densely.
    """
    reduced, original = problem.reduced()
    cost = to_go([layer.seconds for layer in reduced.layers], reduced.terms)
    spend = to_go([layer.penalty.astype(np.float64) for layer in reduced.layers], forbidding(reduced.terms))
    if not spend.least <= budget:
        raise infeasible(problem, budget)
    return Environment(problem, reduced, original, "latency", cost, spend, float(budget), _traits(reduced))


def within_latency(problem: Problem, budget_s: float) -> Environment:
    """Least penalty of policies that take at most `budget_s`.

    Raises:
        Refused: if there is none, or layers are coupled too densely.
    """
    reduced, original = problem.reduced()
    cost = to_go([layer.penalty.astype(np.float64) for layer in reduced.layers], forbidding(reduced.terms))
    spend = to_go([layer.seconds for layer in reduced.layers], reduced.terms)
    # Sums are rounded: a limit just below keeps policies within it however they are added up.
    limit = budget_s * (1 - 1e-12) - problem.constant_s
    if not spend.least <= limit:
        raise Refused(
            f"no policy takes at most {budget_s:.4g} s; the fastest is predicted to take "
            f"{spend.least + problem.constant_s:.4g} s: allow that much with --latency-budget"
        )
    return Environment(problem, reduced, original, "drop", cost, spend, limit, _traits(reduced))


def _traits(problem: Problem) -> tuple[Floats, ...]:
    """By layer (O, T): those of its options, or none at all if some layer has none."""
    given: Sequence[Floats | None] = [layer.traits for layer in problem.layers]
    return tuple(
        np.zeros((layer.size, 0)) if any(each is None for each in given) else np.asarray(own)
        for layer, own in zip(problem.layers, given, strict=True)
    )
