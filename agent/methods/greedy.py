"""Greedy: from the most accurate policy, again and again the change that saves most seconds per unit of penalty."""

import numpy as np

from autoprivacy.agent.methods.interface import Pricer, Solution
from autoprivacy.agent.methods.starting import coupled_pairs, neighbours, safest
from autoprivacy.agent.problem import Ints, Problem

_PAIR_OPTIONS = 400
"""Of two coupled layers at most so many pairs of options are tried at a time."""


def solve(problem: Problem, budget: int, rng: np.random.Generator, most: int) -> Solution:
    """The policy at which no affordable change of one layer, or of two coupled ones, saves time."""
    pricer = Pricer(problem, most)
    policy = safest(problem, budget)
    if most < 1:
        return pricer.solution()
    seconds, penalty = (float(value[0]) for value in pricer.price(policy[None], budget))
    while True:
        tried = _moves(problem, policy, rng)[: pricer.left]
        if not len(tried):
            break
        tried_s, tried_penalty = pricer.price(tried, budget)
        saved, spent = seconds - tried_s, tried_penalty - penalty
        better = (saved > 1e-12) & (tried_penalty <= budget)
        if not better.any():
            break
        worth = np.where(better, saved / np.maximum(spent, 0.5), -np.inf)
        at = int(worth.argmax())
        policy, seconds, penalty = tried[at], float(tried_s[at]), float(tried_penalty[at])
    return pricer.solution()


def _moves(problem: Problem, policy: Ints, rng: np.random.Generator) -> Ints:
    moves = [neighbours(problem, policy)]
    for first, second in coupled_pairs(problem):
        sizes = problem.layers[first].size, problem.layers[second].size
        count = min(_PAIR_OPTIONS, sizes[0] * sizes[1])
        chosen = np.sort(rng.choice(sizes[0] * sizes[1], count, replace=False))
        changed = np.repeat(policy[None], count, axis=0)
        changed[:, first], changed[:, second] = np.divmod(chosen, sizes[1])
        moves.append(changed)
    return np.concatenate(moves)
