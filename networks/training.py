"""Training: in float, then for any precision, so that one checkpoint can be quantised to any widths when it is loaded.

The float phase normalises over batches and descends with momentum along one cycle of the rate ([OneCycle]); batch norm
is then folded. The second phase (`any_precision`) learns from the labels and from the logits of the float network
([Distillation]). There is no early stopping and nothing is selected: the splits `search` and `confirm` are only
measured, at the end. Every epoch draws its randomness from the seed and its own number, so that a training which was
interrupted goes on as if it had not been.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from autoprivacy.networks.any_precision import choose_steps, draw_widths, quantised_forward
from autoprivacy.networks.checkpoint import TrainedNetwork, untrained
from autoprivacy.networks.convolution import Floats, Ints
from autoprivacy.networks.graph import Network
from autoprivacy.networks.schedules import PhaseSchedule, Schedule
from autoprivacy.networks.torch_network import (
    Norms,
    Parameters,
    apply,
    as_parameters,
    first_norms,
    folded,
    forward,
    normalised,
)
from autoprivacy.networks.training_state import State, read_state, write_state

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from autoprivacy.networks.data import Split

FLOAT: Final = "float"
ANY_PRECISION: Final = "any precision"
_STEPS_BETWEEN_CHOICES: Final = 50
"""Training steps after which the steps of quantisation are chosen anew."""
_IMAGES_TO_CHOOSE_ON: Final = 256
_WARM_UP: Final = 0.2
"""Share of a phase in which the rate rises."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One step done: of which phase, how many of how many in all phases, and its loss."""

    phase: str
    step: int
    steps: int
    loss: float


