"""Random: episodes of the agent's environment with uniform actions; the first one spends least."""

import time

import numpy as np

from autoprivacy.agent.environment import Environment, within_drop, within_latency
from autoprivacy.agent.methods.interface import Solution, solution_found
from autoprivacy.agent.problem import Floats, Ints, Problem

_AT_ONCE = 1024


def solve(problem: Problem, budget: int, rng: np.random.Generator, most: int) -> Solution:
    """The fastest of `most` episodes within the budget."""
    return _best(within_drop(problem, budget), rng, most)


def most_accurate(problem: Problem, latency_budget_s: float, rng: np.random.Generator, most: int) -> Solution:
    """The policy of least penalty that takes at most `latency_budget_s`, of `most` episodes."""
    return _best(within_latency(problem, latency_budget_s), rng, most)


def random_episodes(environment: Environment, rng: np.random.Generator, count: int) -> tuple[Ints, Floats]:
    """Policies (P, layers) of so many episodes, and what they cost (P,)."""
    walk = environment.start(count)
    while walk.layer < environment.layers:
        environment.step(walk, rng.random((count, environment.action_size)))
    policies = environment.policies(walk)
    return policies, environment.costs(policies)


def _best(environment: Environment, rng: np.random.Generator, most: int) -> Solution:
    best, best_cost, priced, pricing_s = None, np.inf, 0, 0.0
    while priced < most:
        walk = environment.start(min(_AT_ONCE, most - priced))
        while walk.layer < environment.layers:
            action = rng.random((len(walk.cost), environment.action_size))
            if not priced:
                action[0] = 0.0
            environment.step(walk, action)
        policies = environment.policies(walk)
        start = time.perf_counter()
        costs = environment.costs(policies)
        pricing_s += time.perf_counter() - start
        priced += len(costs)
        at = int(costs.argmin())
        if costs[at] < best_cost:
            best, best_cost = policies[at], float(costs[at])
    return solution_found(environment.given, best, priced, pricing_s)
