"""Training: in float, then for any precision, so that one checkpoint can be quantised to any widths when it is loaded.

Any-precision fine-tuning draws the widths of every layer anew in every step and trains through the quantiser of
`quantisation` with a straight-through estimator ([Any-Precision DNNs] section 3, [STE]). All randomness is numpy's,
from one seed. There is no early stopping and nothing is selected: the splits `search` and `confirm` are only measured,
at the end.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from autoprivacy.networks.checkpoint import Accuracy, TrainedNetwork, TrainingRecord
from autoprivacy.networks.convolution import Floats, Ints
from autoprivacy.networks.graph import INPUT, Conv2d, Flatten, Linear, Network, ReLU, parameter_shapes
from autoprivacy.networks.quantisation import quantise, signed_range, step_exponent, uniform_widths
from autoprivacy.networks.reference import run

if TYPE_CHECKING:
    from torch import Tensor

    from autoprivacy.networks.data import Split, Splits

LEAST_TRAINED_BITS: Final = 3
MOST_TRAINED_BITS: Final = 8
RECORDED_BITS: Final = (8, 6, 5, 4, 3)
"""The uniform widths whose accuracies are recorded with a checkpoint."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how to train; learning rates are those of Adam at the start of a cosine."""

    float_epochs: int = 60
    any_precision_epochs: int = 500
    batch: int = 64
    float_rate: float = 4e-3
    any_precision_rate: float = 1e-2
    weight_decay: float = 0.1
    largest_shift: int = 1
    """Training images are moved by up to this many pixels each way."""
    threads: int = 1
    """Sums are split among threads, so another number rounds them otherwise and gives other weights."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One step done: of which phase ("float" or "any precision"), how many of how many, and its loss."""

    phase: str
    step: int
    steps: int
    loss: float


Parameters: TypeAlias = "dict[str, Tensor]"
Quantiser: TypeAlias = "Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]]"
"""What is done to a layer's name, weight and input before they meet."""
_Exponents: TypeAlias = dict[tuple[str, int], int]
"""By linear layer and width, the step exponent of what enters it."""


