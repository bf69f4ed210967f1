"""Prepared material on disk: a file without a name, readable by its owner only, that goes when it is closed."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from autoprivacy.common.errors import BadInput

BUFFER_BYTES = 1 << 16


class Spill:
    """Bytes that are written once, in order, and then read once, in the same order.

    The file has mode 0600 and, from the start, no name: no other process can open it by one, and it is gone when this
    one closes it or ends.

    Args:
        folder: where it lies; the system's folder for temporary files by default.

    Raises:
        BadInput: if it cannot be made there, or there is no room for what is written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.size = 0
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=BUFFER_BYTES)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise self._failed(error) from None

    def write(self, data: bytes | memoryview) -> None:
        """Keep these bytes."""
        try:
            self._file.write(data)
        except OSError as error:
            raise self._failed(error) from None
        self.size += memoryview(data).nbytes

    def finish(self) -> None:
        """Nothing more is written; reading begins."""
        try:
            self._file.seek(0)
        except OSError as error:
            raise self._failed(error) from None

    def read_into(self, view: memoryview) -> None:
        """Fill `view` with the next bytes."""
        try:
            got = self._file.readinto(view)  # type: ignore[attr-defined]
        except OSError as error:
            raise self._failed(error) from None
        if got != len(view):
            raise BadInput(f"prepared material in {self._folder} ends early; prepare it again")

    def fileno(self) -> int:
        """The descriptor of the file."""
        return self._file.fileno()

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _failed(self, error: OSError) -> BadInput:
        return BadInput(f"prepared material cannot lie in {self._folder} ({error.strerror}); give another --spill-dir")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
