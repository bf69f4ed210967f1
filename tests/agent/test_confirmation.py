from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoprivacy.agent.confirmation import (
    Contender,
    Done,
    Runs,
    confirmed,
    layer_components,
    run_privately,
    seen_errors,
    within,
)
from autoprivacy.agent.confirmed import Confirmation, Confirmed, ConfirmedPhase, Timing, verdict
from autoprivacy.agent.feedback import learn
from autoprivacy.agent.runners_up import winner
from autoprivacy.agent.servers import LocalServers, route_over
from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import parse, to_json
from autoprivacy.models.prediction import Components, Deployment, Prediction, predict
from autoprivacy.networks import reference
from autoprivacy.networks.checkpoint import untrained
from autoprivacy.networks.graph import Add, AvgPool, Conv2d, Flatten, Linear, Network, ReLU
from autoprivacy.networks.integer_network import LayerWidths, QuantisedNetwork, Widths
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.conversation import Schedule
from autoprivacy.protocol.plan import plan, plan_network
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.session import Inference, LayerTimes, Phase, Revealed
from autoprivacy.protocol.transport import Traffic
from tests import by_hand, synthetic

Errors = Mapping[str, NDArray[np.int64]]


def conv(name: str, source: str, channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(name, (source,), channels, (3, 3), (stride, stride), (1, 1, 1, 1))


def residual() -> QuantisedNetwork:
    """A shortcut that is an activation, one that is a layer of its own, a pooling before the last layer."""
    layers = (
        conv("conv1", "input", 4),
        ReLU("relu1", ("conv1",)),
        conv("a1", "relu1", 4),
        Add("a", ("a1", "relu1")),
        ReLU("ar", ("a",)),
        conv("b1", "ar", 6, stride=2),
        conv("bs", "ar", 6, stride=2),
        Add("b", ("b1", "bs")),
        ReLU("br", ("b",)),
        AvgPool("pool", ("br",), (4, 4), (4, 4)),
        Flatten("flat", ("pool",)),
        Linear("fc", ("flat",), 5),
    )
    trained = untrained(Network("residual", (2, 8, 8), layers), np.random.default_rng(3))
    images = np.random.default_rng(0).random((20, 2, 8, 8)).astype(np.float32)
    widths = Widths(tuple(LayerWidths(layer.name, 5, 4) for layer in trained.network.linear_layers))
    return Quantiser(trained, images).quantise(widths)


@pytest.fixture(scope="module", params=["chain", "residual"])
def network(request: pytest.FixtureRequest) -> QuantisedNetwork:
    return residual() if request.param == "residual" else by_hand.network(8)


def images_of(network: QuantisedNetwork, count: int = 2) -> NDArray[np.int64]:
    low, high = network.input_range
    return np.random.default_rng(1).integers(low, high + 1, (count, *network.input_shape))


def opened(
    network: QuantisedNetwork, x: NDArray[np.int64], errors: Errors, moduli: dict[str, int] | None = None
) -> list[Revealed]:
    """What runs on images x open where they meet `errors`; modulo t, centred, as a client opens them."""
    trace = reference.run(network, x, errors=errors, moduli=moduli)
    sums = {
        name: found if not moduli else reference.wrap(found, moduli[name]) for name, found in trace.accumulators.items()
    }
    return [Revealed((), {name: found[index].ravel() for name, found in sums.items()}) for index in range(len(x))]


def test_a_clean_run_shows_no_errors(network: QuantisedNetwork) -> None:
    x = images_of(network)
    for error in seen_errors(network, x, opened(network, x, {}), {}).values():
        assert not error.any()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1 << 30), rate=st.sampled_from([0.01, 0.3, 1.0]), bits=st.sampled_from([0, 22]))
def test_injected_errors_are_found_in_every_layer(network: QuantisedNetwork, seed: int, rate: float, bits: int) -> None:
    rng = np.random.default_rng(seed)
    x = images_of(network)
    errors = {
        layer.name: rng.integers(-40, 41, (len(x), *layer.output_shape))
        * (rng.random((len(x), *layer.output_shape)) < rate)
        for layer in network.linear_layers
    }
    moduli = {layer.name: 1 << bits for layer in network.linear_layers} if bits else {}
    found = seen_errors(network, x, opened(network, x, errors, moduli), moduli)
    assert list(found) == list(errors)
    for name, error in errors.items():
        np.testing.assert_array_equal(found[name], error)


def test_one_wrong_accumulator_is_one_error(network: QuantisedNetwork) -> None:
    x = images_of(network)
    revealed = opened(network, x, {})
    last = network.linear_layers[-1].name
    revealed[1].accumulators[last][3] += 7
    found = seen_errors(network, x, revealed, {})
    assert sum(int((error != 0).sum()) for error in found.values()) == 1
    assert found[last][1].ravel()[3] == 7


def test_an_accumulator_that_is_not_opened_is_named(digits: QuantisedNetwork) -> None:
    x = images_of(digits)
    with pytest.raises(BadInput, match="no accumulators of layer 'conv2'"):
        reference.errors_in(digits, x, {name: np.zeros(1, np.int64) for name in ("conv1", "fc")})


