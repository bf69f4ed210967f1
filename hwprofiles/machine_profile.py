"""A machine profile: a folder of what was measured, and on what (docs/formats.md).

| file | holds |
|---|---|
| profile.json | what the machine was, and how quiet (`header.py`); written last |
| samples.csv | operations (`samples.py`) |
| runs.json | whole inferences, which correct what operations add up to |
| layers.json | the layers of those and of other runs |
| parallel.csv | slow-downs when several processes work at once |
| loopback/ | this machine's own loopback, as a link profile |
"""

import os
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Final

from autoprivacy.common.errors import BadInput, ProfileMismatch
from autoprivacy.common.files import read_text
from autoprivacy.common.records import load, record, save
from autoprivacy.hwprofiles import schema_1
from autoprivacy.hwprofiles.header import Caches, Conditions, Header, Machine, Software
from autoprivacy.hwprofiles.link_profile import LinkProfile, read_link, write_link
from autoprivacy.hwprofiles.samples import (
    ChosenSet,
    LayerShape,
    Measured,
    MeasuredLayer,
    MeasuredRun,
    ParallelSample,
    Sample,
    Seconds,
    WorkDone,
    check_sample,
    check_times,
)
from autoprivacy.hwprofiles.tables import AGAIN, read_table, write_table

__all__ = [
    "SCHEMA_VERSION",
    "Caches",
    "ChosenSet",
    "Conditions",
    "Header",
    "LayerShape",
    "Machine",
    "MachineProfile",
    "Measured",
    "MeasuredLayer",
    "MeasuredRun",
    "ParallelSample",
    "Sample",
    "Seconds",
    "Software",
    "WorkDone",
    "check_fresh",
    "find",
    "read",
    "search_path",
    "stored",
    "write",
]

SCHEMA_VERSION: Final = 2
SHIPPED: Final = Path(__file__).parent / "shipped"
"""Profiles that come with the package: the machine it was developed on, and declared links."""


@record
class MachineProfile:
    """All of one folder."""

    header: Header
    samples: tuple[Sample, ...]
    runs: tuple[MeasuredRun, ...]
    layers: tuple[MeasuredLayer, ...] = ()
    parallel: tuple[ParallelSample, ...] = ()
    loopback: LinkProfile | None = None


@record
class _Runs:
    runs: tuple[MeasuredRun, ...]


@record
class _Layers:
    layers: tuple[MeasuredLayer, ...]


def write(profile: MachineProfile, folder: Path) -> None:
    """Store `profile` in `folder`; `profile.json` comes last, so that a folder without it is no profile."""
    write_table(Sample, profile.samples, folder / "samples.csv")
    save(_Runs(profile.runs), folder / "runs.json")
    save(_Layers(profile.layers), folder / "layers.json")
    write_table(ParallelSample, profile.parallel, folder / "parallel.csv")
    if profile.loopback is not None:
        write_link(profile.loopback, folder / "loopback")
    save(profile.header, folder / "profile.json")


def read(folder: Path) -> MachineProfile:
    """Load and check a profile, of this schema or an older one.

    Raises:
        BadInput: naming the file, and the line and column or the field that is wrong.
    """
    path = folder / "profile.json"
    profile = _read_old(folder) if schema_1.is_schema_1(read_text(path)) else _read(folder)
    if not profile.samples:
        raise BadInput(f"{folder / 'samples.csv'}: holds no samples; {AGAIN}")
    _check_signs(profile.header, path)
    for run in profile.runs:
        _check_signs(run, folder / "runs.json")
    for layer in profile.layers:
        _check_signs(layer, folder / "layers.json")
    return profile


def _read(folder: Path) -> MachineProfile:
    header = load(Header, folder / "profile.json")
    samples = read_table(Sample, folder / "samples.csv", check_sample)
    runs = load(_Runs, folder / "runs.json").runs
    layers = load(_Layers, folder / "layers.json").layers
    parallel = read_table(ParallelSample, folder / "parallel.csv")
    loopback = read_link(folder / "loopback") if (folder / "loopback").is_dir() else None
    return MachineProfile(header, samples, runs, layers, parallel, loopback)


def _read_old(folder: Path) -> MachineProfile:
    header = schema_1.read_header(folder / "profile.json")
    return MachineProfile(header, schema_1.read_samples(folder / "samples.csv"), load(_Runs, folder / "runs.json").runs)


def _check_signs(value: object, where: Path) -> None:
    """Refuse negative numbers anywhere in a record, and times that are not 0 < quiet <= typical."""
    if isinstance(value, Seconds):
        check_times(value.quiet_s, value.typical_s, str(where))
    if isinstance(value, Conditions) and not value.reference_typical_s > 0:
        raise BadInput(f"{where}: reference_typical_s = {value.reference_typical_s} must be above 0")
    parts: Iterable[tuple[str, object]] = ()
    if is_dataclass(value):
        parts = ((field.name, getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, tuple):
        parts = (("", part) for part in value)
    for name, part in parts:
        if isinstance(part, int | float) and part < 0:
            raise BadInput(f"{where}: field {name!r} is {part}; it must be at least 0")
        _check_signs(part, where)


def check_fresh(profile: MachineProfile, software: Software) -> None:
    """Refuse a profile of an older schema, or measured with other software.

    Raises:
        ProfileMismatch: if it is stale.
    """
    if profile.header.schema_version != SCHEMA_VERSION:
        raise ProfileMismatch(
            f"profile {profile.header.name} is of schema {profile.header.schema_version}, this writes "
            f"{SCHEMA_VERSION}; measure again with `autoprivacy profile`"
        )
    if profile.header.software != software:
        raise ProfileMismatch(
            f"profile {profile.header.name} was measured with {profile.header.software}, this is {software}; "
            "measure again with `autoprivacy profile`"
        )


def search_path() -> list[Path]:
    """Where profiles are found by name, first match first."""
    given = os.environ.get("AUTOPRIVACY_PROFILES")
    user = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local/share")) / "autoprivacy/hwprofiles"
    return [*([Path(given)] if given else []), Path("hwprofiles"), user, SHIPPED]


def stored(marker: str = "profile.json") -> Iterable[Path]:
    """Folders of all machine profiles (or links: "link.json") that can be found by name."""
    return [found.parent for place in search_path() for found in sorted(place.glob(f"*/{marker}"))]


def find(name_or_folder: str) -> MachineProfile:
    """A machine profile by folder or by name.

    Raises:
        BadInput: if there is none; lists those that exist.
    """
    return read(folder_of(name_or_folder, "profile.json"))


def find_link(name_or_folder: str) -> LinkProfile:
    """A link profile by folder or by name.

    Raises:
        BadInput: if there is none; lists those that exist.
    """
    return read_link(folder_of(name_or_folder, "link.json"))


def folder_of(name_or_folder: str, *markers: str) -> Path:
    """The first folder of that name, or that folder, that holds one of the files `markers`.

    Raises:
        BadInput: if there is none; lists those that exist.
    """
    for folder in (Path(name_or_folder), *(place / name_or_folder for place in search_path())):
        if any(_holds(folder, marker) for marker in markers):
            return folder
    known = ", ".join(sorted({folder.name for marker in markers for folder in stored(marker)})) or "none yet"
    raise BadInput(
        f"no profile {name_or_folder!r} (known: {known}); measure one with `autoprivacy profile --name NAME`"
    )


def _holds(folder: Path, marker: str) -> bool:
    try:
        return (folder / marker).exists()
    except OSError:  # a name longer than the file system takes
        return False
