import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import zoo
from autoprivacy.networks.any_precision import (
    LEAST_BITS,
    MOST_BITS,
    bounds,
    draw_widths,
    fake_quantise,
    least_squares_exponents,
    quantised_tensors,
)
from autoprivacy.networks.checkpoint import TrainedNetwork, untrained
from autoprivacy.networks.data import Split, Splits
from autoprivacy.networks.graph import Network
from autoprivacy.networks.rounding import step_exponent, to_integers
from autoprivacy.networks.schedules import PhaseSchedule, Schedule, of_zoo
from autoprivacy.networks.torch_network import apply, as_parameters, forward
from autoprivacy.networks.training import Progress, train
from autoprivacy.networks.training import _moved as moved

SHORT = dataclasses.replace(
    of_zoo("digits-cnn"), float_phase=PhaseSchedule(5, 0.05), any_precision=PhaseSchedule(3, 2e-3)
)
DIGITS = zoo.architecture("digits-cnn")


def _train(
    split: Split,
    seed: int = 5,
    schedule: Schedule = SHORT,
    progress: Callable[[Progress], None] | None = None,
    **more: object,
) -> TrainedNetwork:
    return train(DIGITS, split, schedule, seed=seed, progress=progress, **more)  # type: ignore[arg-type]


def _accuracy(trained: TrainedNetwork, split: Split) -> float:
    return split.correct(trained.run(split.x)) / len(split.y)


def test_a_short_training_learns_from_labels(digits: Splits) -> None:
    assert _accuracy(untrained(DIGITS, np.random.default_rng(5)), digits.search) < 0.4
    assert _accuracy(_train(digits.train), digits.search) > 0.85


def test_batch_norm_is_folded_without_changing_what_is_computed(digits: Splits) -> None:
    # A network that is normalised once its phase of descent is over computes the same with the norms folded away:
    # were the folding wrong, the accuracy that the float phase reached would be lost.
    only_float = dataclasses.replace(SHORT, any_precision=PhaseSchedule(0, 0.0))
    assert _accuracy(_train(digits.train, schedule=only_float), digits.search) > 0.85


def test_the_seed_decides_the_weights(digits: Splits) -> None:
    assert _train(digits.train).hash == _train(digits.train).hash
    assert _train(digits.train).hash != _train(digits.train, seed=6).hash


class _Stop(Exception):  # noqa: N818 - stands for the user's Ctrl-C
    pass


@pytest.mark.parametrize("stop_at", [3, 14 * 3 + 5, 14 * 6 + 2])
def test_an_interrupted_training_ends_with_the_same_weights(digits: Splits, tmp_path: Path, stop_at: int) -> None:
    state = tmp_path / "digits.training.npz"

    def stop(done: Progress) -> None:
        if done.step == stop_at:
            raise _Stop

    with pytest.raises(_Stop):
        _train(digits.train, progress=stop, state=state)
    told: list[int] = []
    resumed = _train(digits.train, state=state, progress=lambda done: told.append(done.step))
    assert resumed.hash == _train(digits.train).hash
    assert told[0] <= stop_at
    assert told[0] == 1 + stop_at // 14 * 14
    assert told[-1] == 8 * 14


def test_a_state_of_another_training_is_refused(digits: Splits, tmp_path: Path) -> None:
    state = tmp_path / "digits.training.npz"
    _train(digits.train, state=state)
    with pytest.raises(BadInput, match="another network, seed, schedule or data"):
        _train(digits.train, seed=6, state=state)
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(BadInput, match="not a whole training state"):
        _train(digits.train, state=state)


def test_training_starts_from_given_weights_and_keeps_what_they_know(digits: Splits) -> None:
    start = zoo.load("digits-cnn")
    tuned = _train(digits.train, schedule=SHORT.lasting(0, 1), start=start)
    assert tuned.hash != start.hash
    assert _accuracy(tuned, digits.search) > _accuracy(start, digits.search) - 0.03


def test_progress_tells_every_step_of_both_phases(digits: Splits) -> None:
    told: list[Progress] = []
    _train(digits.train, progress=told.append)
    steps = len(digits.train.y) // SHORT.batch
    assert [each.step for each in told] == list(range(1, 8 * steps + 1))
    assert [each.phase for each in told] == ["float"] * 5 * steps + ["any precision"] * 3 * steps
    assert {each.steps for each in told} == {8 * steps}


