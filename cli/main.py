"""Entry point: the commands, and what turns errors into one line and an exit code."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from autoprivacy.common.errors import AutoPrivacyError, BadInput

INTERRUPTED = 130
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Measure a machine, model its latency, choose HE parameters per layer, prove the choice.",
)
networks_app = typer.Typer(no_args_is_help=True, help="What can be made private.")
data_app = typer.Typer(no_args_is_help=True, help="Data sets.")
profiles_app = typer.Typer(no_args_is_help=True, help="Stored machine profiles.")
policy_app = typer.Typer(no_args_is_help=True, help="Policy files.")
key_app = typer.Typer(no_args_is_help=True, help="Shared keys of client and server.")
app.add_typer(networks_app, name="networks")
app.add_typer(data_app, name="data")
app.add_typer(profiles_app, name="profiles")
app.add_typer(policy_app, name="policy")
certificate_app = typer.Typer(no_args_is_help=True, help="Certificates of servers that are reached over a network.")
app.add_typer(key_app, name="key")
app.add_typer(certificate_app, name="certificate")


@app.callback()
def common(
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Say on standard error what is done; twice for every step."),
    ] = 0,
) -> None:
    """What holds for all commands; $AUTOPRIVACY_LOG (info or debug) is the same as --verbose."""
    log_to_standard_error(verbose)


def log_to_standard_error(verbose: int) -> None:
    """Turn the log up: nothing is logged otherwise."""
    import logging
    import os

    wanted = os.environ.get("AUTOPRIVACY_LOG", "").lower()
    if wanted not in {"", "info", "debug"}:
        raise BadInput(f"AUTOPRIVACY_LOG is {wanted!r}; set it to info or debug, or leave it out")
    if verbose or wanted:
        level = logging.DEBUG if verbose > 1 or wanted == "debug" else logging.INFO
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
        logger = logging.getLogger("autoprivacy")
        logger.handlers = [handler]
        logger.setLevel(level)


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


VARIADIC = frozenset({"--policies", "--deployments"})


def spread(arguments: list[str]) -> list[str]:
    """Options that take several values in a row, written once for each.

    >>> spread(["compare", "net", "--policies", "p", "q", "--json"])
    ['compare', 'net', '--policies', 'p', '--policies', 'q', '--json']
    """
    found: list[str] = []
    current = ""
    for argument in arguments:
        if argument.startswith("-"):
            current = argument if argument in VARIADIC else ""
        elif current and found[-1] != current:
            found.append(current)
        found.append(argument)
    return found


def main() -> None:
    """Run the command; errors of ours become one line on standard error and their exit code."""
    try:
        # Typer turns Ctrl-C into the exit code 130, which it returns.
        code = app(spread(sys.argv[1:]), standalone_mode=False)
    except AutoPrivacyError as error:
        _end(f"autoprivacy: {error}", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        # Typer carries its own copy of click, whose usage errors have no public base class to catch.
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        _end(f"autoprivacy: {usage()} (see --help)" if usage() else "", 2)
    if code == INTERRUPTED:
        _end("autoprivacy: interrupted; what was finished is kept", INTERRUPTED)
    sys.exit(code)


def _end(message: str, code: int) -> None:
    if message:
        from autoprivacy.cli.console import printable

        # Names in a message may come from a file, and hold what would break the line or steer the terminal.
        sys.stderr.write(printable(message) + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
