"""The loop closes: what a confirmation measured goes back into the machine's profile, marked, and the model with it.

Only inferences of schedule `online` over loopback are taken: they are what a profile holds of its own small networks.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from autoprivacy.agent.confirmation import Runs
from autoprivacy.common.records import record, to_json
from autoprivacy.hwprofiles.machine_profile import MachineProfile, MeasuredLayer, MeasuredRun
from autoprivacy.models.machine_model import MachineModel, corrected
from autoprivacy.models.prediction import Deployment, predict
from autoprivacy.profiler.layers import Done, measured_layers, measured_run
from autoprivacy.profiler.spells import Slowdown
from autoprivacy.protocol.plan import plan_network


@record
class Learned:
    """One policy at the machine's quiet speed: what it took, and relative errors of its prediction.

    `error_after` is of the model refitted with what all *other* policies took; None where there is no other one.
    `error_with_own` is of the one that has seen this policy too.
    """

    label: str
    measured_s: float
    error_before: float
    error_after: float | None
    error_with_own: float


@record
class Lesson:
    """What a confirmation taught the model of a profile."""

    profile_before: str
    profile_after: str
    layers: int
    policies: tuple[Learned, ...]


def learn(
    profile: MachineProfile, model: MachineModel, runs: Sequence[Runs]
) -> tuple[MachineProfile, MachineModel, Lesson]:
    """The profile with what the runs measured, marked; its model refitted; and how predictions change by that."""
    taken = [own for own in runs if own.contender.schedule == "online"]
    measured = {own.contender.label: _measured(own, profile) for own in taken}
    whole = _with(profile, list(measured.values()))
    refitted = corrected(model, whole)
    lessons = []
    for own in taken:
        label = own.contender.label
        run, _ = measured[label]
        others = [each for name, each in measured.items() if name != label]
        left_out = corrected(model, _with(profile, others)) if others else None
        lessons.append(
            Learned(
                label=label,
                measured_s=run.latency.typical_s,
                error_before=_error(own, model, run),
                error_after=None if left_out is None else _error(own, left_out, run),
                error_with_own=_error(own, refitted, run),
            )
        )
    layers = sum(len(layers) for _, layers in measured.values())
    return whole, refitted, Lesson(profile.header.id, whole.header.id, layers, tuple(lessons))


def _measured(runs: Runs, profile: MachineProfile) -> tuple[MeasuredRun, tuple[MeasuredLayer, ...]]:
    contender = runs.contender
    reference_s = profile.header.conditions.reference_quiet_s
    done = [
        Done(each.inference, each.revealed, Slowdown.of(each.reference_s, reference_s, loopback=True))
        for each in runs.done
    ]
    planned = plan_network(contender.network, contender.agreement).layers
    digest = hashlib.sha256(to_json(contender.policy.layers, indent=None).encode()).hexdigest()
    name = f"confirmed {contender.network.name} {digest[:12]}"
    run = measured_run(name, contender.agreement, planned, done, confirmed=True)
    return run, tuple(measured_layers(name, contender.agreement, contender.network, planned, done, confirmed=True))


def _with(profile: MachineProfile, measured: Sequence[tuple[MeasuredRun, tuple[MeasuredLayer, ...]]]) -> MachineProfile:
    """The profile with these runs in place of older ones of the same policies; its id follows what it holds."""
    names = {run.name for run, _ in measured}
    runs = (*(each for each in profile.runs if each.name not in names), *(run for run, _ in measured))
    layers = (
        *(each for each in profile.layers if each.run not in names),
        *(layer for _, own in measured for layer in own),
    )
    digest = hashlib.sha256(to_json([profile.header.id, *(run for run in runs if run.confirmed)]).encode()).hexdigest()
    return replace(profile, header=replace(profile.header, id=digest[:16]), runs=runs, layers=layers)


def _error(runs: Runs, model: MachineModel, run: MeasuredRun) -> float:
    """Predicted over measured, both at quiet speed, less 1."""
    planned = plan_network(runs.contender.network, runs.contender.agreement)
    predicted = predict(planned, Deployment(model, model)).latency_s / model.slowdown_median
    return predicted / run.latency.typical_s - 1
