"""Problem B: can a method that met many policies beat the exact solution of problem A, repaired by simulation?

The optimum of problem A is exact for costs that add up. What counts is the joint simulation, in which a policy may lose
less than its layers do one by one. So an agent is let loose at a wider additive budget; policies it met that are
predicted to be faster than the repaired exact one are simulated as a whole, from the fastest on and evenly over their
ranks if there are too many, until one keeps the limit.
"""

from collections.abc import Sequence

import numpy as np

from autoprivacy.agent.problem import Floats, Ints
from autoprivacy.agent.searching import Search
from autoprivacy.agent.surrogate import Surrogate
from autoprivacy.common.records import record


@record
class Beaten:
    """`latency_s` is that of the fastest policy that keeps the limit: the repaired exact one's where none was faster.

    `gain` is by what share it is faster; `faster` counts policies that were met and are predicted to be so.
    """

    latency_s: float
    gain: float
    faster: int
    simulated: int


def beat(
    search: Search,
    tables: Surrogate,
    to_beat_s: float,
    policies: Ints,
    seconds: Floats,
    *,
    most_simulated: int,
) -> Beaten:
    """Simulate the fastest of policies (P, layers) that take `seconds` (P,) until one keeps the limit."""
    order = np.argsort(seconds, kind="stable")
    candidates = _distinct([policies[at] for at in order.tolist() if seconds[at] < to_beat_s * (1 - 1e-9)])
    for number, policy in enumerate(_spread(candidates, most_simulated), 1):
        drop = search.simulate(search.policy(tables, policy, method_name=""))
        if drop.upper <= search.settings.max_accuracy_drop:
            latency_s = float(tables.problem.latency(policy[None])[0])
            return Beaten(latency_s, 1 - latency_s / to_beat_s, len(candidates), number)
    return Beaten(to_beat_s, 0.0, len(candidates), min(len(candidates), most_simulated))


def _distinct(policies: Sequence[Ints]) -> list[Ints]:
    return list({tuple(policy.tolist()): policy for policy in policies}.values())


def _spread(candidates: Sequence[Ints], most: int) -> list[Ints]:
    """At most so many, evenly over their ranks: the very fastest rarely keep the limit."""
    if len(candidates) <= most:
        return list(candidates)
    return [candidates[at] for at in np.linspace(0, len(candidates) - 1, most).astype(int).tolist()]
