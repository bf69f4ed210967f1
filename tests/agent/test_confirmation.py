from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoprivacy.agent.confirmation import Verdict, _verdict, seen_errors
from autoprivacy.agent.space import Space
from autoprivacy.common.records import parse, to_json
from autoprivacy.networks import reference
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.session import Revealed
from tests.conftest import PLAIN

Errors = Mapping[str, NDArray[np.int64]]


@pytest.fixture(scope="module")
def network(space: Space) -> QuantisedNetwork:
    return space.network(PLAIN)


def opened(network: QuantisedNetwork, x: NDArray[np.int64], errors: Errors) -> Revealed:
    """What a run on the one image `x` opens where it meets `errors`."""
    trace = reference.run(network, x[None], errors={name: error[None] for name, error in errors.items()})
    return Revealed((), {name: sums[0].ravel() for name, sums in trace.accumulators.items()})


def test_a_clean_run_shows_no_errors(network: QuantisedNetwork, space: Space) -> None:
    x = network.quantise_input(space.data.confirm.x[:1])[0]
    for error in seen_errors(network, x, opened(network, x, {})).values():
        assert not error.any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1 << 30), rate=st.sampled_from([0.01, 0.3, 1.0]))
def test_injected_errors_are_found_in_every_layer(
    network: QuantisedNetwork, space: Space, seed: int, rate: float
) -> None:
    rng = np.random.default_rng(seed)
    x = network.quantise_input(space.data.confirm.x[:1])[0]
    errors = {
        stage.name: rng.integers(-40, 41, stage.output_shape) * (rng.random(stage.output_shape) < rate)
        for stage in network.stages
    }
    found = seen_errors(network, x, opened(network, x, errors))
    assert list(found) == list(errors)
    for name, error in errors.items():
        np.testing.assert_array_equal(found[name], error)


def test_one_wrong_accumulator_is_one_error(network: QuantisedNetwork, space: Space) -> None:
    x = network.quantise_input(space.data.confirm.x[:1])[0]
    revealed = opened(network, x, {})
    last = network.stages[-1].name
    revealed.accumulators[last][3] += 7
    found = seen_errors(network, x, revealed)
    assert sum(int((error != 0).sum()) for error in found.values()) == 1
    assert found[last].ravel()[3] == 7


def test_a_policy_twice_as_fast_wins() -> None:
    times = [0.010, 0.012, 0.011, 0.013, 0.010, 0.014, 0.011, 0.012]
    slower = [2 * value for value in times]
    for found, faster, ratio in ((_verdict(times, slower), "first", 2.0), (_verdict(slower, times), "second", 0.5)):
        assert found.faster == faster
        assert (found.ratio_low, found.ratio, found.ratio_high) == pytest.approx((ratio, ratio, ratio))


def test_a_drift_that_both_share_does_not_hide_the_winner() -> None:
    drift = [1.0, 3.0, 9.0, 27.0, 9.0, 3.0, 1.0, 2.0]
    assert _verdict(drift, [1.1 * value for value in drift]).faster == "first"


def test_noise_is_not_distinguishable() -> None:
    first = [1.0, 1.2, 0.9, 1.1, 1.0, 1.3, 0.8, 1.0]
    found = _verdict(first, [1.1, 1.0, 1.0, 1.0, 1.2, 1.1, 0.9, 0.9])
    assert found.faster == "not distinguishable"
    assert found.ratio_low is not None
    assert found.ratio_high is not None
    assert found.ratio_low <= 1 <= found.ratio_high
    assert _verdict(first, first).faster == "not distinguishable"


@pytest.mark.parametrize("images", range(1, 6))
def test_few_images_say_nothing(images: int) -> None:
    found = _verdict([1.0] * images, [5.0] * images)
    assert found.faster == "not distinguishable"
    assert found.ratio == 5.0


@pytest.mark.parametrize("images", [3, 10])
def test_a_verdict_comes_back_from_its_json(images: int) -> None:
    found = _verdict([1.0] * images, [5.0] * images)
    assert parse(Verdict, to_json(found), source="confirmation.json") == found
