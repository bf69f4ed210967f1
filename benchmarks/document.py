"""What every benchmark prints and keeps: one JSON document, its figures and its targets side by side."""

import json
import platform
import re
import subprocess
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

RESULTS: Final = Path(__file__).parent / "results"
_ROOT: Final = Path(__file__).parent.parent
_NUMBERS: Final = re.compile(r"\[\n[-+.\deE,\s]+\n *\]")
RUNS: Final = _ROOT / "runs" / "benchmarks"
"""By network, what took long and depends on no profile (sensitivities, simulations): benchmarks share it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to reach: at most, or at least, this."""

    bound: Literal["at most", "at least"]
    value: float

    def reached(self, figure: float) -> bool:
        """Whether the figure does."""
        return figure <= self.value if self.bound == "at most" else figure >= self.value


@dataclass(slots=True)
class Document:
    """One run of a benchmark. `figures` are exactly those that its issue names; all else is `context`."""

    benchmark: str
    quick: bool
    targets: Mapping[str, Target]
    conditions: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The document; targets say whether they were reached (a quick run decides nothing)."""
        targets = {
            name: {target.bound: target.value}
            | ({} if self.quick or name not in self.figures else {"reached": target.reached(self.figures[name])})
            for name, target in self.targets.items()
        }
        return {
            "benchmark": self.benchmark,
            "commit": commit(),
            "machine": machine(),
            "conditions": {"quick": self.quick, **self.conditions},
            "figures": self.figures,
            "context": self.context,
            "targets": targets,
        }

    def finish(self, options: Namespace, file: Path | None = None) -> None:
        """Print the figures, or all of it with --json; keep a full run in `file`, by default in benchmarks/results."""
        text = readable(self.as_json())
        if not self.quick:
            (file or result_file(self.benchmark)).write_text(text, encoding="utf-8")
        if options.json:
            print(text, end="")
            return
        for name, value in self.figures.items():
            target = self.targets.get(name)
            wanted = f"   target: {target.bound} {target.value:g}" if target else ""
            print(f"{name:34} {value:12.4g}{wanted}")


def readable(document: Mapping[str, Any]) -> str:
    r"""JSON with a line for every entry, but one for a list of numbers: of thousands of measured times.

    >>> readable({"times_s": [[0.5, 1.0], [2.0]]})
    '{\n "times_s": [\n  [0.5,1.0],\n  [2.0]\n ]\n}\n'
    """
    text = json.dumps(document, indent=1) + "\n"
    return _NUMBERS.sub(lambda found: "".join(found[0].split()), text)


def parse_options(description: str, **switches: str) -> Namespace:
    """The options that all benchmarks take, and switches of one, by name, with what they do."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="only check, within a minute, that it works")
    parser.add_argument("--json", action="store_true", help="print the whole document")
    parser.add_argument(
        "--budget-s", type=float, default=None, help="stop after so many seconds; the same command goes on"
    )
    for name, does in switches.items():
        parser.add_argument(f"--{name}", action="store_true", help=does)
    return parser.parse_args()


def result_file(benchmark: str) -> Path:
    """Where the last full run is kept."""
    return RESULTS / f"{benchmark}.json"


def commit() -> str:
    """What was measured; marked where files differ from it."""
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> dict[str, Any]:
    """The machine, without anything that names it."""
    from autoprivacy.profiler.machine import describe_machine

    described = describe_machine()
    return {
        "cpu": described.cpu,
        "cores": described.cores,
        "instruction_sets": list(described.instruction_sets),
        "memory_bytes": described.memory_bytes,
        "kernel": platform.release(),
    }
