"""Prepared material on disk: in files without names, readable by their owner only, that go when they are closed.

What is used up is overwritten, and its file kept for what is prepared next: where a machine gives freed memory back to
its host, writing 110 MB to a new file took four times as long as to pages that are there (178 and 45 ms an inference).
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autoprivacy.common.errors import BadInput

BUFFER_BYTES = 1 << 16
_ZEROS = memoryview(bytes(1 << 20))


class Spill:
    """Bytes that are written in order, then read once in the same order, then wiped; and so again.

    The file has mode 0600 and, from the start, no name: no other process can open it by one, and it is gone when this
    one closes it or ends.

    Args:
        folder: where it lies; the system's folder for temporary files by default.

    Raises:
        BadInput: if it cannot be made there, or there is no room for what is written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.size = 0
        self._left = 0
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
        self._rewind()
        self._left = self.size

    def read_into(self, view: memoryview) -> None:
        """Fill `view` with the next bytes."""
        try:
            got = self._file.readinto(view) if len(view) <= self._left else 0  # type: ignore[attr-defined]
        except OSError as error:
            raise self._failed(error) from None
        if got != len(view):
            raise BadInput(f"prepared material in {self._folder} ends early; prepare it again")
        self._left -= got

    def wipe(self) -> None:
        """Overwrite all that was written, and begin again."""
        written = self.size
        self.begin()
        for start in range(0, written, len(_ZEROS)):
            self.write(_ZEROS[: written - start])
        self.begin()

    def begin(self) -> None:
        """What is written next takes the place of what was."""
        self._rewind()
        self.size = self._left = 0

    def _rewind(self) -> None:
        try:
            self._file.seek(0)
        except OSError as error:
            raise self._failed(error) from None

    def fileno(self) -> int:
        """The descriptor of the file."""
        return self._file.fileno()

    def close(self) -> None:
        """Delete the file."""
        with suppress(OSError):  # what could not be written goes with it
            self._file.close()

    def _failed(self, error: OSError) -> BadInput:
        return BadInput(f"prepared material cannot lie in {self._folder} ({error.strerror}); give another --spill-dir")


class Spills:
    """The files of a session, which come back when what is in them is used up.

    Args:
        folder: where they lie; the system's folder for temporary files by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._free: list[Spill] = []

    def take(self) -> Spill:
        """One to write to.

        Raises:
            BadInput: if none can be made there.
        """
        return self._free.pop() if self._free else Spill(self._folder)

    @contextmanager
    def using_up(self, spill: Spill) -> Iterator[None]:
        """What is in it is wiped afterwards; the file goes where its use fails, or where it cannot be wiped."""
        try:
            yield
        except BaseException:
            spill.close()
            raise
        try:
            spill.wipe()
        except BadInput:  # what was inferred is not lost for that
            spill.close()
        else:
            self._free.append(spill)

    def close(self) -> None:
        """Delete those that are free."""
        while self._free:
            self._free.pop().close()
