"""The ladder of gains: what each rung promises, and that it can be run as it is."""

from itertools import pairwise

import pytest

from autoprivacy.agent.choosing import Found, run
from autoprivacy.agent.ladder import BEST_UNIFORM, PUBLISHED, Rung
from autoprivacy.agent.searching import Search, Settings
from autoprivacy.common.progress import silent
from autoprivacy.networks import data, load
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.plan import plan_network
from tests.agent.pricing import AnalyticPricing

SETTINGS = Settings(
    max_accuracy_drop=0.03, weight_bits=(4, 8), activation_bits=(4, 8), judged_images=150, sensitivity_images=100
)


@pytest.fixture(scope="module")
def search() -> Search:
    return Search(load("digits-cnn"), data.splits("digits-cnn"), AnalyticPricing(), SETTINGS, silent)


@pytest.fixture(scope="module")
def found(search: Search) -> Found:
    return run(search)


def steps(found: Found) -> list[Rung]:
    return [rung for rung in found.ladder if rung.kind == "step"]


def test_each_step_frees_something_and_the_last_is_what_was_found(found: Found) -> None:
    latencies = [rung.latency_s for rung in steps(found)]
    assert len(latencies) == 7
    for before, after in pairwise(latencies):
        assert before is not None
        assert after is not None
        assert after <= before * (1 + 1e-9)
    last = steps(found)[-1]
    assert last.policy is not None
    assert (last.latency_s, last.policy.layers, last.drop) == (found.latency_s, found.policy.layers, found.drop)
    uniform = next(rung for rung in found.ladder if rung.name == BEST_UNIFORM)
    assert uniform.latency_s is not None
    assert uniform.latency_s >= found.latency_s * (1 - 1e-9)


def test_prices_are_those_of_the_policies(search: Search, found: Found) -> None:
    for rung in found.ladder:
        if rung.policy is None:
            assert rung.note
            continue
        network = search.quantiser.quantise(rung.policy.widths())
        plan = plan_network(network, agree(network, rung.policy))
        assert rung.latency_s == pytest.approx(search.pricing.inference(plan), rel=1e-9)
        assert rung.drop is not None
        assert rung.policy.circuit_privacy == rung.circuit_privacy


def test_published_sets_run_as_published_or_say_why_not(found: Found) -> None:
    published = {rung.name: rung for rung in found.ladder if rung.kind == "published"}
    assert len(published) == len(PUBLISHED)
    # 41 bits of t leave no room for rounded shares in a limb of 43 bits; Cheetah's set has it.
    assert published["DELPHI's set"].circuit_privacy == "flood:40"
    assert "under uniform" in published["DELPHI's set"].note
    assert published["Cheetah's set"].circuit_privacy == "uniform"
    for rung in published.values():
        if rung.policy is not None:
            # Nothing is lost: widths are the baseline's, and errors too rare to be drawn.
            assert rung.drop is not None
            assert rung.drop.accuracy == pytest.approx(rung.drop.baseline, abs=0.01)
    assert published["Gazelle's set"].policy is None
    assert "does not hold" in published["Gazelle's set"].note


def test_under_another_circuit_privacy_sets_are_compared_alike(search: Search, found: Found) -> None:
    flooded = run(search.under("flood:40"))
    assert flooded.policy.circuit_privacy == "flood:40"
    assert {rung.circuit_privacy for rung in flooded.ladder} == {"flood:40"}
    by_name = {rung.name: rung for rung in found.ladder}
    for rung in flooded.ladder:
        same = by_name[rung.name]
        if rung.kind == "published" and same.circuit_privacy == "flood:40":
            assert rung.latency_s == same.latency_s
