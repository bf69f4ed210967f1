"""Do two profiles of one machine agree? Two `standard` ones in a row, and a `quick` one beside them, on the core grid.

Figures are differences between the two, in percent, over the settings of the core grid: of quiet and of typical times.
Context: the medians as they were seen, the quick profile against a standard one, an A/A test on real pairs, and a
quick profile while another process keeps one core busy. The same command goes on where it was broken off.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np

from autoprivacy.common.progress import Advance
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.profiler.comparison import compare
from autoprivacy.profiler.harness import Call, calls_per_block, setting_of, time_block
from autoprivacy.profiler.profile import profile_machine
from autoprivacy.profiler.statistics import paired_ratio
from autoprivacy.profiler.workloads import workloads
from benchmarks.document import Document, Target, commit, parse_options

TARGETS: Final = {
    "quiet_median_difference_pct": Target("at most", 1.5),
    "quiet_p95_difference_pct": Target("at most", 5.0),
    "typical_median_difference_pct": Target("at most", 3.0),
    "typical_p95_difference_pct": Target("at most", 8.0),
}
KEPT: Final = Path("build/repeatability")
PAIRS: Final = 200
PAIR_BLOCKS: Final = 21
QUICK_PAIRS: Final = 20
BUSY: Final = "while True: sum(range(10**6))"
WITHIN_PCT: Final = 5.0
"""Beside a busy core, quiet times hold if their median difference is at most this; or the profile says noisy."""


@contextmanager
def _silent(title: str, total: int) -> Iterator[Advance]:
    started = time.monotonic()
    yield lambda: None
    print(f"{title} ({total}): {time.monotonic() - started:.0f} s", file=sys.stderr)


def _profiled(name: str, depth: str, seed: int) -> tuple[MachineProfile, float]:
    """A profile of this commit, measured now unless it is kept; and how long it took."""
    folder, note = KEPT / name, KEPT / f"{name}.txt"
    state = f"{commit()} {depth} {seed}"
    if note.exists() and note.read_text(encoding="utf-8").split("\n")[0] == state:
        return machine_profile.read(folder), float(note.read_text(encoding="utf-8").split("\n")[1])
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    found = profile_machine(name, folder, depth, _silent, seed=seed)
    took_s = time.monotonic() - started
    note.write_text(f"{state}\n{took_s}\n", encoding="utf-8")
    return found, took_s


@contextmanager
def _busy_core() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", BUSY]) as neighbour:
        try:
            yield
        finally:
            neighbour.kill()


def paired_with_itself(pairs: int) -> dict[str, float]:
    """How often the 95 % interval of the ratio of an operation to itself, measured under two names, holds 1."""
    chosen = {
        "to_ntt",
        "encrypt",
        "weighted_sum",
        "garble",
        "decrypt",
        "ot_send",
        "pack",
        "respond",
        "rotate",
        "evaluate",
    }
    calls: dict[str, Call] = {}
    for workload in workloads("quick"):
        if workload.work.operation in chosen and workload.work.n <= 4096:
            calls.setdefault(workload.work.operation, workload.prepare())
    sizes = {name: calls_per_block(call) for name, call in calls.items()}
    rng, held, names = np.random.default_rng(0), 0, sorted(calls)
    for index in range(pairs):
        name = names[index % len(names)]
        first: list[float] = []
        second: list[float] = []
        for _ in range(PAIR_BLOCKS):
            for which in rng.permutation(2).tolist():
                (first, second)[which].append(time_block(calls[name], sizes[name]))
        _, interval = paired_ratio(first, second)
        held += interval is not None and interval[0] <= 1 <= interval[1]
    return {"pairs": pairs, "blocks_each": PAIR_BLOCKS, "holds_one_pct": 100 * held / pairs, "promised_pct": 95.0}


def main() -> None:
    """Measure, compare, say."""
    options = parse_options(__doc__ or "")
    KEPT.mkdir(parents=True, exist_ok=True)
    document = Document("repeatability", options.quick, TARGETS)
    core = [setting_of(workload.key) for workload in workloads("quick")]
    if options.quick:
        document.context["paired_with_itself"] = paired_with_itself(QUICK_PAIRS)
        document.finish(options)
        return
    first, first_s = _profiled("standard-1", "standard", 1)
    second, second_s = _profiled("standard-2", "standard", 2)
    quick, quick_s = _profiled("quick", "quick", 3)
    with _busy_core():
        beside, beside_s = _profiled("quick-beside-a-busy-core", "quick", 4)
    found = compare(first, second, core=core)
    document.figures = {
        "quiet_median_difference_pct": found.quiet.median_pct,
        "quiet_p95_difference_pct": found.quiet.p95_pct,
        "typical_median_difference_pct": found.typical.median_pct,
        "typical_p95_difference_pct": found.typical.p95_pct,
    }
    against_quick, against_beside = compare(first, quick, core=core), compare(first, beside, core=core)
    profiles = {"standard-1": first, "standard-2": second, "quick": quick, "quick-beside-a-busy-core": beside}
    document.conditions = {
        "interleaved": "within a profile every setting once a round, in random order; profiles one after the other",
        **{name: asdict(profile.header.conditions) for name, profile in profiles.items()},
    }
    document.context = {
        "core_settings": len(found.differences),
        "seen_median": asdict(found.seen),
        "quiet": asdict(found.quiet),
        "typical": asdict(found.typical),
        "all_settings_quiet": asdict(compare(first, second).quiet),
        "quick_against_standard": {
            "quiet": asdict(against_quick.quiet),
            "typical": asdict(against_quick.typical),
            "seen": asdict(against_quick.seen),
        },
        "beside_a_busy_core_against_standard": {
            "verdict": beside.header.conditions.verdict,
            "quiet": asdict(against_beside.quiet),
            "flagged_or_holds": beside.header.conditions.verdict == "noisy"
            or against_beside.quiet.median_pct <= WITHIN_PCT,
        },
        "seconds": {
            "standard-1": first_s,
            "standard-2": second_s,
            "quick": quick_s,
            "quick-beside-a-busy-core": beside_s,
        },
        "paired_with_itself": paired_with_itself(PAIRS),
        "ratios": [
            {
                "setting": asdict(each.work),
                "code_path": each.code_path,
                "quiet": each.quiet_ratio,
                "typical": each.typical_ratio,
                "seen": each.seen_ratio,
            }
            for each in found.differences
        ],
    }
    document.finish(options)


if __name__ == "__main__":
    main()
