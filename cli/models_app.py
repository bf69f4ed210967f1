"""Latency models: fitting, predicting, comparing."""

from pathlib import Path
from typing import Annotated

import typer

from autoprivacy.cli.options import (
    ClientProfiles,
    HtmlFile,
    Json,
    LinkProfiles,
    NetworkName,
    ObjectiveName,
    OwnData,
    PredictedSchedule,
    ScheduleName,
    ServerProfiles,
    Workers,
)

app = typer.Typer()


@app.command()
def fit(
    profile: Annotated[str, typer.Argument(help="Name or folder of a profile.")],
    out: Annotated[Path | None, typer.Option(help="File for the fitted model and its validation (JSON).")] = None,
    export_csv: Annotated[
        Path | None, typer.Option("--export-csv", help="File for a table of costs, predicted beside measured.")
    ] = None,
    export_heir: Annotated[
        Path | None, typer.Option("--export-heir", help="File for HEIR's `orbit-cost-model` (JSON).")
    ] = None,
    heir_n: Annotated[
        int | None, typer.Option("--heir-n", help="Ring degree of that file; the one with most limbs by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Fit latency models to a profile, and validate them on settings they did not see."""
    from autoprivacy.cli import model_commands

    model_commands.fit_profile(profile, out, export_csv, export_heir, heir_n, json=json)


@app.command()
def predict(
    network: NetworkName,
    policy: Annotated[list[Path], typer.Option("--policy", help="A policy file; repeat it for several side by side.")],
    server: ServerProfiles,
    client: ClientProfiles,
    link: LinkProfiles = None,
    schedule: PredictedSchedule = ScheduleName.ONLINE,
    workers: Workers = 1,
    html: HtmlFile = None,
    own_data: OwnData = None,
    json: Json = False,
) -> None:
    """Predict the latency of policies on a deployment, layer by layer; on several, if machines are repeated."""
    from autoprivacy.cli import model_commands
    from autoprivacy.models.deployments import LOOPBACK, pair

    model_commands.predict_policies(
        network, policy, pair(server, client, link or [LOOPBACK]), schedule.value, workers, html, own_data, json=json
    )


@app.command()
def compare(
    network: NetworkName,
    policies: Annotated[list[Path], typer.Option("--policies", help="Policy files.")],
    deployments: Annotated[list[str], typer.Option("--deployments", help="Deployments: SERVER,CLIENT[,LINK] by name.")],
    schedule: PredictedSchedule = ScheduleName.ONLINE,
    objective: Annotated[
        ObjectiveName, typer.Option(help="`total` counts offline work too, `online` only from image to logits.")
    ] = ObjectiveName.TOTAL,
    workers: Workers = 1,
    html: HtmlFile = None,
    own_data: OwnData = None,
    json: Json = False,
) -> None:
    """Compare policies over deployments: predicted latencies, the best for each, and regrets.

    Options that take several values take them in a row: `--policies p.json q.json --deployments a,b,wan a,a`.
    """
    from autoprivacy.cli import model_commands
    from autoprivacy.models.deployments import Names

    model_commands.compare_policies(
        network,
        policies,
        [Names.parse(each) for each in deployments],
        schedule.value,
        objective.value,
        workers,
        html,
        own_data,
        json=json,
    )
