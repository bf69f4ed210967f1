from dataclasses import replace
from pathlib import Path

import pytest

from autoprivacy.models import fitted as module
from autoprivacy.models.fitted import KEPT, fitted
from autoprivacy.models.machine_model import fit
from tests import synthetic


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "autoprivacy/fitted"


def test_a_machine_is_fitted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = synthetic.profile()
    first = fitted(profile)
    assert first == fit(profile)
    monkeypatch.setattr(module, "fit", None)
    assert fitted(profile) == first
    assert len(list(folder.iterdir())) == 1


def test_another_profile_or_a_damaged_file_is_fitted_anew(folder: Path) -> None:
    profile = synthetic.profile()
    expected = fitted(profile)
    (file,) = folder.iterdir()
    file.write_text("{")
    assert fitted(profile) == expected
    slower = replace(profile, runs=profile.runs[:-1])
    assert fitted(slower) == fit(slower)
    assert len(list(folder.iterdir())) == 2


def test_the_oldest_fits_are_forgotten(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(KEPT + 3):
        (folder / f"{number}.json").write_text("{}")
    fitted(synthetic.profile())
    assert len(list(folder.iterdir())) == KEPT


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    profile = synthetic.profile()
    assert fitted(profile) == fit(profile)
