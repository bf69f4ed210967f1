"""Seconds of one operation on one machine: which way of predicting was chosen, on what grounds, and how far it errs.

**Selection.** Samples are put apart in two: those that a seeded generator holds out (`held_out`), which no fit and no
choice sees, and the rest. On the rest every candidate predicts whole groups that its fit left out: all samples of one
n, then all of one number of limbs, then one whole HE set (without sets: all of one size). The candidate with the least
mean absolute error is nominated, an error counted as at most LARGEST_ERROR; a learned one is taken only if it also
beats the analytic one on the samples that were held out. What was taken is fitted again on all samples.

**Intervals** rest on relative errors of predictions that did not see their set (without sets: their setting), where it
lies within the range of the others. Most operations have few of them, and err by more in some places (where inputs
outgrow a cache, say) than in others. So each error is divided by what its operation errs near there, drawn towards what
it usually does and what operations do in common, and the conformal quantile of all is multiplied by it again
[normalised conformal prediction: Lei et al. 2018].
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from math import inf
from typing import Final

import numpy as np

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import record
from autoprivacy.hwprofiles.machine_profile import Machine, Sample
from autoprivacy.hwprofiles.samples import END_TO_END
from autoprivacy.models.candidates import CANDIDATES, LEAST_SAMPLES, Fit, Fitted, fit_analytic
from autoprivacy.models.features import DESCRIPTION, Handled, Key, description, key_of, matrix, names_of, place
from autoprivacy.models.intervals import Erred, conformal_quantile, scores, spread_at

HOLD_OUT_SEED: Final = b"autoprivacy: settings that no selection sees"
HOLD_OUT_SHARE: Final = 0.15
LEAST_FOR_HOLD_OUT: Final = 8
LEAST_SEEN: Final = 3
_RANGED_HE: Final = ("log2 n", "limbs", "log2 items a call")
_RANGED: Final = {
    "garble": ("log2 values a call", "log2 items a call"),
    "evaluate": ("log2 values a call", "log2 items a call"),
    "transfer": ("log2 bytes a call",),
    "clear_linear": ("log2 values a call", "log2 items a call"),
}
"""In what a call may lie outside of what was measured."""
_SLACK: Final = 0.07
UNLIKE_SETTINGS: Final = 1.1
"""Settings anywhere in the range err by so many times what sets left out do.

Of 298 settings of `python -m benchmarks.prediction --seed 9`, predicted from two full profiles of a quiet Zen 4,
intervals of one width an operation held 96.3 and 94.0 % with 1.1. Of those on a noisy Zen 3, run 80 minutes before its
profile, 1.1 holds 88 % (1.4 would hold 95): what another hour of a noisy host brings is not in it.
"""

OPERATION_LEVEL: Final = 0.95
EXTRAPOLATION: Final = 2.0
"""How many times as wide an interval is where something lies beyond what was measured."""

LARGEST_ERROR: Final = 0.5
"""Beyond this a prediction is wrong, however far; one group that nothing near was seen of must not decide alone."""

RIGHT: Final = 1e-3
"""An analytic model that errs less is right: nothing is left to learn."""

MARGIN: Final = 0.9
"""A learned model must bring the cross-validated error below this share of the analytic one's to be nominated."""


@record
class Errors:
    """Mean absolute relative errors of one candidate: groups left out, and samples held out (None: too few)."""

    candidate: str
    left_out: float | None
    held_out: float | None


