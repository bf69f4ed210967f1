"""A latency report as one HTML page: no scripts, no network, light and dark, and printable.

Figures are drawn as SVG within the page (`charts.py`); every text is escaped by the template.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from autoprivacy.common.files import write_atomic
from autoprivacy.models.latency_report import LatencyReport, security_of
from autoprivacy.models.report import text
from autoprivacy.models.report.charts import layer_chart, range_chart, shown_components, work_s

if TYPE_CHECKING:
    from jinja2 import Environment, Template

__all__ = ["environment", "render", "write_html"]

_SECURITY: Final = {
    "he2024": "128 bits (2024 guidelines)",
    "he2018": "128 bits (2018 standard only)",
    "below": "BELOW 128 bits",
}


def environment(*folders: Path) -> "Environment":
    """What pages are drawn with: templates of `folders` and of this one, filters for figures, every text escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "seconds": text.seconds,
        "milliseconds": text.milliseconds,
        "size": text.size,
        "percent": text.percent,
        "rate": text.rate,
        "tile": text.tile,
        "bits": text.bits,
        "count": text.count,
    }
    made.globals["security"] = _SECURITY.__getitem__
    return made


@cache
def _template() -> "Template":
    return environment().get_template("latency.html.jinja")


def render(report: LatencyReport) -> str:
    """The page."""
    layers = [each for one in report.estimates for each in (*one.prediction.layers, *one.prediction.offline)]
    longest = max(map(work_s, layers))
    warnings: dict[str, list[str]] = {}
    for each in report.estimates:
        for warning in each.warnings:
            warnings.setdefault(warning, []).append(f"{each.policy} on {each.deployment}")
    return _template().render(
        report=report,
        components=shown_components(layers),
        overlaps=any(layer.components.overlapped_s for layer in layers),
        fastest=min(report.estimates, key=lambda each: each.prediction.latency_s + each.prediction.offline_s),
        warnings=[
            (warning, where if len(where) < len(report.estimates) else []) for warning, where in warnings.items()
        ],
        ranges=range_chart(report.estimates),
        machines=list(dict.fromkeys(machine for each in report.deployments for machine in (each.server, each.client))),
        links=list(dict.fromkeys(each.link for each in report.deployments)),
        security_of=security_of,
        chart=lambda drawn: layer_chart(drawn, longest),
    )


def write_html(report: LatencyReport, path: Path) -> None:
    """Write the page, all or nothing.

    Raises:
        BadInput: if it cannot be written.
    """
    write_atomic(path, render(report).encode())
