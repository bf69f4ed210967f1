"""Arrays of .npz files that others wrote, read without trusting them: no pickles, and nothing larger than is wanted."""

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import write_atomic

Check: TypeAlias = Callable[[str, "np.dtype[Any]", tuple[int, ...]], None]
"""Raises BadInput if an array of that name may not have that type and shape."""

_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, KeyError, NotImplementedError, OSError, OverflowError, RuntimeError, ValueError),
)
"""What the standard library raises on a zip file that was truncated or changed."""

_HEADER: Final = re.compile(
    r"\{'descr': '(?P<type>\|[biu]1|[<>][iu][248]|[<>]f[248])', 'fortran_order': (?P<fortran>False|True), "
    r"'shape': \((?P<shape>[0-9, ]{0,200})\), \}\s*"
)
"""The header that numpy writes for an array of plain numbers; its own parser evaluates more than we store."""


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays uncompressed, all or nothing.

    Raises:
        BadInput: if the file cannot be written.
    """
    packed = BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    write_atomic(path, packed.getvalue())


def read_npz(path: Path, names: tuple[str, ...], check: Check) -> dict[str, NDArray[Any]]:
    """Those of the arrays `names` that the file holds, read-only; each is checked before its values are read.

    Raises:
        BadInput: if the file is damaged, holds objects instead of numbers, or `check` refuses.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = archive.namelist()
            # Of two members of one name, it would be the reader's choice which one counts.
            if len(set(held)) != len(held):
                raise BadInput(f"{path}: holds two arrays of one name")
            return {name: _member(archive, name, path, check) for name in names if f"{name}.npy" in held}
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadInput(f"{path}: not a whole .npz file ({reason})") from None
    except MemoryError:
        raise BadInput(f"{path}: does not fit in this machine's memory") from None


def _member(archive: zipfile.ZipFile, name: str, path: Path, check: Check) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise BadInput(f"{path}: array {name!r} is compressed in a way that numpy does not write")
    with archive.open(info) as member:
        magic, length = struct.unpack("<8sH", member.read(10))
        header = member.read(length).decode("latin-1")
        stored = _HEADER.fullmatch(header)
        if magic != b"\x93NUMPY\x01\x00" or stored is None:
            raise BadInput(f"{path}: array {name!r} is not stored as plain numbers: {header.strip()[:60]!r}")
        kind = np.dtype(stored["type"])
        shape = tuple(int(size) for size in stored["shape"].split(",") if size.strip())
        check(name, kind, shape)
        size = prod(shape) * kind.itemsize
        if size != info.file_size - 10 - length:
            raise BadInput(f"{path}: array {name!r} does not hold the {size} bytes of its shape {shape}")
        values = np.frombuffer(member.read(size), kind)
    return values.reshape(shape[::-1]).T if stored["fortran"] == "True" else values.reshape(shape)