@record
class OperationModel:
    """One fitted operation: how quiet and typical times are predicted, and how well.

    `left_out_errors` are those of the chosen candidate on groups that it did not see, `inside` those on sets that lie
    within the range of the others; `reason` says why it was chosen. `common_error` is what operations err in common;
    `factor` times what is erred near a setting is the half-width of the relative interval that holds OPERATION_LEVEL of
    errors within what was measured. `low`, `high` are the least and greatest description (`features.DESCRIPTION`) that
    was measured.
    """

    operation: str
    kernel: str
    variant: str
    samples: int
    quiet: Fitted
    typical: Fitted
    reason: str
    candidates: tuple[Errors, ...]
    left_out_errors: tuple[float, ...]
    inside: tuple[Erred, ...]
    common_error: float
    factor: float
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def key(self) -> Key:
        """What it is the model of."""
        return Key(self.operation, self.kernel, self.variant)

    def quiet_s(self, handled: Handled) -> float:
        """Predicted quiet seconds."""
        return self.quiet.seconds(handled)

    def typical_s(self, handled: Handled) -> float:
        """Predicted typical seconds (at the machine's quiet speed), never below quiet."""
        return max(self.quiet_s(handled), self.typical.seconds(handled))

    def doubt_of(self, handled: Handled) -> float:
        """Half-width of the relative interval for one call: wider where it lies beyond what was measured."""
        near = spread_at(place(handled).tolist(), self.inside, self.common_error)
        return self.factor * near * (EXTRAPOLATION if self.beyond(handled) else 1.0)

    def beyond(self, handled: Handled) -> tuple[str, ...]:
        """In what a call lies outside all that was measured, by name; sizes may be 5 % beyond."""
        ranged = _RANGED_HE if handled.n else _RANGED.get(handled.operation, ("log2 items a call",))
        return tuple(
            name
            for name, value, low, high in zip(DESCRIPTION, description(handled), self.low, self.high, strict=True)
            if name in ranged and not low - _SLACK <= value <= high + _SLACK
        )


def held_out(sample: Sample) -> bool:
    """Whether the generator keeps a setting away from fits and choices; a property of the setting alone."""
    text = repr((*key_of(sample), description(sample).tolist(), sample.processes)).encode()
    draw = int.from_bytes(blake2b(text, key=HOLD_OUT_SEED[:64], digest_size=8).digest(), "big") / 2**64
    return draw < HOLD_OUT_SHARE


def is_modelled(sample: Sample, machine: Machine) -> bool:
    """Whether a sample is of what an inference is made of here: one process, on this machine's code paths."""
    if sample.operation in END_TO_END:
        return False
    return sample.processes == 1 and sample.code_path in {"", machine.aes_path, machine.ring_path}