def train(
    network: Network,
    split: "Split",
    schedule: Schedule,
    *,
    seed: int,
    start: TrainedNetwork | None = None,
    state: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrainedNetwork:
    """Train a network; the same seed and schedule on the same machine give the same weights.

    Args:
        network: the graph.
        split: what is learnt from.
        schedule: how long and how.
        seed: seeds initial weights, order, augmentation and widths.
        start: weights to begin with; they have no batch norm, so the float phase does without.
        state: file that keeps what an interrupted training goes on from; the caller removes it in the end.
        progress: called after each step.

    Raises:
        BadInput: if `state` holds another training, or is damaged.
    """
    begun = start or untrained(network, np.random.default_rng([seed, 0]))
    job = _Job(network, split, schedule, seed, begun.hash, start is None, state, progress or (lambda _: None))
    with _torch_threads(schedule.threads):
        reached = job.read() or State(FLOAT, 0, dict(begun.weights))
        if reached.phase == FLOAT:
            reached = _float_phase(job, reached)
        reached = _any_precision_phase(job, reached)
    return TrainedNetwork(network, {name: reached.arrays[name] for name in begun.weights})


def total_steps(schedule: Schedule, split: "Split") -> int:
    """How many steps `train` takes."""
    return (schedule.float_phase.epochs + schedule.any_precision.epochs) * _steps_per_epoch(schedule, split)


def torch_version() -> str:
    """The version that trains; another may round otherwise."""
    import torch

    return torch.__version__


def _steps_per_epoch(schedule: Schedule, split: "Split") -> int:
    return max(1, len(split.y) // schedule.batch)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What both phases share."""

    network: Network
    split: "Split"
    schedule: Schedule
    seed: int
    start_hash: str
    normalises: bool
    state: Path | None
    told: Callable[[Progress], None]

    @property
    def steps_per_epoch(self) -> int:
        return _steps_per_epoch(self.schedule, self.split)

    def identity(self, phase: str) -> tuple[object, ...]:
        """All that a state of this phase was made from."""
        schedule = self.schedule
        if phase == FLOAT:
            schedule = replace(schedule, any_precision=PhaseSchedule(0, 0.0))
        return (self.start_hash, self.seed, schedule, len(self.split.y))

    def read(self) -> State | None:
        return None if self.state is None else read_state(self.state, self.identity)

    def write(self, reached: State) -> None:
        if self.state is not None:
            write_state(reached, self.state, self.identity)


class _Descent:
    """One phase: an optimiser whose rate rises, then falls along a cosine, over all its steps."""

    def __init__(self, job: _Job, phase: str, schedule: PhaseSchedule, optimiser: "torch.optim.Optimizer") -> None:
        self._job, self._phase, self._schedule, self.optimiser = job, phase, schedule, optimiser
        self._steps = max(1, schedule.epochs * job.steps_per_epoch)

    def epoch(self, number: int, loss: "Callable[[int, np.random.Generator, Tensor, Tensor], Tensor]") -> None:
        """One pass; `loss` gets the step's number, this epoch's generator, images and labels."""
        import torch

        job = self._job
        phase_index, done_before = (1, 0) if self._phase == FLOAT else (2, job.schedule.float_phase.epochs)
        rng = np.random.default_rng([job.seed, phase_index, number])
        for index, (x, y) in enumerate(_batches(job.split, job.schedule, rng)):
            step = number * job.steps_per_epoch + index
            for group in self.optimiser.param_groups:
                group["lr"] = self._schedule.rate * _one_cycle(step / self._steps)
            self.optimiser.zero_grad()
            images = torch.from_numpy(x).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=job.schedule.half_precision):
                value = loss(step, rng, images, torch.from_numpy(y))
            value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self.optimiser.step()
            done = done_before * job.steps_per_epoch + step + 1
            job.told(Progress(self._phase, done, total_steps(job.schedule, job.split), float(value.detach())))


def _float_phase(job: _Job, reached: State) -> State:
    import torch

    parameters = as_parameters({name: reached.arrays[name] for name in _names(job.network)})
    norms = first_norms(job.network)
    if "norm.mean" in {key.rsplit("/", 1)[0] for key in reached.arrays}:
        norms = _norms_of(reached)
    learnt = [*parameters.values(), *norms.scale.values(), *norms.shift.values()]
    optimiser = torch.optim.SGD(learnt, lr=0.0, momentum=0.9, nesterov=True, weight_decay=job.schedule.weight_decay)
    _restore(optimiser, reached)
    descent = _Descent(job, FLOAT, job.schedule.float_phase, optimiser)

    def loss(_step: int, _rng: np.random.Generator, x: "Tensor", y: "Tensor") -> "Tensor":
        if job.normalises:
            logits = forward(job.network, x, lambda layer, entering: normalised(layer, entering, parameters, norms))
        else:
            logits = _plain(job.network, x, parameters)
        return _cross_entropy(logits, y)

    for epoch in range(reached.epochs, job.schedule.float_phase.epochs):
        descent.epoch(epoch, loss)
        arrays = {**_arrays(parameters), **_norm_arrays(norms), **_optimiser_arrays(optimiser)}
        job.write(State(FLOAT, epoch + 1, arrays))
    final = folded(job.network, parameters, norms) if job.normalises else parameters
    # The float network stays the teacher of the next phase.
    return State(ANY_PRECISION, 0, {**_arrays(final), **_arrays(final, "teacher/")})


def _any_precision_phase(job: _Job, reached: State) -> State:
    import torch

    names = _names(job.network)
    parameters = as_parameters({name: reached.arrays[name] for name in names})
    teacher = as_parameters({name: reached.arrays[f"teacher/{name}"] for name in names})
    optimiser = torch.optim.AdamW(parameters.values(), lr=0.0, weight_decay=job.schedule.weight_decay)
    _restore(optimiser, reached)
    descent = _Descent(job, ANY_PRECISION, job.schedule.any_precision, optimiser)
    shown = torch.from_numpy(job.split.batch(np.arange(min(_IMAGES_TO_CHOOSE_ON, len(job.split.y)))))
    steps = choose_steps(job.network, parameters, shown)

    def loss(step: int, rng: np.random.Generator, x: "Tensor", y: "Tensor") -> "Tensor":
        nonlocal steps
        if step % _STEPS_BETWEEN_CHOICES == 0:
            steps = choose_steps(job.network, parameters, shown)
        logits = quantised_forward(job.network, parameters, x, draw_widths(job.network, rng), steps)
        with torch.no_grad():
            taught = _plain(job.network, x, teacher).float().softmax(dim=1)
        return (_cross_entropy(logits, y) + _cross_entropy(logits, taught)) / 2

    for epoch in range(reached.epochs, job.schedule.any_precision.epochs):
        # An epoch starts with steps chosen on its first weights, so that going on equals never having stopped.
        steps = choose_steps(job.network, parameters, shown)
        descent.epoch(epoch, loss)
        arrays = {**_arrays(parameters), **_arrays(teacher, "teacher/"), **_optimiser_arrays(optimiser)}
        job.write(State(ANY_PRECISION, epoch + 1, arrays))
    return State(ANY_PRECISION, job.schedule.any_precision.epochs, _arrays(parameters))


def _plain(network: Network, x: "Tensor", parameters: Parameters) -> "Tensor":
    return forward(
        network,
        x,
        lambda layer, entering: apply(
            layer, entering, parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]
        ),
    )


