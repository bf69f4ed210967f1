"""Tree-structured Parzen estimator, by optuna (an extra) [TPE]."""

import numpy as np

from autoprivacy.agent.methods.interface import Pricer, Solution
from autoprivacy.agent.methods.starting import safest
from autoprivacy.agent.problem import Problem
from autoprivacy.common.errors import BadInput


def solve(problem: Problem, budget: int, rng: np.random.Generator, most: int) -> Solution:
    """The fastest policy within the budget of `most` that optuna asked for, the most accurate one being the first.

    Raises:
        BadInput: if optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise BadInput("the method `tpe` needs optuna; install it with: pip install 'autoprivacy[tpe]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pricer = Pricer(problem, most)
    start = safest(problem, budget)
    scale = float(problem.latency(start[None])[0])
    names = [f"layer{index}" for index in range(len(problem.layers))]
    # Neighbouring numbers are options of like penalty: estimates of density over them mean something.
    order = [np.lexsort((layer.seconds, layer.penalty)) for layer in problem.layers]
    place = [int(np.flatnonzero(own == option)[0]) for own, option in zip(order, start.tolist(), strict=True)]

    def asked(trial: "optuna.Trial") -> float:
        chosen = [own[trial.suggest_int(name, 0, len(own) - 1)] for name, own in zip(names, order, strict=True)]
        seconds, penalty = pricer.price(np.array([chosen], np.int64), budget)
        over = max(0, int(penalty[0]) - budget) / max(1, budget)
        # Forbidden combinations, and those beyond the budget, rank behind the start, the farther the worse.
        return 1e3 if np.isinf(seconds[0]) else float(seconds[0]) / scale + (1 + over if over else 0.0)

    sampler = optuna.samplers.TPESampler(seed=int(rng.integers(1 << 31)), multivariate=False)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial(dict(zip(names, place, strict=True)))
    study.optimize(asked, n_trials=most)
    return pricer.solution()
