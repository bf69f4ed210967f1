"""Reading and writing files so that nothing is ever half-written."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from autoprivacy.common.errors import BadInput


def read_bytes(path: Path) -> bytes:
    """The content of `path`.

    Raises:
        BadInput: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None


def read_text(path: Path) -> str:
    """The content of the UTF-8 file `path`.

    Raises:
        BadInput: if it cannot be read or is not text.
    """
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a text file") from None


def write_atomic(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write `content` beside `path` and rename it into place.

    Raises:
        BadInput: if the disk is full or the folder cannot be written; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # named first: Ctrl-C may come while it is made
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise BadInput(
                f"{path}: cannot be written ({error.strerror}); free space or choose another place"
            ) from None
        raise


def check_writable(path: Path) -> None:
    """Find out, before work that takes long, whether `write_atomic` could write `path`; what is there stays.

    Raises:
        BadInput: if it could not.
    """
    probe = path.with_name(f".{path.name}.probe")
    if _is_folder(path):
        raise BadInput(f"{path}: is a folder; choose another place")
    try:
        write_atomic(probe, b"")
    except BadInput as error:
        raise BadInput(str(error).replace(str(probe), str(path), 1)) from None
    probe.unlink(missing_ok=True)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, say
        return False
