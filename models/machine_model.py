"""The latency model of one machine: its operations, and what layers and whole inferences cost beyond them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import log
from typing import Final, Literal

import numpy as np

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import record
from autoprivacy.hwprofiles.machine_profile import MachineProfile, MeasuredLayer, Seconds
from autoprivacy.hwprofiles.samples import END_TO_END
from autoprivacy.models.features import Handled, Key
from autoprivacy.models.intervals import Spread, conformal_quantile, fit_spread
from autoprivacy.models.layer_model import (
    LINK,
    OTHER,
    Correction,
    Where,
    added,
    apart,
    between,
    beyond_empty,
    by_part,
    fit_corrections,
    fit_over_link,
    hidden_s,
    observations,
    uncorrected,
    waited_s,
)
from autoprivacy.models.operation_model import OperationModel, find, fit_operations, is_modelled

SCHEMA_VERSION: Final = 9
LOOPBACK_ROUND_TRIP_S: Final = 5e-5
"""About what an empty message and its answer take over any machine's own loopback."""

LAYER_LEVEL: Final = 0.95
UNLIKE_TIMES: Final = 1.6
"""Layers at another time err by so many times what layers left out of one profile do.

Between two profiles forty minutes apart small layers typically took 10 to 15 % less, their quiet times 2 to 4 % (Zen 4
virtual machine; the reference operation did not tell them apart). Of layers of `python -m benchmarks.prediction --seed
9`, predicted from four measurements of a profile's layers, 95 % lay within 1.3, 1.6, 1.7 and 1.9 times; their mean is
1.6.
"""

NETWORK_LEVEL: Final = 0.8


@record
class OverLink:
    """What parts of layers take over a link of this round trip, learnt from runs over an emulated one."""

    round_trip_s: float
    corrections: tuple[Correction, ...]


@record
class MachineModel:
    """All operations of one machine profile, corrected by what it ran over loopback, and `over_links` (nearest first).

    Typical seconds are at the machine's quiet speed; `slowdown_median`, `slowdown_p95` say how slow it typically was.
    `layer_errors`, `run_errors` are relative errors of typical times of whole layers and of whole inferences, each
    predicted with corrections that left its run out; `layer_seconds` is what was predicted. `worker_slowdown` is by
    number of workers.
    """

    schema_version: Literal[9]
    profile_id: str
    profile_name: str
    reference_typical_s: float
    slowdown_median: float
    slowdown_p95: float
    operations: tuple[OperationModel, ...]
    corrections: tuple[Correction, ...]
    over_links: tuple[OverLink, ...]
    layer_errors: tuple[float, ...]
    layer_seconds: tuple[float, ...]
    run_errors: tuple[float, ...]
    worker_slowdown: tuple[tuple[int, float], ...]

    def slowdown_of(self, workers: int) -> float:
        """How many times as long HE operations take while so many processes do them.

        Raises:
            UnmodelledOperation: if the profile did not measure so many at once.
        """
        most, _ = self.worker_slowdown[-1]
        if workers > most:
            raise UnmodelledOperation(
                f"--workers {workers}: profile {self.profile_name} measured at most {most} processes at once; use fewer"
            )
        counts, slowdowns = zip(*self.worker_slowdown, strict=True)
        return float(np.interp(workers, counts, slowdowns))

    def over(self, round_trip_s: float) -> "MachineModel":
        """The machine, working between messages over a link of this round trip as it does otherwise over loopback.

        Corrections are between those of the next shorter and the next longer round trip that was run, by its logarithm.
        """
        known = [OverLink(LOOPBACK_ROUND_TRIP_S, self.corrections), *self.over_links]
        far = next((each for each in known if round_trip_s <= each.round_trip_s), known[-1])
        near = known[max(0, known.index(far) - 1)]
        if near is far or round_trip_s >= far.round_trip_s:
            return replace(self, corrections=far.corrections, over_links=())
        share = log(round_trip_s / near.round_trip_s) / log(far.round_trip_s / near.round_trip_s)
        nearer = {(each.part, each.kernel): each for each in near.corrections}
        mixed = tuple(between(nearer[each.part, each.kernel], each, share) for each in far.corrections)
        return replace(self, corrections=mixed, over_links=())

    def predictor(self) -> "Predictor":
        """The model, ready to be asked often."""
        return Predictor(
            self,
            {model.key: model for model in self.operations},
            {(each.part, each.kernel): each for each in self.corrections},
            fit_spread([UNLIKE_TIMES * error for error in self.layer_errors], self.layer_seconds, LAYER_LEVEL),
        )


