"""Profiles as one file: a zip archive of exactly a profile's own files, checked before anything of it is kept."""

import io
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Final, TypeAlias

from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import read_bytes
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.link_profile import LinkProfile, read_link, write_link
from autoprivacy.hwprofiles.machine_profile import MachineProfile

AnyProfile: TypeAlias = MachineProfile | LinkProfile
LINK_FILES: Final = ("transfers.csv", "link.json")
MACHINE_FILES: Final = ("samples.csv", "runs.json", "layers.json", "parallel.csv", "profile.json")
_LOOPBACK: Final = tuple(f"loopback/{name}" for name in LINK_FILES)
MAX_ARCHIVE_BYTES: Final = 64 << 20
MAX_CONTENT_BYTES: Final = 256 << 20
_BROKEN: Final = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)
"""What reading a damaged archive can raise."""

_WHEN: Final = (1980, 1, 1, 0, 0, 0)


def read_any(folder: Path) -> AnyProfile:
    """A machine's or a link's profile, whichever the folder holds.

    Raises:
        BadInput: if neither, or something in it is wrong.
    """
    if (folder / "link.json").exists():
        return read_link(folder)
    return machine_profile.read(folder)


def write_any(profile: AnyProfile, folder: Path) -> None:
    """Store either kind."""
    if isinstance(profile, LinkProfile):
        write_link(profile, folder)
    else:
        machine_profile.write(profile, folder)


def export(profile: AnyProfile) -> bytes:
    """The archive of a profile; the same profile gives the same bytes."""
    content = io.BytesIO()
    with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        folder = Path(place) / "profile"
        write_any(profile, folder)
        for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()):
            archive.writestr(
                zipfile.ZipInfo(name, _WHEN), (folder / name).read_bytes(), compress_type=zipfile.ZIP_DEFLATED
            )
    return content.getvalue()


def import_file(path: Path) -> AnyProfile:
    """The profile in an archive, checked as any other.

    Raises:
        BadInput: naming what is wrong: no archive, files that do not belong, too large, or a field of a file.
    """
    if path.is_file() and path.stat().st_size > MAX_ARCHIVE_BYTES:
        raise BadInput(f"{path}: larger than {MAX_ARCHIVE_BYTES} bytes; it is no exported profile")
    return import_bytes(read_bytes(path), str(path))


def import_bytes(content: bytes, source: str) -> AnyProfile:
    """As `import_file`; `source` names the archive in errors."""
    place = Path(tempfile.mkdtemp())
    try:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                _unpack(archive, place, source)
        except _BROKEN as error:
            raise BadInput(f"{source}: no exported profile ({error}); make one with `profiles export`") from None
        try:
            return read_any(place)
        except BadInput as error:
            raise BadInput(str(error).replace(f"{place}/", f"{source}: ")) from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _unpack(archive: zipfile.ZipFile, place: Path, source: str) -> None:
    """Only files that a profile has, under their own names; sizes are those that really come out."""
    names = [info.filename for info in archive.infolist()]
    kinds = (set(LINK_FILES), {*MACHINE_FILES, *_LOOPBACK})
    if len(set(names)) < len(names) or not any(set(names) <= kind for kind in kinds):
        wrong = next((name for name in names if not any(name in kind for kind in kinds)), "a file twice")
        raise BadInput(f"{source}: holds {wrong[:80]!r}, which belongs to no profile; make one with `profiles export`")
    left = MAX_CONTENT_BYTES
    for info in archive.infolist():
        with archive.open(info) as file:
            data = file.read(left + 1)
        left -= len(data)
        if left < 0:
            raise BadInput(f"{source}: unpacks to more than {MAX_CONTENT_BYTES} bytes; it is no exported profile")
        target = place / info.filename
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
