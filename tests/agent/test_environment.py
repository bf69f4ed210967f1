"""The projection, as a pure function; and episodes, which never leave their limit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autoprivacy.agent.environment import Environment, action_of, project, within_drop, within_latency
from autoprivacy.agent.methods import exact
from autoprivacy.common.errors import Refused
from tests.agent.problems import chain, residual, with_traits

WHOLE = st.integers(0, 30)
UNIT_INTERVAL = st.floats(0, 1)


@st.composite
def offers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Excess cost and spend, traits of options, and the slack; some option spends no excess."""
    count = draw(st.integers(1, 8))
    cost = draw(arrays(np.float64, count, elements=WHOLE.map(float)))
    spend = draw(arrays(np.float64, count, elements=st.one_of(WHOLE.map(float), st.just(np.inf))))
    spend[draw(st.integers(0, count - 1))] = 0.0
    traits = draw(arrays(np.float64, (count, 2), elements=st.sampled_from([0.25, 0.5, 0.75, 1.0])))
    return cost, spend, traits, float(draw(WHOLE))


ACTIONS = arrays(np.float64, (1, 3), elements=UNIT_INTERVAL)


def projected(action: np.ndarray, offer: tuple[np.ndarray, np.ndarray, np.ndarray, float]) -> int:
    cost, spend, traits, slack = offer
    return int(project(action, cost[None], spend[None], traits, np.array([slack]))[0])


@settings(derandomize=True, deadline=None, max_examples=200)
@given(ACTIONS, offers())
def test_an_action_becomes_an_option_that_the_slack_allows(action, offer) -> None:
    assert offer[1][projected(action, offer)] <= offer[3]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(ACTIONS, offers())
def test_a_projected_action_becomes_the_same_option(action, offer) -> None:
    cost, spend, traits, slack = offer
    option = projected(action, offer)
    again = action_of(np.array([option]), spend[None], traits, np.array([slack]))
    assert ((again >= 0) & (again <= 1)).all()
    assert projected(again, offer) == option
    np.testing.assert_array_equal(action_of(np.array([option]), spend[None], traits, np.array([slack])), again)
    assert cost[option] == cost[(traits == traits[option]).all(axis=1) & (spend <= spend[option])].min()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(ACTIONS, offers(), UNIT_INTERVAL)
def test_tolerating_more_never_costs_more_among_options_of_one_kind(action, offer, more) -> None:
    cost, spend, traits, slack = offer
    alike = cost, spend, np.full_like(traits, 0.5), slack
    wider = action.copy()
    wider[0, 0] = max(action[0, 0], more)
    assert cost[projected(wider, alike)] <= cost[projected(action, alike)]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(offers())
def test_the_bounds_of_actions_are_the_thriftiest_and_the_cheapest(offer) -> None:
    cost, spend, traits, slack = offer
    alike = cost, spend, np.full_like(traits, 0.5), slack
    assert spend[projected(np.zeros((1, 3)), alike)] == 0
    assert cost[projected(np.ones((1, 3)), alike)] == cost[spend <= slack].min()


PROBLEMS = {
    "chain": with_traits(chain(0)),
    "without traits": chain(0),
    "forbidding chain": with_traits(chain(1, forbid=0.2)),
    "residual": with_traits(residual(3, forbid=0.25)),
}


def walked(environment: Environment, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Policies of random episodes, and the sum of their rewards."""
    walk, rewards = environment.start(count), np.zeros(count)
    while walk.layer < environment.layers:
        seen = environment.observe(walk)
        assert seen.shape == (count, environment.observation_size)
        assert np.isfinite(seen).all()
        step = environment.step(walk, rng.random((count, environment.action_size)))
        assert ((step.action >= 0) & (step.action <= 1)).all()
        rewards += step.reward
    return environment.policies(walk), rewards


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_episode_keeps_the_drop_and_its_rewards_are_its_seconds(name: str) -> None:
    problem, rng = PROBLEMS[name], np.random.default_rng(1)
    for budget in (30, 60, 200):
        environment = within_drop(problem, budget)
        policies, rewards = walked(environment, rng, 100)
        seconds = problem.latency(policies)
        assert (problem.penalty(policies) <= budget).all()
        least = environment.cost.least + problem.constant_s
        np.testing.assert_allclose(-rewards * environment.scale, seconds - least, atol=1e-9)
        np.testing.assert_array_equal(environment.costs(policies), seconds)
        assert seconds.min() >= exact.solve(problem, budget, rng, 0).latency_s * (1 - 1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_episode_keeps_the_latency_and_its_rewards_are_its_drop(name: str) -> None:
    problem, rng = PROBLEMS[name], np.random.default_rng(2)
    fastest = exact.solve(problem, 10_000, rng, 0).latency_s
    for budget_s in (fastest, 1.1 * fastest, 2 * fastest):
        environment = within_latency(problem, budget_s + 1e-9)
        policies, rewards = walked(environment, rng, 100)
        penalty = problem.penalty(policies)
        assert (problem.latency(policies) <= budget_s + 1e-9).all()
        np.testing.assert_allclose(-rewards * environment.scale, penalty - environment.cost.least, atol=1e-6)
        np.testing.assert_array_equal(environment.costs(policies), penalty)
        assert penalty.min() >= exact.most_accurate(problem, budget_s + 1e-9).penalty


def test_episodes_side_by_side_are_those_one_by_one() -> None:
    environment = within_drop(PROBLEMS["residual"], 60)
    actions = np.random.default_rng(3).random((environment.layers, 20, environment.action_size))
    together = environment.start(20)
    alone = [environment.start(1) for _ in range(20)]
    for layer in actions:
        environment.step(together, layer)
        for number, walk in enumerate(alone):
            environment.step(walk, layer[[number]])
    np.testing.assert_array_equal(together.policies, np.concatenate([walk.policies for walk in alone]))
    np.testing.assert_array_equal(together.slack, np.concatenate([walk.slack for walk in alone]))


def test_impossible_limits_are_refused() -> None:
    problem = chain(0)
    with pytest.raises(Refused, match="the fastest is predicted"):
        within_latency(problem, 0.3)
    raised = with_traits(chain(0), penalty=5)
    with pytest.raises(Refused, match="allow that much"):
        within_drop(raised, 4)
