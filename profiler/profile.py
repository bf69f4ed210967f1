"""`profile`: measure this machine and put the result into the stored form."""

import datetime as dt
import hashlib
import json
from collections.abc import Callable

import numpy as np

from autoprivacy.hwprofiles.machine_profile import SCHEMA_VERSION, Conditions, Header, MachineProfile, Sample
from autoprivacy.profiler.harness import measure_in_fresh_processes
from autoprivacy.profiler.layers import NETWORKS, measure_layers
from autoprivacy.profiler.machine import describe_machine, describe_software
from autoprivacy.profiler.statistics import quiet, quiet_interval, typical

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
    seconds = measure_in_fresh_processes(PROCESSES, ROUNDS, seed, after_round)
    reference = np.array(seconds.pop("reference"))
    slowdown = reference / quiet(reference.tolist())
    rng = np.random.default_rng(seed)
    samples = tuple(_sample(key, values, rng) for key, values in sorted(seconds.items()))
    runs = measure_layers(after_round)
    machine, software = describe_machine(), describe_software()
    digest = hashlib.sha256(json.dumps([name, repr(machine), repr(samples), repr(runs)]).encode()).hexdigest()
    median = float(np.median(slowdown))
    header = Header(
        schema_version=SCHEMA_VERSION,
        id=digest[:16],
        name=name,
        measured_on=dt.datetime.now(dt.UTC).date().isoformat(),
        software=software,
        machine=machine,
        conditions=Conditions(
            load_average=round(load, 2),
            reference_typical_s=typical(reference.tolist()),
            reference_slowdown_median=median,
            reference_slowdown_p95=float(np.quantile(slowdown, 0.95)),
            verdict="quiet" if median < NOISY_SLOWDOWN else "noisy",
        ),
        processes=PROCESSES,
        rounds=ROUNDS,
    )
    return MachineProfile(header, samples, runs)


def _sample(key: str, values: list[float], rng: np.random.Generator) -> Sample:
    operation, n, q_bits, calls, items, handled = json.loads(key)
    low, high = quiet_interval(values, rng)
    return Sample(
        operation=operation,
        n=n,
        q_bits=q_bits,
        calls=calls,
        items=items,
        values=handled,
        blocks=len(values),
        quiet_s=quiet(values),
        quiet_low_s=low,
        quiet_high_s=high,
        typical_s=typical(values),
    )
