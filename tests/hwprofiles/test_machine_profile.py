import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autoprivacy.common.errors import BadInput, ProfileMismatch
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.machine_profile import MachineProfile, Software, check_fresh, find, read, stored, write
from tests import synthetic


@pytest.fixture
def profile() -> MachineProfile:
    return synthetic.profile()


@pytest.fixture
def folder(profile: MachineProfile, tmp_path: Path) -> Path:
    write(profile, tmp_path / "kept")
    return tmp_path / "kept"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of profiles, and nothing else to find."""
    monkeypatch.setenv("AUTOPRIVACY_PROFILES", str(tmp_path / "profiles"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(machine_profile, "SHIPPED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "profiles"


def refused(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


def change_table(folder: Path, change: Callable[[list[list[str]]], None]) -> None:
    rows = [line.split(",") for line in (folder / "samples.csv").read_text(encoding="utf-8").splitlines()]
    change(rows)
    (folder / "samples.csv").write_text("\n".join(",".join(row) for row in rows) + "\n", encoding="utf-8")


def set_cell(folder: Path, column: str, line: int, value: str) -> None:
    def change(rows: list[list[str]]) -> None:
        rows[line - 1][rows[0].index(column)] = value

    change_table(folder, change)


def test_a_profile_comes_back_whole(profile: MachineProfile, folder: Path) -> None:
    assert read(folder) == profile
    assert sorted(path.name for path in folder.iterdir()) == [
        "layers.json",
        "parallel.csv",
        "profile.json",
        "runs.json",
        "samples.csv",
    ]


def test_writing_twice_gives_the_same_bytes(profile: MachineProfile, folder: Path) -> None:
    before = [path.read_bytes() for path in sorted(folder.iterdir())]
    write(profile, folder)
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == before


def test_what_was_not_finished_is_no_profile(folder: Path) -> None:
    (folder / "profile.json").unlink()
    assert "profile.json" in refused(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "absent" in refused(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff", b"null", b'{"schema_version": 1}'])
def test_a_corrupt_header_is_refused(folder: Path, content: bytes) -> None:
    (folder / "profile.json").write_bytes(content)
    assert "profile.json" in refused(folder)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("schema_version",), 3, "schema_version"),
        (("rounds",), "14", "rounds"),
        (("machine", "cores"), None, "machine.cores"),
        (("conditions", "verdict"), "perfect", "conditions.verdict"),
        (("conditions", "password"), "secret", "conditions.password"),
        (("software", "kernels_version"), 1.5, "software.kernels_version"),
    ],
)
def test_a_wrong_header_field_is_named(folder: Path, path: tuple[str, ...], value: object, field: str) -> None:
    document = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
    inner = document
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    (folder / "profile.json").write_text(json.dumps(document), encoding="utf-8")
    message = refused(folder)
    assert "profile.json" in message
    assert f"'{field}'" in message


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "-0.5", "", "fast", "1e999", "0x10", "9" * 6000])
@pytest.mark.parametrize("column", ["n", "items", "quiet_s", "typical_s", "quiet_low_s"])
def test_what_is_no_finite_number_at_least_0_is_refused_by_file_line_and_column(
    folder: Path, column: str, value: str
) -> None:
    set_cell(folder, column, 3, value)
    message = refused(folder)
    assert "samples.csv, line 3" in message
    assert repr(column) in message


def test_an_integer_beyond_every_float_is_refused(folder: Path) -> None:
    set_cell(folder, "items", 3, "9" * 400)
    assert "samples.csv, line 3" in refused(folder)


def test_a_quiet_time_above_the_typical_one_is_refused(folder: Path) -> None:
    set_cell(folder, "typical_s", 5, "1e-12")
    message = refused(folder)
    assert "samples.csv, line 5" in message
    assert "quiet_s" in message
    assert "typical_s" in message


def test_a_quiet_time_of_zero_is_refused(folder: Path) -> None:
    set_cell(folder, "quiet_s", 2, "0")
    assert "samples.csv, line 2" in refused(folder)


def test_a_missing_column_is_named(folder: Path) -> None:
    def without_items(rows: list[list[str]]) -> None:
        where = rows[0].index("items")
        for row in rows:
            del row[where]

    change_table(folder, without_items)
    message = refused(folder)
    assert "samples.csv" in message
    assert "'items'" in message


def test_a_table_cut_within_a_line_is_refused(folder: Path) -> None:
    path = folder / "samples.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:6], ",".join(lines[6].split(",")[:-1])]), encoding="utf-8")
    message = refused(folder)
    assert "samples.csv, line 7" in message
    assert "'outliers'" in message


def test_a_table_without_samples_is_refused(folder: Path) -> None:
    change_table(folder, lambda rows: rows.__delitem__(slice(1, None)))
    assert "samples.csv" in refused(folder)
    (folder / "samples.csv").write_bytes(b"")
    assert "samples.csv" in refused(folder)
    (folder / "samples.csv").unlink()
    assert "samples.csv" in refused(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95",
        b"cos\nsystem\n(S'touch hacked'\ntR.",
        b"\x00" * 1000,
        b"operation\n" + b"x" * 200_000,
        b'"' + b"x" * 200_000,
    ],
)
def test_hostile_content_is_read_as_text_and_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "samples.csv").write_bytes(content)
    assert "samples.csv" in refused(folder)
    write(synthetic.profile(), folder)
    (folder / "profile.json").write_bytes(content)
    assert "profile.json" in refused(folder)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null", b'{"runs": [{"name": "a"}]}'])
def test_corrupt_runs_are_refused(folder: Path, content: bytes) -> None:
    (folder / "runs.json").write_bytes(content)
    assert "runs.json" in refused(folder)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("latency", {"quiet_s": float("nan")}),
        ("latency", {"typical_s": float("inf")}),
        ("latency", {"quiet_s": 0.0}),
        ("latency", {"quiet_s": 2.0, "typical_s": 1.0}),
        ("component", {"typical_s": float("nan")}),
        ("component", {"quiet_s": float("inf")}),
        ("component", {"quiet_s": 0.0}),
        ("component", {"quiet_s": -1.0}),
        ("work", {"calls": -1}),
        ("work", {"items": -1}),
        ("run", {"layers": -1}),
    ],
)
def test_impossible_numbers_of_a_run_are_refused(folder: Path, part: str, change: dict[str, float]) -> None:
    document = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    run = document["runs"][1]
    {"latency": run["latency"], "component": run["components"]["ot_s"], "work": run["work"][0], "run": run}[
        part
    ].update(change)
    (folder / "runs.json").write_text(json.dumps(document), encoding="utf-8")
    assert "runs.json" in refused(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize(
    "field", ["reference_typical_s", "reference_slowdown_median", "reference_slowdown_p95", "load_average"]
)
def test_impossible_conditions_are_refused(folder: Path, field: str, value: float) -> None:
    document = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
    document["conditions"][field] = value
    (folder / "profile.json").write_text(json.dumps(document), encoding="utf-8")
    assert "profile.json" in refused(folder)


def test_a_profile_of_other_software_is_stale(profile: MachineProfile) -> None:
    now = profile.header.software
    check_fresh(profile, now)
    for other in (Software("4.3.0", now.kernels_version), Software(now.seal, now.kernels_version + 1)):
        with pytest.raises(ProfileMismatch, match=r"synthetic.*measure again"):
            check_fresh(profile, other)


def test_a_profile_is_found_by_name_and_by_folder(profile: MachineProfile, places: Path) -> None:
    write(profile, places / "mine")
    assert find("mine") == profile
    assert find(str(places / "mine")) == profile
    assert list(stored()) == [places / "mine"]


def test_the_first_place_wins(profile: MachineProfile, places: Path) -> None:
    second = replace(profile, header=synthetic.header("second"))
    for place in machine_profile.search_path()[1:]:
        write(second, place / "mine")
    assert find("mine").header.name == "second"
    write(profile, places / "mine")
    assert find("mine") == profile


def test_an_unknown_name_lists_those_that_exist(profile: MachineProfile, places: Path) -> None:
    with pytest.raises(BadInput, match=r"'ours'.*none yet"):
        find("ours")
    write(profile, places / "mine")
    write(profile, places / "theirs")
    with pytest.raises(BadInput, match=r"'ours' \(known: mine, theirs\)"):
        find("ours")


def test_a_name_that_no_file_system_takes_is_unknown(places: Path) -> None:
    assert not places.exists()
    with pytest.raises(BadInput, match="no profile"):
        find("x" * 5000)
