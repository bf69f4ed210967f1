"""The two charts of a report, as data that the template draws in SVG: widths are in a box 1000 wide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from autoprivacy.models.latency_report import Estimate
from autoprivacy.models.prediction import Components
from autoprivacy.models.report.text import seconds

COMPONENTS: Final = (
    ("client_he_s", "client HE"),
    ("server_he_s", "server HE"),
    ("ot_s", "oblivious transfer"),
    ("garble_s", "garbling"),
    ("evaluate_s", "evaluation"),
    ("link_s", "link"),
    ("clear_s", "clear linear"),
    ("spill_s", "files"),
    ("other_s", "other"),
)
"""Fields of `Components` that are work, and what the report calls them; `overlapped_s` is done at once with others."""

LEFT: Final = 250.0
RIGHT: Final = 90.0
WIDTH: Final = 1000.0
_SPAN: Final = WIDTH - LEFT - RIGHT
_LONGEST_NAME: Final = 32


class Drawn(Protocol):
    """What a bar is drawn of: a layer, or a whole inference."""

    @property
    def name(self) -> str:
        """What stands beside the bar."""
        ...

    @property
    def components(self) -> Components:
        """What it is divided into."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """One component of a bar."""

    component: str
    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A layer: its segments side by side up to `end`, and its total, which is less where parties work at once."""

    label: str
    name: str
    segments: tuple[Segment, ...]
    end: float
    total_x: float
    total: str
    overlaps: bool


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate: where its figures lie, in the box, and what they are."""

    label: str
    name: str
    quiet: float
    low: float
    typical: float
    high: float
    busy: float
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Ranges:
    """Estimates on one axis from zero."""

    ranges: tuple[Range, ...]
    ticks: tuple[Tick, ...]


def work_s(layer: Drawn) -> float:
    """Seconds of a layer's work, what is done at the same time counted twice."""
    return layer.components.total_s + layer.components.overlapped_s


def shown_components(layers: Sequence[Drawn]) -> tuple[tuple[str, str], ...]:
    """Those of `COMPONENTS` that take time in any layer."""
    return tuple(each for each in COMPONENTS if any(getattr(layer.components, each[0]) for layer in layers))


def layer_chart(layers: Sequence[Drawn], longest_s: float) -> tuple[Bar, ...]:
    """Bars of layers; `longest_s` seconds of work fill the width, the same in all charts of a page."""
    found = []
    for layer in layers:
        x, segments = LEFT, []
        for field, name in COMPONENTS:
            took = getattr(layer.components, field)
            width = _SPAN * took / longest_s if longest_s else 0.0
            if took:
                segments.append(Segment(field.removesuffix("_s"), x, width, f"{layer.name}, {name}: {seconds(took)}"))
            x += width
        total_s = layer.components.total_s
        found.append(
            Bar(
                label=_short(layer.name),
                name=layer.name,
                segments=tuple(segments),
                end=x,
                total_x=LEFT + (_SPAN * total_s / longest_s if longest_s else 0.0),
                total=seconds(total_s),
                overlaps=layer.components.overlapped_s > 0,
            )
        )
    return tuple(found)


def range_chart(estimates: Sequence[Estimate]) -> Ranges:
    """Quiet, typical with its interval, and busy, of every estimate."""
    largest = max(max(each.prediction.busy_s, each.prediction.high_s) for each in estimates)
    step = nice_step(largest)

    def at(value: float) -> float:
        return LEFT + _SPAN * value / largest if largest else LEFT

    several = len({each.deployment for each in estimates}) > 1
    found = []
    for each in estimates:
        name = f"{each.policy}, {each.deployment}" if several else each.policy
        figures = each.prediction
        found.append(
            Range(
                label=_short(name),
                name=name,
                quiet=at(figures.quiet_s),
                low=at(figures.low_s),
                typical=at(figures.latency_s),
                high=at(figures.high_s),
                busy=at(figures.busy_s),
                text=seconds(figures.latency_s),
                title=(
                    f"{name}: typical {seconds(figures.latency_s)} (80 %: {seconds(figures.low_s)} to "
                    f"{seconds(figures.high_s)}), quiet {seconds(figures.quiet_s)}, busy {seconds(figures.busy_s)}"
                ),
            )
        )
    marks = [step * index for index in range(int(largest / step) + 1)]
    return Ranges(tuple(found), tuple(Tick(at(mark), seconds(mark)) for mark in marks))


def nice_step(largest: float) -> float:
    """1, 2 or 5 times a power of ten, for four to ten marks up to `largest`.

    >>> [nice_step(value) for value in (0.012, 1.0, 37.0)]
    [0.002, 0.2, 5.0]
    """
    step = 1e-9
    while True:
        for factor in (1, 2, 5):
            if largest / (factor * step) < 8:
                return float(f"{factor * step:.1e}")
        step *= 10


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
