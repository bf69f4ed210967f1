"""`profile`, `profiles`, `fit` and `predict`."""

from pathlib import Path

import numpy as np

from autoprivacy.cli.console import err, milliseconds, print_json, progress, say, table
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.machine_profile import Header, MachineProfile
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.machine_model import fit as fit_model
from autoprivacy.models.operation_model import FEATURES
from autoprivacy.models.prediction import Components, Deployment, Prediction, predict
from autoprivacy.profiler.machine import describe_software
from autoprivacy.profiler.profile import STEPS, profile_machine
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.serving import load_agreed


def profile(name: str, folder: Path, *, json: bool) -> None:
    """Measure this machine and store the profile."""
    with progress("profiling this machine", STEPS) as advance:
        measured = profile_machine(name, advance)
    machine_profile.write(measured, folder / name)
    err.print(f"profile written to {folder / name}")
    _show(measured, json=json)


def list_profiles(*, json: bool) -> None:
    """Profiles that can be found by name."""
    found = [machine_profile.read(folder).header for folder in machine_profile.stored()]
    if json:
        print_json(found)
        return
    table(
        "machine profiles",
        ["name", "measured", "cpu", "cores", "verdict"],
        [[h.name, h.measured_on, h.machine.cpu, str(h.machine.cores), h.conditions.verdict] for h in found],
    )


def show_profile(name: str, *, json: bool) -> None:
    """One profile."""
    _show(machine_profile.find(name), json=json)


def _show(profile: MachineProfile, *, json: bool) -> None:
    if json:
        print_json(profile)
        return
    header: Header = profile.header
    say(f"{header.name}: {header.machine.cpu}, {header.machine.cores} cores, AES {header.machine.aes_path}")
    slow = header.conditions
    say(
        f"{slow.verdict}: the reference operation took {slow.reference_slowdown_median:.2f} times its quiet time "
        f"at the median, {slow.reference_slowdown_p95:.2f} at the 95 % quantile"
    )
    rows = [
        [
            s.operation,
            *(str(v) if v else "" for v in (s.n, s.q_bits, s.items, s.values)),
            f"{1e6 * s.quiet_s:.1f}",
            f"{1e6 * s.typical_s:.1f}",
        ]
        for s in profile.samples
    ]
    table("samples (µs)", ["operation", "n", "q bits", "items", "values", "quiet", "typical"], rows)


def model_of(name: str) -> MachineModel:
    """The latency model of a stored profile; refused if the profile is stale."""
    found = machine_profile.find(name)
    machine_profile.check_fresh(found, describe_software())
    return fit_model(found)


def fit_profile(name: str, *, json: bool) -> None:
    """Fit, and show how well settings that were left out are predicted."""
    model = model_of(name)
    if json:
        print_json(model)
        return
    rows = []
    for operation in model.operations.values():
        errors = np.abs(operation.relative_errors)
        formula = " + ".join(
            f"{1e9 * value:.3g} {feature}"
            for value, feature in zip(operation.quiet, FEATURES[operation.operation], strict=True)
            if value
        )
        rows.append([operation.operation, f"{np.median(errors):.1%}", f"{errors.max():.1%}", formula])
    table(
        f"{model.profile_name}: error on settings left out", ["operation", "median", "largest", "quiet time, ns"], rows
    )
    errors = np.abs(model.run_errors)
    say(
        f"whole inferences left out of the correction: median error {np.median(errors):.1%}, "
        f"largest {errors.max():.1%} of {len(errors)}"
    )
    for component, correction in model.corrections.items():
        constant = milliseconds(correction.typical_per_layer_s)
        say(f"  {component}: {correction.typical_scale:.2f} x its operations + {constant} a layer")


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
        say(f"beyond what was measured: {', '.join(prediction.extrapolated)}")
