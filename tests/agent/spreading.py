"""Work for tests of sweeps: it is done when its file is there, and the first one to reach a marker dies."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Scribble:
    """Writes a file, after killing its own process once if it is the fatal one, or always."""

    folder: Path
    number: int
    fatal: str = "never"

    @property
    def file(self) -> Path:
        return self.folder / f"{self.number}.txt"

    @property
    def done(self) -> bool:
        return self.file.exists()

    def __call__(self) -> None:
        marker = self.folder / f"{self.number}.died"
        if self.fatal == "always" or (self.fatal == "once" and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.done:  # Dask starts again what a worker that died had done
            return
        self.file.write_text(str(os.getpid()), encoding="utf-8")
