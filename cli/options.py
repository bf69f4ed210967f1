"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Depth(StrEnum):
    """How much `profile` measures."""

    QUICK = "quick"
    STANDARD = "standard"
    FULL = "full"


Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
NetworkName = Annotated[
    str, typer.Argument(help="A network of the zoo, a checkpoint (.json) or an ONNX model (.onnx).")
]
PolicyFile = Annotated[Path, typer.Option("--policy", help="A policy file.")]
KeyFile = Annotated[Path, typer.Option("--key-file", help="The key that both sides share (`autoprivacy key new`).")]


class ScheduleName(StrEnum):
    """When the work of an inference is done."""

    ONLINE = "online"
    PREPROCESSED = "preprocessed"


class ObjectiveName(StrEnum):
    """What a comparison counts."""

    TOTAL = "total"
    ONLINE = "online"


PredictedSchedule = Annotated[ScheduleName, typer.Option(help="When the work of an inference is done.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that share the server's work on linear layers.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="File for the report: one page that needs no network.")]
SpillDir = Annotated[
    Path | None,
    typer.Option("--spill-dir", help="Folder for what is prepared; that of temporary files by default."),
]
ServerProfiles = Annotated[
    list[str],
    typer.Option("--server", help="Machine profile of the server: name or folder. Repeat it with --client, --link."),
]
ClientProfiles = Annotated[list[str], typer.Option("--client", help="Machine profile of the client: name or folder.")]
LinkProfiles = Annotated[
    list[str] | None,
    typer.Option("--link", help="Link profile: name or folder; `loopback`, the client's own, by default."),
]
Drop = Annotated[
    float, typer.Option(min=0, max=1, help="Largest accuracy drop, as a share; bounded with 95 % confidence.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seeds error draws and orders.")]
Certificate = Annotated[
    Path | None,
    typer.Option("--certificate", help="The server's certificate (`autoprivacy certificate new`): speak TLS 1.3."),
]
TimeoutS = Annotated[
    float, typer.Option("--timeout-s", min=1, max=86400, help="Give up a peer that sends nothing whole for so long.")
]
ProfileName = Annotated[str, typer.Argument(help="Name or folder of a profile.")]
OwnData = Annotated[
    Path | None,
    typer.Option("--data", help="Your own images for a network of yours, an .npz file: x as it takes them, labels y."),
]
SomeImages = Annotated[
    int | None,
    typer.Option(min=1, help="Images of the confirm split to run privately; by default 6 to 30, in about a minute."),
]