def timing(seconds: float, predicted_s: float = 1.0) -> Timing:
    return Timing(predicted_s, 0.9 * predicted_s, 1.1 * predicted_s, predicted_s, seconds, None, None, seconds)


def took(label: str, seconds: list[float], *, predicted_s: float = 1.0, is_within: bool = True) -> Confirmed:
    """A policy that took these seconds."""
    found, nothing = timing(float(np.median(seconds)), predicted_s), Components(0, 0, 0, 0, 0, 0)
    phase = ConfirmedPhase(found, nothing, nothing, (), 0, 0, 0, 0, bytes_as_planned=True, seconds=tuple(seconds))
    return Confirmed(
        label=label,
        schedule="online",
        images=len(seconds),
        correct=0,
        logits_equal=0,
        logits_explained=0,
        errors_seen=0,
        errors_expected=0.0,
        error_free=True,
        errors=(),
        predicted_setup_s=0.0,
        setup_s=0.0,
        total=found,
        online=phase,
        offline=None,
        within_interval=is_within,
    )


def confirmation(*policies: Confirmed, candidates: tuple[str, ...] = ()) -> Confirmation:
    verdicts = tuple(verdict(policies[0], other) for other in policies[1:])
    return Confirmation(1, "0", "net", "hash", "loopback", 0, candidates, policies, verdicts, 1.0)


TIMES = [0.010, 0.012, 0.011, 0.013, 0.010, 0.014, 0.011, 0.012]


def test_a_policy_twice_as_fast_wins() -> None:
    fast, slow = took("fast", TIMES), took("slow", [2 * value for value in TIMES])
    for found, faster, ratio in ((verdict(fast, slow), "first", 2.0), (verdict(slow, fast), "second", 0.5)):
        assert found.faster == faster
        assert (found.ratio_low, found.ratio, found.ratio_high) == pytest.approx((ratio, ratio, ratio))


def test_a_drift_that_both_share_does_not_hide_the_winner() -> None:
    drift = [1.0, 3.0, 9.0, 27.0, 9.0, 3.0, 1.0, 2.0]
    assert verdict(took("a", drift), took("b", [1.1 * value for value in drift])).faster == "first"


def test_noise_is_not_distinguishable() -> None:
    first = took("a", [1.0, 1.2, 0.9, 1.1, 1.0, 1.3, 0.8, 1.0])
    found = verdict(first, took("b", [1.1, 1.0, 1.0, 1.0, 1.2, 1.1, 0.9, 0.9]))
    assert found.faster == "not distinguishable"
    assert found.ratio_low is not None
    assert found.ratio_high is not None
    assert found.ratio_low <= 1 <= found.ratio_high
    assert verdict(first, first).faster == "not distinguishable"


@pytest.mark.parametrize("images", range(1, 6))
def test_few_images_say_nothing(images: int) -> None:
    found = verdict(took("a", [1.0] * images), took("b", [5.0] * images))
    assert found.faster == "not distinguishable"
    assert found.ratio == 5.0


@pytest.mark.parametrize("images", [3, 10])
def test_a_confirmation_comes_back_from_its_json(images: int) -> None:
    found = confirmation(took("a", [1.0] * images), took("b", [5.0] * images))
    assert parse(Confirmation, to_json(found), source="confirmation.json") == found


def test_another_winner_than_predicted_contradicts() -> None:
    fast, slow = took("a", TIMES, predicted_s=2.0), took("b", [2 * value for value in TIMES], predicted_s=1.0)
    for found in (confirmation(fast, slow), confirmation(slow, fast)):
        assert found.contradictions() == ("a is faster than b, which was predicted to be the faster one",)
    assert confirmation(fast, slow, candidates=("a", "b")).contradictions() == ()
    agreed = took("b", [2 * value for value in TIMES], predicted_s=3.0)
    assert confirmation(fast, agreed).contradictions() == ()
    assert "took 11.5 ms, not 900 to 1.1e+03 ms" in confirmation(took("a", TIMES, is_within=False)).contradictions()[0]


@pytest.mark.parametrize(
    ("measured", "drift", "holds"),
    [(1.0, 1.0, True), (0.85, 1.0, False), (1.2, 1.0, False), (1.2, 1.3, True), (0.7, 1.3, False), (0.85, 0.9, True)],
)
def test_a_drift_of_the_machine_is_divided_out(measured: float, drift: float, holds: float) -> None:
    assert within(timing(measured), synthetic_prediction(), drift) == holds


def synthetic_prediction() -> Prediction:
    planned = plan(agree(by_hand.network(8), by_hand.policy(2048, 53, 8)))
    found = predict(planned, Deployment(synthetic.model(), synthetic.model()))
    return replace(found, busy_s=found.latency_s)