def _one_cycle(done: float) -> float:
    """The share of the highest rate when this share of a phase is done."""
    if done < _WARM_UP:
        return (done + 0.01) / (_WARM_UP + 0.01)
    return (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))) / 2


def _batches(split: "Split", schedule: Schedule, rng: np.random.Generator) -> Iterator[tuple[Floats, Ints]]:
    """One epoch of whole batches, every image moved at random; what is left over waits for another epoch."""
    size = min(schedule.batch, len(split.y))
    order = rng.permutation(len(split.y))
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        yield _moved(split.batch(chosen), schedule, rng), split.y[chosen].astype(np.int64)


def _moved(x: Floats, schedule: Schedule, rng: np.random.Generator) -> Floats:
    largest = schedule.largest_shift
    images, (channels, height, width) = len(x), x.shape[1:]
    padded = np.pad(x, ((0, 0), (0, 0), (largest, largest), (largest, largest)))
    corners = rng.integers(0, 2 * largest + 1, size=(images, 2))
    moved = np.empty((images, channels, height, width), dtype=np.float32)
    mirrored = rng.random(images) < 0.5 if schedule.mirrored else np.zeros(images, dtype=bool)
    for index, (top, left) in enumerate(corners):
        cut = padded[index, :, top : top + height, left : left + width]
        moved[index] = cut[:, :, ::-1] if mirrored[index] else cut
    return moved


def _names(network: Network) -> tuple[str, ...]:
    return tuple(f"{layer.name}.{what}" for layer in network.linear_layers for what in ("weight", "bias"))


def _arrays(tensors: Parameters, prefix: str = "") -> dict[str, Floats]:
    return {prefix + name: values.detach().numpy().copy() for name, values in tensors.items()}


def _norm_arrays(norms: Norms) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    for what in ("scale", "shift", "mean", "variance"):
        found |= _arrays(getattr(norms, what), f"norm.{what}/")
    return found


def _norms_of(reached: State) -> Norms:
    import torch

    def part(what: str, *, learnt: bool) -> Parameters:
        prefix = f"norm.{what}/"
        return {
            key.removeprefix(prefix): torch.from_numpy(values.copy()).requires_grad_(learnt)
            for key, values in reached.arrays.items()
            if key.startswith(prefix)
        }

    return Norms(
        scale=part("scale", learnt=True),
        shift=part("shift", learnt=True),
        mean=part("mean", learnt=False),
        variance=part("variance", learnt=False),
    )


def _optimiser_arrays(optimiser: "torch.optim.Optimizer") -> dict[str, Floats]:
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    return {
        f"optimiser/{index}/{key}": values.detach().numpy().copy()
        for index, parameter in enumerate(parameters)
        for key, values in optimiser.state[parameter].items()
        if values is not None
    }


def _restore(optimiser: "torch.optim.Optimizer", reached: State) -> None:
    import torch

    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for name, values in reached.arrays.items():
        if name.startswith("optimiser/"):
            _, index, key = name.split("/")
            optimiser.state[parameters[int(index)]][key] = torch.from_numpy(values.copy())


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cross_entropy(logits: "Tensor", y: "Tensor") -> "Tensor":
    from torch.nn import functional

    return functional.cross_entropy(logits, y)
