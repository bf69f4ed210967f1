"""Timing: blocks long enough for the clock, interleaved in random order, over rounds and fresh processes.

A workload is set up once per process, warmed up, then called in blocks. A fixed reference operation runs in every
round, so that the machine's drift is seen.
"""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from autoprivacy.common.errors import AutoPrivacyError

BLOCK_S = 0.004
WARM_UP_BLOCKS = 2


@dataclass(frozen=True, slots=True)
class Workload:
    """One operation at one setting; `prepare` returns the call that is timed."""

    operation: str
    n: int
    q_bits: int
    items: int
    values: int
    prepare: Callable[[], Callable[[], object]]
    calls: int = 1

    @property
    def key(self) -> str:
        """Names this setting in a worker's output."""
        return json.dumps([self.operation, self.n, self.q_bits, self.calls, self.items, self.values])


def calls_per_block(call: Callable[[], object]) -> int:
    """How many calls fill a block, after warming up (the first blocks after start are far slower)."""
    count = 1
    for _ in range(WARM_UP_BLOCKS):
        count = 1
        while (spent := time_block(call, count) * count) < BLOCK_S:
            count = max(count + 1, int(count * min(8.0, 1.1 * BLOCK_S / max(spent, 1e-7))))
    return count


def time_block(call: Callable[[], object], count: int) -> float:
    """Seconds a call over one block of `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def reference_operation() -> Callable[[], object]:
    """A fixed amount of integer and memory work that no change of ours makes faster or slower."""
    import hashlib

    content = bytes(range(256)) * 256
    return lambda: hashlib.blake2b(content).digest()


def measure(
    workloads: Sequence[Workload], rounds: int, rng: np.random.Generator, after_round: Callable[[], None]
) -> dict[str, list[float]]:
    """Seconds a call, one entry a round, by workload key; "reference" holds the reference operation's."""
    calls = {workload.key: workload.prepare() for workload in workloads}
    calls["reference"] = reference_operation()
    sizes = {key: calls_per_block(call) for key, call in calls.items()}
    seconds: dict[str, list[float]] = defaultdict(list)
    keys = list(calls)
    for _ in range(rounds):
        for index in rng.permutation(len(keys)):
            key = keys[index]
            seconds[key].append(time_block(calls[key], sizes[key]))
        after_round()
    return seconds


def measure_in_fresh_processes(
    processes: int, rounds: int, seed: int, after_round: Callable[[], None]
) -> dict[str, list[float]]:
    """The same measurement in several new interpreters, one after the other; blocks are put together.

    Raises:
        AutoPrivacyError: if a worker fails; its own message goes to standard error.
    """
    together: dict[str, list[float]] = defaultdict(list)
    for process in range(processes):
        command = [sys.executable, "-m", "autoprivacy.profiler.worker", str(rounds), str(seed + process)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as worker:
            assert worker.stdout is not None  # noqa: S101 - it was asked for
            last = ""
            try:
                for line in worker.stdout:
                    if line.startswith("."):
                        after_round()
                    else:
                        last = line
            except BaseException:
                worker.kill()
                raise
        try:
            measured = json.loads(last)
        except json.JSONDecodeError:
            measured = None
        if worker.returncode or not isinstance(measured, dict):
            raise AutoPrivacyError(f"a measuring process ended with {worker.returncode}; its message is above")
        for key, values in measured.items():
            together[key] += values
    return together
