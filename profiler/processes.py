"""Fresh measuring processes, one after the other, and the blocks that they report."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from autoprivacy.common.errors import AutoPrivacyError

Beside = tuple[float, float]
"""Seconds of one timing, and of the reference operation beside it."""


@dataclass(slots=True)
class Blocks:
    """Blocks by key of their setting."""

    by_key: dict[str, list[Beside]] = field(default_factory=lambda: defaultdict(list))

    def add(self, found: Iterable[tuple[str, float, float]]) -> None:
        """Blocks of one round."""
        for key, seconds, reference_s in found:
            self.by_key[key].append((seconds, reference_s))

    @property
    def references(self) -> list[float]:
        """Seconds of the reference operation beside all blocks."""
        return [reference_s for blocks in self.by_key.values() for _, reference_s in blocks]


def measure_in_fresh_process(
    asked: dict[str, object], after_round: Callable[[list[tuple[str, float, float]]], None]
) -> None:
    """Let a new interpreter measure what is `asked` (`worker.py`); `after_round` is given the blocks of each round.

    Raises:
        AutoPrivacyError: if the worker fails; its own message goes to standard error.
    """
    command = [sys.executable, "-m", "autoprivacy.profiler.worker", json.dumps(asked)]
    finished = False
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as worker:
        try:
            assert worker.stdout is not None  # noqa: S101 - it was asked for
            for line in worker.stdout:
                found = json.loads(line)
                if found == "done":
                    finished = True
                else:
                    after_round([(key, float(seconds), float(beside)) for key, seconds, beside in found])
        except (ValueError, TypeError):
            worker.kill()
        except BaseException:
            worker.kill()
            raise
    if worker.returncode or not finished:
        raise AutoPrivacyError(f"a measuring process ended with {worker.returncode}; its message is above")
