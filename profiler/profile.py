"""`profile`: measure this machine and put the result into the stored form."""

import datetime as dt
import hashlib
import json
from collections.abc import Callable

import numpy as np

from autoprivacy.hwprofiles.machine_profile import SCHEMA_VERSION, Conditions, Header, MachineProfile, Sample
from autoprivacy.profiler.harness import setting_of
from autoprivacy.profiler.layers import NETWORKS, measure_layers
from autoprivacy.profiler.machine import affinity_cores, describe_libraries, describe_machine, describe_software
from autoprivacy.profiler.processes import Beside, Blocks, measure_in_fresh_process
from autoprivacy.profiler.statistics import quiet, summarise, typical

PROCESSES = 3
ROUNDS = 14
"""Blocks per setting: processes x rounds, at least the 40 over 3 processes that a quiet time needs."""

STEPS = PROCESSES * ROUNDS + NETWORKS

NOISY_SLOWDOWN = 1.15
"""A machine whose reference operation is typically this much slower than its own quiet time is called noisy."""


def profile_machine(name: str, after_round: Callable[[], None], *, seed: int = 0) -> MachineProfile:
    """Measure everything; `after_round` is called STEPS times, for progress."""
    import psutil

    load = psutil.getloadavg()[0]
    blocks = Blocks()

    def keep(found: list[tuple[str, float, float]]) -> None:
        blocks.add(found)
        after_round()

    for process in range(PROCESSES):
        asked = {"depth": "quick", "rounds": ROUNDS, "seed": seed + process, "keys": None}
        measure_in_fresh_process(asked, keep)
    reference = blocks.references
    quiet_reference_s = quiet(reference)
    rng = np.random.default_rng(seed)
    samples = tuple(sample_of(key, found, quiet_reference_s, rng) for key, found in sorted(blocks.by_key.items()))
    runs, layers = measure_layers(after_round, quiet_reference_s)
    machine, software = describe_machine(), describe_software()
    digest = hashlib.sha256(json.dumps([name, repr(machine), repr(samples), repr(runs)]).encode()).hexdigest()
    slowdown = np.array(reference) / quiet_reference_s
    median = float(np.median(slowdown))
    noisy = median >= NOISY_SLOWDOWN
    header = Header(
        schema_version=SCHEMA_VERSION,
        id=digest[:16],
        name=name,
        measured_on=dt.datetime.now(dt.UTC).date().isoformat(),
        depth="quick",
        seed=seed,
        software=software,
        libraries=describe_libraries(),
        machine=machine,
        conditions=Conditions(
            load_average=round(load, 2),
            reference_quiet_s=quiet_reference_s,
            reference_typical_s=typical(reference),
            reference_slowdown_median=median,
            reference_slowdown_p95=float(np.quantile(slowdown, 0.95)),
            slowdown_quantiles=tuple((share, float(np.quantile(slowdown, share))) for share in SHARES),
            steal_share=0.0,
            busy_share=0.0,
            throttled=0,
            frequency_low_mhz=0.0,
            frequency_high_mhz=0.0,
            affinity_cores=affinity_cores(),
            verdict="noisy" if noisy else "quiet",
            reasons=("the reference operation is often slowed down",) if noisy else (),
        ),
        processes=PROCESSES,
        rounds=ROUNDS,
    )
    return MachineProfile(header, samples, runs, layers)


SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def sample_of(key: str, blocks: list[Beside], quiet_reference_s: float, rng: np.random.Generator) -> Sample:
    """The sample of one setting from its blocks."""
    work, code_path = setting_of(key)
    seconds, beside = zip(*blocks, strict=True)
    slowdowns = [reference_s / quiet_reference_s for reference_s in beside]
    return Sample.of(work, summarise(seconds, slowdowns, rng), code_path=code_path)
