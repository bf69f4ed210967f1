"""Deep deterministic policy gradient [DDPG], as [HAQ] and [AutoPrivacy] use it: two small networks and a replay buffer.

| symbol | meaning |
|---|---|
| actor | from what is seen (S,) to an action (A,) in [0, 1] |
| critic | from what is seen and an action carried out to the return that is expected: the sum of rewards to the end |
| target | a slow copy of the critic, which its goal is computed with |
| offer | what a step could choose from: it says what an action would be carried out as (`environment`) |
| flat | all weights of one network as one vector, so that an optimiser's step and a copy are one operation |

The critic is asked about actions as they are carried out, and about no others: it never learns what is between them, or
beyond what is allowed. So its goal looks at the next action that was carried out; the actor climbs the slope there, as
if carrying out changed nothing [STE], and less steeply the nearer it is to 0 or 1 [InvertingGradients]; and of several
drawn actions an episode takes the one that, as carried out, the critic thinks most of [Wolpertinger].

Every random number comes from the generator that is passed in. All of an agent is arrays: it is stored without pickles,
and goes on bit for bit.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.agent.environment import Offer
from autoprivacy.agent.problem import Floats
from autoprivacy.common.records import record

if TYPE_CHECKING:
    import torch

Singles = NDArray[np.float32]


@record
class Hyperparameters:
    """Chosen on `digits-cnn`, `lenet5` and artificial problems, and then left as they are (docs/agent.md)."""

    hidden: tuple[int, ...] = (64, 64)
    actor_rate: float = 3e-3
    critic_rate: float = 3e-3
    target_rate: float = 0.01
    batch: int = 64
    capacity: int = 20_000
    updates_per_step: float = 0.5
    episodes_at_once: int = 8
    warmup_share: float = 0.1
    random_at_once: int = 1
    candidates: int = 2
    first_noise: float = 0.5
    last_noise: float = 0.05
    transferred_noise: float = 0.1


OFFERED: Final = ("excess_cost", "excess_spend", "slack", "layer")


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """One step of episodes side by side: seen before and after (P, S), carried out (P, A), reward (P,), the offer."""

    seen: Floats
    action: Floats
    reward: Floats
    next_seen: Floats
    offer: Offer


class Replay:
    """Transitions, the oldest overwritten first; actions are those that were carried out.

    `traits` (layers, O, T) are those of every layer's options. With each transition is kept what it could choose from.
    """

    FIELDS: Final = ("seen", "action", "reward", "next_seen", "next_action", "last", *OFFERED)

    def __init__(self, capacity: int, seen: int, traits: Floats) -> None:
        _, options, own = traits.shape
        self.traits = traits
        self.seen = np.zeros((capacity, seen), np.float32)
        self.action = np.zeros((capacity, 1 + own), np.float32)
        self.reward = np.zeros(capacity, np.float32)
        self.next_seen = np.zeros((capacity, seen), np.float32)
        self.next_action = np.zeros((capacity, 1 + own), np.float32)
        self.last = np.zeros(capacity, np.float32)
        self.excess_cost = np.zeros((capacity, options), np.float32)
        self.excess_spend = np.zeros((capacity, options), np.float32)
        self.slack = np.zeros(capacity, np.float32)
        self.layer = np.zeros(capacity, np.int64)
        self.added = 0

    @property
    def held(self) -> int:
        """How many transitions there are to draw from."""
        return min(self.added, len(self.reward))

    def add(self, steps: Sequence[Taken]) -> None:
        """Add the steps of finished episodes, from the first layer to the last."""
        for layer, (step, after) in enumerate(zip(steps, [*steps[1:], None], strict=True)):
            at = (self.added + np.arange(len(step.reward))) % len(self.reward)
            self.seen[at], self.action[at], self.reward[at] = step.seen, step.action, step.reward
            self.next_seen[at], self.next_action[at] = step.next_seen, 0.0 if after is None else after.action
            self.last[at], self.layer[at], self.slack[at] = after is None, layer, step.offer.slack
            for kept, excess in (
                (self.excess_cost, step.offer.excess_cost),
                (self.excess_spend, step.offer.excess_spend),
            ):
                kept[at] = np.inf  # layers of fewer options
                kept[at, : excess.shape[1]] = excess
            self.added += len(step.reward)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[dict[str, Singles], Offer]:
        """So many transitions, with replacement, by the names of `FIELDS`, and what they could choose from."""
        at = rng.integers(0, self.held, count)
        excess_cost, excess_spend, slack = (getattr(self, name)[at].astype(np.float64) for name in OFFERED[:3])
        offer = Offer(excess_cost, excess_spend, self.traits[self.layer[at]], slack)
        return {name: getattr(self, name)[at] for name in self.FIELDS if name not in OFFERED}, offer


class _Network:
    """A network with ReLU between its layers; weights, and Adam's moments [Adam], are flat."""

    def __init__(self, sizes: tuple[int, ...], rng: np.random.Generator) -> None:
        import torch

        self.sizes = sizes
        parts = []
        for number, (inward, outward) in enumerate(pairwise(sizes)):
            # The last layer starts small, so that first actions and values are alike everywhere [DDPG].
            bound = 3e-3 if number == len(sizes) - 2 else inward**-0.5
            parts.append(rng.uniform(-bound, bound, outward * (inward + 1)))
        self.flat = torch.from_numpy(np.concatenate(parts).astype(np.float32)).requires_grad_()
        self.mean = torch.zeros_like(self.flat, requires_grad=False)
        self.square = torch.zeros_like(self.flat, requires_grad=False)
        self.updates = 0

    def __call__(self, flat: "torch.Tensor", value: "torch.Tensor") -> "torch.Tensor":
        from torch.nn.functional import linear

        start = 0
        for number, (inward, outward) in enumerate(pairwise(self.sizes)):
            if number:
                value = value.relu()
            middle, end = start + outward * inward, start + outward * (inward + 1)
            value = linear(value, flat[start:middle].view(outward, inward), flat[middle:end])
            start = end
        return value

    def descend(self, loss: "torch.Tensor", rate: float) -> None:
        """One step of Adam."""
        import torch

        (slope,) = torch.autograd.grad(loss, self.flat)
        self.updates += 1
        with torch.no_grad():
            self.mean.lerp_(slope, 0.1)
            self.square.lerp_(slope * slope, 0.001)
            scale = (1 - 0.999**self.updates) ** 0.5
            size = rate * scale / (1 - 0.9**self.updates)
            self.flat.addcdiv_(self.mean, self.square.sqrt().add_(1e-8 * scale), value=-size)


