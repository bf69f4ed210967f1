"""Seconds of one operation, from what it handles: analytic models, fitted per machine profile.

Every model is linear in its features, and the features are totals over calls, so that a sum of works is predicted by
the sum of their features. Coefficients are at least zero (non-negative least squares on relative errors).

| symbol | meaning |
|---|---|
| calls, items, values | what a `Work` or `Sample` covers, in total |
| n | ring degree |
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import log2
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import record
from autoprivacy.hwprofiles.machine_profile import Machine, Sample, WorkDone


class Handled(Protocol):
    """What features are made of; a plan's `Work` and a profile's `Sample` both are."""

    @property
    def operation(self) -> str: ...  # noqa: D102 - see the table of `Work`
    @property
    def n(self) -> int: ...  # noqa: D102
    @property
    def calls(self) -> int: ...  # noqa: D102
    @property
    def items(self) -> int: ...  # noqa: D102
    @property
    def values(self) -> int: ...  # noqa: D102


_CALL: Final = ("calls", "calls n", "calls n log n")
FEATURES: Final[dict[str, tuple[str, ...]]] = {
    "encrypt": _CALL,
    "receive": _CALL,
    "receive_add_share": _CALL,
    "to_ntt": _CALL,
    "from_ntt": _CALL,
    "weighted_sum": ("calls", "items", "items n"),
    "respond": (*_CALL, "items"),
    "decrypt": (*_CALL, "items"),
    "garble": ("calls", "items", "values", "items mapped"),
    "evaluate": ("calls", "items", "values"),
    "ot_send": ("calls", "items", "items mapped"),
    "ot_receive": ("calls", "items", "items mapped"),
    "transfer": ("calls", "items", "items mapped"),
}
"""The features of every operation that is modelled."""

MAPPED_BYTES: Final = 128 * 1024
"""glibc's default M_MMAP_THRESHOLD: what is larger is mapped afresh by each call, and pays for its page faults."""

ITEM_BYTES: Final = {"garble": 32, "ot_send": 16, "ot_receive": 16, "transfer": 1}
"""Bytes of memory that one item takes, where a call makes one large block of them."""


def features(handled: Handled) -> NDArray[np.float64]:
    """The feature vector of one work or sample, in the order of `FEATURES`.

    Raises:
        UnmodelledOperation: rather than a time of zero.
    """
    names = FEATURES.get(handled.operation)
    if names is None:
        raise UnmodelledOperation(f"no latency model for operation {handled.operation!r}; profile and fit again")
    n = handled.n
    value = {
        "calls": handled.calls,
        "calls n": handled.calls * n,
        "calls n log n": handled.calls * n * (log2(n) if n else 0.0),
        "items": handled.items,
        "items n": handled.items * n,
        "values": handled.values,
        "items mapped": handled.calls * _mapped(handled),
    }
    return np.array([value[name] for name in names], dtype=float)


def _mapped(handled: Handled) -> float:
    """Items of one call beyond `MAPPED_BYTES`."""
    item_bytes = ITEM_BYTES.get(handled.operation, 0)
    if not item_bytes or not handled.calls:
        return 0.0
    return max(0.0, handled.items / handled.calls - MAPPED_BYTES / item_bytes)


@record
class OperationModel:
    """One fitted operation: coefficients (seconds per feature) for the quiet and the typical time.

    `relative_errors` are those of each setting, predicted by a fit that left it out; `n_range` and `items_range` say
    where a prediction interpolates.
    """

    operation: str
    quiet: tuple[float, ...]
    typical: tuple[float, ...]
    relative_errors: tuple[float, ...]
    n_range: tuple[int, int]
    items_range: tuple[int, int]

    def quiet_s(self, handled: Handled) -> float:
        """Predicted quiet seconds."""
        return float(features(handled) @ np.array(self.quiet))

    def typical_s(self, handled: Handled) -> float:
        """Predicted typical seconds, never below quiet."""
        return max(self.quiet_s(handled), float(features(handled) @ np.array(self.typical)))


def solve(samples: Sequence[Handled], seconds: Sequence[float]) -> tuple[float, ...]:
    """Non-negative coefficients with the least squared relative error.

    >>> from autoprivacy.hwprofiles.machine_profile import WorkDone
    >>> at = lambda items: WorkDone("ot_send", 0, 0, 1, items)
    >>> [round(c, 9) for c in solve([at(10), at(20)], [3.0, 5.0])]
    [1.0, 0.2, 0.0]
    """
    return non_negative(np.array([features(sample) for sample in samples]), np.array(seconds))


def non_negative(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, ...]:
    """Coefficients (columns,), at least 0, for which matrix @ coefficients is relatively closest to `target`."""
    from scipy.optimize import nnls

    scale = matrix.max(axis=0)
    scale[scale == 0] = 1.0
    coefficients, _ = nnls(matrix / scale / target[:, None], np.ones(len(target)))
    return tuple(float(value) for value in coefficients / scale)


def fit_operations(samples: Iterable[Sample]) -> dict[str, OperationModel]:
    """Fit every operation that was measured, and predict each setting from the others.

    Raises:
        UnmodelledOperation: if there is an operation without a model.
    """
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.operation].append(sample)
    return {name: _fit_operation(name, group) for name, group in sorted(groups.items())}


def is_modelled(sample: Sample, machine: Machine) -> bool:
    """Whether the models above know such a setting: one limb, packing `coefficients`, the machine's own code path."""
    return (
        sample.operation in FEATURES
        and sample.limbs == 1
        and sample.processes == 1
        and sample.kernel in {"", "ring"}
        and sample.privacy in {"", "uniform"}
        and sample.state in {"", "streamed"}
        and sample.code_path in {"", machine.aes_path, machine.ring_path}
    )


def _fit_operation(name: str, samples: list[Sample]) -> OperationModel:
    errors = []
    for left_out in samples:
        rest = [sample for sample in samples if _setting(sample) != _setting(left_out)]
        if len(rest) >= 2:
            predicted = float(features(left_out) @ np.array(solve(rest, [s.quiet_s for s in rest])))
            errors.append(predicted / left_out.quiet_s - 1)
    ns, items = [sample.n for sample in samples], [sample.items for sample in samples]
    return OperationModel(
        operation=name,
        quiet=solve(samples, [sample.quiet_s for sample in samples]),
        typical=solve(samples, [sample.typical_s for sample in samples]),
        relative_errors=tuple(errors),
        n_range=(min(ns), max(ns)),
        items_range=(min(items), max(items)),
    )


def _setting(sample: Sample) -> WorkDone:
    """What is left out together: for HE all samples of one (n, q), else one sample."""
    return replace(sample.work, items=0, bytes=0) if sample.n else sample.work
