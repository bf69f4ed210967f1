"""Private inference between two parties."""

from pathlib import Path
from typing import Annotated

import typer

from autoprivacy.cli.options import Certificate, Json, KeyFile, OwnData, ScheduleName, SpillDir, TimeoutS

app = typer.Typer()
key_app = typer.Typer(no_args_is_help=True, help="Shared keys of client and server.")
certificate_app = typer.Typer(no_args_is_help=True, help="Certificates of servers that are reached over a network.")
app.add_typer(key_app, name="key")
app.add_typer(certificate_app, name="certificate")


@key_app.command("new")
def key_new(path: Annotated[Path, typer.Argument()]) -> None:
    """Write a fresh shared key, readable by its owner only."""
    from autoprivacy.protocol.transport import new_key

    new_key(path)


@certificate_app.command("new")
def certificate_new(
    certificate: Annotated[Path, typer.Argument(help="File for the certificate; copy it to clients.")],
    private_key: Annotated[Path, typer.Argument(help="File for its private key; it stays with the server.")],
) -> None:
    """Write a self-signed certificate, and its private key, readable by its owner only."""
    from autoprivacy.protocol.tls import new_certificate

    new_certificate(certificate, private_key)


@app.command()
def serve(
    key_file: KeyFile,
    network: Annotated[
        str | None, typer.Argument(help="A network of the zoo, a checkpoint (.json) or an ONNX model (.onnx).")
    ] = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="A policy file.")] = None,
    listen: Annotated[
        str, typer.Option(help="HOST:PORT; port 0 takes a free one. Off loopback with --certificate only.")
    ] = "127.0.0.1:0",
    certificate: Certificate = None,
    certificate_key: Annotated[
        Path | None, typer.Option("--certificate-key", help="The private key of the certificate.")
    ] = None,
    timeout_s: TimeoutS = 30.0,
    once: Annotated[bool, typer.Option("--once", help="End after one client.")] = False,
    reveal_for_testing: Annotated[
        bool, typer.Option("--reveal-for-testing", help="NOT PRIVATE: open all shares to clients that ask.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the work of linear layers.")] = 1,
    weight_memory_gib: Annotated[
        float, typer.Option(min=0, help="Encoded weights beyond this are encoded whenever they are used.")
    ] = 4.0,
    clients: Annotated[int, typer.Option(min=1, help="Clients that are served at a time; others wait.")] = 4,
    spill_dir: SpillDir = None,
    own_data: OwnData = None,
    profile_only: Annotated[
        bool, typer.Option("--profile-only", help="Only let `profile --peer` measure the link to this machine.")
    ] = False,
    profile: Annotated[
        str | None, typer.Option(help="With --profile-only: the machine profile to hand out, by name or folder.")
    ] = None,
) -> None:
    """Serve private inference with the weights of a network, or with --profile-only measurements of the link."""
    from autoprivacy.cli import private_commands

    if profile_only:
        private_commands.serve_link(key_file, listen, certificate, certificate_key, timeout_s, profile, once=once)
        return
    if network is None or policy is None:
        raise typer.BadParameter("give a network and its --policy, or --profile-only")

    private_commands.serve(
        network,
        policy,
        key_file,
        listen,
        certificate,
        certificate_key,
        timeout_s,
        once=once,
        reveal_for_testing=reveal_for_testing,
        workers=workers,
        weight_budget_bytes=int(weight_memory_gib * 2**30),
        clients=clients,
        spill_dir=spill_dir,
        data_file=own_data,
    )


@app.command()
def infer(
    peer: Annotated[str, typer.Option(help="HOST:PORT of the server.")],
    key_file: KeyFile,
    input_file: Annotated[Path, typer.Option("--input", help="An .npy file: one image, (C, H, W) or (1, C, H, W).")],
    certificate: Certificate = None,
    timeout_s: TimeoutS = 30.0,
    emulate_rate_mbit: Annotated[
        float | None, typer.Option(min=0.001, help="Emulate a link of so many Mbit/s each way.")
    ] = None,
    emulate_rtt_ms: Annotated[
        float | None, typer.Option(min=0, max=60000, help="Emulate a link of this round-trip time.")
    ] = None,
    schedule: Annotated[
        ScheduleName, typer.Option(help="`preprocessed` does all that needs no image first, and measures it apart.")
    ] = ScheduleName.ONLINE,
    spill_dir: SpillDir = None,
    json: Json = False,
) -> None:
    """Infer one image privately; only this side learns the logits."""
    from autoprivacy.cli import private_commands

    private_commands.infer(
        peer,
        key_file,
        input_file,
        certificate,
        timeout_s,
        emulate_rate_mbit,
        emulate_rtt_ms,
        schedule=schedule.value,
        spill_dir=spill_dir,
        json=json,
    )