@dataclass(frozen=True, slots=True)
class Predictor:
    """A machine model with its parts by key; `layer_spread` is how far layers err."""

    model: MachineModel
    operations: dict[Key, OperationModel]
    corrections: dict[Where, Correction]
    layer_spread: Spread

    def operation(self, handled: Handled) -> OperationModel:
        """The model of one operation.

        Raises:
            UnmodelledOperation: if the profile did not measure it.
        """
        return find(self.operations, handled, self.model.profile_name)

    def seconds(self, handled: Handled) -> Seconds:
        """Seconds of a work by itself, in a loop."""
        model = self.operation(handled)
        quiet = model.quiet_s(handled)
        return Seconds(quiet, max(quiet, model.typical_s(handled)))

    def correction(self, where: Where) -> Correction:
        """What is known of a part of layers."""
        return self.corrections.get(where) or uncorrected(*where)

    def layer(self, work: Iterable[Handled], *, first: bool) -> dict[Where, Seconds]:
        """Corrected seconds of one layer's parts, here; the link apart. `first` of an inference."""
        found = {}
        for where, each in by_part(work).items():
            if where != LINK:
                correction = self.correction(where)
                seconds = correction(added(each, self.seconds))
                found[where] = _begun(seconds, correction) if first else seconds
        return found

    def messages(self, work: Iterable[Handled], *, first: bool, waited_s: float) -> Seconds:
        """Corrected seconds of a layer's messages over this machine's loopback; `first` of an inference.

        `waited_s` is for how long the client waits for the server's HE.
        """
        correction = self.correction(LINK)
        waited_for, followers = apart(list(work))
        seconds = [*(correction(self.seconds(each)) for each in waited_for), *map(self.behind, followers)]
        seconds.append(correction.asleep(waited_s))
        found = Seconds(sum(each.quiet_s for each in seconds), sum(each.typical_s for each in seconds))
        return _begun(found, correction) if first else found

    def behind(self, message: Handled) -> Seconds:
        """Corrected seconds of a message over loopback right behind another of its direction."""
        correction, bytes_s = self.correction(LINK), beyond_empty(message, self.seconds)
        return Seconds(correction.quiet_scale * bytes_s.quiet_s, correction.typical_scale * bytes_s.typical_s)

    def other(self, *, first: bool) -> Seconds:
        """What a client does in a layer between its operations; `first` of an inference."""
        correction = self.correction(OTHER)
        found = correction(Seconds(0.0, 0.0))
        return _begun(found, correction) if first else found

    @property
    def network_doubt(self) -> float:
        """Half-width of the relative interval of a whole inference's time."""
        return conformal_quantile(self.model.run_errors, NETWORK_LEVEL)


def _begun(found: Seconds, correction: Correction) -> Seconds:
    start = correction.start
    return Seconds(found.quiet_s + start.quiet_s, found.typical_s + start.typical_s)


def fit(profile: MachineProfile) -> MachineModel:
    """Fit a profile.

    Raises:
        UnmodelledOperation: if the profile holds an operation without a model, or too few measured runs.
    """
    header = profile.header
    if len(profile.runs) < 3 or not profile.layers:
        raise UnmodelledOperation(
            f"profile {header.name} holds {len(profile.runs)} measured runs and {len(profile.layers)} layers; "
            "profile again"
        )
    lacking = [layer for layer in profile.layers if not {LINK[0], OTHER[0]} <= set(layer.components)]
    if lacking:
        raise UnmodelledOperation(
            f"profile {header.name}: layer {lacking[0].name} of {lacking[0].run} lacks link_s or other_s; profile again"
        )
    operations = fit_operations(sample for sample in profile.samples if is_modelled(sample, header.machine))
    conditions = header.conditions
    bare = MachineModel(
        schema_version=SCHEMA_VERSION,
        profile_id=header.id,
        profile_name=header.name,
        reference_typical_s=conditions.reference_typical_s,
        slowdown_median=conditions.reference_slowdown_median,
        slowdown_p95=conditions.reference_slowdown_p95,
        operations=operations,
        corrections=(),
        over_links=(),
        layer_errors=(),
        layer_seconds=(),
        run_errors=(),
        worker_slowdown=_worker_slowdown(profile),
    )
    return corrected(bare, profile)


