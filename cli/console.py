"""What all commands share: where output goes, progress bars, tables, JSON."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from autoprivacy.common.progress import Advance
from autoprivacy.common.records import to_json

VERSION = version("autoprivacy")
_PIPED = None if sys.stdout.isatty() else 160
"""Columns of tables where there is no terminal to say how many."""
out = Console(soft_wrap=True, markup=False, highlight=False, width=_PIPED)
err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(to_json(value) + "\n")


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """A progress bar on standard error."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on standard output; the first column is text, the others figures."""
    made = Table(title=printable(title), title_justify="left")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        made.add_row(*(printable(cell) for cell in row))
    out.print(made)


def say(text: str) -> None:
    """A line (or lines) on standard output."""
    out.print("\n".join(printable(line) for line in text.split("\n")))


def printable(text: str) -> str:
    """`text` without characters that could steer the terminal; names come from files."""
    return "".join(c if c.isprintable() else "?" for c in text)


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds, three significant digits."""
    return f"{1000 * seconds:.3g} ms"


def millions(count: int) -> str:
    """A count in millions, three significant digits."""
    return f"{count / 1e6:.3g}"
