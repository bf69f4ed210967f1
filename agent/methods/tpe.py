"""Tree-structured Parzen estimator, by optuna (an extra), on the actions of the agent's environment [TPE]."""

import time

import numpy as np

from autoprivacy.agent.environment import Environment, within_drop, within_latency
from autoprivacy.agent.methods.interface import Solution, solution_found
from autoprivacy.agent.problem import Problem
from autoprivacy.common.errors import BadInput


def solve(problem: Problem, budget: int, rng: np.random.Generator, most: int) -> Solution:
    """The fastest policy within the budget of the episodes that optuna asked for; the first one spends least.

    Raises:
        BadInput: if optuna is not installed.
    """
    return _asked(within_drop(problem, budget), rng, most)


def most_accurate(problem: Problem, latency_budget_s: float, rng: np.random.Generator, most: int) -> Solution:
    """The policy of least penalty that takes at most `latency_budget_s`, of those episodes.

    Raises:
        BadInput: if optuna is not installed.
    """
    return _asked(within_latency(problem, latency_budget_s), rng, most)


def _asked(environment: Environment, rng: np.random.Generator, most: int) -> Solution:
    try:
        import optuna
    except ImportError:
        raise BadInput("the method `tpe` needs optuna; install it with: pip install 'autoprivacy[tpe]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = [
        [f"layer{layer} {component}" for component in range(environment.action_size)]
        for layer in range(environment.layers)
    ]
    best, best_cost, pricing_s = None, np.inf, 0.0

    def episode(trial: "optuna.Trial") -> float:
        nonlocal best, best_cost, pricing_s
        walk = environment.start(1)
        for own in names:
            environment.step(walk, np.array([[trial.suggest_float(name, 0.0, 1.0) for name in own]]))
        policy = environment.policies(walk)
        start = time.perf_counter()
        cost = float(environment.costs(policy)[0])
        pricing_s += time.perf_counter() - start
        if cost < best_cost:
            best, best_cost = policy[0], cost
        return float(walk.cost[0])

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=int(rng.integers(1 << 31))))
    study.enqueue_trial({name: 0.0 for own in names for name in own})
    study.optimize(episode, n_trials=most)
    return solution_found(environment.given, best, most, pricing_s)
