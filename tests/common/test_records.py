import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import load, parse, record, save, to_json


@record
class Inner:
    name: str
    sizes: tuple[int, ...]


@record
class Outer:
    count: int
    ratio: float
    inner: Inner
    optional: str | None = None


GOOD = {"count": 3, "ratio": 0.5, "inner": {"name": "a", "sizes": [1, 2]}}

outers = st.builds(
    Outer,
    count=st.integers(),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    inner=st.builds(Inner, name=st.text(), sizes=st.lists(st.integers()).map(tuple)),
    optional=st.none() | st.text(),
)


def refused(document: object) -> str:
    with pytest.raises(BadInput) as caught:
        parse(Outer, json.dumps(document), source="given.json")
    return str(caught.value)


@given(outers)
def test_a_record_comes_back_from_its_json(value: Outer) -> None:
    assert parse(Outer, to_json(value), source="x") == value


def test_a_record_comes_back_from_its_file(tmp_path: Path) -> None:
    value = Outer(1, 2.5, Inner("ü", (4,)))
    save(value, tmp_path / "value.json")
    assert load(Outer, tmp_path / "value.json") == value
    assert json.loads((tmp_path / "value.json").read_text(encoding="utf-8"))["inner"]["name"] == "ü"


def test_records_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Inner("a", ()).name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "field", "rule", "value"),
    [
        ({"count": "three"}, "'count'", "valid integer", "'three'"),
        ({"count": 1.5}, "'count'", "valid integer", "1.5"),
        ({"count": True}, "'count'", "valid integer", "True"),
        ({"ratio": "0.5"}, "'ratio'", "valid number", "'0.5'"),
        ({"ratio": None}, "'ratio'", "valid number", "None"),
        ({"inner": {"name": 7, "sizes": []}}, "'inner.name'", "valid string", "7"),
        ({"inner": {"name": "a", "sizes": [1, "2"]}}, "'inner.sizes.1'", "valid integer", "'2'"),
    ],
)
def test_a_wrong_value_is_refused_by_file_field_rule_and_value(
    changes: dict[str, object], field: str, rule: str, value: str
) -> None:
    message = refused(GOOD | changes)
    assert message.startswith("given.json: ")
    assert field in message
    assert rule in message
    assert value in message
    assert "\n" not in message


def test_a_missing_field_is_named() -> None:
    assert "'inner.sizes'" in refused(GOOD | {"inner": {"name": "a"}})


def test_an_unknown_field_is_refused() -> None:
    assert "'extra'" in refused(GOOD | {"extra": 1})
    assert "'inner.extra'" in refused(GOOD | {"inner": {"name": "a", "sizes": [], "extra": 1}})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"count": 3', b"\xff\xfe", "[" * 5000])
def test_what_is_no_such_document_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadInput, match=r"^given\.json: ") as caught:
        parse(Outer, text, source="given.json")
    assert "\n" not in str(caught.value)


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(refused(GOOD | {"count": "9" * 100_000})) < 300


def test_errors_of_a_file_name_it(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{"count": "x"}', encoding="utf-8")
    with pytest.raises(BadInput, match=r"broken\.json: field 'count'"):
        load(Outer, path)
    with pytest.raises(BadInput, match=r"absent\.json: cannot be read"):
        load(Outer, tmp_path / "absent.json")
