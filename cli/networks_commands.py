"""`networks` and `train`."""

from dataclasses import replace
from pathlib import Path

from autoprivacy.cli.console import err, millions, print_json, printable, progress, say, table
from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import check_writable
from autoprivacy.common.records import record
from autoprivacy.networks import checkpoint, data, training, zoo
from autoprivacy.networks.accuracy import MEASUREMENTS, measure
from autoprivacy.networks.checkpoint import Accuracy, TrainedNetwork, TrainingRecord
from autoprivacy.networks.data import Splits
from autoprivacy.networks.graph import LayerCounts, Network, TotalCounts, counts, parameter_shapes, total
from autoprivacy.networks.quantisation import check_network
from autoprivacy.networks.schedules import fine_tuning, of_zoo
from autoprivacy.networks.user_data import training_splits


@record
class NetworkSummary:
    """A line of `networks list --json`."""

    name: str
    data: str | None
    linear_layers: int
    total: TotalCounts
    trained: bool


@record
class NetworkReport:
    """What `networks show --json` prints; `training` is None for a network that is not trained here."""

    name: str
    hash: str
    input_shape: tuple[int, int, int]
    layers: tuple[LayerCounts, ...]
    total: TotalCounts
    training: TrainingRecord | None


def list_networks(*, json: bool) -> None:
    """The zoo: what each network costs, and whether it is trained."""
    found = []
    for name in zoo.names():
        network = zoo.architecture(name)
        trained = zoo.is_trained(name)
        found.append(NetworkSummary(name, data.set_of(name), len(network.linear_layers), total(network), trained))
    if json:
        print_json(found)
        return
    rows = [
        [
            each.name,
            each.data or "",
            str(each.linear_layers),
            millions(each.total.multiply_accumulates),
            millions(each.total.relus),
            millions(each.total.parameters),
            "trained" if each.trained else "random",
        ]
        for each in found
    ]
    columns = ["network", "data", "linear", "MACs", "ReLUs", "weights", "which are"]
    table("networks: linear layers; multiply-accumulates, ReLUs, weights in millions", columns, rows)


def show_network(name: str, *, json: bool) -> None:
    """Show a network of the zoo or a file."""
    loaded = zoo.load_with_notes(name)
    for note in loaded.notes:
        err.print(printable(f"note: {note}"))
    _show(loaded.trained, json=json)


def train_network(
    name: str,
    path: Path,
    seed: int,
    data_file: Path | None,
    float_epochs: int | None,
    any_precision_epochs: int | None,
    *,
    half_precision: bool,
    json: bool,
) -> None:
    """Train, write the checkpoint, show what it reached; an interrupted training goes on where it was."""
    start = None if name in zoo.names() else zoo.load(name)
    network = zoo.architecture(name) if start is None else start.network
    splits = _data_for(network, name, data_file)
    schedule = of_zoo(name) if start is None else fine_tuning(network)
    schedule = replace(schedule.lasting(float_epochs, any_precision_epochs), half_precision=half_precision)
    check_network(network)
    state = checkpoint.weights_path(path).with_suffix(".training.npz")
    for written in (path, checkpoint.weights_path(path)):
        _check_spares(written, data_file, Path(name))
        check_writable(written)
    with progress(f"training {network.name}", training.total_steps(schedule, splits.train)) as advance:
        shown = 0

        def show(done: training.Progress) -> None:
            nonlocal shown
            # A training that goes on where it was interrupted starts further along.
            for _ in range(shown, done.step):
                advance()
            shown = done.step

        trained = training.train(network, splits.train, schedule, seed=seed, start=start, state=state, progress=show)
    with progress("measuring accuracy", MEASUREMENTS) as advance:
        accuracies = measure(trained, splits, advance)
    epochs = f" --float-epochs {schedule.float_phase.epochs} --any-precision-epochs {schedule.any_precision.epochs}"
    command = (
        f"autoprivacy train {name if start is None else Path(name).name} --seed {seed}"
        + (f" --data {data_file.name}" if data_file else "")
        + (epochs if float_epochs is not None or any_precision_epochs is not None else "")
        + (" --half-precision" if half_precision else "")
    )
    made = TrainingRecord(command, seed, splits.description, schedule, training.torch_version(), accuracies)
    trained = TrainedNetwork(network, trained.weights, made)
    checkpoint.save(trained, path)
    state.unlink(missing_ok=True)
    _show(trained, json=json)


def _check_spares(written: Path, *read: Path | None) -> None:
    if any(path is not None and path.exists() and written.resolve() == path.resolve() for path in read):
        raise BadInput(f"{written}: is what the training reads, and would be overwritten; give --out another name")


def _data_for(network: Network, name: str, data_file: Path | None) -> Splits:
    if data_file is not None:
        return training_splits(data_file, network)
    if name not in zoo.names():
        raise BadInput(f"{name}: only networks of the zoo come with data; give your own images by --data FILE.npz")
    return data.splits(name)


def _show(trained: TrainedNetwork, *, json: bool) -> None:
    network = trained.network
    report = NetworkReport(
        network.name, trained.hash, network.input_shape, counts(network), total(network), trained.training
    )
    if json:
        print_json(report)
        return
    parameters = parameter_shapes(network)
    rows = [
        [
            layer.name,
            layer.kind,
            "x".join(map(str, parameters.get(f"{layer.name}.weight", ()))),
            "x".join(map(str, layer.output_shape)),
            f"{layer.multiply_accumulates:,}",
            f"{layer.relus:,}",
        ]
        for layer in report.layers
    ]
    sums = report.total
    rows.append(["total", "", f"{sums.parameters:,}", "", f"{sums.multiply_accumulates:,}", f"{sums.relus:,}"])
    columns = ["layer", "kind", "weights", "output", "MACs", "ReLUs"]
    table(f"{network.name} ({report.hash[:12]}), input {'x'.join(map(str, network.input_shape))}", columns, rows)
    if report.training is None:
        say("not trained by this program: no accuracy is recorded; `autoprivacy train` fine-tunes for any precision")
        return
    say(f"trained by: {report.training.command}\non: {report.training.data}")
    _show_accuracies(report.training.accuracies)


def _show_accuracies(accuracies: tuple[Accuracy, ...]) -> None:
    splits = list(dict.fromkeys(each.split for each in accuracies))
    widths = list(dict.fromkeys((each.bits, each.end_bits) for each in accuracies))
    found = {(each.split, each.bits, each.end_bits): each for each in accuracies}
    rows = []
    for bits, end_bits in widths:
        cells = [found.get((split, bits, end_bits)) for split in splits]
        named = "float" if bits is None else f"{bits} bits, first and last layer {end_bits}"
        rows.append([named, *("" if each is None else f"{each.fraction:.2%} of {each.images:,}" for each in cells)])
    table("accuracy", ["weights and activations", *splits], rows)
