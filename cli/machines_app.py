"""Machines and links: measuring them, and what is stored of them."""

from pathlib import Path
from typing import Annotated

import typer

from autoprivacy.cli.options import Certificate, Depth, Json, ProfileName, Seed

app = typer.Typer()
profiles_app = typer.Typer(no_args_is_help=True, help="Stored machine profiles.")
app.add_typer(profiles_app, name="profiles")


@app.command()
def profile(
    name: Annotated[str, typer.Option(help="Name of the profile.")],
    depth: Annotated[
        Depth, typer.Option(help="On two quiet cores: quick within a minute, standard five, full twenty.")
    ] = Depth.STANDARD,
    out: Annotated[Path, typer.Option(help="Folder that holds profiles.")] = Path("hwprofiles"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a measurement that was broken off.")] = False,
    peer: Annotated[
        str | None, typer.Option(help="HOST:PORT of `serve --profile-only`: measure the link to it instead.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", help="With --peer: the shared key.")] = None,
    certificate: Certificate = None,
    client: Annotated[str | None, typer.Option(help="With --peer: this machine's own profile.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure this machine, or with --peer the link to another one, whose machine profile is fetched too.

    Interrupted, it keeps what was measured; the same command with --resume goes on from there.
    """
    from autoprivacy.cli import profile_commands

    if peer is None:
        profile_commands.profile(name, out, depth.value, seed=seed, resume=resume, json=json)
    elif key_file is None:
        raise typer.BadParameter("--peer needs --key-file")
    else:
        profile_commands.profile_link(name, out, depth.value, peer, key_file, certificate, client, json=json)


@profiles_app.command("list")
def profiles_list(json: Json = False) -> None:
    """List the profiles of machines and links that can be found by name."""
    from autoprivacy.cli import profile_commands

    profile_commands.list_profiles(json=json)


@profiles_app.command("show")
def profiles_show(profile: ProfileName, json: Json = False) -> None:
    """Show what a profile measured, and on what."""
    from autoprivacy.cli import profile_commands

    profile_commands.show_profile(profile, json=json)


@profiles_app.command("check")
def profiles_check(profile: ProfileName, json: Json = False) -> None:
    """Measure a sample of a profile again, in seconds, and say what drifted; exit code 3 if it no longer holds."""
    from autoprivacy.cli import profile_commands

    profile_commands.check_profile(profile, json=json)


@profiles_app.command("compare")
def profiles_compare(first: ProfileName, second: ProfileName, json: Json = False) -> None:
    """Show which operations differ between two machine profiles, and by how much."""
    from autoprivacy.cli import profile_commands

    profile_commands.compare_profiles(first, second, json=json)


@profiles_app.command("export")
def profiles_export(profile: ProfileName, file: Annotated[Path, typer.Argument(help="File to write (.zip).")]) -> None:
    """Write a profile as one file."""
    from autoprivacy.cli import profile_commands

    profile_commands.export_profile(profile, file)


@profiles_app.command("import")
def profiles_import(
    file: Annotated[Path, typer.Argument(help="A file that `profiles export` wrote.")],
    name: Annotated[str | None, typer.Option(help="Name to keep it under; its own by default.")] = None,
    out: Annotated[Path, typer.Option(help="Folder that holds profiles.")] = Path("hwprofiles"),
) -> None:
    """Check an exported profile, and keep it."""
    from autoprivacy.cli import profile_commands

    profile_commands.import_profile(file, name, out)
