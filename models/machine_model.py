"""The latency model of one machine: its operations, and a correction of what they add up to.

Operations are timed in a loop, where code and data are warm. In an inference each runs a few times between waits
for the peer. The profile's measured runs say what that costs: each component is scaled, and gets a constant per layer.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import numpy as np

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import record
from autoprivacy.hwprofiles.machine_profile import MachineProfile, MeasuredRun
from autoprivacy.models.operation_model import Handled, OperationModel, fit_operations, is_modelled, non_negative

COMPONENTS: Final = {
    "encrypt": "client_he_s",
    "decrypt": "client_he_s",
    "receive": "server_he_s",
    "receive_add_share": "server_he_s",
    "to_ntt": "server_he_s",
    "weighted_sum": "server_he_s",
    "from_ntt": "server_he_s",
    "respond": "server_he_s",
    "ot_send": "ot_s",
    "ot_receive": "ot_s",
    "garble": "garble_s",
    "evaluate": "evaluate_s",
    "transfer": "link_s",
}
"""The component of the report that each operation belongs to."""


def component_of(operation: str) -> str:
    """The component that an operation belongs to.

    Raises:
        UnmodelledOperation: if it belongs to none.
    """
    if operation not in COMPONENTS:
        raise UnmodelledOperation(f"no latency model for operation {operation!r}; profile and fit again")
    return COMPONENTS[operation]


SERVER_COMPONENTS: Final = frozenset({"server_he_s", "garble_s"})
"""Components that the server's machine decides; the client's machine decides the others."""

ERROR_QUANTILE: Final = 0.9


def measured_operation(operations: Mapping[str, OperationModel], name: str, profile: str) -> OperationModel:
    """The model of one operation.

    Raises:
        UnmodelledOperation: if the profile did not measure it.
    """
    if name not in operations:
        raise UnmodelledOperation(
            f"profile {profile} has no samples of {name!r}; measure again with `autoprivacy profile`"
        )
    return operations[name]


@record
class Correction:
    """seconds = scale x (sum over operations) + per_layer_s x layers, for the quiet and for the typical time."""

    quiet_scale: float
    quiet_per_layer_s: float
    typical_scale: float
    typical_per_layer_s: float


@record
class MachineModel:
    """All operations of one machine profile, corrected by its measured runs.

    Typical times are at the machine's quiet speed; `reference_typical_s` is what the reference operation takes then.
    `run_errors` are the relative errors of each run's latency, predicted with corrections that left it out.
    """

    schema_version: Literal[1]
    profile_id: str
    profile_name: str
    reference_typical_s: float
    slowdown_p95: float
    operations: dict[str, OperationModel]
    corrections: dict[str, Correction]
    run_errors: tuple[float, ...]

    def operation(self, name: str) -> OperationModel:
        """The model of one operation.

        Raises:
            UnmodelledOperation: if the profile did not measure it.
        """
        return measured_operation(self.operations, name, self.profile_name)

    def component(self, name: str, work: Iterable[Handled], layers: int) -> tuple[float, float]:
        """Quiet and typical seconds of one component of `work`, which spans `layers` layers."""
        quiet, typical = _composed(self.operations, name, work, self.profile_name)
        correction = self.corrections[name]
        quiet = correction.quiet_scale * quiet + correction.quiet_per_layer_s * layers
        typical = correction.typical_scale * typical + correction.typical_per_layer_s * layers
        return min(quiet, typical), typical

    @property
    def relative_doubt(self) -> float:
        """How far a whole inference's prediction may be off, relative: the ERROR_QUANTILE of `run_errors`."""
        return float(np.quantile(np.abs(self.run_errors), ERROR_QUANTILE))


def fit(profile: MachineProfile) -> MachineModel:
    """Fit a profile.

    Raises:
        UnmodelledOperation: if the profile holds an operation without a model, or too few measured runs.
    """
    machine = profile.header.machine
    operations = fit_operations(sample for sample in profile.samples if is_modelled(sample, machine))
    for run in profile.runs:
        if missing := set(COMPONENTS.values()) - set(run.components):
            raise UnmodelledOperation(f"measured run {run.name} lacks {', '.join(sorted(missing))}; profile again")
    if len(profile.runs) < 3:
        raise UnmodelledOperation(
            f"profile {profile.header.name} holds {len(profile.runs)} measured runs; profile again"
        )
    return MachineModel(
        schema_version=1,
        profile_id=profile.header.id,
        profile_name=profile.header.name,
        reference_typical_s=profile.header.conditions.reference_quiet_s,
        slowdown_p95=profile.header.conditions.reference_slowdown_p95,
        operations=operations,
        corrections=_corrections(operations, profile.runs),
        run_errors=tuple(_left_out_error(operations, profile.runs, index) for index in range(len(profile.runs))),
    )


def _composed(
    operations: Mapping[str, OperationModel], component: str, work: Iterable[Handled], profile: str
) -> tuple[float, float]:
    """Quiet and typical sums of the operations that make up one component."""
    mine = [handled for handled in work if component_of(handled.operation) == component]
    models = [measured_operation(operations, handled.operation, profile) for handled in mine]
    return (
        sum(model.quiet_s(handled) for model, handled in zip(models, mine, strict=True)),
        sum(model.typical_s(handled) for model, handled in zip(models, mine, strict=True)),
    )


def _corrections(operations: dict[str, OperationModel], runs: Sequence[MeasuredRun]) -> dict[str, Correction]:
    rows: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    found = {}
    for component in dict.fromkeys(COMPONENTS.values()):
        rows[component] = [(*_composed(operations, component, run.work, run.name), run.layers) for run in runs]
        quiet, typical, layers = map(np.array, zip(*rows[component], strict=True))
        measured = [run.components[component] for run in runs]
        found[component] = Correction(
            *non_negative(np.stack([quiet, layers], axis=1), np.array([m.quiet_s for m in measured])),
            *non_negative(np.stack([typical, layers], axis=1), np.array([m.typical_s for m in measured])),
        )
    return found


def _left_out_error(operations: dict[str, OperationModel], runs: Sequence[MeasuredRun], index: int) -> float:
    run = runs[index]
    corrections = _corrections(operations, [*runs[:index], *runs[index + 1 :]])
    predicted = 0.0
    for component, correction in corrections.items():
        _, typical = _composed(operations, component, run.work, run.name)
        predicted += correction.typical_scale * typical + correction.typical_per_layer_s * run.layers
    return predicted / run.latency.typical_s - 1
