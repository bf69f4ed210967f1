"""The story of a run: everything that its report says, read from the run folder."""

from pathlib import Path
from typing import Literal

import numpy as np

from autoprivacy.agent.choosing import Found
from autoprivacy.agent.confirmed import Confirmation
from autoprivacy.agent.feedback import Lesson
from autoprivacy.agent.tuning import Predictions, Run
from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import load, record
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.models.machine_model import MachineModel


@record
class FittedOperation:
    """One operation's model, and relative errors on settings that it did not see; None where none were left out."""

    name: str
    samples: int
    kind: str
    median_error: float | None
    largest_error: float | None


@record
class Fitted:
    """What was measured and modelled: how much of it, and how well layers and inferences left out are predicted."""

    samples: int
    layers: int
    runs: int
    operations: tuple[FittedOperation, ...]
    median_layer_error: float
    median_run_error: float


@record
class Story:
    """A run of `tune`, from machine to verdict; `lesson` is None between two machines, where nothing is learnt."""

    schema_version: Literal[1]
    run: Run
    fitted: Fitted
    found: Found
    predictions: Predictions
    confirmation: Confirmation
    lesson: Lesson | None


def story_of(folder: Path) -> Story:
    """Read a run folder.

    Raises:
        BadInput: if it is none, or damaged, naming the file.
    """
    if not (folder / "run.json").exists():
        raise BadInput(f"{folder}: no finished run of `autoprivacy tune` (run.json is missing); name its --out folder")
    model, profile = load(MachineModel, folder / "model.json"), machine_profile.read(folder / "profile")
    return Story(
        schema_version=1,
        run=load(Run, folder / "run.json"),
        fitted=_fitted(model, profile),
        found=load(Found, folder / "search.json"),
        predictions=load(Predictions, folder / "predictions.json"),
        confirmation=load(Confirmation, folder / "confirmation.json"),
        lesson=load(Lesson, folder / "lesson.json") if (folder / "lesson.json").exists() else None,
    )


def _fitted(model: MachineModel, profile: MachineProfile) -> Fitted:
    operations = []
    for operation in model.operations:
        errors = np.abs(operation.left_out_errors)
        median, largest = (float(np.median(errors)), float(errors.max())) if len(errors) else (None, None)
        operations.append(FittedOperation(str(operation.key), operation.samples, operation.quiet.kind, median, largest))
    return Fitted(
        samples=len(profile.samples),
        layers=len(profile.layers),
        runs=len(profile.runs),
        operations=tuple(operations),
        median_layer_error=float(np.median(np.abs(model.layer_errors))),
        median_run_error=float(np.median(np.abs(model.run_errors))),
    )
