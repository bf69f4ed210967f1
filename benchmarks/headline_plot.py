"""The plot and the table of the README, from the recorded benchmark `headline`.

`python -m benchmarks.headline_plot` writes docs/headline.svg and prints the table in Markdown.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from autoprivacy.common.files import write_atomic
from autoprivacy.models.report.text import seconds
from benchmarks.document import result_file
from benchmarks.headline_groups import CHOSEN

PLOT: Final = Path(__file__).parent.parent / "docs" / "headline.svg"
LEFT: Final = 330
WIDTH: Final = 900
ROW: Final = 24
COLOURS: Final = {"predicted": "#b9d4ea", "measured": "#1f77b4", "chosen": "#2f9e63"}


@dataclass(frozen=True, slots=True)
class Row:
    """One policy of a group, as measured and predicted."""

    label: str
    chosen: bool
    measured_s: float
    low_s: float | None
    high_s: float | None
    predicted_s: float


def rows_of(confirmation: dict[str, Any]) -> list[Row]:
    """Policies of a group, the slowest first."""
    found = [
        Row(
            each["label"],
            each["label"] == CHOSEN,
            each["total"]["measured_s"],
            each["total"]["measured_low_s"],
            each["total"]["measured_high_s"],
            each["total"]["predicted_s"],
        )
        for each in confirmation["policies"]
    ]
    return sorted(found, key=lambda row: -row.measured_s)


def groups_of(document: dict[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    """All groups of a recorded run."""
    for network in document["context"].values():
        for name, confirmation in network["measured"].items():
            yield name, rows_of(confirmation)


def svg(document: dict[str, Any]) -> str:
    """Bars of what was measured, with intervals, beside thinner ones of what was predicted; a scale for each group."""
    parts, y = [], 8
    for name, rows in groups_of(document):
        longest = max(max(row.measured_s, row.predicted_s, row.high_s or 0.0) for row in rows)
        scale = (WIDTH - LEFT - 110) / longest
        parts.append(f'<text x="8" y="{y + 16}" class="head">{escape(name)}</text>')
        y += ROW + 4
        for row in rows:
            colour = COLOURS["chosen" if row.chosen else "measured"]
            width = scale * row.measured_s
            parts += [
                f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(row.label)}</text>',
                _rect(y, width, 12, colour),
                _rect(y + 13, scale * row.predicted_s, 5, COLOURS["predicted"]),
            ]
            end = width
            if row.low_s is not None and row.high_s is not None:
                low, high = LEFT + scale * row.low_s, LEFT + scale * row.high_s
                parts.append(f'<path d="M{low:.1f} {y + 6}H{high:.1f}" stroke="#222" stroke-width="2"/>')
                end = max(end, high - LEFT)
            parts.append(f'<text x="{LEFT + end + 8:.1f}" y="{y + 14}">{seconds(row.measured_s)}</text>')
            y += ROW
        y += 12
    style = "text{font:13px system-ui,sans-serif;fill:#222}.head{font-weight:600}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">'
        f'<style>{style}</style><rect width="{WIDTH}" height="{y}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _rect(y: int, width: float, height: int, colour: str) -> str:
    return f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def table(document: dict[str, Any]) -> Iterator[str]:
    """Figures by network and target, as lines of Markdown."""
    yield "| figure | " + " | ".join(document["context"]) + " | target |"
    yield "|---|" + "---|" * (len(document["context"]) + 1)
    names = dict.fromkeys(
        name.removeprefix(f"{network}_")
        for network in document["context"]
        for name in document["figures"]
        if name.startswith(f"{network}_")
    )
    for name in names:
        cells, target = [], ""
        for network in document["context"]:
            figure = document["figures"].get(f"{network}_{name}")
            cells.append("-" if figure is None else f"{figure:.2f}")
            bounds = document["targets"].get(f"{network}_{name}", {})
            found = [f"{bound} {bounds[bound]:g}" for bound in ("at least", "at most") if bound in bounds]
            target = found[0] if found else target
        yield f"| {name} | {' | '.join(cells)} | {target} |"


def main() -> None:
    """Write the plot, print the table."""
    document = json.loads(result_file("headline").read_text(encoding="utf-8"))
    write_atomic(PLOT, svg(document).encode())
    print("\n".join(table(document)))


if __name__ == "__main__":
    main()
