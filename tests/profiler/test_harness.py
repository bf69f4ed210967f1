import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from autoprivacy.common.errors import AutoPrivacyError
from autoprivacy.hwprofiles.samples import WorkDone
from autoprivacy.profiler import harness
from autoprivacy.profiler.harness import Block, Workload, calls_per_block, measure, setting_of, time_block
from autoprivacy.profiler.processes import Blocks, measure_in_fresh_process
from autoprivacy.profiler.workloads import workloads


class Clock:
    """A clock that only moves when a workload is called."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.called: list[str] = []

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """A call that takes these seconds, the last of them again and again."""
        left = iter(seconds[:-1])

        def call() -> None:
            self.now_s += next(left, seconds[-1])
            self.called.append(name)

        return call

    def workload(self, name: str, seconds: float) -> Workload:
        return Workload(WorkDone(name, 0, 0, 1, 0), lambda: self.work(name, seconds))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(harness, "reference_operation", lambda: made.work("reference", 0.005))
    with monkeypatch.context() as patched:
        patched.setattr(time, "perf_counter", lambda: made.now_s)
        yield made


@pytest.mark.parametrize("seconds", [1e-7, 1e-6, 3e-5, 1e-3, 0.0039])
def test_a_block_of_a_fast_call_lasts_4_ms_or_somewhat_more(clock: Clock, seconds: float) -> None:
    count = calls_per_block(clock.work("fast", seconds))
    assert count * seconds * (1 + 1e-9) >= 0.004
    assert count * seconds <= 8 * 0.004


@pytest.mark.parametrize("seconds", [0.0041, 0.1, 60.0])
def test_a_slow_call_is_a_block(clock: Clock, seconds: float) -> None:
    assert calls_per_block(clock.work("slow", seconds)) == 1


def test_a_slow_first_call_does_not_shorten_the_blocks(clock: Clock) -> None:
    assert calls_per_block(clock.work("cold", 1.0, 1e-6)) >= 4000


def test_a_block_gives_seconds_a_call(clock: Clock) -> None:
    assert time_block(clock.work("some", 1.0, 2.0, 6.0), 3) == pytest.approx(3.0)
    assert len(clock.called) == 3


def test_every_round_measures_everything_once_with_the_reference_beside(clock: Clock) -> None:
    costs = {"first": 0.005, "second": 0.007, "third": 0.011}
    workloads = [clock.workload(name, cost) for name, cost in costs.items()]
    rounds: list[list[Block]] = []
    ends: list[int] = []

    def keep(blocks: list[Block]) -> None:
        rounds.append(blocks)
        ends.append(len(clock.called))

    measure(workloads, 5, np.random.default_rng(0), keep)
    assert len(rounds) == 5
    for blocks in rounds:
        assert sorted(index for index, _, _ in blocks) == [0, 1, 2]
        for index, seconds, beside in blocks:
            assert seconds == pytest.approx(list(costs.values())[index])
            assert beside == pytest.approx(0.005)
    assert [end - ends[0] for end in ends] == [0, 12, 24, 36, 48]
    for end in ends:
        assert clock.called[end - 12 : end][1::2] == ["reference"] * 6
    assert len({tuple(index for index, _, _ in blocks) for blocks in rounds}) > 1, "the order never changes"


def test_a_slow_call_comes_once_untimed_before_its_block_unless_it_is_too_slow(clock: Clock) -> None:
    costs = {"fast": 0.0005, "slow": 0.02, "slower": 0.05}
    seen: list[str] = []

    def keep(_: list[Block]) -> None:
        seen.extend(clock.called)
        clock.called.clear()

    measure([clock.workload(*each) for each in costs.items()], 2, np.random.default_rng(0), keep)
    last = seen[-(8 + 2 + 1 + 4) :]
    assert {name: last.count(name) for name in costs} == {"fast": 8, "slow": 2, "slower": 1}
    assert last.count("reference") == 4


def test_the_reference_beside_is_the_mean_of_before_and_after(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    # Warming up calls it twice; then 2 before the first block, 4 after it and 6 after the second.
    monkeypatch.setattr(harness, "reference_operation", lambda: clock.work("reference", 1.0, 1.0, 2.0, 4.0, 6.0))
    found: list[Block] = []
    measure([clock.workload("only", 0.0007)], 2, np.random.default_rng(0), found.extend)
    assert [beside for _, _, beside in found] == pytest.approx([3.0, 5.0])


def test_the_same_seed_gives_the_same_order(clock: Clock) -> None:
    workloads = [clock.workload(name, 0.005) for name in "abcde"]
    orders = []
    for _ in range(2):
        clock.called.clear()
        measure(workloads, 3, np.random.default_rng(1), lambda _: None)
        orders.append(list(clock.called))
    assert orders[0] == orders[1]


def test_real_workloads_are_measured_on_the_real_clock() -> None:
    workloads = [
        Workload(WorkDone("nothing", 0, 0, 0, 0), lambda: lambda: None),
        Workload(WorkDone("sum", 0, 0, 1, 0), lambda: lambda: sum(range(99))),
    ]
    found: list[Block] = []
    measure(workloads, 2, np.random.default_rng(0), found.extend)
    assert sorted(index for index, _, _ in found) == [0, 0, 1, 1]
    assert all(seconds > 0 and beside > 0 for _, seconds, beside in found)


def test_keys_tell_settings_apart_and_give_them_back() -> None:
    plain = WorkDone("same", 1, 1, 1, 1)
    texts = {"kernel": "ring", "privacy": "none", "state": "hot", "operation": "other"}
    changed = [replace(plain, **cast("Any", {name: texts.get(name, 7)})) for name in WorkDone.__dataclass_fields__]
    workloads = [Workload(work, lambda: lambda: None, path) for work in (plain, *changed) for path in ("", "avx2")]
    keys = [workload.key for workload in workloads]
    assert len(set(keys)) == len(keys)
    assert [setting_of(key) for key in keys] == [(workload.work, workload.code_path) for workload in workloads]


def worker(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `script` stand in for the interpreter that measures."""
    path = folder / "worker"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


