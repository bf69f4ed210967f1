"""`fit` and `predict`."""

from pathlib import Path

import numpy as np

from autoprivacy.cli.console import milliseconds, print_json, say, table
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.machine_model import fit as fit_model
from autoprivacy.models.prediction import Components, Deployment, Prediction, predict
from autoprivacy.profiler.machine import describe_software
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.serving import load_agreed


def model_of(name: str) -> MachineModel:
    """The latency model of a stored profile; refused if the profile is stale."""
    found = machine_profile.find(name)
    machine_profile.check_fresh(found, describe_software())
    return fit_model(found)


def fit_profile(name: str, *, json: bool) -> None:
    """Fit, and show how well settings that were left out are predicted, by which model, and why."""
    model = model_of(name)
    if json:
        print_json(model)
        return
    rows = []
    for operation in model.operations:
        errors = np.abs(operation.left_out_errors)
        others = ", ".join(
            f"{each.candidate} {each.left_out:.1%}/{'-' if each.held_out is None else f'{each.held_out:.1%}'}"
            for each in operation.candidates
            if each.left_out is not None
        )
        shown = [f"{np.median(errors):.1%}", f"{errors.max():.1%}"] if len(errors) else ["-", "-"]
        rows.append(
            [str(operation.key), str(operation.samples), operation.quiet.kind, *shown, others, operation.reason]
        )
    table(
        f"{model.profile_name}: errors on settings left out",
        ["operation", "settings", "model", "median", "largest", "mean error left out / held out", "why"],
        rows,
    )
    table(
        "corrections from measured layers: scale x operations + constant a layer",
        ["part", "kernel", "scale", "constant", "layers", "error before", "after"],
        [
            [
                each.part,
                each.kernel,
                f"{each.typical_scale:.2f}",
                milliseconds(each.typical_per_layer_s),
                str(each.layers),
                f"{each.error_before:.1%}",
                f"{each.error_after:.1%}",
            ]
            for each in model.corrections
        ],
    )
    for what, found in (("layers", model.layer_errors), ("whole inferences", model.run_errors)):
        absolute = np.abs(found)
        say(
            f"{what} left out of the correction: median error {np.median(absolute):.1%}, "
            f"largest {absolute.max():.1%} of {len(absolute)}"
        )


def predict_policy(network: str, policy: Path, server: str, client: str, *, json: bool) -> None:
    """Predict one policy on a deployment."""
    _, quantised, agreement = load_agreed(network, policy)
    show_prediction(
        predict(plan_network(quantised, agreement), Deployment(model_of(server), model_of(client))), json=json
    )


def show_prediction(prediction: Prediction, *, json: bool) -> None:
    """A prediction as a table, or as JSON."""
    if json:
        print_json(prediction)
        return
    names = list(Components.__dataclass_fields__)
    rows = [
        [
            layer.name,
            *(f"{1000 * getattr(layer.components, name):.2f}" for name in names),
            f"{1000 * layer.components.total_s:.2f}",
        ]
        for layer in prediction.layers
    ]
    table(
        "typical milliseconds", ["layer", *(name.removesuffix("_s").replace("_", " ") for name in names), "total"], rows
    )
    say(
        f"predicted {milliseconds(prediction.latency_s)} an image (80 %: {milliseconds(prediction.low_s)} to "
        f"{milliseconds(prediction.high_s)}; quiet {milliseconds(prediction.quiet_s)}), "
        f"{prediction.bytes_up:,} bytes up, {prediction.bytes_down:,} down"
    )
    if prediction.extrapolated:
        say(f"beyond what was measured: {'; '.join(prediction.extrapolated)}")
