"""`networks` and `train`."""

from pathlib import Path

from autoprivacy.cli.console import print_json, progress, say, table
from autoprivacy.common.records import record
from autoprivacy.networks import checkpoint, data, zoo
from autoprivacy.networks.checkpoint import TrainedNetwork, TrainingRecord
from autoprivacy.networks.graph import LayerCounts, counts
from autoprivacy.networks.training import Progress as Step
from autoprivacy.networks.training import Schedule, train


@record
class NetworkReport:
    """What `networks show --json` prints."""

    name: str
    hash: str
    layers: tuple[LayerCounts, ...]
    training: TrainingRecord | None


def list_networks(*, json: bool) -> None:
    """Names of the zoo."""
    if json:
        print_json(list(zoo.names()))
    else:
        say("\n".join(zoo.names()))


def train_network(name: str, path: Path, seed: int, *, json: bool) -> None:
    """Train, write the checkpoint, show what it reached."""
    network = zoo.architecture(name)
    splits = data.splits(name)
    schedule = Schedule()
    batches = -(-len(splits.train.y) // schedule.batch)
    with progress(f"training {name}", batches * (schedule.float_epochs + schedule.any_precision_epochs)) as advance:

        def after_step(_: Step) -> None:
            advance()

        command = f"autoprivacy train {name} --seed {seed}"
        trained = train(network, splits, seed=seed, command=command, schedule=schedule, progress=after_step)
    checkpoint.save(trained, path)
    _show(trained, json=json)


def show_network(name: str, *, json: bool) -> None:
    """Show a network of the zoo or a file."""
    _show(zoo.load(name), json=json)


def _show(trained: TrainedNetwork, *, json: bool) -> None:
    network = trained.network
    report = NetworkReport(network.name, trained.hash, counts(network), trained.training)
    if json:
        print_json(report)
        return
    rows = [
        [
            layer.name,
            layer.kind,
            "x".join(map(str, layer.output_shape)),
            f"{layer.multiply_accumulates:,}",
            f"{layer.relus:,}",
        ]
        for layer in report.layers
    ]
    table(f"{network.name} ({report.hash[:12]})", ["layer", "kind", "output", "multiply-accumulates", "ReLUs"], rows)
    if report.training is None:
        say("untrained")
        return
    say(f"trained by: {report.training.command}")
    for accuracy in report.training.accuracies:
        width = "float" if accuracy.bits is None else f"{accuracy.bits} bits"
        say(f"  {accuracy.split:<8} {width:<7} {accuracy.fraction:.2%} of {accuracy.images} images")
