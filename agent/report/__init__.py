"""The story of a run as one HTML page: no scripts, no network, light and dark, and printable.

It shares style, figures and charts with the latency report (`models/report`).
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from autoprivacy.agent.report.figures import front_chart, ladder_chart, proof_chart
from autoprivacy.agent.story import Story
from autoprivacy.common.files import write_atomic
from autoprivacy.models.prediction import Components
from autoprivacy.models.report import environment
from autoprivacy.models.report.charts import layer_chart, shown_components, work_s

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["render_story", "write_story"]


@dataclass(frozen=True, slots=True)
class _Bar:
    name: str
    components: Components


@cache
def _template() -> "Template":
    return environment(Path(__file__).parent).get_template("story.html.jinja")


def render_story(story: Story) -> str:
    """The page."""
    wholes = [
        _Bar(f"{kind}: {each.label}", components)
        for each in story.confirmation.policies
        for kind, components in (("predicted", each.online.predicted), ("measured", each.online.measured))
    ]
    answer = story.confirmation.policies[0]
    layers = [
        _Bar(f"{kind}: {layer.name}", components)
        for layer in answer.online.layers
        for kind, components in (("predicted", layer.predicted), ("measured", layer.measured))
    ]
    # Bars of policies that take many times as long would leave no room for the others.
    shortest = min(map(work_s, wholes))
    drawn = [bar for bar in wholes if work_s(bar) <= 12 * shortest]
    return _template().render(
        story=story,
        answer=answer,
        predicted={each.label: each for each in story.predictions.policies},
        components=shown_components([*wholes, *layers]),
        proof=proof_chart(story.confirmation),
        ladder=ladder_chart(story.found.ladder),
        front=front_chart(story.found.front, story.found),
        policy_bars=layer_chart(drawn, max(map(work_s, drawn))),
        undrawn=[bar.name for bar in wholes if bar not in drawn],
        layer_bars=layer_chart(layers, max(map(work_s, layers))),
        contradictions=story.confirmation.contradictions(),
    )


def write_story(story: Story, path: Path) -> None:
    """Write the page, all or nothing.

    Raises:
        BadInput: if it cannot be written.
    """
    write_atomic(path, render_story(story).encode())
