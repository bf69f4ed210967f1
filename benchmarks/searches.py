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
from autoprivacy.agent.sensitivity import SCHEMA_VERSION, Effect, Sensitivities
from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record, save
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


def assume_costs(search: Search, other: Search) -> None:
    """Give an untrained network accuracy costs: those of another's layer at the same share of the depth.

    Both keep theirs in their folders.
    """
    assert search.folder is not None  # noqa: S101 - that of a full run
    file = search.folder / "sensitivities.json"
    if file.exists():
        return
    measured, ours, theirs = other.sensitivities(), search.coupling, other.coupling
    last, last_there = len(ours.layers) - 1, len(theirs.layers) - 1
    assumed: dict[str, Effect] = {}
    for number, layer in enumerate(ours.layers):
        like = theirs.layers[round(number * last_there / last)]
        for names in ((layer, like), (ours.origin_of[layer], theirs.origin_of[like])):
            own, there = (f"{name} " for name in names)
            effects = measured.effects.items()
            for what, effect in ((what.removeprefix(there), each) for what, each in effects if what.startswith(there)):
                assumed.setdefault(own + what, effect)
    save(Sensitivities(SCHEMA_VERSION, search.trained.hash, measured.images, search.settings.seed, assumed), file)
