"""The learning curve of an agent as one HTML page, drawn as other reports are: SVG, no scripts, light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from autoprivacy.agent.environment import Aim
from autoprivacy.agent.problem import UNIT, Floats
from autoprivacy.common.files import write_atomic
from autoprivacy.models.report.charts import nice_step

LEFT: Final = 80.0
RIGHT: Final = 980.0
TOP: Final = 30.0
BOTTOM: Final = 410.0
MOST_DOTS: Final = 1500


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark of an axis."""

    at: float
    text: str


def render_curve(costs: Sequence[float], aim: Aim) -> str:
    """The page, of what policies cost in the order in which they were tried."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    title, unit, scale = ("predicted ms", "ms", 1e3) if aim == "latency" else ("drop, points", "points", 100 * UNIT)
    shown = np.array(costs) * scale
    best = np.minimum.accumulate(shown)
    high = float(np.quantile(shown, 0.98))
    low = float(best[-1])
    span = max(high - low, 1e-9)
    every = max(1, -(-len(shown) // MOST_DOTS))
    episodes = np.arange(1, len(shown) + 1)
    x = LEFT + (RIGHT - LEFT) * episodes / len(shown)

    def at(values: Floats) -> Floats:
        placed: Floats = BOTTOM - (BOTTOM - TOP) * (np.minimum(values, high) - low) / span
        return placed

    step = nice_step(span)
    marks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("learning_curve.html.jinja")
    return template.render(
        title=title,
        episodes=len(shown),
        every=every,
        first=f"{shown[0]:.4g} {unit}",
        best=f"{low:.4g} {unit}",
        dots=list(zip(x[::every].tolist(), at(shown)[::every].tolist(), strict=True)),
        line=list(zip(x[::every].tolist(), at(best)[::every].tolist(), strict=True)),
        y_ticks=[Mark(float(at(np.array(mark))), f"{mark:.4g}") for mark in marks],
        x_ticks=[
            Mark(LEFT + (RIGHT - LEFT) * share, str(round(share * len(shown)))) for share in (0.25, 0.5, 0.75, 1.0)
        ],
    )


def write_curve(costs: Sequence[float], aim: Aim, path: Path) -> None:
    """Write the page, all or nothing.

    Raises:
        BadInput: if it cannot be written.
    """
    write_atomic(path, render_curve(costs, aim).encode())
