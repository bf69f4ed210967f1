import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product

import pytest

from autoprivacy.agent import space as space_module
from autoprivacy.agent.accuracy import accuracy_drop
from autoprivacy.agent.search import Found, search_exact
from autoprivacy.agent.space import Choice, Space
from autoprivacy.common.errors import InvalidPolicy, Refused
from autoprivacy.common.progress import Advance
from autoprivacy.common.records import to_json
from autoprivacy.models.prediction import Deployment, predict
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.data import Split
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.security import MAX_MODULUS_BITS
from tests import synthetic

FEW = (Choice(1024, 26, 2), Choice(1024, 26, 6), Choice(2048, 53, 8))


@dataclass(frozen=True, slots=True)
class Judged:
    latency_s: float
    choices: tuple[Choice, ...]
    upper: float


@pytest.fixture(scope="module")
def space(space: Space) -> Space:
    """Judged on fewer images, to be quick."""
    search = space.data.search
    fewer = Split(search.name, search.x[:120], search.y[:120])
    return Space(space.trained, replace(space.data, search=fewer), space.version, space.profiles)


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return Deployment(synthetic.model(), synthetic.model(slower=2, per_layer_s=1e-4))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "CHOICES", FEW)


@pytest.fixture(scope="module")
def everything(space: Space, deployment: Deployment) -> list[Judged]:
    """Every policy of the small space, judged one by one."""
    found = []
    for choices in product(FEW, repeat=len(space.layers)):
        network = space.network(choices)
        try:
            agreement = agree(network, space.policy(choices, method="by hand"))
        except InvalidPolicy:
            continue
        latency_s = predict(plan_network(network, agreement), deployment).latency_s
        drop = accuracy_drop(network, agreement, space.baseline, space.data.search, 0)
        found.append(Judged(latency_s, choices, drop.upper))
    return found


@contextmanager
def silent(title: str, total: int) -> Iterator[Advance]:  # noqa: ARG001 - the protocol's names
    yield lambda: None


def search(space: Space, deployment: Deployment, max_accuracy_drop: float, seed: int = 0) -> Found:
    return search_exact(space, deployment, max_accuracy_drop=max_accuracy_drop, seed=seed, progress=silent)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.5, 1.0])
def test_the_exact_search_finds_what_trying_everything_finds(
    space: Space, deployment: Deployment, everything: list[Judged], quantile: float
) -> None:
    bounds = sorted(one.upper for one in everything)
    allowed = bounds[int(quantile * (len(bounds) - 1))]
    best = min((one for one in everything if one.upper <= allowed), key=lambda one: (one.latency_s, one.choices))
    found = search(space, deployment, allowed)
    assert found.best.choices == best.choices
    assert found.best.prediction.latency_s == best.latency_s
    assert found.best.drop.upper == best.upper
    assert found.policies == len(everything)
    assert found.simulated == 1 + sum(one.latency_s < best.latency_s for one in everything)


def test_the_small_space_has_something_to_choose(everything: list[Judged]) -> None:
    assert len(everything) == len(FEW) ** 3
    fastest = min(everything, key=lambda one: one.latency_s)
    surest = min(everything, key=lambda one: one.upper)
    assert fastest.upper > surest.upper
    assert fastest.latency_s < surest.latency_s


@pytest.mark.usefixtures("few")
def test_an_impossible_accuracy_is_refused_with_the_closest_bound(
    space: Space, deployment: Deployment, everything: list[Judged]
) -> None:
    closest = min(one.upper for one in everything)
    with pytest.raises(Refused, match=rf"the best bound is {int(100 * closest)}\.") as caught:
        search(space, deployment, closest - 1e-6)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("images", [40, 60, 80, 100])
def test_what_a_refusal_advises_is_enough(
    space: Space, deployment: Deployment, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    monkeypatch.setattr(space_module, "CHOICES", FEW[-1:])
    split = Split("few", space.data.search.x[:images], space.data.search.y[:images])
    judged = Space(space.trained, replace(space.data, search=split), space.version, space.profiles)
    with pytest.raises(Refused) as caught:
        search(judged, deployment, 0.0)
    advised = re.findall(r"([0-9.]+)%", str(caught.value))[-1]
    search(judged, deployment, float(advised) / 100)


@pytest.mark.usefixtures("few")
def test_the_same_seed_gives_the_same_policy(space: Space, deployment: Deployment) -> None:
    fresh = (Space(space.trained, space.data, space.version, space.profiles) for _ in range(2))
    first, second = (to_json(search(one, deployment, 0.05, seed=3).best.policy) for one in fresh)
    assert first == second


@pytest.mark.usefixtures("few")
def test_a_policy_states_what_was_found(space: Space, deployment: Deployment) -> None:
    best = search(space, deployment, 0.05).best
    assert best.policy.made_by.predicted_latency_s == best.prediction.latency_s
    assert best.policy.made_by.accuracy_drop_upper == best.drop.upper <= 0.05
    assert best.policy.made_by.profiles == space.profiles
    assert best.policy.network_hash == space.trained.hash


def test_only_secure_policies_that_hold_their_accumulators_exist(space: Space) -> None:
    for choice in space_module.CHOICES:
        choices = (choice,) * len(space.layers)
        made = space.policy(choices, method="by hand")
        for name, least in least_modulus_bits(space.network(choices)).items():
            layer = made.layers[name]
            assert layer.t == 1 << least
            assert layer.limbs[0].bit_length() <= MAX_MODULUS_BITS["he2024"][layer.n]
            assert layer.weight_bits == choice.weight_bits


@pytest.mark.usefixtures("few")
def test_progress_counts_what_is_announced(space: Space, deployment: Deployment) -> None:
    steps: list[list[int]] = []

    @contextmanager
    def counted(title: str, total: int) -> Iterator[Advance]:  # noqa: ARG001 - the protocol's names
        steps.append([total, 0])

        def advance() -> None:
            steps[-1][1] += 1

        yield advance

    with pytest.raises(Refused):
        search_exact(space, deployment, max_accuracy_drop=0.0, seed=0, progress=counted)
    assert steps
    assert all(total == done for total, done in steps)


def test_every_combination_is_tried(space: Space) -> None:
    all_choices = list(space.all_choices())
    assert len(all_choices) == len(set(all_choices)) == len(space_module.CHOICES) ** len(space.layers)
    assert space.one_set_for_all() in all_choices
