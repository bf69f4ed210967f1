"""What is computed: networks, data sets, training."""

from pathlib import Path
from typing import Annotated

import typer

from autoprivacy.cli.options import Json, NetworkName, Seed

app = typer.Typer()
networks_app = typer.Typer(no_args_is_help=True, help="What can be made private.")
data_app = typer.Typer(no_args_is_help=True, help="Data sets.")
app.add_typer(networks_app, name="networks")
app.add_typer(data_app, name="data")


@networks_app.command("list")
def networks_list(json: Json = False) -> None:
    """Name the networks of the zoo."""
    from autoprivacy.cli import networks_commands

    networks_commands.list_networks(json=json)


@networks_app.command("show")
def networks_show(network: NetworkName, json: Json = False) -> None:
    """Show layers, shapes, counts, checkpoint and accuracy."""
    from autoprivacy.cli import networks_commands

    networks_commands.show_network(network, json=json)


@data_app.command("list")
def data_list(json: Json = False) -> None:
    """List the data sets, and which are on this machine."""
    from autoprivacy.cli import data_commands

    data_commands.list_sets(json=json)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A data set (`autoprivacy data list`).")],
    source: Annotated[
        Path | None, typer.Option("--from", help="A file or folder that holds the set; by default it is downloaded.")
    ] = None,
    json: Json = False,
) -> None:
    """Bring a data set into the cache ($AUTOPRIVACY_DATA, by default the user's cache folder)."""
    from autoprivacy.cli import data_commands

    data_commands.fetch(name, source, json=json)


@app.command()
def train(
    network: NetworkName,
    out: Annotated[Path, typer.Option(help="Checkpoint file to write (NAME.json, weights beside it).")],
    seed: Seed = 0,
    data: Annotated[
        Path | None, typer.Option(help="An .npz file of your own images x (N, C, H, W) and labels y (N,).")
    ] = None,
    float_epochs: Annotated[int | None, typer.Option(min=0, help="Passes over the data in float.")] = None,
    any_precision_epochs: Annotated[
        int | None, typer.Option(min=0, help="Passes over the data at widths drawn anew in every step.")
    ] = None,
    half_precision: Annotated[
        bool,
        typer.Option(
            "--half-precision",
            help="Compute in bfloat16: 3 times faster on CPUs with AVX-512 BF16 or AMX, 10 times slower on others.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Train for any precision: a network of the zoo from scratch, one of your own from its weights.

    Interrupted, it keeps what it reached beside the checkpoint, and the same command goes on from there.
    """
    from autoprivacy.cli import networks_commands

    networks_commands.train_network(
        network, out, seed, data, float_epochs, any_precision_epochs, half_precision=half_precision, json=json
    )
