"""A real measurement of a few settings, broken off in the middle by signals, and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.machine_profile import MachineProfile

SCRIPT = """
import sys
import time
from autoprivacy.cli.main import main
from autoprivacy.profiler import profile, workloads
from tests import synthetic

listed = workloads.workloads("quick")
keys = [each.key for each in listed if each.work.operation in {"ot_send", "choose_labels", "spill_read"}]
real = profile.measure_in_fresh_process
pause_s = 0.05 if "--slowly" in sys.argv else 0.0


def measure(asked, keep):
    real({**asked, "keys": keys}, lambda found: (keep(found), time.sleep(pause_s)))


profile.measure_in_fresh_process = measure
profile.layers.measure_layers = lambda *_: (synthetic.profile().runs, synthetic.profile().layers)
profile.parallel.measure_parallel = lambda *_: synthetic.parallel()
profile.link.measure_loopback = lambda *_: synthetic.link()
options = sys.argv
sys.argv = ["autoprivacy", "profile", "--depth", "quick", "--name", "x", "--out", sys.argv[1]]
sys.argv += ["--resume"] if "--resume" in options else []
main()
"""
ROUNDS = 42


def started(folder: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def rounds(folder: Path) -> int:
    path = folder / "x" / "partial" / "blocks.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def broken_off(folder: Path, signal_: signal.Signals, after: int, *options: str) -> tuple[int, str]:
    """Exit code and messages of a measurement that got the signal after so many rounds in all."""
    with started(folder, "--slowly", *options) as process:
        try:
            while rounds(folder) < after and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal_)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, said


def gone_on(folder: Path) -> MachineProfile:
    with started(folder, "--resume") as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return machine_profile.read(folder / "x")


def measuring(folder: Path) -> list[int]:
    """Processes that still measure for this folder's run: none may outlive it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"MARK={folder}".encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_killed_twice_it_goes_on_and_loses_no_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK", str(tmp_path))
    code, said = broken_off(tmp_path, signal.SIGINT, 3)
    assert code == 130
    assert said.strip().splitlines()[-1] == "autoprivacy: interrupted; what was finished is kept"
    first = rounds(tmp_path)
    assert 3 <= first < ROUNDS
    code, _ = broken_off(tmp_path, signal.SIGKILL, first + 15, "--resume")
    assert code == -signal.SIGKILL
    second = rounds(tmp_path)
    assert first + 15 <= second < ROUNDS
    assert not (tmp_path / "x" / "profile.json").exists()
    found = gone_on(tmp_path)
    assert found.header.interrupted
    assert {sample.blocks for sample in found.samples} == {ROUNDS}
    assert not (tmp_path / "x" / "partial").exists()
    deadline = time.monotonic() + 20
    while (left := [pid for pid in measuring(tmp_path) if pid != os.getpid()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == [], "a measuring process outlived its measurement"
