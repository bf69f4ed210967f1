"""The agent: it finds a known optimum, repeats itself, goes on where it was killed, and remembers what was done."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from autoprivacy.agent.ddpg import Agent, Hyperparameters, Replay, Taken, explore, inverted, new_agent
from autoprivacy.agent.environment import Environment, Offer, within_drop
from autoprivacy.agent.learning_curve import render_curve
from autoprivacy.agent.methods import ddpg, exact
from autoprivacy.agent.problem import Layer, Problem
from autoprivacy.agent.training import Training, trained
from autoprivacy.common.errors import BadInput
from tests.agent.problems import chain, residual, with_traits

FEW = Hyperparameters(hidden=(16, 16), batch=16, episodes_at_once=4)


def uneven(layers: int = 6) -> Problem:
    """Layers of which every second one gains nothing by tolerating more, and the others much.

    The budget of 12 units is spent best as 4 in each of three layers; there, spending all at once gains little more.
    """
    penalty = np.arange(9, dtype=np.int64)
    gain = 1 - np.exp(-penalty / 2.0)
    none = np.zeros(9, np.int64)
    return Problem(
        tuple(
            Layer(f"layer{index}", 2.0 - (gain if index % 2 else 0.02 * gain), penalty, none) for index in range(layers)
        )
    )


def environment() -> Environment:
    return within_drop(uneven(), 12)


def test_the_agent_learns_a_known_optimum() -> None:
    optimum = 12.0 - 3 * (1 - np.exp(-2.0))
    assert exact.solve(uneven(), 12, np.random.default_rng(0), 0).latency_s == pytest.approx(optimum)
    made = trained(environment(), np.random.default_rng(0), 800)
    assert made.best_cost == pytest.approx(optimum, rel=2e-3)
    # Not only the best of many draws: what the actor does in the end is good by itself.
    first, last = np.median(made.costs[1:80]), np.median(made.costs[-80:])
    assert last - optimum < 0.25 * (first - optimum)


@pytest.mark.parametrize(("problem", "budget"), [(chain(0), 90), (with_traits(residual(5)), 60)])
def test_the_agent_finds_the_optimum_of_a_small_coupled_problem(problem: Problem, budget: int) -> None:
    best = exact.solve(problem, budget, np.random.default_rng(0), 0).latency_s
    found = ddpg.solve(problem, budget, np.random.default_rng(1), 500)
    assert best * (1 - 1e-12) <= found.latency_s <= 1.02 * best
    assert found.priced == 500


def test_the_agent_finds_the_least_drop_within_a_latency() -> None:
    problem = with_traits(residual(5))
    budget_s = 1.2 * exact.solve(problem, 10_000, np.random.default_rng(0), 0).latency_s
    best = exact.most_accurate(problem, budget_s)
    found = ddpg.most_accurate(problem, budget_s, np.random.default_rng(1), 500)
    assert found.latency_s <= budget_s
    assert best.penalty <= found.penalty <= 1.1 * best.penalty + 2


def arrays_of(made: Training) -> dict[str, np.ndarray]:
    return made.agent.arrays() | {"costs": np.array(made.costs)}


def assert_same(one: Training, other: Training) -> None:
    first, second = arrays_of(one), arrays_of(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)
    assert one.rng.bit_generator.state == other.rng.bit_generator.state
    np.testing.assert_array_equal(one.best, other.best)


def test_the_same_seed_learns_the_same_and_another_one_something_else() -> None:
    before = torch.get_num_threads(), torch.random.get_rng_state()
    one, again, other = (trained(environment(), np.random.default_rng(seed), 60, parameters=FEW) for seed in (1, 1, 2))
    assert_same(one, again)
    assert one.costs != other.costs
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])


@pytest.mark.parametrize("stop", [2, 30])
def test_a_stopped_run_goes_on_exactly(tmp_path: Path, stop: int) -> None:
    """Before its first update, and after many; `stop_after` leaves what a kill between episodes leaves."""
    file = tmp_path / "agent.npz"
    whole = trained(environment(), np.random.default_rng(3), 60, parameters=FEW)
    trained(environment(), np.random.default_rng(3), 60, parameters=FEW, file=file, stop_after=stop)
    resumed = trained(environment(), np.random.default_rng(3), 60, parameters=FEW, file=file)
    assert_same(whole, resumed)


KILLED = """
import os, signal, sys
import numpy as np
from autoprivacy.agent import training
from tests.agent.test_ddpg import FEW, environment
training.SAVED_EVERY_S = 0.0
write = training.Training._write
def once_too_often(self, file):
    write(self, file)
    if len(self.costs) >= 28:
        os.kill(os.getpid(), signal.SIGKILL)
