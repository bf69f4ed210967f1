"""What a confirmation found: measured beside predicted, by phase, component and layer, and the verdicts.

Latencies are compared as they were seen; only whether one lies within its predicted interval is judged with the
machine's drift since its profile divided out.
"""

from collections.abc import Collection
from typing import Final, Literal, TypeAlias

import numpy as np

from autoprivacy.common.records import record
from autoprivacy.models.prediction import Components
from autoprivacy.profiler.statistics import paired_ratio
from autoprivacy.protocol.conversation import Schedule

Faster: TypeAlias = Literal["first", "second", "not distinguishable"]

LEAST_PAIRS: Final = 6
"""Fewer pairs have no distribution-free interval at 95 %."""


@record
class Timing:
    """Seconds: typical as predicted, with its interval (80 %), and the median of what was measured.

    The measured interval (95 %, distribution-free) is None below `LEAST_PAIRS` images.
    """

    predicted_s: float
    predicted_low_s: float
    predicted_high_s: float
    predicted_quiet_s: float
    measured_s: float
    measured_low_s: float | None
    measured_high_s: float | None
    measured_quiet_s: float


@record
class ConfirmedLayer:
    """One linear layer and the nonlinear ones after it: typical seconds as predicted, medians as measured."""

    name: str
    predicted: Components
    measured: Components


@record
class ConfirmedPhase:
    """One phase of all inferences; `seconds` are those of each image, bytes those of one image."""

    timing: Timing
    predicted: Components
    measured: Components
    layers: tuple[ConfirmedLayer, ...]
    bytes_up: int
    bytes_down: int
    planned_bytes_up: int
    planned_bytes_down: int
    bytes_as_planned: bool
    seconds: tuple[float, ...]


@record
class LayerErrors:
    """Decryption errors of a layer over all images: how many values were off, and how many the model expects."""

    layer: str
    values: int
    seen: int
    expected: float
    largest: int


@record
class Confirmed:
    """What one policy did on `images` images.

    `logits_equal` counts images whose logits equal the integer reference without errors, `logits_explained` those that
    equal it with exactly the decryption errors that were seen, all of them plausible. `total` is offline and online.
    """

    label: str
    schedule: Schedule
    images: int
    correct: int
    logits_equal: int
    logits_explained: int
    errors_seen: int
    errors_expected: float
    error_free: bool
    errors: tuple[LayerErrors, ...]
    predicted_setup_s: float
    setup_s: float
    total: Timing
    online: ConfirmedPhase
    offline: ConfirmedPhase | None
    within_interval: bool

    @property
    def bytes_as_planned(self) -> bool:
        """Whether every byte of every phase was planned."""
        return self.online.bytes_as_planned and (self.offline is None or self.offline.bytes_as_planned)

    @property
    def seconds(self) -> tuple[float, ...]:
        """Offline and online seconds of each image."""
        if self.offline is None:
            return self.online.seconds
        return tuple(map(sum, zip(self.online.seconds, self.offline.seconds, strict=True)))


@record
class Verdict:
    """One policy against another: second / first, the median over images, with a distribution-free interval (95 %).

    `ratio` says how many times as fast the first is; the interval is None below `LEAST_PAIRS` images.
    """

    first: str
    second: str
    faster: Faster
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    predicted_ratio: float

    @property
    def contradicts(self) -> bool:
        """Whether the other one was predicted to be faster."""
        return (self.faster == "first" and self.predicted_ratio < 1) or (
            self.faster == "second" and self.predicted_ratio > 1
        )


@record
class Confirmation:
    """All policies, and the first against each other one.

    `drift` is how many times as long the reference operation took as in the profile. `link` is what was between the
    parties. `candidates` are labels of policies of which the measured winner was taken; it is the first then.
    """

    schema_version: Literal[1]
    version: str
    network: str
    network_hash: str
    link: str
    seed: int
    candidates: tuple[str, ...]
    policies: tuple[Confirmed, ...]
    verdicts: tuple[Verdict, ...]
    drift: float

    def contradictions(self, labels: Collection[str] | None = None) -> tuple[str, ...]:
        """Where a measurement contradicts its prediction, one clause each: of these policies, or of all.

        Candidates among each other do not count: they ran because predictions this close decide nothing.
        """
        found = [
            f"{each.label} took {1000 * each.total.measured_s:.3g} ms, not "
            f"{1000 * each.total.predicted_low_s:.3g} to {1000 * each.total.predicted_high_s:.3g} ms"
            for each in self.policies
            if not each.within_interval and (labels is None or each.label in labels)
        ]
        for each in self.verdicts:
            if each.contradicts and not {each.first, each.second} <= set(self.candidates):
                faster, slower = (each.first, each.second)[:: 1 if each.faster == "first" else -1]
                found.append(f"{faster} is faster than {slower}, which was predicted to be the faster one")
        return tuple(found)


def verdict(first: Confirmed, second: Confirmed) -> Verdict:
    """Which of two policies is faster, from what each image took under both."""
    ratio, interval = paired_ratio(second.seconds, first.seconds)
    low, high = interval or (None, None)
    return Verdict(
        first=first.label,
        second=second.label,
        faster=_faster(low, high),
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        predicted_ratio=second.total.predicted_s / first.total.predicted_s,
    )


def _faster(low: float | None, high: float | None) -> Faster:
    if low is not None and low > 1:
        return "first"
    if high is not None and high < 1:
        return "second"
    return "not distinguishable"


def added(*parts: Components) -> Components:
    """Their sum, component by component."""
    return Components(**{name: sum(getattr(part, name) for part in parts) for name in Components.__dataclass_fields__})


def medians(parts: list[Components]) -> Components:
    """The median of each component."""
    return Components(
        **{name: float(np.median([getattr(part, name) for part in parts])) for name in Components.__dataclass_fields__}
    )
