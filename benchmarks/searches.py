"""What benchmarks of searches have in common: the machine, the settings, a search and its ladder.

The machine is that of $AUTOPRIVACY_BENCHMARK_PROFILE, a profile's name or folder.
"""

import os
from functools import cache
from typing import Final

from autoprivacy.agent.accuracy import AccuracyDrop
from autoprivacy.agent.choosing import choose
from autoprivacy.agent.ladder import Rung, ladder
from autoprivacy.agent.problem import UNIT
from autoprivacy.agent.searching import Search, Settings
from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.fitted import fitted
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.protocol.policy import Policy

FULL: Final = Settings(max_accuracy_drop=0.005)
QUICK: Final = Settings(
    max_accuracy_drop=0.03, weight_bits=(4, 8), activation_bits=(4, 8), sensitivity_images=200, judged_images=500
)


@cache
def benchmarked_model(*, quick: bool) -> MachineModel:
    """The machine's model; without one named, a quick run takes the first profile that is stored.

    Raises:
        BadInput: if there is none.
    """
    named = os.environ.get("AUTOPRIVACY_BENCHMARK_PROFILE")
    if named is not None:
        return fitted(machine_profile.find(named))
    stored = next(iter(machine_profile.stored()), None) if quick else None
    if stored is None:
        raise BadInput("no profile: set AUTOPRIVACY_BENCHMARK_PROFILE to this machine's (`autoprivacy profile`)")
    return fitted(machine_profile.read(stored))


@record
class Found:
    """What a search gave, and its ladder, whose rungs are not simulated: that takes minutes each."""

    policy: Policy
    latency_s: float
    additive_drop: float
    drop: AccuracyDrop
    simulated: int
    ladder: tuple[Rung, ...]


def find(search: Search) -> Found:
    """The choice and its ladder.

    Raises:
        Refused: if no policy keeps the limit.
    """
    tables = search.tables()
    best, drop, simulated = choose(search, tables)
    policy = search.policy(tables, best.policy, method_name="exact")
    return Found(policy, best.latency_s, best.penalty * UNIT, drop, simulated, ladder(search, best, judge=False))
