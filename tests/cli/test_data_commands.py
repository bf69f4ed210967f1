import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autoprivacy.cli.main import main
from tests.networks import published

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `data`, with an empty cache and without npm: its exit code, standard output and standard error."""
    monkeypatch.setenv("AUTOPRIVACY_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autoprivacy", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return command


def test_the_list_names_the_sets_and_their_networks(run: Run) -> None:
    code, out, _ = run("list", "--json")
    sets = {each["name"]: each for each in json.loads(out)}
    assert code == 0
    assert {name: each["state"] for name, each in sets.items()} == {
        "digits": "built in",
        "mnist": "not fetched",
        "fashion-mnist": "not fetched",
        "cifar10": "not fetched",
    }
    assert "resnet32" in sets["cifar10"]["networks"]
    code, out, _ = run("list")
    assert all(name in out for name in sets)


def test_digits_need_no_fetching(run: Run) -> None:
    assert run("fetch", "digits") == (0, "digits comes with scikit-learn: there is nothing to fetch\n", "")
    assert json.loads(run("fetch", "digits", "--json")[1]) == {"name": "digits", "file": None, "sha256": None}


def test_an_unknown_set_ends_with_one_line(run: Run) -> None:
    code, out, err = run("fetch", "imagenet")
    assert (code, out) == (2, "")
    assert err.startswith("autoprivacy: no data set 'imagenet'; there are mnist, fashion-mnist, cifar10")


def test_another_set_than_the_published_one_ends_with_one_line(run: Run, tmp_path: Path) -> None:
    source = published.folder(tmp_path / "idx", published.idx_files(published.random_images(published.GREY)))
    code, out, err = run("fetch", "mnist", "--from", source)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "train-images-idx3-ubyte: not the idx file of 60000 x 28 x 28 bytes" in err
    assert not (tmp_path / "cache").exists()
