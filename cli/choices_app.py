"""Choosing policies."""

from pathlib import Path
from typing import Annotated

import typer

from autoprivacy.cli.options import (
    ClientProfiles,
    Drop,
    Json,
    LinkProfiles,
    NetworkName,
    ObjectiveName,
    OwnData,
    Seed,
    ServerProfiles,
    SomeImages,
)
from autoprivacy.common.errors import BadInput

app = typer.Typer()
policy_app = typer.Typer(no_args_is_help=True, help="Policy files.")
app.add_typer(policy_app, name="policy")


@app.command()
def search(
    network: NetworkName,
    server: ServerProfiles,
    client: ClientProfiles,
    out: Annotated[
        Path, typer.Option(help="Policy file (.json) to write, or a run folder, in which a search can go on.")
    ],
    link: LinkProfiles = None,
    method: Annotated[
        str, typer.Option(help="exact, ddpg, greedy, bisection, uniform, random or tpe (needs optuna).")
    ] = "exact",
    objective: Annotated[
        ObjectiveName,
        typer.Option(help="What is made least: all of it (total), or what schedule `preprocessed` leaves online."),
    ] = ObjectiveName.TOTAL,
    max_accuracy_drop: Drop = 0.005,
    latency_budget: Annotated[
        float | None, typer.Option(min=0, help="Seconds: find the most accurate policy that takes no longer.")
    ] = None,
    circuit_privacy: Annotated[str, typer.Option(help="none, rerandomise, uniform or flood:BITS.")] = "uniform",
    security: Annotated[str, typer.Option(help="he2024, the stricter table, or he2018.")] = "he2024",
    sensitivity_images: Annotated[int, typer.Option(min=1, help="Images that judge each layer alone.")] = 1000,
    judged_images: Annotated[int, typer.Option(min=1, help="Images that judge whole policies.")] = 5000,
    calls: Annotated[
        int | None,
        typer.Option(min=1, help="Policies that a method may price a run; by default 2000 for ddpg, random and tpe."),
    ] = None,
    candidates: Annotated[
        int,
        typer.Option(
            "--confirm", min=0, help="So many of the best by prediction run for real; the measured winner wins."
        ),
    ] = 0,
    images: SomeImages = None,
    seed: Seed = 0,
    own_data: OwnData = None,
    json: Json = False,
) -> None:
    """Find the policy of least predicted latency that is accurate enough; on several deployments, if repeated."""
    from autoprivacy.agent.searching import Settings
    from autoprivacy.cli import choice_commands, many_commands
    from autoprivacy.models.deployments import LOOPBACK, pair

    if security not in {"he2024", "he2018"}:
        raise BadInput(f"--security {security}: choose he2024 or he2018")
    settings = Settings(
        objective="online" if objective is ObjectiveName.ONLINE else "total",
        max_accuracy_drop=max_accuracy_drop,
        latency_budget_s=latency_budget,
        method=method,
        circuit_privacy=circuit_privacy,
        security="he2018" if security == "he2018" else "he2024",
        sensitivity_images=sensitivity_images,
        judged_images=judged_images,
        most_priced=calls,
        seed=seed,
    )
    names = pair(server, client, link or [LOOPBACK])
    if len(names) == 1:
        between = None if names[0].link == LOOPBACK else names[0].link
        choice_commands.search(
            network, server[0], client[0], between, out, settings, own_data, candidates, images, json=json
        )
        return
    if candidates:
        raise BadInput(f"--confirm {candidates} is for one deployment; name one server and one client")
    many_commands.search_each(network, names, out, settings, own_data, json=json)


@app.command()
def sweep(
    networks: Annotated[list[str], typer.Argument(help="Networks of the zoo, checkpoints (.json) or ONNX models.")],
    deployments: Annotated[list[str], typer.Option("--deployments", help="Deployments: SERVER,CLIENT[,LINK] by name.")],
    out: Annotated[Path, typer.Option(help="Run folder; the same command goes on in it.")],
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each network on each deployment.")] = 10,
    method: Annotated[str, typer.Option(help="ddpg, random, tpe or another method of `search`.")] = "ddpg",
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    backend: Annotated[str, typer.Option(help="local, or dask (an extra).")] = "local",
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler; a cluster here by default. Share the run folder.")
    ] = None,
    max_accuracy_drop: Drop = 0.005,
    circuit_privacy: Annotated[str, typer.Option(help="none, rerandomise, uniform or flood:BITS.")] = "uniform",
    sensitivity_images: Annotated[int, typer.Option(min=1, help="Images that judge each layer alone.")] = 1000,
    calls: Annotated[int, typer.Option(min=1, help="Policies that each seed may price.")] = 1000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Solve every network on every deployment with every seed, over several processes or machines.

    `--deployments` takes several values in a row: `--deployments a,b,wan a,a`.
    """
    from autoprivacy.agent.searching import Settings
    from autoprivacy.cli import many_commands
    from autoprivacy.models.deployments import Names

    if backend not in {"local", "dask"}:
        raise BadInput(f"--backend {backend}: choose local or dask")
    if scheduler is not None and backend != "dask":
        raise BadInput("--scheduler needs --backend dask")
    settings = Settings(
        max_accuracy_drop=max_accuracy_drop,
        method=method,
        circuit_privacy=circuit_privacy,
        sensitivity_images=sensitivity_images,
        most_priced=calls,
        seed=seed,
    )
    many_commands.sweep_networks(
        networks,
        [Names.parse(each) for each in deployments],
        seeds,
        settings,
        out,
        workers,
        "dask" if backend == "dask" else "local",
        scheduler,
        json=json,
    )


@policy_app.command("show")
def policy_show(policy: Annotated[Path, typer.Argument()], json: Json = False) -> None:
    """Explain a policy layer by layer."""
    from autoprivacy.cli import choice_commands

    choice_commands.show_policy(policy, json=json)


@policy_app.command("export")
def policy_export(policy: Annotated[Path, typer.Argument()], json: Json = False) -> None:
    """Show what SEAL takes for each layer: degree, primes (the special one last), plaintext modulus."""
    from autoprivacy.cli import choice_commands

    choice_commands.export_policy(policy, json=json)
