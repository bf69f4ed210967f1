"""Sweeps: cells are kept as they are finished, workers may die, and what is done is not done again."""

import subprocess
import sys
from pathlib import Path

import pytest

from autoprivacy.agent import sweeping
from autoprivacy.agent.searching import Settings
from autoprivacy.agent.sweeping import Sweep, complete, sweep
from autoprivacy.common.errors import Refused
from autoprivacy.common.progress import silent
from autoprivacy.common.records import parse, to_json
from autoprivacy.models.deployments import Names
from tests.agent.spreading import Scribble
from tests.models.deployed import write_machine

ROOT = Path(__file__).parent.parent.parent


def test_all_work_is_done_and_only_once(tmp_path: Path) -> None:
    work = [Scribble(tmp_path, number) for number in range(6)]
    complete(work[:2], 1, "local", None, silent)
    before = [each.file.stat().st_mtime_ns for each in work[:2]]
    complete(work, 2, "local", None, silent)
    assert all(each.done for each in work)
    assert [each.file.stat().st_mtime_ns for each in work[:2]] == before


def test_a_worker_that_dies_loses_nothing(tmp_path: Path) -> None:
    work = [Scribble(tmp_path, number, "once" if number == 2 else "never") for number in range(6)]
    complete(work, 2, "local", None, silent)
    assert (tmp_path / "2.died").exists()
    assert all(each.done for each in work)


def test_workers_that_keep_dying_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "MOST_ROUNDS", 2)
    work = [Scribble(tmp_path, 0), Scribble(tmp_path, 1, "always")]
    with pytest.raises(Refused, match="those done are kept"):
        complete(work, 2, "local", None, silent)


ON_DASK = """
import sys
from pathlib import Path
from autoprivacy.agent.sweeping import complete
from autoprivacy.common.progress import silent
from tests.agent.spreading import Scribble
from tests.models.deployed import write_machine
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    work = [Scribble(folder, number, "once" if number == 3 else "never") for number in range(8)]
    complete(work, 2, "dask", None, silent)
    assert all(each.done for each in work)
"""


def test_a_dask_cluster_of_two_workers_does_it_all_when_one_dies(tmp_path: Path) -> None:
    """In a process of its own: workers of the cluster start the main module again."""
    script = tmp_path / "on_dask.py"
    script.write_text(ON_DASK, encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        timeout=120,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "3.died").exists()
    pids = {(tmp_path / f"{number}.txt").read_text(encoding="utf-8") for number in range(8)}
    assert len(pids) >= 2


SETTINGS = Settings(
    max_accuracy_drop=0.03, method="random", packings=("coefficients",), weight_bits=(4, 8), activation_bits=(8,),
    sensitivity_images=50, most_priced=20,
)  # fmt: skip


@pytest.fixture
def deployments(tmp_path: Path) -> list[Names]:
    write_machine(tmp_path, "here")
    return [Names(str(tmp_path / "here"), str(tmp_path / "here"))]


def test_a_sweep_is_summed_up_and_goes_on(deployments: list[Names], tmp_path: Path) -> None:
    def again(seeds: int) -> Sweep:
        return sweep(["digits-cnn"], deployments, seeds, SETTINGS, tmp_path, workers=1)

    first = again(2)
    assert (first.cells, first.began_with) == (2, 0)
    assert parse(Sweep, to_json(first), source="sweep") == first
    (row,) = first.rows
    assert row.found == 2
    assert row.latency_s is not None
    assert row.latency_s >= row.optimum_s * (1 - 1e-12)
    times = [cell.stat().st_mtime_ns for cell in sorted((tmp_path / "cells").rglob("*.json"))]
    more = again(3)
    assert (more.cells, more.began_with) == (3, 2)
    cells = sorted((tmp_path / "cells").rglob("*.json"))
    assert [cell.name for cell in cells] == ["seed-0.json", "seed-1.json", "seed-2.json"]
    assert [cell.stat().st_mtime_ns for cell in cells[:2]] == times
