from pathlib import Path

import pytest

from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.searching import Search, Settings
from autoprivacy.agent.swapping import Swapped, swap
from autoprivacy.common.progress import silent
from autoprivacy.common.records import parse, to_json
from autoprivacy.models.deployments import Names, load_deployments
from autoprivacy.networks import data, load
from tests.models.deployed import write_declared, write_machine

SETTINGS = Settings(
    max_accuracy_drop=0.03, packings=("coefficients",), weight_bits=(4, 8), activation_bits=(4, 8), judged_images=300,
    sensitivity_images=100, method="ddpg", most_priced=60,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Swapped, Path]:
    folder = tmp_path_factory.mktemp("run")
    write_machine(folder, "here")
    write_declared(folder, "wan")
    here = str(folder / "here")
    deployments = load_deployments([Names(here, here), Names(here, here, str(folder / "wan"))])
    pricing = DeploymentPricing(deployments[0].deployment)
    search = Search(load("digits-cnn"), data.splits("digits-cnn"), pricing, SETTINGS, silent, folder=folder)
    return swap(search, deployments), folder


def test_every_deployment_has_its_policy_and_predictions_say_what_tables_do(run: tuple[Swapped, Path]) -> None:
    swapped, _ = run
    assert len(swapped.found) == len(swapped.deployments) == 2
    for number, found in enumerate(swapped.found):
        assert swapped.comparison.latency_s[number][number] == pytest.approx(found.latency_s, rel=1e-9)
        assert found.drop.upper <= SETTINGS.max_accuracy_drop
    one, other = swapped.found
    assert len(one.policy.made_by.profiles) == 2
    assert len(other.policy.made_by.profiles) == 3


def test_regrets_say_what_it_costs_to_take_a_policy_elsewhere(run: tuple[Swapped, Path]) -> None:
    comparison = run[0].comparison
    assert len(comparison.regrets) == 2
    for each in comparison.regrets:
        assert each.regret >= 0
    assert {(each.chosen_for, each.used_on) for each in comparison.regrets} == {
        comparison.deployments,
        comparison.deployments[::-1],
    }


def test_what_was_found_is_a_document(run: tuple[Swapped, Path]) -> None:
    assert parse(Swapped, to_json(run[0]), source="swapped") == run[0]


def test_the_second_agent_begins_as_the_first(run: tuple[Swapped, Path]) -> None:
    _, folder = run
    first, second = (sorted((folder / f"deployment-{number}").glob("agent-*")) for number in (1, 2))
    assert first
    assert second
    assert {each.suffix for each in first} == {".npz", ".html"}
