"""What the documentation says of the networks is what their checkpoints record."""

import sys
from pathlib import Path

import pytest

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import zoo
from autoprivacy.networks.accuracy_table import BEGIN, END, main, rewritten, shipped, table
from autoprivacy.networks.checkpoint import Accuracy, TrainingRecord
from autoprivacy.networks.schedules import of_zoo

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"


def test_the_table_is_that_of_the_shipped_checkpoints() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert rewritten(text, table(shipped())) == text, f"run: python -m autoprivacy.networks.accuracy_table {PAGE}"


def test_every_network_of_the_zoo_is_on_the_page_and_no_untrained_one_in_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in zoo.names())
    assert [name for name in zoo.names() if f"`{name}`" in table(shipped())] == [
        name for name in zoo.names() if zoo.is_trained(name)
    ]


def test_a_row_shows_what_is_recorded() -> None:
    counts = {
        (None, None): 99,
        (8, 8): 98,
        (6, 8): 97,
        (6, 6): 96,
        (5, 8): 95,
        (5, 5): 94,
        (4, 8): 93,
        (4, 4): 92,
        (3, 8): 91,
        (3, 3): 90,
    }
    accuracies = tuple(Accuracy("search", *widths, correct, 100) for widths, correct in counts.items())
    others = tuple(Accuracy("confirm", *widths, 0, 100) for widths in counts)
    record = TrainingRecord("train it", 1, "data", of_zoo("lenet5"), "2.0", others + accuracies)
    assert table({"one": record}).splitlines()[2:] == [
        "| `one` | ends at 8 | 99.00% | 98.00% | 97.00% | 95.00% | 93.00% | 91.00% |",
        "| | all | | 98.00% | 96.00% | 94.00% | 92.00% | 90.00% |",
    ]


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_its_markers_is_left_as_it_is(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match="must be there once"):
        rewritten(text, "")
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["accuracy_table", str(page)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert page.read_text(encoding="utf-8") == text


def test_the_table_is_written_between_its_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["accuracy_table", str(page)])
    main()
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n\n{table(shipped())}\n\n{END}\nafter\n"