def train(
    network: Network,
    data: "Splits",
    *,
    seed: int,
    command: str,
    schedule: Schedule | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrainedNetwork:
    """Train a network; the same seed and schedule on the same machine give the same weights.

    Args:
        network: the graph.
        data: its data; only `train` is learnt from.
        seed: seeds initial weights, order, augmentation and widths.
        command: what the user typed, for the record.
        schedule: how long to train; by default what `digits-cnn` needs.
        progress: called after each step.

    Returns:
        The network, with the accuracies it reached on `search` and `confirm` in its training record.
    """
    schedule = schedule or Schedule()
    rng = np.random.default_rng(seed)
    parameters = _initial(network, rng)
    job = _Job(network, parameters, data.train, schedule, rng, progress or (lambda _: None))
    with _torch_threads(schedule.threads):
        _fit_float(job)
        _fit_any_precision(job)
    weights = {name: values.detach().numpy() for name, values in parameters.items()}
    trained = TrainedNetwork(network, weights)
    accuracies = measure(trained, data)
    return TrainedNetwork(network, weights, TrainingRecord(command, seed, data.description, accuracies))


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(trained: TrainedNetwork, data: "Splits") -> tuple[Accuracy, ...]:
    """Accuracy on `search` and `confirm`, in float and in the integer reference at each of `RECORDED_BITS`."""
    found = []
    for bits in (None, *RECORDED_BITS):
        for split in (data.search, data.confirm):
            correct = split.correct(_logits(trained, data, split, bits))
            found.append(Accuracy(split.name, bits, correct, len(split.y)))
    return tuple(found)


def _logits(trained: TrainedNetwork, data: "Splits", split: "Split", bits: int | None) -> Floats | Ints:
    if bits is None:
        return trained.run(split.x)
    quantised = quantise(trained, uniform_widths(trained.network, bits), data.calibrate.x)
    return run(quantised, quantised.quantise_input(split.x)).logits


def _initial(network: Network, rng: np.random.Generator) -> Parameters:
    import torch

    parameters = {}
    for name, shape in parameter_shapes(network).items():
        # He initialisation: it keeps the variance through ReLUs. Biases start at zero.
        spread = np.sqrt(2 / np.prod(shape[1:])) if name.endswith(".weight") else 0.0
        values = (rng.standard_normal(shape) * spread).astype(np.float32)
        parameters[name] = torch.from_numpy(values).requires_grad_()
    return parameters


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What both phases of training share; `parameters` are trained in place."""

    network: Network
    parameters: Parameters
    split: "Split"
    schedule: Schedule
    rng: np.random.Generator
    told: Callable[[Progress], None]

    def logits(self, x: "Tensor", prepare: Quantiser) -> "Tensor":
        return _forward(self.network, self.parameters, x, prepare)


def _fit_float(job: _Job) -> None:
    def loss(x: "Tensor", y: "Tensor") -> "Tensor":
        return _cross_entropy(job.logits(x, _untouched), y)

    optimiser = _Optimiser(job, "float", job.schedule.float_epochs, job.schedule.float_rate)
    for _ in range(job.schedule.float_epochs):
        optimiser.epoch(loss)


def _fit_any_precision(job: _Job) -> None:
    epochs, rate = job.schedule.any_precision_epochs, job.schedule.any_precision_rate
    optimiser = _Optimiser(job, "any precision", epochs, rate)
    for _ in range(epochs):
        exponents = _activation_exponents(job)

        def loss(x: "Tensor", y: "Tensor", exponents: _Exponents = exponents) -> "Tensor":
            # The float network is trained along: the steps of activations are chosen on its values.
            in_float = _cross_entropy(job.logits(x, _untouched), y)
            return in_float + _cross_entropy(job.logits(x, _drawn_widths(job, exponents)), y)

        optimiser.epoch(loss)


def _drawn_widths(job: _Job, exponents: _Exponents) -> Quantiser:
    layers = job.network.linear_layers
    drawn = job.rng.integers(LEAST_TRAINED_BITS, MOST_TRAINED_BITS + 1, size=(len(layers), 2))
    bits = {layer.name: (int(w), int(a)) for layer, (w, a) in zip(layers, drawn, strict=True)}

    def quantiser(layer: str, weight: "Tensor", entering: "Tensor") -> "tuple[Tensor, Tensor]":
        weight_bits, activation_bits = bits[layer]
        low, high = signed_range(weight_bits)
        exponent = step_exponent(weight.detach().numpy(), low, high)
        activation = _straight_through(entering, exponents[layer, activation_bits], 0, 2**activation_bits - 1)
        return _straight_through(weight, exponent, low, high), activation

    return quantiser


class _Optimiser:
    """Adam with decoupled weight decay, whose rate falls along a cosine over all steps of one phase."""

    def __init__(self, job: _Job, phase: str, epochs: int, rate: float) -> None:
        import torch

        self._job, self._phase, self._rate = job, phase, rate
        self._steps = epochs * (len(job.split.y) // job.schedule.batch)
        self._step = 0
        self._adam = torch.optim.AdamW(job.parameters.values(), lr=rate, weight_decay=job.schedule.weight_decay)

    def epoch(self, loss: "Callable[[Tensor, Tensor], Tensor]") -> None:
        import torch

        for x, y in _batches(self._job.split, self._job.schedule, self._job.rng):
            for group in self._adam.param_groups:
                group["lr"] = self._rate * (1 + math.cos(math.pi * self._step / self._steps)) / 2
            self._adam.zero_grad()
            value = loss(torch.from_numpy(x), torch.from_numpy(y))
            value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._adam.step()
            self._step += 1
            self._job.told(Progress(self._phase, self._step, self._steps, float(value.detach())))


def _batches(split: "Split", schedule: Schedule, rng: np.random.Generator) -> Iterator[tuple[Floats, Ints]]:
    """One epoch of whole batches, every image shifted at random; what is left over waits for another epoch."""
    order = rng.permutation(len(split.y))
    for start in range(0, len(order) - schedule.batch + 1, schedule.batch):
        chosen = order[start : start + schedule.batch]
        yield _shifted(split.x[chosen], schedule.largest_shift, rng), split.y[chosen]


def _shifted(x: Floats, largest: int, rng: np.random.Generator) -> Floats:
    images, _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (largest, largest), (largest, largest)))
    corners = rng.integers(0, 2 * largest + 1, size=(images, 2))
    moved = [
        image[:, top : top + height, left : left + width] for image, (top, left) in zip(padded, corners, strict=True)
    ]
    return np.stack(moved)


def _forward(network: Network, parameters: Parameters, x: "Tensor", prepare: Quantiser) -> "Tensor":
    from torch.nn import functional

    values = {INPUT: x}
    for layer in network.layers:
        entering = values[layer.inputs[0]]
        match layer:
            case Conv2d():
                weight, entering = prepare(layer.name, parameters[f"{layer.name}.weight"], entering)
                bias = parameters[f"{layer.name}.bias"]
                found = functional.conv2d(entering, weight, bias, stride=layer.stride, padding=layer.padding)
            case Linear():
                weight, entering = prepare(layer.name, parameters[f"{layer.name}.weight"], entering)
                found = functional.linear(entering, weight, parameters[f"{layer.name}.bias"])
            case ReLU():
                found = functional.relu(entering)
            case Flatten():
                found = entering.flatten(1)
        values[layer.name] = found
    return values[network.layers[-1].name]


def _untouched(_layer: str, weight: "Tensor", entering: "Tensor") -> "tuple[Tensor, Tensor]":
    return weight, entering


def _straight_through(values: "Tensor", exponent: int, low: int, high: int) -> "Tensor":
    """`quantisation.to_integers`, back at its scale; the gradient is one inside the range, zero where it saturates."""
    import torch

    step = 2.0**-exponent
    inside = values.clamp(low * step, high * step)
    rounded = torch.floor(values.detach() / step + 0.5).clamp(low, high) * step
    return inside + (rounded - inside).detach()


def _activation_exponents(job: _Job) -> _Exponents:
    """The step exponents that `quantise` would choose on some training images, with the weights of now."""
    weights = {name: values.detach().numpy() for name, values in job.parameters.items()}
    outputs = TrainedNetwork(job.network, weights).outputs(job.split.x[:128])
    return {
        (layer.name, bits): step_exponent(outputs[layer.inputs[0]], 0, 2**bits - 1)
        for layer in job.network.linear_layers
        for bits in range(LEAST_TRAINED_BITS, MOST_TRAINED_BITS + 1)
    }


def _cross_entropy(logits: "Tensor", y: "Tensor") -> "Tensor":
    from torch.nn import functional

    return functional.cross_entropy(logits, y)
