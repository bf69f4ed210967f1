"""A machine profile: a folder of what was measured, and on what.

`profile.json` says what the machine was, `samples.csv` holds operations, `runs.json` whole inferences that correct what
operations add up to.

Columns of `samples.csv`:

| column | meaning |
|---|---|
| operation | name of the interface call that was timed |
| n, q_bits | HE ring degree and modulus width; 0 where there is none |
| calls | calls of the operation that one timing covers (a transfer is answered by a second, empty one) |
| items | what the call handled: products, coefficients, AND gates, transfers or bytes |
| values | tensor values the call handled (garbled circuits), else 0 |
| blocks | timed blocks of at least 4 ms (or one call, where that is longer) |
| quiet_s | 5 % quantile over blocks of seconds of one timing |
| quiet_low_s, quiet_high_s | 95 % bootstrap interval of quiet_s |
| typical_s | median over blocks of seconds of one timing |
"""

import csv
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import Final, Literal, cast

from autoprivacy.common.errors import BadInput, ProfileMismatch
from autoprivacy.common.files import read_text, write_atomic
from autoprivacy.common.records import load, record, save

SCHEMA_VERSION: Final = 1


@record
class Sample:
    """One operation at one setting; see the table above."""

    operation: str
    n: int
    q_bits: int
    calls: int
    items: int
    values: int
    blocks: int
    quiet_s: float
    quiet_low_s: float
    quiet_high_s: float
    typical_s: float


@record
class WorkDone:
    """What a measured inference did of one operation, in total; the columns' meanings are those of a sample."""

    operation: str
    n: int
    q_bits: int
    calls: int
    items: int
    values: int


@record
class Seconds:
    """Quiet and typical seconds of the same thing."""

    quiet_s: float
    typical_s: float


@record
class MeasuredRun:
    """One small network, run privately between two processes of this machine."""

    name: str
    layers: int
    work: tuple[WorkDone, ...]
    components: dict[str, Seconds]
    latency: Seconds


@record
class Software:
    """What the figures depend on besides the machine; a profile of other software is stale."""

    seal: str
    kernels_version: int


@record
class Machine:
    """What the machine is; no host name, user, serial number or address."""

    cpu: str
    architecture: str
    instruction_sets: tuple[str, ...]
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    aes_path: str


@record
class Conditions:
    """How quiet it was: load before, slow-down of the reference operation (median, 95 % quantile), verdict."""

    load_average: float
    reference_typical_s: float
    reference_slowdown_median: float
    reference_slowdown_p95: float
    verdict: Literal["quiet", "noisy"]


@record
class Header:
    """`profile.json`."""

    schema_version: Literal[1]
    id: str
    name: str
    measured_on: str
    software: Software
    machine: Machine
    conditions: Conditions
    processes: int
    rounds: int


@record
class MachineProfile:
    """All of one folder."""

    header: Header
    samples: tuple[Sample, ...]
    runs: tuple[MeasuredRun, ...]


@record
class _Runs:
    runs: tuple[MeasuredRun, ...]


def write(profile: MachineProfile, folder: Path) -> None:
    """Store `profile` in `folder`; `profile.json` comes last, so that a folder without it is no profile."""
    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in fields(Sample)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(sample) for sample in profile.samples)
    write_atomic(folder / "samples.csv", table.getvalue().encode())
    save(_Runs(profile.runs), folder / "runs.json")
    save(profile.header, folder / "profile.json")


def read(folder: Path) -> MachineProfile:
    """Load and check a profile.

    Raises:
        BadInput: naming the file, and the line and column or the field that is wrong.
    """
    header = load(Header, folder / "profile.json")
    path = folder / "samples.csv"
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path))))
    except csv.Error as error:
        raise BadInput(f"{path}: not a table ({error}); measure again with `autoprivacy profile`") from None
    samples = tuple(_sample(row, f"{path}, line {number}") for number, row in enumerate(rows, start=2))
    if not samples:
        raise BadInput(f"{path}: holds no samples; measure again with `autoprivacy profile`")
    runs = load(_Runs, folder / "runs.json").runs
    _check_signs(header, folder / "profile.json")
    for run in runs:
        _check_signs(run, folder / "runs.json")
    return MachineProfile(header, samples, runs)


def _check_signs(value: object, where: Path) -> None:
    """Refuse negative numbers anywhere in a record, and times that are not 0 < quiet <= typical."""
    if isinstance(value, Seconds):
        _check_times(value.quiet_s, value.typical_s, str(where))
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


def _check_times(quiet_s: float, typical_s: float, where: str) -> None:
    if not 0 < quiet_s <= typical_s:
        raise BadInput(f"{where}: quiet_s = {quiet_s} must be above 0 and at most typical_s = {typical_s}")


def _sample(row: dict[str, str], where: str) -> Sample:
    values: dict[str, str | int | float] = {}
    for field in fields(Sample):
        text = row.get(field.name)
        convert = cast("Callable[[str], str | int | float]", field.type)
        try:
            value = convert(text or "")
            valid = bool(text) and (isinstance(value, str) or (isfinite(value) and value >= 0))
        except (ValueError, OverflowError):
            valid = False
        if not valid:
            shown = repr(text)[:60]
            raise BadInput(f"{where}: column {field.name!r} is {shown}; it must be a finite number, at least 0")
        values[field.name] = value
    sample = Sample(**values)  # type: ignore[arg-type] # each was converted to its field's type
    if not 0 < sample.quiet_s <= sample.typical_s:
        raise BadInput(
            f"{where}: quiet_s = {sample.quiet_s} must be above 0 and at most typical_s = {sample.typical_s}"
        )
    return sample


def check_fresh(profile: MachineProfile, software: Software) -> None:
    """Refuse a profile measured with other software.

    Raises:
        ProfileMismatch: if it is stale.
    """
    if profile.header.software != software:
        raise ProfileMismatch(
            f"profile {profile.header.name} was measured with {profile.header.software}, this is {software}; "
            "measure again with `autoprivacy profile`"
        )


def search_path() -> list[Path]:
    """Where profiles are found by name, first match first."""
    given = os.environ.get("AUTOPRIVACY_PROFILES")
    user = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local/share")) / "autoprivacy/hwprofiles"
    return [*([Path(given)] if given else []), Path("hwprofiles"), user]


def stored() -> Iterable[Path]:
    """Folders of all profiles that can be found by name."""
    return [found.parent for place in search_path() for found in sorted(place.glob("*/profile.json"))]


def find(name_or_folder: str) -> MachineProfile:
    """A profile by folder or by name.

    Raises:
        BadInput: if there is none; lists those that exist.
    """
    for folder in (Path(name_or_folder), *(place / name_or_folder for place in search_path())):
        if _holds_profile(folder):
            return read(folder)
    known = ", ".join(sorted({folder.name for folder in stored()})) or "none yet"
    raise BadInput(
        f"no profile {name_or_folder!r} (known: {known}); measure one with `autoprivacy profile --name NAME`"
    )


def _holds_profile(folder: Path) -> bool:
    try:
        return (folder / "profile.json").exists()
    except OSError:  # a name longer than the file system takes
        return False
