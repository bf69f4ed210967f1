"""The machine that benchmarks of searches are about: $AUTOPRIVACY_BENCHMARK_PROFILE, a profile's name or folder."""

import os
from functools import cache

from autoprivacy.common.errors import BadInput
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.fitted import fitted
from autoprivacy.models.machine_model import MachineModel


@cache
def benchmarked_model(*, quick: bool) -> MachineModel:
    """Its model; without one, a quick run takes the first profile that is stored.

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