def fit_operations(samples: Iterable[Sample]) -> tuple[OperationModel, ...]:
    """A model for every operation that was measured.

    Raises:
        UnmodelledOperation: if there is an operation without features.
    """
    groups: dict[Key, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[key_of(sample)].append(sample)
    return _with_doubts([_fit_operation(key, group) for key, group in sorted(groups.items())])


def _with_doubts(models: Sequence[OperationModel]) -> tuple[OperationModel, ...]:
    typical = [float(np.mean(np.abs([each.error for each in model.inside]))) for model in models if model.inside]
    common = float(np.median(typical)) if typical else LARGEST_ERROR
    found = [score for model in models for score in scores(model.inside, common)]
    factor = UNLIKE_SETTINGS * conformal_quantile(found, OPERATION_LEVEL)
    return tuple(replace(model, common_error=common, factor=factor) for model in models)


def _fit_operation(key: Key, samples: list[Sample]) -> OperationModel:
    names_of(key)
    kept = [sample for sample in samples if held_out(sample)] if len(samples) >= LEAST_FOR_HOLD_OUT else []
    seen = [sample for sample in samples if sample not in kept]
    tried = CANDIDATES if len(seen) >= LEAST_SAMPLES else {"analytic": fit_analytic}
    errors = {name: _left_out(fit, seen) for name, fit in tried.items()}
    table = tuple(Errors(name, _mean(errors[name]), _held_out_error(tried[name], seen, kept)) for name in tried)
    chosen, reason = _choose(table)
    fit = tried[chosen]
    seconds = [sample.quiet_s for sample in samples]
    rows = np.array([description(sample) for sample in samples])
    return OperationModel(
        *key,
        samples=len(samples),
        quiet=fit(samples, seconds),
        typical=fit(samples, [sample.typical_s for sample in samples]),
        reason=reason,
        candidates=table,
        left_out_errors=tuple(errors[chosen]),
        inside=tuple(_inside(fit, samples)),
        common_error=0.0,
        factor=0.0,
        low=tuple(rows.min(axis=0).tolist()),
        high=tuple(rows.max(axis=0).tolist()),
    )


def _choose(table: Sequence[Errors]) -> tuple[str, str]:
    analytic = table[0]
    if len(table) == 1 or analytic.left_out is None:
        return analytic.candidate, "too few settings to learn from"
    best = min(table, key=lambda errors: inf if errors.left_out is None else errors.left_out)
    if analytic.left_out < RIGHT:
        return analytic.candidate, f"errs less than {RIGHT:.1%} on groups left out"
    if best.left_out is None or best.left_out >= MARGIN * analytic.left_out:
        return analytic.candidate, f"no learned model errs less than {MARGIN:.0%} as much on groups left out"
    if best.held_out is None or analytic.held_out is None or best.held_out >= analytic.held_out:
        return analytic.candidate, f"{best.candidate} errs less on groups left out, but not on settings held out"
    return best.candidate, "errs less than the analytic model, on groups left out and on settings held out"


def _left_out(fit: Fit, samples: Sequence[Sample]) -> list[float]:
    """Relative errors of quiet times whose group the fit did not see."""
    groupings = (_by_degree, _by_limbs, _by_set) if samples[0].n else (_by_size,)
    found = [split for group_of in groupings for split in _splits(samples, group_of)]
    if not found and len(samples) > LEAST_SEEN:
        found = [([each for each in samples if each is not one], [one]) for one in samples]
    return [error for seen, unseen in found for error in _errors(fit, seen, unseen)]


def _inside(fit: Fit, samples: Sequence[Sample]) -> Iterator[Erred]:
    """Errors on sets, or single settings of what has none, that lie within the range of all others."""
    for group, (seen, unseen) in enumerate(_splits(samples, _by_set if samples[0].n else id)):
        rows = np.array([place(sample) for sample in seen])
        low, high = rows.min(axis=0), rows.max(axis=0)
        inside = [sample for sample in unseen if ((low <= place(sample)) & (place(sample) <= high)).all()]
        for sample, error in zip(inside, _errors(fit, seen, inside) if inside else (), strict=True):
            yield Erred(group, tuple(place(sample).tolist()), error)


def _errors(fit: Fit, seen: Sequence[Sample], unseen: Sequence[Sample]) -> list[float]:
    model = fit(seen, [sample.quiet_s for sample in seen])
    return [model.seconds(sample) / sample.quiet_s - 1 for sample in unseen]


def _splits(
    samples: Sequence[Sample], group_of: Callable[[Sample], Hashable]
) -> list[tuple[list[Sample], list[Sample]]]:
    """Samples without and of each group.

    A group that alone shows what a feature costs cannot be told from the others, so it stays.
    """
    found = []
    for group in dict.fromkeys(map(group_of, samples)):
        seen = [sample for sample in samples if group_of(sample) != group]
        unseen = [sample for sample in samples if group_of(sample) == group]
        if len(seen) >= LEAST_SEEN and not (~matrix(seen).any(axis=0) & matrix(unseen).any(axis=0)).any():
            found.append((seen, unseen))
    return found


def _by_degree(sample: Sample) -> Hashable:
    return sample.n


def _by_limbs(sample: Sample) -> Hashable:
    return sample.limbs


def _by_set(sample: Sample) -> Hashable:
    return sample.n, sample.limbs, sample.limb_bits


def _by_size(sample: Sample) -> Hashable:
    """Sizes within an octave of one another go together."""
    return (sample.values or sample.items or sample.bytes).bit_length()


def _held_out_error(fit: Fit, seen: Sequence[Sample], kept: Sequence[Sample]) -> float | None:
    if not kept:
        return None
    return _mean(_errors(fit, seen, kept))


def _mean(errors: Sequence[float]) -> float | None:
    return float(np.mean(np.minimum(LARGEST_ERROR, np.abs(errors)))) if errors else None


_STAND_INS: Final[dict[str, tuple[str, ...]]] = {
    "flood": ("rerandomise", "uniform"),
    "rerandomise": ("flood", "uniform"),
    "uniform": ("rerandomise", "flood"),
    "none": (),
    "hot": ("",),
}
"""What stands in for a variant that was not measured: all of these add one encryption of zero and one mask."""


def find(models: Mapping[Key, OperationModel], handled: Handled, profile: str) -> OperationModel:
    """The model of an operation; a response under a privacy that was not measured is priced as under another.

    Raises:
        UnmodelledOperation: if the profile did not measure it.
    """
    key = key_of(handled)
    for variant in (key.variant, *_STAND_INS.get(key.variant, ())):
        if found := models.get(key._replace(variant=variant)):
            return found
    raise UnmodelledOperation(
        f"profile {profile} has no samples of {str(key)!r}; measure again with `autoprivacy profile`"
    )
