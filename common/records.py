"""Frozen records and their JSON form, checked once, at the edge.

>>> @record
... class Point:
...     x: int
...     y: int = 0
>>> parse(Point, '{"x": 3}', source="point.json")
Point(x=3, y=0)
>>> parse(Point, '{"x": "three"}', source="point.json")
Traceback (most recent call last):
...
autoprivacy.common.errors.BadInput: point.json: field 'x': Input should be a valid integer (got 'three')
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, dataclass_transform

from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import read_text, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, slotted dataclass that refuses unknown fields, wrong types, NaN and infinity when parsed."""
    made = dataclass(frozen=True, slots=True)(cls)
    made.__pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}  # type: ignore[attr-defined]
    return made


def parse(kind: type[T], text: str | bytes, *, source: str) -> T:
    """Read one record from JSON; `source` names it in errors.

    Raises:
        BadInput: naming the first field that is wrong, the rule it broke and its value.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        shown = repr(first["input"])
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        raise BadInput(f"{source}: field {where!r}: {first['msg']} (got {shown})") from None


def schema_version_of(text: str) -> object:
    """Which schema a JSON document says it is of; None if it does not, which is left to its reader to refuse.

    >>> schema_version_of('{"schema_version": 2}')
    2
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document.get("schema_version") if isinstance(document, dict) else None


def to_json(value: object, *, indent: int | None = 2) -> str:
    """One JSON document of a record (or of anything made of records)."""
    from pydantic import TypeAdapter

    return TypeAdapter(type(value)).dump_json(value, indent=indent).decode()


def load(kind: type[T], path: "Path") -> T:
    """Read one record from a JSON file; errors name the file and the field."""
    return parse(kind, read_text(path), source=str(path))


def save(value: object, path: "Path") -> None:
    """Write one record as JSON, all or nothing."""
    write_atomic(path, (to_json(value) + "\n").encode())
