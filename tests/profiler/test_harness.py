import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from autoprivacy.common.errors import AutoPrivacyError
from autoprivacy.profiler import harness
from autoprivacy.profiler.harness import Workload, calls_per_block, measure, measure_in_fresh_processes, time_block


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
        return Workload(name, 0, 0, 1, 0, lambda: self.work(name, seconds))


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


def test_every_round_measures_everything_once(clock: Clock) -> None:
    costs = {"first": 0.005, "second": 0.007, "third": 0.011}
    workloads = [clock.workload(name, cost) for name, cost in costs.items()]
    ends: list[int] = []
    seconds = measure(workloads, 5, np.random.default_rng(0), lambda: ends.append(len(clock.called)))
    assert set(seconds) == {*(workload.key for workload in workloads), "reference"}
    for workload in workloads:
        assert seconds[workload.key] == pytest.approx([costs[workload.operation]] * 5)
    assert seconds["reference"] == pytest.approx([0.005] * 5)
    assert len(ends) == 5
    rounds = [clock.called[end - 4 : end] for end in ends]
    assert [end - ends[0] for end in ends] == [0, 4, 8, 12, 16]
    assert all(sorted(one) == ["first", "reference", "second", "third"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1, "the order never changes"


def test_the_same_seed_gives_the_same_order(clock: Clock) -> None:
    workloads = [clock.workload(name, 0.005) for name in "abcde"]
    orders = []
    for _ in range(2):
        clock.called.clear()
        measure(workloads, 3, np.random.default_rng(1), lambda: None)
        orders.append(list(clock.called))
    assert orders[0] == orders[1]


def test_real_workloads_are_measured_on_the_real_clock() -> None:
    workloads = [
        Workload("nothing", 0, 0, 0, 0, lambda: lambda: None),
        Workload("sum", 0, 0, 1, 0, lambda: lambda: sum(range(99))),
    ]
    seconds = measure(workloads, 2, np.random.default_rng(0), lambda: None)
    assert {key: len(values) for key, values in seconds.items()} == dict.fromkeys(
        [*(workload.key for workload in workloads), "reference"], 2
    )
    assert all(value > 0 for values in seconds.values() for value in values)


def test_keys_tell_settings_apart() -> None:
    def key(**changes: int) -> str:
        fields = {"n": 1, "q_bits": 1, "items": 1, "values": 1, "calls": 1} | changes
        return Workload("same", prepare=lambda: lambda: None, **fields).key

    assert len({key(), key(n=2), key(q_bits=2), key(items=2), key(values=2), key(calls=2)}) == 6


def worker(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `script` stand in for the interpreter that measures."""
    path = folder / "worker"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


def test_processes_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(tmp_path, monkeypatch, """echo .; echo .; echo '{"a": [1.0, 2.0]}'""")
    rounds: list[None] = []
    assert measure_in_fresh_processes(3, 2, 0, lambda: rounds.append(None)) == {"a": [1.0, 2.0] * 3}
    assert len(rounds) == 6


@pytest.mark.parametrize("script", ["exit 3", "echo .; exit 3", """echo '{"a": [1.0]}'; exit 3""", "kill -9 $$"])
def test_a_failing_worker_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    worker(tmp_path, monkeypatch, script)
    with pytest.raises(AutoPrivacyError, match=r"a measuring process ended with (3|-9)"):
        measure_in_fresh_processes(3, 2, 0, lambda: None)


def test_a_worker_that_measures_nothing_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(tmp_path, monkeypatch, "exit 0")
    with pytest.raises(AutoPrivacyError, match="measuring process"):
        measure_in_fresh_processes(1, 2, 0, lambda: None)
