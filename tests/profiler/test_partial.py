import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from autoprivacy.common.errors import AutoPrivacyError, BadInput
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.profiler import profile as profiling
from autoprivacy.profiler.harness import key_of
from autoprivacy.profiler.partial import Asked, Partial
from tests import synthetic

HEADER = synthetic.header()
ASKED = Asked("quick", 0, HEADER.software, HEADER.machine)
ROUND = [("a", 1e-3, 1e-4), ("b", 2e-3, 1e-4)]


def begun(folder: Path, rounds: int = 3) -> Partial:
    partial = Partial(folder, ASKED, resume=False)
    for _ in range(rounds):
        partial.keep_round(0, ROUND)
    return partial


def test_rounds_come_back(tmp_path: Path) -> None:
    begun(tmp_path).keep_round(1, ROUND)
    found = Partial(tmp_path, ASKED, resume=True)
    assert found.rounds == [(0, ROUND)] * 3 + [(1, ROUND)]
    assert (found.rounds_of(0), found.rounds_of(1), found.rounds_of(2)) == (3, 1, 0)
    assert found.resumed


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_round_cut_short_by_a_kill_is_dropped(tmp_path: Path, cut: int) -> None:
    begun(tmp_path)
    path = tmp_path / "partial" / "blocks.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    found = Partial(tmp_path, ASKED, resume=True)
    assert len(found.rounds) == 2
    found.keep_round(0, ROUND)
    assert Partial(tmp_path, ASKED, resume=True).rounds == [(0, ROUND)] * 3


@pytest.mark.parametrize(
    "line", ["{}", "[0]", '[0, [["a", "x", 1]]]', '[0, [["a", NaN, 1]]]', '[0, [["a", -1, 1]]]', "[" * 5000, "\x00"]
)
def test_damaged_rounds_are_refused(tmp_path: Path, line: str) -> None:
    begun(tmp_path)
    path = tmp_path / "partial" / "blocks.jsonl"
    path.write_text(line + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(BadInput, match=r"blocks.jsonl, line 1"):
        Partial(tmp_path, ASKED, resume=True)


def test_without_resume_it_begins_again(tmp_path: Path) -> None:
    begun(tmp_path)
    assert Partial(tmp_path, ASKED, resume=False).rounds == []


def test_there_must_be_something_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no measurement was broken off"):
        Partial(tmp_path, ASKED, resume=True)


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, depth="full"),
        replace(ASKED, seed=1),
        replace(ASKED, software=replace(HEADER.software, kernels_version=99)),
        replace(ASKED, machine=replace(HEADER.machine, cores=64)),
    ],
)
def test_nothing_else_is_mixed_in(tmp_path: Path, other: Asked) -> None:
    begun(tmp_path)
    with pytest.raises(BadInput, match="run without --resume"):
        Partial(tmp_path, other, resume=True)


@contextmanager
def silent(title: str, total: int) -> Iterator[object]:  # noqa: ARG001 - progress has these
    yield lambda: None


def test_a_measurement_that_was_killed_goes_on_and_ends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    profile_steps: None,  # noqa: ARG001
) -> None:
    keys = [key_of(sample.work, sample.code_path) for sample in synthetic.profile().samples[:3]]
    asked_for: list[int] = []

    def measure(asked: dict[str, object], keep: object, *, dies_after: int | None = None) -> None:
        rounds = asked["rounds"]
        assert isinstance(rounds, int)
        asked_for.append(rounds)
        for index in range(rounds):
            if index == dies_after:
                raise KeyboardInterrupt
            keep([(key, 1e-3 * (1 + index / 100), 1e-4) for key in keys])  # type: ignore[operator]

    monkeypatch.setattr(profiling, "measure_in_fresh_process", lambda asked, keep: measure(asked, keep, dies_after=5))
    with pytest.raises(KeyboardInterrupt):
        profiling.profile_machine("x", tmp_path / "x", "quick", silent)  # type: ignore[arg-type]
    assert not (tmp_path / "x" / "profile.json").exists()
    monkeypatch.setattr(profiling, "measure_in_fresh_process", measure)
    found = profiling.profile_machine("x", tmp_path / "x", "quick", silent, resume=True)  # type: ignore[arg-type]
    assert asked_for[:4] == [14, 9, 14, 14]
    assert [sample.blocks >= 42 for sample in found.samples] == [True] * 3
    assert found.header.interrupted
    assert machine_profile.read(tmp_path / "x") == found
    assert not (tmp_path / "x" / "partial").exists()


@pytest.fixture
def profile_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The later steps, known ahead: this is about going on."""
    runs = synthetic.profile().runs
    monkeypatch.setattr("autoprivacy.profiler.layers.measure_layers", lambda *_: (runs, synthetic.profile().layers))
    monkeypatch.setattr("autoprivacy.profiler.parallel.measure_parallel", lambda *_: synthetic.parallel())
    monkeypatch.setattr("autoprivacy.profiler.link.measure_loopback", lambda *_: synthetic.link())


def test_a_failing_step_keeps_what_was_measured(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    profile_steps: None,  # noqa: ARG001
) -> None:
    def fails(*_: object) -> None:
        raise AutoPrivacyError("no more")

    begun(tmp_path / "x")
    monkeypatch.setattr(profiling, "measure_in_fresh_process", fails)
    with pytest.raises(AutoPrivacyError, match="no more"):
        profiling.profile_machine("x", tmp_path / "x", "quick", silent)  # type: ignore[arg-type]
    assert (tmp_path / "x" / "partial" / "asked.json").exists()


def test_the_widest_intervals_are_measured_again() -> None:
    samples = synthetic.profile().samples[:4]
    wide = tuple(
        replace(sample, quiet_high_s=(1 + width) * sample.quiet_s, quiet_low_s=sample.quiet_s)
        for sample, width in zip(samples, (0.01, 0.5, 0.04, 0.1), strict=True)
    )
    keys = [key_of(sample.work, sample.code_path) for sample in wide]
    assert profiling.widest(wide, 2) == [keys[1], keys[3]]
    assert profiling.widest(wide, 9) == [keys[1], keys[3], keys[2]]
    assert profiling.widest(wide[:1], 9) == []


def test_a_worker_times_what_it_is_asked(tmp_path: Path) -> None:  # noqa: ARG001
    from autoprivacy.profiler.workloads import workloads

    key = next(workload.key for workload in workloads("quick") if workload.work.operation == "ot_send")
    script = (
        "import json, sys; from autoprivacy.profiler.processes import measure_in_fresh_process\n"
        "found = []\n"
        f"asked = {{'depth': 'quick', 'rounds': 2, 'seed': [0, 1], 'keys': [{key!r}]}}\n"
        "measure_in_fresh_process(asked, found.append)\n"
        "print(json.dumps([[each[0] for each in one] for one in found]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().count(key.split("|")[0]) >= 1
