import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from autoprivacy.networks import zoo
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Split, Splits
from autoprivacy.networks.quantisation import to_integers
from autoprivacy.networks.training import Progress, Schedule, _shifted, _straight_through, train

SHORT = Schedule(float_epochs=4, any_precision_epochs=3)
NONE = Schedule(float_epochs=0, any_precision_epochs=0)


def _train(
    digits: Splits, seed: int, schedule: Schedule = SHORT, progress: Callable[[Progress], None] | None = None
) -> TrainedNetwork:
    network = zoo.architecture("digits-cnn")
    return train(network, digits, seed=seed, command="test", schedule=schedule, progress=progress)


def _reached(trained: TrainedNetwork) -> dict[tuple[str, int | None], float]:
    assert trained.training is not None
    return {(each.split, each.bits): each.fraction for each in trained.training.accuracies}


def test_a_short_training_learns_in_float_and_for_any_precision(digits: Splits) -> None:
    before, after = _reached(_train(digits, 5, NONE)), _reached(_train(digits, 5))
    assert before["search", None] < 0.4
    for bits in (None, 8, 5):
        assert after["search", bits] > 0.75


def test_the_seed_decides_the_weights(digits: Splits) -> None:
    assert _train(digits, 5).hash == _train(digits, 5).hash
    assert _train(digits, 5).hash != _train(digits, 6).hash


def test_nothing_is_learnt_from_splits_other_than_train(digits: Splits) -> None:
    def emptied(split: Split) -> Split:
        return dataclasses.replace(split, x=np.zeros_like(split.x), y=np.zeros_like(split.y))

    blind = dataclasses.replace(
        digits,
        calibrate=emptied(digits.calibrate),
        search=emptied(digits.search),
        confirm=emptied(digits.confirm),
    )
    assert _train(blind, 5).hash == _train(digits, 5).hash


def test_progress_tells_every_step_of_both_phases(digits: Splits) -> None:
    told: list[Progress] = []
    _train(digits, 5, progress=told.append)
    for phase, epochs in (("float", SHORT.float_epochs), ("any precision", SHORT.any_precision_epochs)):
        steps = [(each.step, each.steps) for each in told if each.phase == phase]
        expected = epochs * (len(digits.train.y) // SHORT.batch)
        assert steps == [(step, expected) for step in range(1, expected + 1)]


@pytest.mark.parametrize(("exponent", "low", "high"), [(4, -8, 7), (0, 0, 15), (-2, 0, 7)])
def test_training_rounds_as_the_circuit_does_and_passes_gradients_inside(exponent: int, low: int, high: int) -> None:
    values = torch.linspace(-40, 70, 2001, dtype=torch.float64, requires_grad=True)
    rounded = _straight_through(values, exponent, low, high)
    scaled = values.detach().numpy() * 2.0**exponent
    np.testing.assert_array_equal(rounded.detach().numpy() * 2.0**exponent, to_integers(scaled, low, high))
    (gradient,) = torch.autograd.grad(rounded.sum(), values)
    np.testing.assert_array_equal(gradient.numpy(), ((scaled >= low) & (scaled <= high)).astype(float))


def test_a_shifted_image_is_the_image_moved_over_zeros() -> None:
    image = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    padded = np.pad(image[0, 0], 1)
    possible = {padded[top : top + 4, left : left + 4].tobytes() for top in range(3) for left in range(3)}
    moved = _shifted(np.repeat(image, 200, axis=0), 1, np.random.default_rng(1))
    assert {each[0].tobytes() for each in moved} == possible
