from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprivacy.agent.accuracy import accuracy_drop
from autoprivacy.agent.choosing import Found, run
from autoprivacy.agent.methods import exact
from autoprivacy.agent.searching import Search, Settings, check, solved
from autoprivacy.common.errors import BadInput, Refused
from autoprivacy.common.progress import Advance
from autoprivacy.common.records import load as load_record
from autoprivacy.common.records import parse, save, to_json
from autoprivacy.networks import data, load
from autoprivacy.networks.data import Split
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import Policy
from tests.agent.pricing import AnalyticPricing

SETTINGS = Settings(
    max_accuracy_drop=0.03, packings=("coefficients",), weight_bits=(4, 8), activation_bits=(4, 6), judged_images=300,
    sensitivity_images=150,
)  # fmt: skip


@contextmanager
def silent(title: str, total: int) -> Iterator[Advance]:  # noqa: ARG001 - the protocol's names
    yield lambda: None


def search(folder: Path | None = None, **changes: Any) -> Search:
    settings = replace(SETTINGS, **changes)
    pricing = AnalyticPricing(settings.objective)
    return Search(load("digits-cnn"), data.splits("digits-cnn"), pricing, settings, silent, folder=folder)


@pytest.fixture(scope="module")
def found() -> Found:
    return run(search())


def test_what_is_found_keeps_its_promise(found: Found) -> None:
    made = search()
    network = made.quantiser.quantise(found.policy.widths())
    split = data.splits("digits-cnn").search
    few = Split("few", split.pixels[:300], split.y[:300], split.scale)
    again = accuracy_drop(network, agree(network, found.policy), made.coupling.baseline, few, 0)
    assert again == found.drop
    assert found.drop.upper <= 0.03
    assert found.policy.made_by.predicted_latency_s == found.latency_s
    assert found.proven


def test_the_same_seed_finds_the_same_and_a_folder_goes_on(found: Found, tmp_path: Path) -> None:
    first = run(search(tmp_path))
    kept = sorted(each.name for each in tmp_path.iterdir())
    assert kept == ["sensitivities.json", "simulations.json"]
    again = run(search(tmp_path))
    assert to_json(first) == to_json(again) == to_json(found)
    save(found, tmp_path / "search.json")
    assert load_record(Found, tmp_path / "search.json") == parse(Found, to_json(found), source="search.json")


def test_the_ladder_falls_and_the_front_trades(found: Found) -> None:
    by_name = {rung.name: rung.latency_s for rung in found.ladder}
    whole = by_name["per layer with tolerated errors and widths"]
    assert whole == found.latency_s
    for latency in by_name.values():
        assert latency is None or latency >= whole * (1 - 1e-9)
    drops = [point.additive_drop for point in found.front]
    latencies = [point.latency_s for point in found.front]
    assert drops == sorted(drops)
    assert latencies == sorted(latencies, reverse=True)
    assert len(found.why) == len(found.policy.layers)


def test_less_time_costs_accuracy_and_too_little_is_refused(found: Found) -> None:
    loose, tight = (run(search(latency_budget_s=share * found.latency_s)) for share in (1.5, 0.99))
    assert loose.latency_s <= 1.5 * found.latency_s
    assert loose.additive_drop <= tight.additive_drop
    with pytest.raises(Refused, match="the fastest is predicted to take"):
        run(search(latency_budget_s=0.1 * found.latency_s))


def test_an_impossible_drop_is_refused_with_the_closest_bound() -> None:
    with pytest.raises(Refused, match="allow that much with --max-accuracy-drop"):
        run(search(max_accuracy_drop=1e-4))


@pytest.mark.parametrize("method", ["greedy", "bisection", "random"])
def test_no_method_beats_the_exact_one_at_its_budget(method: str) -> None:
    made = search()
    tables = made.tables()
    for budget in (100, 1000):
        best, other = (solved(made, tables, budget, name) for name in ("exact", method))
        assert best is not None
        assert other is None or other.latency_s >= best.latency_s * (1 - 1e-9)
        assert np.isfinite(best.latency_s)


@pytest.mark.parametrize(
    "wrong", [{"method": "annealing"}, {"weight_bits": (1, 8)}, {"activation_bits": (9,)}, {"method": "enumeration"}]
)
def test_settings_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        check(replace(SETTINGS, **wrong))


def test_online_counts_what_is_left_of_a_prepared_inference_and_then_what_is_done_ahead(found: Found) -> None:
    made = search(objective="online")
    online = run(made)
    assert online.policy.made_by.objective == "online"

    def seconds(policy: Policy) -> tuple[float, float]:
        """Online, and the HE ahead."""
        network = made.quantiser.quantise(policy.widths())
        plan = plan_network(network, agree(network, policy), "preprocessed")
        he = sum(made.pricing.seconds(work for work in layer.work if work.n) for layer in plan.offline)
        return made.pricing.inference(plan), he

    assert online.latency_s == pytest.approx(seconds(online.policy)[0], rel=1e-9)
    assert online.latency_s <= seconds(found.policy)[0] * (1 + 1e-9)
    for budget in (50, 1000):
        best = solved(made, made.tables(), budget)
        first = exact.solve(made.tables().problem, budget, np.random.default_rng(0), 0)
        assert best is not None
        assert best.latency_s == made.tables().problem.latency(best.policy[None])[0] == first.latency_s
        assert best.penalty <= budget
        policies = [made.policy(made.tables(), each.policy, method_name="") for each in (best, first)]
        assert seconds(policies[0])[1] <= seconds(policies[1])[1] * (1 + 1e-9)


def test_the_usual_rule_has_its_rung() -> None:
    found = run(search(weight_bits=(4, 8), activation_bits=(4, 8)))
    by_name = {rung.name: rung.latency_s for rung in found.ladder}
    ruled, tolerated = by_name["per layer at 2^-40"], by_name["per layer with tolerated errors"]
    assert ruled is not None
    assert tolerated is not None
    assert found.latency_s <= tolerated <= ruled
