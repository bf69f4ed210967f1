"""What a measurement has done so far, in a folder of its own, so that nothing is lost when it is broken off.

| file in `partial/` | holds |
|---|---|
| asked.json | what is measured: a run goes on only with the same |
| blocks.jsonl | one line a round: [process, [[key, seconds, reference beside], ...]]; a line cut short is dropped |
| NAME.json | the result of a later step |
"""

import json
import shutil
from math import isfinite
from pathlib import Path
from typing import Final, TypeVar

from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import read_text, write_atomic
from autoprivacy.common.records import load, record, save
from autoprivacy.hwprofiles.header import Machine, Software

T = TypeVar("T")
FOLDER: Final = "partial"


@record
class Asked:
    """What is measured."""

    depth: str
    seed: int
    software: Software
    machine: Machine
    resumed: bool = False


Round = tuple[int, list[tuple[str, float, float]]]
"""Which process, and its blocks of one round."""


class Partial:
    """The folder `partial` inside a profile's.

    Raises:
        BadInput: with `resume`, if there is nothing to go on from, or it was something else.
    """

    def __init__(self, profile: Path, asked: Asked, *, resume: bool) -> None:
        self.folder = profile / FOLDER
        self.rounds: list[Round] = []
        if not resume:
            shutil.rmtree(self.folder, ignore_errors=True)
            save(asked, self.folder / "asked.json")
            return
        if not (self.folder / "asked.json").exists():
            raise BadInput(f"{profile}: no measurement was broken off here; run without --resume")
        found = load(Asked, self.folder / "asked.json")
        if (found.depth, found.seed, found.software, found.machine) != (
            asked.depth,
            asked.seed,
            asked.software,
            asked.machine,
        ):
            raise BadInput(
                f"{self.folder}: was measured at depth {found.depth} by other software, another machine or seed; "
                "run without --resume to begin again"
            )
        save(Asked(asked.depth, asked.seed, asked.software, asked.machine, resumed=True), self.folder / "asked.json")
        self.rounds = self._read()

    def _read(self) -> list[Round]:
        path = self.folder / "blocks.jsonl"
        if not path.exists():
            return []
        lines = read_text(path).split("\n")
        rounds = []
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last line break was cut short
            try:
                process, blocks = json.loads(line)
                found = (int(process), [(str(key), float(seconds), float(beside)) for key, seconds, beside in blocks])
                valid = all(isfinite(s) and isfinite(b) and s > 0 and b > 0 for _, s, b in found[1])
            except (ValueError, TypeError, RecursionError):
                valid = False
            if not valid:
                raise BadInput(f"{path}, line {number}: not a round of blocks; run without --resume to begin again")
            rounds.append(found)
        if lines[-1]:
            write_atomic(path, "".join(line + "\n" for line in lines[:-1]).encode())
        return rounds

    @property
    def resumed(self) -> bool:
        """Whether it was broken off before."""
        return load(Asked, self.folder / "asked.json").resumed

    def keep_round(self, process: int, blocks: list[tuple[str, float, float]]) -> None:
        """One more round of a process."""
        with (self.folder / "blocks.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps([process, blocks]) + "\n")
        self.rounds.append((process, blocks))

    def rounds_of(self, process: int) -> int:
        """How many rounds a process has done."""
        return sum(each == process for each, _ in self.rounds)

    def result(self, kind: type[T], name: str) -> T | None:
        """What a later step found, if it was done."""
        path = self.folder / f"{name}.json"
        return load(kind, path) if path.exists() else None

    def keep_result(self, value: object, name: str) -> None:
        """What a later step found."""
        save(value, self.folder / f"{name}.json")

    def remove(self) -> None:
        """All is measured and stored elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)