def test_the_predicted_winner_stays_unless_another_is_faster_for_sure() -> None:
    def runs(label: str, seconds: list[float]) -> Runs:
        made = [Done(inference(each), Revealed((), {}), (1.0, 1.0)) for each in seconds]
        return Runs(replace(CONTENDER, label=label), tuple(made), 0.0)

    first, slower, faster, few = (
        runs("first", TIMES),
        runs("slower", [1.2 * value for value in TIMES]),
        runs("faster", [0.9 * value for value in TIMES]),
        runs("few", TIMES[:3]),
    )
    assert winner([first, slower]) is first
    assert winner([first, slower, faster]) is faster
    assert winner([few, runs("less", [0.5 * value for value in TIMES[:3]])]) is few


def inference(seconds: float) -> Inference:
    return Inference(np.zeros(1, np.int64), Phase(seconds, (), Traffic()), None, 0.0)


CONTENDER = Contender(
    "by hand",
    by_hand.policy(2048, 53, 8),
    agree(by_hand.network(8), by_hand.policy(2048, 53, 8)),
    by_hand.network(8),
    synthetic_prediction(),
)


def test_what_the_client_waits_for_beyond_the_server_is_the_link() -> None:
    layer = plan(CONTENDER.agreement).layers[0]
    client, server = LayerTimes(he_s=1.0, gc_s=0.5, ot_s=0.25, link_s=5.0), LayerTimes(he_s=3.0, gc_s=0.5, ot_s=0.125)
    found = layer_components(client, server, layer)
    assert found.total_s == pytest.approx(1.0 + 0.5 + 0.25 + 5.0)
    assert found.link_s == pytest.approx(5.0 - 3.0 - 0.5 - 0.125 + layer.hidden_share * 0.5)
    assert layer_components(LayerTimes(), server, layer).link_s == 0


def contenders(schedules: tuple[Schedule, ...], deployment: Deployment, *policies: Policy) -> list[Contender]:
    found = []
    for policy in policies:
        network = by_hand.network(policy.layers["conv1"].weight_bits)
        agreement = agree(network, policy)
        for schedule in schedules:
            prediction = predict(plan_network(network, agreement, schedule), deployment)
            label = f"{policy.layers['conv1'].n} {schedule}"
            found.append(Contender(label, policy, agreement, network, prediction, schedule))
    return found


@pytest.fixture(scope="module")
def ran() -> tuple[Runs, ...]:
    """Both schedules of two policies, one with errors, for real."""
    machine = Deployment(synthetic.model(), synthetic.model())
    made = contenders(("online",), machine, by_hand.policy(2048, 53, 8), by_hand.policy(1024, 26, 4))
    made += [replace(made[0], label="preprocessed", schedule="preprocessed")]
    images = by_hand.splits().confirm.x[:3]
    rng = np.random.default_rng(0)
    return run_privately(made, LocalServers("digits-cnn"), images, rng=rng, progress=lambda: None)


def test_real_runs_are_explained_to_the_last_bit_and_byte(ran: tuple[Runs, ...]) -> None:
    split = by_hand.splits().confirm
    found = confirmed(ran, split.x[:3], split.y[:3], version="0", link="loopback", seed=0, reference_typical_s=6e-5)
    for policy in found.policies:
        assert policy.images == policy.logits_explained == 3
        assert policy.bytes_as_planned
        assert len(policy.seconds) == 3
        assert [layer.name for layer in policy.online.layers] == ["conv1", "conv2", "fc"]
    exact, noisy, ahead = found.policies
    assert exact.errors_seen < noisy.errors_seen
    assert noisy.errors_seen > 0
    assert noisy.errors_expected > 0
    assert ahead.offline is not None
    assert ahead.offline.measured.server_he_s > 0
    assert ahead.online.measured.clear_s > 0
    assert ahead.online.measured.server_he_s == 0
    assert [each.second for each in found.verdicts] == [noisy.label, ahead.label]


def test_what_was_measured_goes_back_into_the_profile_once(ran: tuple[Runs, ...]) -> None:
    profile = synthetic.profile()
    taught, refitted, lesson = learn(profile, synthetic.model(), ran)
    own = [run for run in taught.runs if run.confirmed]
    assert len(own) == 2  # schedule `online` alone
    assert [layer.run for layer in taught.layers if layer.confirmed] == [run.name for run in own for _ in range(3)]
    assert taught.header.id not in {profile.header.id, ""}
    assert refitted.profile_id == taught.header.id
    assert refitted.operations == synthetic.model().operations
    assert [each.label for each in lesson.policies] == ["2048 online", "1024 online"]
    again, _, _ = learn(taught, synthetic.model(), ran)
    assert (len(again.runs), len(again.layers)) == (len(taught.runs), len(taught.layers))


def test_a_link_of_two_rates_cannot_be_emulated() -> None:
    link = synthetic.link()
    emulated = route_over(link).emulated
    assert emulated is not None
    assert (emulated.rate_bytes_per_s, 2 * emulated.one_way_s) == (1e6, 0.001)
    summary = replace(link.header.summary, rate_up_bytes_per_s=1e5)
    with pytest.raises(BadInput, match="only one rate for both"):
        route_over(replace(link, header=replace(link.header, summary=summary)))