@pytest.mark.parametrize("name", zoo.names())
def test_torch_and_numpy_compute_the_same_network(name: str) -> None:
    network = zoo.architecture(name)
    trained = untrained(network, np.random.default_rng(3))
    x = np.random.default_rng(4).random((2, *network.input_shape), dtype=np.float32)
    parameters = as_parameters(trained.weights)
    with torch.no_grad():
        logits = forward(
            network,
            torch.from_numpy(x),
            lambda layer, entering: apply(
                layer, entering, parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]
            ),
        )
    np.testing.assert_allclose(trained.run(x), logits.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("exponent", "low", "high"), [(4, -8, 7), (0, 0, 15), (-2, 0, 7)])
def test_training_rounds_as_the_circuit_does_and_passes_gradients_inside(exponent: int, low: int, high: int) -> None:
    # Off the halves, where numpy's rule and torch's differ.
    values = (torch.linspace(-40, 70, 2001, dtype=torch.float64) + 0.0123).requires_grad_()
    rounded = fake_quantise(values, 2.0**-exponent, low, high)
    scaled = values.detach().numpy() * 2.0**exponent
    np.testing.assert_array_equal(rounded.detach().numpy() * 2.0**exponent, to_integers(scaled, low, high))
    (gradient,) = torch.autograd.grad(rounded.sum(), values)
    np.testing.assert_array_equal(gradient.numpy(), ((scaled >= low - 0.5) & (scaled <= high + 0.5)).astype(float))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_training_and_quantisation_choose_the_same_steps(bits: int, *, signed: bool) -> None:
    rng = np.random.default_rng(bits)
    rows = rng.standard_normal((6, 400)).astype(np.float32) * 2.0 ** rng.integers(-6, 6, size=(6, 1))
    rows = rows if signed else np.abs(rows)
    low, high = bounds(bits, signed=signed)
    chosen = least_squares_exponents(torch.from_numpy(rows), low, high)
    assert chosen.tolist() == [step_exponent(row, low, high) for row in rows]


def test_drawn_widths_reach_every_width_and_mostly_spare_the_ends() -> None:
    network = zoo.architecture("resnet20")
    rng = np.random.default_rng(1)
    draws = [draw_widths(network, rng) for _ in range(400)]
    inner = network.linear_layers[5].name
    assert {draw.weights[inner] for draw in draws} == set(range(LEAST_BITS, MOST_BITS + 1))
    first, last = network.linear_layers[0].name, network.linear_layers[-1].name
    for end in (first, last):
        assert 0.6 < np.mean([draw.weights[end] == MOST_BITS for draw in draws]) < 0.9
    # The shortcut and the first convolution of a block read one tensor, which has one width.
    read = quantised_tensors(network)
    assert read["stage2.block1.shortcut"] == read["stage2.block1.conv1"] == "stage1.block3.relu2"


def test_a_moved_image_is_the_image_moved_over_zeros_or_its_mirror_image() -> None:
    image = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    padded = np.pad(image[0, 0], 1)
    possible = {padded[top : top + 4, left : left + 4].tobytes() for top in range(3) for left in range(3)}
    mirrored = {np.frombuffer(each, np.float32).reshape(4, 4)[:, ::-1].tobytes() for each in possible}
    images = np.repeat(image, 300, axis=0)
    schedule = dataclasses.replace(SHORT, largest_shift=1, mirrored=False)
    found = moved(images, schedule, np.random.default_rng(1))
    assert {each[0].tobytes() for each in found} == possible
    found = moved(images, dataclasses.replace(schedule, mirrored=True), np.random.default_rng(1))
    assert {each[0].tobytes() for each in found} == possible | mirrored


def test_a_network_without_convolutions_trains(digits: Splits) -> None:
    from autoprivacy.networks.graph import INPUT, Flatten, Linear, ReLU

    network = Network(
        "mlp",
        (1, 8, 8),
        (
            Flatten("flat", (INPUT,)),
            Linear("hidden", ("flat",), 32),
            ReLU("relu", ("hidden",)),
            Linear("out", ("relu",), 10),
        ),
    )
    trained = train(network, digits.train, SHORT, seed=1)
    assert _accuracy(trained, digits.search) > 0.5
