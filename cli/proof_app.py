"""Proving what was chosen."""

from pathlib import Path
from typing import Annotated

import typer

from autoprivacy.cli.options import (
    Certificate,
    Depth,
    Drop,
    HtmlFile,
    Json,
    NetworkName,
    OwnData,
    PredictedSchedule,
    ScheduleName,
    Seed,
    SomeImages,
    TimeoutS,
)

app = typer.Typer()


@app.command()
def confirm(
    network: NetworkName,
    policy: Annotated[list[Path], typer.Option("--policy", help="A policy file; repeat it to compare policies.")],
    profile: Annotated[str, typer.Option(help="Machine profile of this machine, for the predictions.")],
    server: Annotated[
        str | None, typer.Option(help="With --peer: machine profile of the server; this machine's own by default.")
    ] = None,
    link: Annotated[
        str | None,
        typer.Option(help="Link profile: that to the --peer, or one to emulate here; loopback by default."),
    ] = None,
    schedule: PredictedSchedule = ScheduleName.ONLINE,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", help="HOST:PORT of `serve --reveal-for-testing`, one for each --policy, in order."),
    ] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", help="With --peer: the shared key.")] = None,
    certificate: Certificate = None,
    timeout_s: TimeoutS = 30.0,
    images: SomeImages = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="File for the measurements.")] = None,
    own_data: OwnData = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Do not measure a sample of the profile again first.")
    ] = False,
    json: Json = False,
) -> None:
    """Run policies for real between two processes, or with --peer two machines, and compare with their predictions.

    Exit code 4 if a measurement contradicts its prediction.
    """
    from autoprivacy.cli import proof_commands

    if server is not None and not peer:
        raise typer.BadParameter("--server is another machine's profile; it needs --peer")
    proof_commands.confirm_policies(
        network,
        policy,
        profile,
        server,
        link,
        schedule.value,
        peer or [],
        key_file,
        certificate,
        timeout_s,
        images,
        seed,
        out,
        own_data,
        unchecked=unchecked,
        json=json,
    )


@app.command()
def tune(
    network: NetworkName,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NETWORK by default.")] = None,
    images: SomeImages = None,
    max_accuracy_drop: Drop = 0.015,
    circuit_privacy: Annotated[str, typer.Option(help="none, rerandomise, uniform or flood:BITS.")] = "uniform",
    method: Annotated[str, typer.Option(help="How the policy is searched, as in `search`.")] = "exact",
    candidates: Annotated[
        int, typer.Option("--confirm", min=1, help="So many of the best by prediction run; the measured winner wins.")
    ] = 2,
    profile: Annotated[
        str | None, typer.Option(help="A profile of this machine, by name or folder; by default one is measured.")
    ] = None,
    depth: Annotated[Depth, typer.Option(help="How much is measured where no profile is given.")] = Depth.QUICK,
    peer: Annotated[
        str | None, typer.Option(help="HOST:PORT of `serve --profile-only --profile NAME`: the server's machine.")
    ] = None,
    serving: Annotated[
        list[str] | None,
        typer.Option(
            "--serving", help="With --peer: HOST:PORT of `serve --reveal-for-testing`, one for each policy, in order."
        ),
    ] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", help="With --peer: the shared key.")] = None,
    certificate: Certificate = None,
    seed: Seed = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure anew even if the run folder holds a profile.")
    ] = False,
    own_data: OwnData = None,
    json: Json = False,
) -> None:
    """Profile, fit, search, confirm: the whole chain, and one report of it.

    On this machine alone, or with --peer as the client of another one.
    """
    from autoprivacy.agent.searching import Settings, check
    from autoprivacy.agent.tuning import Asked
    from autoprivacy.cli import proof_commands
    from autoprivacy.cli.console import VERSION
    from autoprivacy.hwprofiles import machine_profile
    from autoprivacy.networks import zoo
    from autoprivacy.networks.user_data import splits_for

    if peer is None and (serving or key_file or certificate):
        raise typer.BadParameter("--serving, --key-file and --certificate belong to --peer")
    settings = Settings(max_accuracy_drop=max_accuracy_drop, method=method, circuit_privacy=circuit_privacy, seed=seed)
    check(settings)
    trained = zoo.load(network)
    asked = Asked(
        trained=trained,
        source=network,
        data=splits_for(trained, own_data),
        out=out or Path("runs") / trained.network.name,
        version=VERSION,
        settings=settings,
        images=images,
        candidates=candidates,
        depth=depth.value,
        profile=None if profile is None else machine_profile.find(profile),
        peer=None if peer is None else proof_commands.peer_of(peer, serving or [], key_file, certificate),
        fresh=fresh,
        data_file=own_data,
    )
    proof_commands.tune_network(asked, json=json)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder of `tune`.")],
    html: HtmlFile = None,
    json: Json = False,
) -> None:
    """Draw the report of a run again."""
    from autoprivacy.cli import proof_commands

    proof_commands.redraw(run, html, json=json)
