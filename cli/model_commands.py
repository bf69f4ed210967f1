"""`fit` and `predict`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoprivacy.cli.console import err, milliseconds, print_json, say, table
from autoprivacy.common.files import check_writable, write_atomic
from autoprivacy.common.records import save
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.comparison import Comparison, Objective
from autoprivacy.models.deployments import Names
from autoprivacy.models.export import cost_table, heir_cost_model
from autoprivacy.models.fitted import fitted
from autoprivacy.models.latency import report_on
from autoprivacy.models.latency_report import LatencyReport
from autoprivacy.models.layer_model import Correction
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.machine_model import fit as fit_model
from autoprivacy.models.operation_model import OperationModel
from autoprivacy.models.prediction import Prediction, used_components
from autoprivacy.models.report import text
from autoprivacy.profiler.machine import describe_software
from autoprivacy.protocol.conversation import Schedule


def model_of(name: str) -> MachineModel:
    """The latency model of a stored profile; refused if the profile is stale."""
    found = machine_profile.find(name)
    machine_profile.check_fresh(found, describe_software())
    return fitted(found)


def fit_profile(
    name: str, out: Path | None, csv: Path | None, heir: Path | None, heir_n: int | None, *, json: bool
) -> None:
    """Fit, and show how well settings that were left out are predicted, by which model, and why."""
    found = machine_profile.find(name)
    machine_profile.check_fresh(found, describe_software())
    for path in (out, csv, heir):
        if path is not None:
            check_writable(path)
    model = fit_model(found)
    if out is not None:
        save(model, out)
    if csv is not None:
        write_atomic(csv, cost_table(model, found).to_csv(index=False).encode())
    if heir is not None:
        save(heir_cost_model(model, found, n=heir_n), heir)
    if json:
        print_json(model)
        return
    table(
        f"{model.profile_name}: relative errors on settings left out",
        ["operation", "settings", "model", "median", "largest"],
        [_operation_row(operation) for operation in model.operations],
    )
    _show_candidates(model)
    _show_corrections("scale x operations, and constants a layer (of the link: a message)", model.corrections)
    for over in model.over_links:
        _show_corrections(f"the same over a link of {1e3 * over.round_trip_s:g} ms round trip", over.corrections)
    for what, errors in (("layers", model.layer_errors), ("whole inferences", model.run_errors)):
        absolute = np.abs(errors)
        say(
            f"{what} left out of the correction: median error {np.median(absolute):.1%}, "
            f"largest {absolute.max():.1%} of {len(absolute)}"
        )


def _show_corrections(what: str, corrections: Sequence[Correction]) -> None:
    table(
        f"corrections from measured layers: {what}",
        ["part", "kernel", "scale", "cold", "constant", "begin", "sleep", "layers", "error, before"],
        [
            [
                each.part,
                each.kernel,
                f"{each.typical_scale:.2f}",
                f"{each.typical_cold:.2f} of {milliseconds(each.cold_s)}" if each.typical_cold else "",
                milliseconds(each.typical_per_layer_s),
                *(milliseconds(once_s) if once_s else "" for once_s in (each.typical_start_s, each.typical_sleep_s)),
                str(each.layers),
                f"{each.error_after:.1%}, {each.error_before:.1%}",
            ]
            for each in corrections
        ],
    )


def _operation_row(operation: OperationModel) -> list[str]:
    errors = np.abs(operation.left_out_errors)
    shown = [f"{np.median(errors):.1%}", f"{errors.max():.1%}"] if len(errors) else ["-", "-"]
    return [str(operation.key), str(operation.samples), operation.quiet.kind, *shown]


def _show_candidates(model: MachineModel) -> None:
    """What was tried for each operation, and under what reason one was taken; each reason is written once."""
    reasons = list(dict.fromkeys(operation.reason for operation in model.operations))
    names = list(dict.fromkeys(each.candidate for operation in model.operations for each in operation.candidates))
    rows = []
    for operation in model.operations:
        tried = {each.candidate: f"{_share(each.left_out)}/{_share(each.held_out)}" for each in operation.candidates}
        why = f"({reasons.index(operation.reason) + 1})"
        rows.append([str(operation.key), *(tried.get(name, "") for name in names), why])
    table("mean errors of what was tried, left out/held out", ["operation", *names, "why"], rows)
    for number, reason in enumerate(reasons, 1):
        say(f"({number}) {reason}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def predict_policies(
    network: str,
    policies: list[Path],
    deployments: list[Names],
    schedule: Schedule,
    workers: int,
    html: Path | None,
    data_file: Path | None,
    *,
    json: bool,
) -> None:
    """Predict policies on deployments."""
    if html is not None:
        check_writable(html)
    report = report_on(network, policies, deployments, schedule=schedule, workers=workers, data_file=data_file)
    _conclude(report, html, json=json)


def compare_policies(
    network: str,
    policies: list[Path],
    deployments: list[Names],
    schedule: Schedule,
    objective: Objective,
    workers: int,
    html: Path | None,
    data_file: Path | None,
    *,
    json: bool,
) -> None:
    """Predict every policy on every deployment, and compare."""
    if html is not None:
        check_writable(html)
    report = report_on(
        network,
        policies,
        deployments,
        schedule=schedule,
        objective=objective,
        workers=workers,
        data_file=data_file,
    )
    _conclude(report, html, json=json)


def _conclude(report: LatencyReport, html: Path | None, *, json: bool) -> None:
    if html is not None:
        from autoprivacy.models.report import write_html

        write_html(report, html)
        err.print(f"report written to {html}")
    if json:
        print_json(report)
    elif report.comparison is not None:
        show_comparison(report.comparison)
        _warn(report)
    else:
        for each in report.estimates:
            say(f"{each.policy} on {each.deployment}, schedule {report.schedule}")
            show_prediction(each.prediction, json=False)
        _warn(report)


def _warn(report: LatencyReport) -> None:
    for warning in dict.fromkeys(warning for each in report.estimates for warning in each.warnings):
        say(f"warning: {warning}")


def show_comparison(comparison: Comparison) -> None:
    """A matrix of latencies, the best of each deployment, and regrets."""
    rows = [
        [
            name,
            *(
                f"{text.seconds(value)}{'*' if best.policy == name else ' '}"
                for value, best in zip(row, comparison.best, strict=True)
            ),
        ]
        for name, row in zip(comparison.policies, comparison.latency_s, strict=True)
    ]
    table(f"predicted latency, {comparison.objective} (* best)", ["policy", *comparison.deployments], rows)
    for best in comparison.best:
        near = "" if best.clear in {None, True} else f"; not distinguishable from {best.runner_up} by its interval"
        say(f"{best.deployment}: {best.policy}, {text.seconds(best.latency_s)}{near}")
    if comparison.regrets:
        table(
            "regret of taking one deployment's choice to another",
            ["chosen for", "used on", "policy", "takes", "regret", "relative"],
            [
                [
                    each.chosen_for,
                    each.used_on,
                    each.policy,
                    text.seconds(each.latency_s),
                    text.seconds(each.regret_s),
                    f"{each.regret:.1%}",
                ]
                for each in comparison.regrets
            ],
        )


def show_prediction(prediction: Prediction, *, json: bool) -> None:
    """A prediction as a table, or as JSON."""
    if json:
        print_json(prediction)
        return
    names = used_components(*(layer.components for layer in prediction.layers))
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
    if prediction.offline_s:
        say(
            f"before the image is known: {milliseconds(prediction.offline_s)}, {prediction.offline_bytes_up:,} bytes "
            f"up, {prediction.offline_bytes_down:,} down"
        )
    if prediction.setup_s:
        say(f"set-up, once a session: {milliseconds(prediction.setup_s)}")
    if prediction.extrapolated:
        say(f"beyond what was measured: {'; '.join(prediction.extrapolated)}")
