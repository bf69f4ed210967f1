"""How much slower operations get when several processes do them at once: shared caches, memory and turbo.

`python -m autoprivacy.profiler.parallel DEPTH KEYS` is one worker: for every line it reads, an index into KEYS (a JSON
list of settings) and a number of blocks, it times that many and prints their seconds as one JSON line.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import numpy as np

from autoprivacy.common.errors import AutoPrivacyError
from autoprivacy.hwprofiles.samples import LINKED_CIRCUITS, LINKED_TRANSFERS, ParallelSample
from autoprivacy.profiler.harness import Workload, calls_per_block, setting_of, time_block
from autoprivacy.profiler.machine import affinity_cores
from autoprivacy.profiler.statistics import quiet, ratio_interval, typical
from autoprivacy.profiler.workloads import linked_workloads, workloads
from autoprivacy.protocol.memory import keep_freed_memory

BLOCKS: Final = 10
ROUNDS: Final = {"quick": 3, "standard": 10, "full": 25}
WANTED: Final = {
    "quick": (("weighted_sum", "ring"), ("rotate", "seal"), ("garble", "")),
    "standard": (
        ("weighted_sum", "ring"),
        ("to_ntt", "ring"),
        ("encrypt", "seal"),
        ("rotate", "seal"),
        ("weighted_sum", "seal"),
        ("garble", ""),
        ("evaluate", ""),
        ("ot_send", ""),
        (LINKED_CIRCUITS, ""),
        (LINKED_TRANSFERS, ""),
    ),
}
WANTED["full"] = WANTED["standard"]


def worker_counts(cores: int) -> tuple[int, ...]:
    """Powers of two up to the cores, and the cores.

    >>> worker_counts(6)
    (1, 2, 4, 6)
    """
    return tuple(sorted({*(1 << i for i in range(cores.bit_length()) if 1 << i <= cores), cores}))


def settings(depth: str) -> list[str]:
    """Keys of the settings: the largest core one of each operation; end to end, the largest there is."""
    found = {}
    for workload in _known(depth):
        work = workload.work
        if (work.operation, work.kernel) in WANTED[depth] and work.n <= 4096:
            found[work.operation, work.kernel] = workload.key
    return list(found.values())


def _known(depth: str) -> list[Workload]:
    """What settings are chosen among."""
    more = () if depth == "quick" else linked_workloads(depth)
    return [*workloads("quick"), *more]


def steps(depth: str) -> int:
    """How often a measurement advances its progress."""
    return ROUNDS[depth]


def measure_parallel(
    depth: str, rng: np.random.Generator, after_round: Callable[[], None]
) -> tuple[ParallelSample, ...]:
    """Every setting alone and together with copies of itself, in random order.

    Raises:
        AutoPrivacyError: if a worker fails; its own message goes to standard error.
    """
    keys, counts = settings(depth), worker_counts(affinity_cores())
    seconds: dict[tuple[int, int], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(depth, keys)) for _ in range(counts[-1])]
        for _ in range(ROUNDS[depth]):
            todo = [(index, count) for index in range(len(keys)) for count in counts]
            for chosen in rng.permutation(len(todo)).tolist():
                index, count = todo[chosen]
                seconds[index, count] += _together(workers[:count], index)
            after_round()
    return tuple(
        _sample(keys[index], count, seconds[index, count], seconds[index, 1], rng)
        for index in range(len(keys))
        for count in counts[1:]
    )


def _sample(
    key: str, workers: int, together: Sequence[float], alone: Sequence[float], rng: np.random.Generator
) -> ParallelSample:
    work, _ = setting_of(key)
    low, high = ratio_interval(together, alone, rng)
    return ParallelSample(
        operation=work.operation,
        kernel=work.kernel,
        n=work.n,
        limbs=work.limbs,
        q_bits=work.q_bits,
        items=work.items,
        workers=workers,
        blocks=len(together),
        quiet_slowdown=quiet(together) / quiet(alone),
        typical_slowdown=typical(together) / typical(alone),
        typical_low=low,
        typical_high=high,
    )


@contextmanager
def _worker(depth: str, keys: list[str]) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "autoprivacy.profiler.parallel", depth, json.dumps(keys)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
    ) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def _together(workers: Sequence["subprocess.Popen[str]"], index: int) -> list[float]:
    """Blocks of one setting by all workers at once."""
    for worker in workers:
        assert worker.stdin is not None  # noqa: S101 - it was asked for
        worker.stdin.write(f"{index} {BLOCKS}\n")
    found: list[float] = []
    for worker in workers:
        assert worker.stdout is not None  # noqa: S101 - as above
        line = worker.stdout.readline()
        if not line:
            raise AutoPrivacyError("a worker of the parallel measurement ended early; its message is above")
        found += json.loads(line)
    return found


def main() -> None:
    """Time what is asked until the other side goes away."""
    keep_freed_memory()
    depth, keys = sys.argv[1], json.loads(sys.argv[2])
    known = {workload.key: workload for workload in _known(depth)}
    calls = [known[key].prepare() for key in keys]
    sizes = [calls_per_block(call) for call in calls]
    for line in sys.stdin:
        index, blocks = map(int, line.split())
        print(json.dumps([time_block(calls[index], sizes[index]) for _ in range(blocks)]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
