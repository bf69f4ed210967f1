"""The charts of a story, as data that the template draws in SVG: boxes 1000 wide."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Final

from autoprivacy.agent.choosing import Found, Point
from autoprivacy.agent.confirmed import Confirmation
from autoprivacy.agent.ladder import Rung
from autoprivacy.models.report.charts import Tick, nice_step
from autoprivacy.models.report.text import seconds

LEFT: Final = 300.0
RIGHT: Final = 110.0
_SPAN: Final = 1000.0 - LEFT - RIGHT
_LONGEST_NAME: Final = 42

FRONT_HEIGHT: Final = 260.0


@dataclass(frozen=True, slots=True)
class Proof:
    """One policy: where predicted and measured seconds lie on the axis."""

    label: str
    name: str
    low: float
    predicted: float
    high: float
    measured_low: float
    measured: float
    measured_high: float
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Proofs:
    """Policies on one axis, logarithmic where they differ too much for a linear one."""

    rows: tuple[Proof, ...]
    ticks: tuple[Tick, ...]
    logarithmic: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A rung of the ladder: how long its bar is; `last` is the choice itself."""

    label: str
    name: str
    kind: str
    width: float
    text: str
    note: str
    last: bool


@dataclass(frozen=True, slots=True)
class Dot:
    """A policy of the front."""

    x: float
    y: float
    title: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Front:
    """Latency (x) against accuracy lost (y), both from zero."""

    dots: tuple[Dot, ...]
    path: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    logarithmic: bool

    def __call__(self, value: float) -> float:
        if self.logarithmic:
            share = log10(value / self.low) / log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return LEFT + _SPAN * share

    def ticks(self) -> tuple[Tick, ...]:
        if self.logarithmic:
            powers = range(floor(log10(self.low)), floor(log10(self.high)) + 1)
            marks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        else:
            step = nice_step(self.high)
            marks = [step * index for index in range(int(self.high / step) + 1)]
        inside = [mark for mark in marks if self.low <= mark <= self.high]
        return tuple(Tick(self(mark), seconds(mark)) for mark in inside)


def _axis(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    if high > 6 * low:
        return _Axis(low * 0.8, high * 1.1, logarithmic=True)
    return _Axis(0.0, high * 1.05, logarithmic=False)


def proof_chart(confirmation: Confirmation) -> Proofs:
    """Predicted and measured of every policy."""
    timings = [each.total for each in confirmation.policies]
    axis = _axis(
        [
            value
            for each in timings
            for value in (
                each.predicted_low_s,
                each.predicted_high_s,
                each.measured_low_s or each.measured_s,
                each.measured_high_s or each.measured_s,
            )
        ]
    )
    rows = []
    for each in confirmation.policies:
        timing = each.total
        low, high = timing.measured_low_s or timing.measured_s, timing.measured_high_s or timing.measured_s
        rows.append(
            Proof(
                label=_short(each.label),
                name=each.label,
                low=axis(timing.predicted_low_s),
                predicted=axis(timing.predicted_s),
                high=axis(timing.predicted_high_s),
                measured_low=axis(low),
                measured=axis(timing.measured_s),
                measured_high=axis(high),
                text=seconds(timing.measured_s),
                title=(
                    f"{each.label}: predicted {seconds(timing.predicted_s)} ({seconds(timing.predicted_low_s)} to "
                    f"{seconds(timing.predicted_high_s)}), measured {seconds(timing.measured_s)} "
                    f"({seconds(low)} to {seconds(high)})"
                ),
            )
        )
    return Proofs(tuple(rows), axis.ticks(), axis.logarithmic)


def ladder_chart(ladder: Sequence[Rung]) -> tuple[Step, ...]:
    """Bars of all rungs that have a price, from zero; others are named."""
    longest = max((rung.latency_s or 0.0 for rung in ladder), default=0.0)
    steps = [rung for rung in ladder if rung.kind == "step"]
    return tuple(
        Step(
            label=_short(rung.name),
            name=rung.name,
            kind=rung.kind,
            width=_SPAN * (rung.latency_s or 0.0) / longest if longest else 0.0,
            text="no price" if rung.latency_s is None else seconds(rung.latency_s),
            note=rung.note,
            last=bool(steps) and rung is steps[-1],
        )
        for rung in ladder
    )


def front_chart(points: Sequence[Point], found: Found) -> Front:
    """The front, and which of its points was chosen."""
    slowest = 1.05 * max(point.latency_s for point in points)
    quickest = 0.97 * min(point.latency_s for point in points)
    worst = 1.1 * max(*(point.additive_drop for point in points), 1e-4)

    def x(value: float) -> float:
        return 90 + 870 * (value - quickest) / (slowest - quickest)

    def y(value: float) -> float:
        return FRONT_HEIGHT - 40 - (FRONT_HEIGHT - 60) * value / worst

    dots = tuple(
        Dot(
            x(point.latency_s),
            y(point.additive_drop),
            f"{seconds(point.latency_s)}, {100 * point.additive_drop:.3f} points lost by the additive estimate"
            + ("" if point.drop_upper is None else f", at most {100 * point.drop_upper:.3f} with confidence"),
            abs(point.latency_s / found.latency_s - 1) < 1e-9,
        )
        for point in points
    )
    step, across = nice_step(100 * worst), nice_step(slowest - quickest)
    x_marks = [across * number for number in range(int(quickest / across) + 1, int(slowest / across) + 1)]
    y_marks = [step * number for number in range(int(100 * worst / step) + 1)]
    return Front(
        dots=dots,
        path=" ".join(f"{dot.x:.2f},{dot.y:.2f}" for dot in dots),
        x_ticks=tuple(Tick(x(mark), seconds(mark)) for mark in x_marks),
        y_ticks=tuple(Tick(y(mark / 100), f"{mark:g}") for mark in y_marks),
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