@dataclass(slots=True, eq=False)
class Agent:
    """Actor, critic with its target, and replay buffer; made by `new_agent`."""

    parameters: Hyperparameters
    actor: _Network
    critic: _Network
    target: "torch.Tensor"
    replay: Replay

    def act(self, seen: Floats) -> Floats:
        """The actor's actions (P, A)."""
        import torch

        with torch.no_grad():
            made = self._proposed(torch.from_numpy(seen.astype(np.float32))).clamp(0, 1)
        return made.numpy().astype(np.float64)

    def choose(self, seen: Floats, offer: Offer, deviation: float, rng: np.random.Generator) -> Floats:
        """Of several actions drawn around the actor's, those (P, A) that the critic thinks most of as carried out."""
        import torch

        around = self.act(seen)
        drawn = [offer.carried_out(explore(around, deviation, rng)) for _ in range(self.parameters.candidates)]
        actions = np.stack(drawn)
        given = np.concatenate([np.broadcast_to(seen, (len(drawn), *seen.shape)), actions], axis=2)
        with torch.no_grad():
            worth = self.critic(self.critic.flat, torch.from_numpy(given.astype(np.float32)))[..., 0].numpy()
        best: Floats = actions[worth.argmax(axis=0), np.arange(len(seen))]
        return best

    def learn(self, rng: np.random.Generator) -> None:
        """One update of critic and actor on transitions drawn from the buffer."""
        import torch

        own, critic = self.parameters, self.critic
        drawn, offer = self.replay.draw(own.batch, rng)
        seen, action, reward, next_seen, next_action, last = map(torch.from_numpy, drawn.values())
        with torch.no_grad():
            after = critic(self.target, torch.cat([next_seen, next_action], 1))[:, 0]
            goal = reward + (1 - last) * after
        worth = critic(critic.flat, torch.cat([seen, action], 1))[:, 0]
        critic.descend((worth - goal).square().mean(), own.critic_rate)
        self.target.lerp_(critic.flat.detach(), own.target_rate)
        made = self._proposed(seen)
        asked = made.detach()
        carried_out = offer.carried_out(asked.clamp(0, 1).numpy().astype(np.float64)).astype(np.float32)
        done = torch.from_numpy(carried_out).requires_grad_()
        (slope,) = torch.autograd.grad(critic(critic.flat.detach(), torch.cat([seen, done], 1)).sum(), done)
        self.actor.descend(-(inverted(slope, asked) * made).sum(1).mean(), own.actor_rate)

    def _proposed(self, seen: "torch.Tensor") -> "torch.Tensor":
        """What the actor asks for, in the middle at first and not bounded yet."""
        return self.actor(self.actor.flat, seen) + 0.5

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that the agent is, by name."""
        found: dict[str, NDArray[Any]] = {}
        for name, network in (("actor", self.actor), ("critic", self.critic)):
            for part in ("flat", "mean", "square"):
                found[f"{name}_{part}"] = getattr(network, part).detach().numpy().copy()
            found[f"{name}_updates"] = np.array([network.updates])
        found["critic_target"] = self.target.numpy().copy()
        held = self.replay.held
        found |= {f"replay_{name}": getattr(self.replay, name)[:held] for name in Replay.FIELDS}
        return found | {"replay_added": np.array([self.replay.added])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become what `arrays` says, of an agent of the same sizes."""
        self.begin_as(arrays)
        for name, network in (("actor", self.actor), ("critic", self.critic)):
            for part in ("mean", "square"):
                _fill(getattr(network, part), arrays[f"{name}_{part}"])
            network.updates = int(arrays[f"{name}_updates"][0])
        _fill(self.target, arrays["critic_target"])
        self.replay.added = int(arrays["replay_added"][0])
        for name in Replay.FIELDS:
            stored = arrays[f"replay_{name}"]
            getattr(self.replay, name)[: len(stored)] = stored

    def begin_as(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over the networks of another agent of the same sizes, but not what it remembers."""
        for name, network in (("actor", self.actor), ("critic", self.critic)):
            _fill(network.flat, arrays[f"{name}_flat"])
        _fill(self.target, arrays["critic_flat"])


def inverted(slope: "torch.Tensor", action: "torch.Tensor") -> "torch.Tensor":
    """A slope, scaled by how far the action may still go that way; beyond 0 and 1 it turns [InvertingGradients]."""
    return slope * (1 - action).where(slope > 0, action)


def _fill(tensor: "torch.Tensor", values: NDArray[Any]) -> None:
    import torch

    with torch.no_grad():
        tensor.copy_(torch.from_numpy(np.array(values, np.float32)))


def new_agent(seen: int, traits: Floats, parameters: Hyperparameters, rng: np.random.Generator) -> Agent:
    """An agent that has learned nothing, for observations (S,), and options of these traits (layers, O, T)."""
    action = 1 + traits.shape[2]
    actor = _Network((seen, *parameters.hidden, action), rng)
    critic = _Network((seen + action, *parameters.hidden, 1), rng)
    return Agent(
        parameters,
        actor,
        critic,
        critic.flat.detach().clone(),
        Replay(parameters.capacity, seen, traits),
    )


def explore(action: Floats, deviation: float, rng: np.random.Generator) -> Floats:
    """Actions drawn from normal distributions around `action` that end at 0 and 1 [HAQ]."""
    from scipy.special import ndtr, ndtri

    low, high = ndtr((0 - action) / deviation), ndtr((1 - action) / deviation)
    drawn: Floats = action + deviation * ndtri(low + (high - low) * rng.random(action.shape))
    return np.clip(drawn, 0.0, 1.0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread, as it was before afterwards: networks are small, and sums keep their order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
