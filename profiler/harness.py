"""Timing: blocks long enough for the clock, interleaved in random order, over rounds and fresh processes.

A workload is set up once per process, warmed up, then called in blocks. A fixed reference operation is timed before and
after every block, so that the machine's drift is seen beside it and can be divided out.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles.samples import WorkDone
from autoprivacy.protocol.memory import keep_freed_memory

BLOCK_S: Final = 0.004
REFERENCE_BLOCK_S: Final = 0.0005
WARM_UP_BLOCKS: Final = 2
FEW_CALLS: Final = 4
"""In a block of so few, a call that takes fresh pages shows: what it needs, others may have left in pieces meanwhile.
So one comes before it, untimed: of responses over 2 ms, levelled, 4 % of blocks took over 1.5 times as long as the
least, not 23 % as without (Zen 3). With 2 here, 7.4 % of blocks of calls of 0.9 to 2 ms took over 1.25 times the least
(one response of 1.8 ms took 2.4 and more in 40 of 42), with 4 and layouts that differ 3.6 % (1 of 42; Zen 4)."""

LAYOUT_BYTES: Final = 1 << 12
"""Where operands lie within pages tells by up to a tenth (one sum took 603 and 606 us in two processes of one layout,
557, 567 and 578 us in three others). So each process has its own: up to so much is left free before every operand."""

LONG_CALL_S: Final = 0.03
"""What takes longer (keys of a session) is not called twice for that."""

Call: TypeAlias = Callable[[], object]
Block: TypeAlias = tuple[int, float, float]
"""Index of the workload, seconds a call, seconds of the reference operation beside it."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One operation at one setting; `prepare` returns the call that is timed."""

    work: WorkDone
    prepare: Callable[[], Call]
    code_path: str = ""

    @property
    def key(self) -> str:
        """Names this setting wherever blocks are kept."""
        return key_of(self.work, self.code_path)


def key_of(work: WorkDone, code_path: str = "") -> str:
    """A setting as one line."""
    return f"{code_path}|{to_json(work, indent=None)}"


def setting_of(key: str) -> tuple[WorkDone, str]:
    """The inverse of `key_of`.

    Raises:
        BadInput: if it is none.
    """
    code_path, _, work = key.partition("|")
    return parse(WorkDone, work, source="the key of a setting"), code_path


def calls_per_block(call: Call, block_s: float = BLOCK_S) -> int:
    """How many calls fill a block, after warming up (the first blocks after start are far slower)."""
    count = 1
    for _ in range(WARM_UP_BLOCKS):
        count = 1
        while (spent := time_block(call, count) * count) < block_s:
            count = max(count + 1, int(count * min(8.0, 1.1 * block_s / max(spent, 1e-7))))
    return count


def time_block(call: Call, count: int) -> float:
    """Seconds a call over one block of `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def reference_operation() -> Call:
    """A fixed amount of integer and memory work that no change of ours makes faster or slower."""
    import hashlib

    content = bytes(range(256)) * 256
    return lambda: hashlib.blake2b(content).digest()


def measure(
    workloads: Sequence[Workload],
    rounds: int,
    rng: np.random.Generator,
    after_round: Callable[[list[Block]], None],
) -> None:
    """Time every workload once a round, in random order; `after_round` is given the blocks of each round.

    Memory is kept, as parties of an inference do.
    """
    keep_freed_memory()
    room, calls = [], []
    for workload in workloads:
        room.append(np.empty(rng.integers(LAYOUT_BYTES), np.uint8))
        calls.append(workload.prepare())
    sizes = [calls_per_block(call) for call in calls]
    again = [size <= FEW_CALLS and time_block(call, 1) < LONG_CALL_S for call, size in zip(calls, sizes, strict=True)]
    reference = reference_operation()
    reference_calls = calls_per_block(reference, REFERENCE_BLOCK_S)
    gc.collect()
    gc.freeze()
    before = time_block(reference, reference_calls)
    for _ in range(rounds):
        blocks: list[Block] = []
        for index in rng.permutation(len(calls)).tolist():
            if again[index]:
                calls[index]()
                before = time_block(reference, reference_calls)
            seconds = time_block(calls[index], sizes[index])
            after = time_block(reference, reference_calls)
            blocks.append((index, seconds, (before + after) / 2))
            before = after
        after_round(blocks)
