from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoprivacy.agent.bounds import paired_upper
from autoprivacy.agent.coupling import Coupling, couple
from autoprivacy.agent.sensitivity import (
    ERRORS,
    SCHEMA_VERSION,
    Effect,
    Sensitivities,
    _known,
    _variations,
    effect,
    measure,
)
from autoprivacy.agent.tails import Variation, between, cuts, drawn, logits_of
from autoprivacy.common.errors import BadInput
from autoprivacy.common.progress import Advance
from autoprivacy.networks import data, load, reference
from autoprivacy.networks.checkpoint import untrained
from autoprivacy.networks.graph import Add, Conv2d, Flatten, Linear, Network, ReLU
from autoprivacy.networks.integer_network import LayerWidths, Widths
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
    for variation, logits in logits_of(coupling.baseline, variations, x, np.random.default_rng(0)):
        network = variation.network
        whole = reference.logits(network, network.quantise_input(x)) * network.logit_scale
        np.testing.assert_array_equal(logits, whole)


@pytest.mark.parametrize("deviation", [0.01, 0.3, 0.59, 0.61, 1.0, 30.0])
def test_errors_have_the_deviation_asked_for(deviation: float) -> None:
    errors = drawn(np.random.default_rng(0), (400_000,), deviation)
    assert errors.std() == pytest.approx(deviation, rel=0.03)
    assert abs(errors.mean()) < 5 * deviation / 400_000**0.5


def test_an_effect_is_told_from_the_margins_of_the_images_nearest_to_the_boundary() -> None:
    before = np.array([[5.0, 4.0, 0.0], [0.0, 3.0, 1.0], [9.0, 0.0, 1.0], [0.0, 2.0, 5.0]])
    after = np.array([[5.0, 5.5, 0.0], [0.0, 4.0, 1.0], [0.0, 9.0, 1.0], [0.0, 2.0, 5.0]])
    y = np.array([0, 1, 1, 2])
    # Margins are 1, 2, 8, 3, of which 1 and 2 are below their median; they change by -1.5 and 1.
    assert effect(before, after, y) == Effect((1.5**2 + 1.0**2) / 2, 0.0, 0.5)


def test_one_factor_for_all_deviations_makes_costs_of_squares() -> None:
    effects = {
        "a weights 4": Effect(1.0, 0.03, 0.04),
        "a weights 6": Effect(0.5, -0.01, 0.02),
        "a weights 5": Effect(0.25, 0.01, 0.02),
        **{f"a error {error}": Effect(error**2, 0.5, 0.5) for error in ERRORS},  # not small: they tell no factor
    }
    costs = Sensitivities(SCHEMA_VERSION, "", 100, 0, effects).costs()
    assert costs.of_bits("a weights", 6) == pytest.approx(0.03 / 1.75 * 0.5)
    assert costs.of_bits("a weights", 5) == costs.of_bits("a weights", 6)  # never cheaper than more bits
    assert costs.of_error("a", 1.0) == pytest.approx(0.03 / 1.75)
    gained = {what: replace(each, drop=-each.drop) for what, each in effects.items()}
    assert min(Sensitivities(SCHEMA_VERSION, "", 100, 0, gained).costs().of.values()) > 0


def test_the_likely_bound_is_near_the_one_of_a_drop_drawn_like_it() -> None:
    effects = {f"a error {error}": Effect(error**2, 0.001 * error**2, 0.01 * error) for error in (1.0, 2.0, 3.0)}
    known = Sensitivities(SCHEMA_VERSION, "", 1000, 0, effects)
    additive, images = 0.004, 5000  # V = 4, so 2 % of the images change sides
    rng = np.random.default_rng(0)
    drawn_like_it = rng.choice([1.0, -1.0, 0.0], p=[0.012, 0.008, 0.98], size=(200, images))
    bounds = [paired_upper(differences) for differences in drawn_like_it]
    assert known.likely_upper(additive, images) == pytest.approx(np.median(bounds), rel=0.1)
    assert known.likely_upper(0.0, images) == 0.0


def test_squares_of_deviations_together_are_the_sum_of_their_own() -> None:
    trained, splits = load("digits-cnn"), data.splits("digits-cnn")
    quantiser = Quantiser(trained, splits.calibrate.x)
    coupling = couple(quantiser, (6, 8), BITS, 1.0)
    x, y = splits.search.x, splits.search.y
    names = {f"{layer} weights 6" for layer in coupling.layers}
    alone = [each for each in _variations(coupling, quantiser, (6, 8), ()) if each.name in names]
    whole = quantiser.quantise(Widths(tuple(LayerWidths(layer, 6, 8) for layer in coupling.layers)))
    rng = np.random.default_rng(0)
    unchanged = Variation("none", coupling.baseline, coupling.layers[0], 0.0)
    ((_, before),) = logits_of(coupling.baseline, [unchanged], x, rng)
    varied = [*alone, Variation("together", whole)]
    squares = {
        variation.name: effect(before, after, y).margin_square
        for variation, after in logits_of(coupling.baseline, varied, x, rng)
    }
    together = squares.pop("together")
    assert len(squares) == len(coupling.layers)
    assert together == pytest.approx(sum(squares.values()), rel=0.5)
    assert sum(squares.values()) > 1.5 * max(squares.values())


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
    costs = first.costs()
    for layer in coupling.layers:
        of_errors = [costs.of_error(layer, error) for error in (0.0, 0.1, *ERRORS, 100.0)]
        assert of_errors[0] == 0
        assert of_errors == sorted(of_errors)
        assert costs.of_bits(f"{layer} weights", 4) >= costs.of_bits(f"{layer} weights", 6) > 0
        assert costs.of_bits(f"{layer} weights", 8) == 0


def test_what_was_measured_otherwise_is_measured_anew_and_what_is_no_file_of_ours_refused(tmp_path: Path) -> None:
    file = tmp_path / "sensitivities.json"
    file.write_text(
        '{"schema_version": 1, "network_hash": "", "images": 100, "seed": 0, "drops": {}}', encoding="utf-8"
    )
    assert _known(file, "", 100, 0) == {}
    for text in ("{", '{"schema_version": 4}', "[]"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match="sensitivities"):
            _known(file, "", 100, 0)
