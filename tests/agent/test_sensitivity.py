from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from autoprivacy.agent.coupling import Coupling, couple
from autoprivacy.agent.sensitivity import ERRORS, Sensitivities, _variations, measure
from autoprivacy.agent.tails import between, classes_of, cuts, drawn
from autoprivacy.common.progress import Advance
from autoprivacy.networks import data, load, reference
from autoprivacy.networks.checkpoint import untrained
from autoprivacy.networks.graph import Add, Conv2d, Flatten, Linear, Network, ReLU
from autoprivacy.networks.quantisation import Quantiser

BITS = (4, 8)


@contextmanager
def silent(title: str, total: int) -> Iterator[Advance]:  # noqa: ARG001 - the protocol's names
    yield lambda: None


def residual() -> Network:
    return Network(
        "residual",
        (1, 8, 8),
        (
            Conv2d("conv1", ("input",), 4, (3, 3), (1, 1), (1, 1, 1, 1)),
            ReLU("relu1", ("conv1",)),
            Conv2d("conv2", ("relu1",), 4, (3, 3), (1, 1), (1, 1, 1, 1)),
            ReLU("relu2", ("conv2",)),
            Conv2d("conv3", ("relu2",), 4, (3, 3), (1, 1), (1, 1, 1, 1)),
            Add("add", ("conv3", "relu1")),
            ReLU("relu3", ("add",)),
            Flatten("flatten", ("relu3",)),
            Linear("fc", ("flatten",), 10),
        ),
    )


@pytest.fixture(scope="module", params=["digits-cnn", "residual"])
def quantiser(request: pytest.FixtureRequest) -> Quantiser:
    trained = load("digits-cnn") if request.param == "digits-cnn" else untrained(residual(), np.random.default_rng(1))
    return Quantiser(trained, data.splits("digits-cnn").calibrate.x)


@pytest.fixture(scope="module")
def coupling(quantiser: Quantiser) -> Coupling:
    return couple(quantiser, BITS, BITS, 1.0)


def test_a_tail_from_every_cut_gives_the_same_logits(coupling: Coupling) -> None:
    network = coupling.baseline
    x = network.quantise_input(data.splits("digits-cnn").search.x[:7])
    whole = reference.run(network, x)
    assert cuts(network)[0] == -1
    assert len(cuts(network)) > 2
    for cut in cuts(network):
        part = between(network, -1, cut)
        value = x
        if cut >= 0:
            shape = between(network, cut).input_shape
            value = reference.logits(part, x).reshape(len(x), *shape)
        np.testing.assert_array_equal(reference.logits(between(network, cut), value), whole.logits)


def test_a_variation_is_what_its_whole_network_gives(coupling: Coupling, quantiser: Quantiser) -> None:
    x = data.splits("digits-cnn").search.x[:70]
    variations = [each for each in _variations(coupling, quantiser, BITS, BITS) if each.layer is None]
    assert len(variations) == len(coupling.layers) + len(set(coupling.origin_of.values()))
    for variation, (classes,) in classes_of(coupling.baseline, variations, x, np.random.default_rng(0), 1):
        inputs = variation.network.quantise_input(x)
        np.testing.assert_array_equal(classes, reference.logits(variation.network, inputs).argmax(axis=1))


@pytest.mark.parametrize("deviation", [0.01, 0.3, 0.59, 0.61, 1.0, 30.0])
def test_errors_have_the_deviation_asked_for(deviation: float) -> None:
    errors = drawn(np.random.default_rng(0), (400_000,), deviation)
    assert errors.std() == pytest.approx(deviation, rel=0.03)
    assert abs(errors.mean()) < 5 * deviation / 400_000**0.5


def test_drops_are_kept_and_monotone(tmp_path: Path) -> None:
    trained, splits = load("digits-cnn"), data.splits("digits-cnn")
    quantiser = Quantiser(trained, splits.calibrate.x)
    coupling = couple(quantiser, (4, 6, 8), BITS, 1.0)
    file = tmp_path / "sensitivities.json"

    def measured() -> Sensitivities:
        return measure(
            coupling, quantiser, splits.search, (4, 6, 8), BITS, images=100, seed=0, progress=silent, file=file
        )

    first = measured()
    assert measured() == first
    for layer in coupling.layers:
        costs = [first.of_error(layer, error) for error in (0.0, 0.1, *ERRORS, 100.0)]
        assert costs[0] == 0
        assert costs == sorted(costs)
        assert first._bits(f"{layer} weights", 4) >= first._bits(f"{layer} weights", 6) >= 0
        assert first._bits(f"{layer} weights", 8) == 0
