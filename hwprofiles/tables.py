"""Tables of flat records as CSV: written all or nothing, read with every cell checked."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from math import isfinite
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import read_text, write_atomic

MAX_TEXT: Final = 120
MAX_TABLE_BYTES: Final = 64 << 20
AGAIN: Final = "measure again with `autoprivacy profile`"
T = TypeVar("T")


def table_text(kind: type[Any], rows: Sequence[Any]) -> str:
    """Rows of one kind of record as CSV, with a line of column names."""
    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return table.getvalue()


def write_table(kind: type[Any], rows: Sequence[Any], path: Path) -> None:
    """Store rows of one kind of record."""
    write_atomic(path, table_text(kind, rows).encode())


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The cells of a table, unchecked; it has exactly these columns, in any order.

    Raises:
        BadInput: if it is no table, or a column is missing or unknown.
    """
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise BadInput(f"{path}: larger than {MAX_TABLE_BYTES} bytes; {AGAIN}")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
    text = read_text(path)
    try:
        reader = csv.DictReader(io.StringIO(text))
        found = list(reader.fieldnames or ())
        rows = list(reader)
    except csv.Error as error:
        raise BadInput(f"{path}: not a table ({error}); {AGAIN}") from None
    for name in columns:
        if found.count(name) != 1:
            raise BadInput(f"{path}: column {name!r} is there {found.count(name)} times instead of once; {AGAIN}")
    for name in found:
        if name not in columns:
            raise BadInput(f"{path}: unknown column {name[:MAX_TEXT]!r}; {AGAIN}")
    return rows


def read_table(kind: type[T], path: Path, check: Callable[[T, str], None] | None = None) -> tuple[T, ...]:
    """Load a table; `check` refuses rows that are no measurement.

    Raises:
        BadInput: naming the file, and the line and column that is wrong.
    """
    found = []
    for number, row in enumerate(read_rows(path, [field.name for field in fields(cast("Any", kind))]), start=2):
        where = f"{path}, line {number}"
        made = row_of(kind, row, where)
        if check is not None:
            check(made, where)
        found.append(made)
    return tuple(found)


def row_of(kind: type[T], row: Mapping[str, str], where: str) -> T:
    """One checked row: numbers are finite and at least 0, text is short and printable."""
    values = {
        field.name: _cell(row.get(field.name), cast("type", field.type), f"{where}: column {field.name!r}")
        for field in fields(cast("Any", kind))
    }
    if len(row) > len(values):
        raise BadInput(f"{where}: has more cells than there are columns; {AGAIN}")
    return kind(**values)


def _cell(text: str | None, kind: type, where: str) -> str | int | float:
    if text is None:
        raise BadInput(f"{where} is missing; {AGAIN}")
    if kind is str:
        if len(text) > MAX_TEXT or not text.isprintable():
            raise BadInput(f"{where} is {text[:60]!r}; it must be at most {MAX_TEXT} printable characters")
        return text
    try:
        value: int | float = kind(text)
        valid = isfinite(value) and value >= 0
    except (ValueError, OverflowError):
        valid = False
    if not valid:
        raise BadInput(f"{where} is {repr(text)[:60]}; it must be a finite number, at least 0")
    return value
