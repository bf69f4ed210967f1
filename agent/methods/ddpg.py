"""The agent of [AutoPrivacy]: deep deterministic policy gradient walks the layers (`environment`, `ddpg`)."""

from pathlib import Path

import numpy as np

from autoprivacy.agent.environment import Environment, within_drop, within_latency
from autoprivacy.agent.learning_curve import write_curve
from autoprivacy.agent.methods.interface import Solution, solution_found
from autoprivacy.agent.problem import Problem
from autoprivacy.agent.training import Training, networks_of, trained


def solve(
    problem: Problem,
    budget: int,
    rng: np.random.Generator,
    most: int,
    file: Path | None = None,
    begin_as: Path | None = None,
) -> Solution:
    """The fastest policy within the budget that the agent met.

    Its state is kept in `file`, from which it goes on, and its learning curve beside it. It begins with the networks of
    the agent in `begin_as`: one of the same network on another deployment.
    """
    return _solution(_learned(within_drop(problem, budget), rng, most, file, begin_as))


def most_accurate(
    problem: Problem,
    latency_budget_s: float,
    rng: np.random.Generator,
    most: int,
    file: Path | None = None,
    begin_as: Path | None = None,
) -> Solution:
    """The policy of least penalty that takes at most `latency_budget_s`, of those that the agent met; as `solve`."""
    return _solution(_learned(within_latency(problem, latency_budget_s), rng, most, file, begin_as))


def _learned(
    environment: Environment, rng: np.random.Generator, most: int, file: Path | None, begin_as: Path | None
) -> Training:
    known = None if begin_as is None else networks_of(begin_as)
    training = trained(environment, rng, most, file=file, begin_as=known)
    if file is not None:
        write_curve(training.costs, environment.aim, file.with_suffix(".html"))
    return training


def _solution(training: Training) -> Solution:
    return solution_found(training.environment.given, training.best, len(training.costs), training.pricing_s)