def test_processes_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(tmp_path, monkeypatch, """echo '[["a", 1.0, 0.5]]'; echo '[["a", 2.0, 0.25]]'; echo '"done"'""")
    blocks, rounds = Blocks(), list[None]()

    def keep(found: list[tuple[str, float, float]]) -> None:
        blocks.add(found)
        rounds.append(None)

    for _ in range(3):
        measure_in_fresh_process({}, keep)
    assert blocks.by_key == {"a": [(1.0, 0.5), (2.0, 0.25)] * 3}
    assert sorted(blocks.references) == [0.25] * 3 + [0.5] * 3
    assert len(rounds) == 6


@pytest.mark.parametrize(
    "script", ["exit 3", "echo '[]'; exit 3", """echo '[["a", 1.0, 1.0]]'; exit 3""", "kill -9 $$"]
)
def test_a_failing_worker_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    worker(tmp_path, monkeypatch, script)
    with pytest.raises(AutoPrivacyError, match=r"a measuring process ended with (3|-9)"):
        measure_in_fresh_process({}, lambda _: None)


@pytest.mark.parametrize("script", ["exit 0", "echo nonsense", "echo '[1]'", "echo '{}'"])
def test_a_worker_that_measures_nothing_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    worker(tmp_path, monkeypatch, script)
    with pytest.raises(AutoPrivacyError, match="measuring process"):
        measure_in_fresh_process({}, lambda _: None)


def test_a_worker_whose_asker_is_gone_ends_without_a_word() -> None:
    """As when Ctrl-C comes while it starts: nobody holds it yet, so nobody can end it."""
    (key,) = [each.key for each in workloads("quick") if each.work.operation == "ot_send" and each.work.items == 256]
    asked = {"depth": "quick", "rounds": 400, "seed": 1, "keys": [key]}
    command = [sys.executable, "-m", "autoprivacy.profiler.worker", json.dumps(asked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stderr is not None
        assert worker.stdout.readline()
        worker.stdout.close()
        assert worker.stderr.read() == ""
        assert worker.wait(30) == 0