def corrected(model: MachineModel, profile: MachineProfile) -> MachineModel:
    """The model with its operations as they are, corrected anew by the profile's layers and inferences."""
    predictor = replace(model, corrections=()).predictor()
    corrections = fit_corrections(observations(_over(profile.layers), predictor.seconds))
    layers, run_errors = _left_out(predictor, profile)
    round_trips = sorted({each.round_trip_s for each in profile.layers} - {0.0})
    return replace(
        model,
        profile_id=profile.header.id,
        corrections=corrections,
        over_links=tuple(
            OverLink(each, fit_over_link(corrections, observations(_over(profile.layers, each), predictor.seconds)))
            for each in round_trips
        ),
        layer_errors=tuple(predicted / measured - 1 for predicted, measured in layers),
        layer_seconds=tuple(predicted for predicted, _ in layers),
        run_errors=run_errors,
    )


def _over(layers: Iterable[MeasuredLayer], round_trip_s: float = 0.0) -> list[MeasuredLayer]:
    """Those that ran over a link of this round trip; over loopback by default."""
    return [each for each in layers if each.round_trip_s == round_trip_s]


def _left_out(predictor: Predictor, profile: MachineProfile) -> tuple[list[tuple[float, float]], tuple[float, ...]]:
    """Typical times over loopback, with corrections that left out the run.

    Of layers as predicted and as measured, of whole runs the relative errors.
    """
    layers = _over(profile.layers)
    seen = observations(layers, predictor.seconds)
    both, run_errors = [], []
    for run in (each for each in profile.runs if each.round_trip_s == 0):
        own = [layer for layer in layers if layer.run == run.name]
        others = {where: [each for each in found if each.run != run.name] for where, found in seen.items()}
        corrections = fit_corrections({where: found for where, found in others.items() if found})
        left = replace(predictor, corrections={(each.part, each.kernel): each for each in corrections})
        found = [_with_both(left, layer, first=layer is own[0]) for layer in own]
        both += found
        if own:
            run_errors.append(sum(predicted for predicted, _ in found) / run.latency.typical_s - 1)
    return both, tuple(run_errors)


def _with_both(predictor: Predictor, layer: MeasuredLayer, *, first: bool) -> tuple[float, float]:
    """Typical seconds of a measured layer as predicted, and as measured."""
    messages = [work for work in layer.work if work.operation == "transfer"]
    parts = predictor.layer(layer.work, first=first) | {
        LINK: predictor.messages(messages, first=first, waited_s=waited_s(layer.work, predictor.seconds)),
        OTHER: predictor.other(first=first),
    }
    predicted: dict[str, float] = {}
    for (part, _), seconds in parts.items():
        predicted[part] = predicted.get(part, 0.0) + seconds.typical_s
    measured = {part: seconds.typical_s for part, seconds in layer.components.items()}
    both = ({part: each.get(part, 0.0) for part in measured} for each in (predicted, measured))
    found = [
        sum(each.values()) - hidden_s(layer.work, [each.get(part, 0.0) for part in ("garble_s", "evaluate_s")])
        for each in both
    ]
    return found[0], found[1]


def _worker_slowdown(profile: MachineProfile) -> tuple[tuple[int, float], ...]:
    """Median slow-down of the server's HE operations by number of workers."""
    found: dict[int, list[float]] = {1: [1.0]}
    for sample in (each for each in profile.parallel if each.operation not in END_TO_END):
        found.setdefault(sample.workers, []).append(sample.typical_slowdown)
    return tuple((workers, float(np.median(values))) for workers, values in sorted(found.items()))