training.Training._write = once_too_often
training.trained(environment(), np.random.default_rng(3), 60, parameters=FEW, file=training.Path(sys.argv[1]))
"""


def test_a_killed_run_goes_on_exactly(tmp_path: Path) -> None:
    file = tmp_path / "agent.npz"
    root = Path(__file__).parent.parent.parent
    killed = subprocess.run([sys.executable, "-c", KILLED, str(file)], cwd=root, check=False)
    assert killed.returncode == -9
    whole = trained(environment(), np.random.default_rng(3), 60, parameters=FEW)
    assert_same(whole, trained(environment(), np.random.default_rng(3), 60, parameters=FEW, file=file))


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "agent.npz"
    trained(environment(), np.random.default_rng(3), 12, parameters=FEW, file=file)
    for seed, most, limit in ((4, 12, 12), (3, 13, 12), (3, 12, 11)):
        with pytest.raises(BadInput, match="other profiles, limits or settings"):
            trained(within_drop(uneven(), limit), np.random.default_rng(seed), most, parameters=FEW, file=file)
    file.write_bytes(b"PK nothing")
    with pytest.raises(BadInput, match="not a whole"):
        trained(environment(), np.random.default_rng(3), 12, parameters=FEW, file=file)


def test_the_buffer_holds_what_was_done_and_not_what_was_asked() -> None:
    problem = with_traits(residual(3))
    space = within_drop(problem, 60)
    made = trained(space, np.random.default_rng(0), 40, parameters=replace(FEW, capacity=400))
    replay = made.agent.replay
    assert replay.held == 40 * space.layers
    # Walked again with the stored actions, every episode is the same to the last number: they were projected.
    at = np.arange(40 * space.layers).reshape(-1, space.layers, FEW.episodes_at_once)
    costs = []
    for block in at:
        walk = space.start(FEW.episodes_at_once)
        for step in block:
            np.testing.assert_array_equal(replay.seen[step], space.observe(walk).astype(np.float32))
            stored = replay.action[step]
            np.testing.assert_array_equal(stored[:, 1:] * 4 % 1, 0)  # traits that options have
            done = space.step(walk, stored.astype(np.float64))
            np.testing.assert_array_equal(done.action.astype(np.float32), stored)
            np.testing.assert_allclose(replay.reward[step], done.reward, rtol=1e-5, atol=1e-7)
            np.testing.assert_array_equal(replay.next_seen[step], space.observe(walk).astype(np.float32))
            assert (replay.last[step] == (walk.layer == space.layers)).all()
        costs += space.costs(space.policies(walk)).tolist()
    assert costs == made.costs


def test_the_buffer_forgets_the_oldest() -> None:
    replay = Replay(5, 1, np.zeros((7, 1, 0)))
    ones = [np.full((1, 1), float(number)) for number in range(7)]
    replay.add([Taken(one, one, one[0], one, Offer(one, one, np.zeros((1, 0)), one[0])) for one in ones])
    assert sorted(replay.reward.tolist()) == [2, 3, 4, 5, 6]
    drawn, offer = replay.draw(200, np.random.default_rng(0))
    assert set(drawn["reward"].tolist()) == {2, 3, 4, 5, 6}
    np.testing.assert_array_equal(drawn["seen"][:, 0], drawn["reward"])
    np.testing.assert_array_equal(offer.slack, drawn["reward"])
    np.testing.assert_array_equal(offer.excess_spend, drawn["seen"])


def test_the_buffer_knows_what_any_action_would_have_become() -> None:
    """Also what comes next: the critic's goal and the actor's slope ask about nothing that was not carried out."""
    space = within_drop(with_traits(residual(3)), 60)
    made = trained(space, np.random.default_rng(0), 40, parameters=FEW)
    replay, rng, count = made.agent.replay, np.random.default_rng(1), FEW.episodes_at_once
    for block in np.arange(40 * space.layers).reshape(-1, space.layers, count):
        walk = space.start(count)
        for layer, step in enumerate(block):
            asked = rng.random((count, space.action_size))
            offer = Offer(replay.excess_cost[step], replay.excess_spend[step], space.traits[layer], replay.slack[step])
            np.testing.assert_array_equal(replay.layer[step], layer)
            np.testing.assert_allclose(offer.carried_out(asked), space.offer(walk).carried_out(asked), atol=1e-6)
            space.step(walk, replay.action[step].astype(np.float64))
            if layer + 1 < space.layers:
                np.testing.assert_array_equal(replay.next_action[step], replay.action[block[layer + 1]])


def one_choice(tolerances: int = 5) -> tuple[Agent, Offer]:
    """An agent whose critic thinks most of the least tolerance, where one may tolerate more than there is to choose."""
    spend = np.linspace(0, 0.5, tolerances)[None]
    offer = Offer(-spend, spend, np.zeros((tolerances, 0)), np.ones(1))
    agent = new_agent(1, np.zeros((1, tolerances, 0)), FEW, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for _ in range(200):
        done = offer.carried_out(rng.random((1, 1)))
        agent.replay.add([Taken(np.zeros((1, 1)), done, -done[0], np.zeros((1, 1)), offer)])
    for _ in range(600):
        agent.learn(rng)
    return agent, offer


def test_an_episode_takes_what_the_critic_thinks_most_of_as_it_is_carried_out() -> None:
    agent, offer = one_choice()
    seen = np.zeros((1, 1))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        draws = [offer.carried_out(explore(agent.act(seen), 5.0, rng)) for _ in range(FEW.candidates)]
        chosen = agent.choose(seen, offer, 5.0, np.random.default_rng(seed))
        assert chosen == min(draws)


def test_the_critic_is_only_asked_about_actions_as_they_are_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, offer = one_choice()
    asked: list[float] = []
    call = type(agent.critic).__call__

    def recorded(network, flat, value):
        if network is agent.critic:
            asked.extend(value[..., -1].flatten().tolist())
        return call(network, flat, value)

    with torch.no_grad():
        agent.actor.flat[-1] += 0.3  # it asks for what is no option
    monkeypatch.setattr(type(agent.critic), "__call__", recorded)
    agent.learn(np.random.default_rng(3))
    agent.choose(np.zeros((1, 1)), offer, 0.5, np.random.default_rng(4))
    possible = {float(np.float32(offer.carried_out(np.full((1, 1), at))[0, 0])) for at in np.linspace(0, 1, 500)}
    assert len(asked) == 3 * FEW.batch + FEW.candidates
    assert set(asked) <= possible


def test_slopes_shrink_towards_the_bounds_and_turn_beyond_them() -> None:
    action = torch.tensor([0.0, 0.25, 1.0, 1.5, -0.5])
    assert inverted(torch.ones(5), action).tolist() == [1.0, 0.75, 0.0, -0.5, 1.5]
    assert inverted(-torch.ones(5), action).tolist() == [0.0, -0.25, -1.0, -1.5, 0.5]


def test_exploration_is_a_truncated_normal() -> None:
    rng = np.random.default_rng(5)
    for mean, deviation in ((0.3, 0.2), (0.0, 0.5), (0.98, 0.05)):
        drawn = explore(np.full((4000, 1), mean), deviation, rng)[:, 0]
        assert drawn.min() >= 0
        assert drawn.max() <= 1
        law = stats.truncnorm(-mean / deviation, (1 - mean) / deviation, mean, deviation)
        assert stats.kstest(drawn, law.cdf).pvalue > 1e-3


def test_an_agent_may_begin_as_another_one() -> None:
    rng = np.random.default_rng(0)
    old, new = (new_agent(7, np.zeros((3, 4, 1)), FEW, rng) for _ in range(2))
    seen = rng.random((5, 7))
    assert not np.array_equal(old.act(seen), new.act(seen))
    new.begin_as(old.arrays())
    np.testing.assert_array_equal(old.act(seen), new.act(seen))
    assert new.replay.held == 0


def test_what_was_learned_elsewhere_saves_calls(tmp_path: Path) -> None:
    """On a deployment where everything takes a little longer, the optimum is the same."""
    first = trained(environment(), np.random.default_rng(0), 800, file=tmp_path / "first.npz")
    slower = Problem(tuple(replace(each, seconds=1.3 * each.seconds) for each in uneven().layers))
    near = 1.01 * exact.solve(slower, 12, np.random.default_rng(0), 0).latency_s

    def calls(**how: Path) -> int:
        file = tmp_path / f"{len(how)}.npz"
        ddpg.solve(slower, 12, np.random.default_rng(1), 400, file, **how)
        costs = trained(within_drop(slower, 12), np.random.default_rng(1), 400, file=file, begin_as=networks(how)).costs
        return int(np.argmax(np.array(costs) <= near)) if min(costs) <= near else 400

    def networks(how: dict[str, Path]) -> dict[str, np.ndarray] | None:
        return first.agent.arrays() if how else None

    assert calls(begin_as=tmp_path / "first.npz") < calls()


def test_a_run_folder_gets_the_learning_curve(tmp_path: Path) -> None:
    file = tmp_path / "agent.npz"
    found = ddpg.solve(uneven(), 12, np.random.default_rng(0), 40, file)
    page = (tmp_path / "agent.html").read_text(encoding="utf-8")
    assert "40 episodes" in page
    assert f"{1000 * found.latency_s:.4g} ms in the end" in page
    assert "<script" not in page
    assert "points in the end" in render_curve([3.0, 2.0, 2.0], "drop")
    assert ddpg.solve(uneven(), 12, np.random.default_rng(0), 40, file).latency_s == found.latency_s
