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
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


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
    made = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        made.add_row(*row)
    out.print(made)


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds, three significant digits."""
    return f"{1000 * seconds:.3g} ms"
