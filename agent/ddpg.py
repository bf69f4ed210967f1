"""Deep deterministic policy gradient [DDPG], as [HAQ] and [AutoPrivacy] use it: two small networks and a replay buffer.

| symbol | meaning |
|---|---|
| actor | from what is seen (S,) to an action (A,) in [0, 1] |
| critic | from both to the return that is expected: the sum of rewards to the end of the episode |
| targets | slow copies of both, which the critic's goal is computed with |
| flat | all weights of one network as one vector, so that an optimiser's step and a copy are one operation |

Every random number comes from the generator that is passed in. All of an agent is arrays: it is stored without pickles,
and goes on bit for bit.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.agent.problem import Floats
from autoprivacy.common.records import record

if TYPE_CHECKING:
    import torch

Singles = NDArray[np.float32]


@record
class Hyperparameters:
    """Chosen on `digits-cnn` and `lenet5` alone, and then left as they are (docs/search.md)."""

    hidden: tuple[int, ...] = (64, 64)
    actor_rate: float = 1e-3
    critic_rate: float = 2e-3
    target_rate: float = 0.01
    batch: int = 64
    capacity: int = 20_000
    updates_per_step: float = 0.5
    episodes_at_once: int = 8
    warmup_share: float = 0.1
    random_at_once: int = 1
    first_noise: float = 0.5
    last_noise: float = 0.02
    transferred_noise: float = 0.1


class Replay:
    """Transitions, the oldest overwritten first; actions are those that were carried out."""

    FIELDS: Final = ("seen", "action", "reward", "next_seen", "last")

    def __init__(self, capacity: int, seen: int, action: int) -> None:
        self.seen = np.zeros((capacity, seen), np.float32)
        self.action = np.zeros((capacity, action), np.float32)
        self.reward = np.zeros(capacity, np.float32)
        self.next_seen = np.zeros((capacity, seen), np.float32)
        self.last = np.zeros(capacity, np.float32)
        self.added = 0

    @property
    def held(self) -> int:
        """How many transitions there are to draw from."""
        return min(self.added, len(self.reward))

    def add(self, seen: Floats, action: Floats, reward: Floats, next_seen: Floats, *, last: bool) -> None:
        """Add transitions (P, ...) of one step."""
        at = (self.added + np.arange(len(reward))) % len(self.reward)
        self.seen[at], self.action[at], self.reward[at], self.next_seen[at] = seen, action, reward, next_seen
        self.last[at] = last
        self.added += len(reward)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Singles, ...]:
        """So many transitions, with replacement, as arrays in the order of `FIELDS`."""
        at = rng.integers(0, self.held, count)
        return tuple(getattr(self, name)[at] for name in self.FIELDS)


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
        self.target = self.flat.detach().clone()
        self.mean = torch.zeros_like(self.target)
        self.square = torch.zeros_like(self.target)
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

    def descend(self, loss: "torch.Tensor", rate: float, target_rate: float) -> None:
        """One step of Adam, and the target a little after it."""
        import torch

        (slope,) = torch.autograd.grad(loss, self.flat)
        self.updates += 1
        with torch.no_grad():
            self.mean.lerp_(slope, 0.1)
            self.square.lerp_(slope * slope, 0.001)
            scale = (1 - 0.999**self.updates) ** 0.5
            size = rate * scale / (1 - 0.9**self.updates)
            self.flat.addcdiv_(self.mean, self.square.sqrt().add_(1e-8 * scale), value=-size)
            self.target.lerp_(self.flat, target_rate)


@dataclass(slots=True, eq=False)
class Agent:
    """Actor, critic and replay buffer; made by `new_agent`."""

    parameters: Hyperparameters
    actor: _Network
    critic: _Network
    replay: Replay

    def act(self, seen: Floats) -> Floats:
        """The actor's actions (P, A)."""
        import torch

        with torch.no_grad():
            made = self.actor(self.actor.flat, torch.from_numpy(seen.astype(np.float32))).sigmoid()
        return made.numpy().astype(np.float64)

    def learn(self, rng: np.random.Generator) -> None:
        """One update of critic and actor on transitions drawn from the buffer."""
        import torch

        own, actor, critic = self.parameters, self.actor, self.critic
        drawn = [torch.from_numpy(each) for each in self.replay.draw(own.batch, rng)]
        seen, action, reward, next_seen, last = drawn
        with torch.no_grad():
            next_action = actor(actor.target, next_seen).sigmoid()
            after = critic(critic.target, torch.cat([next_seen, next_action], 1))[:, 0]
            goal = reward + (1 - last) * after
        worth = critic(critic.flat, torch.cat([seen, action], 1))[:, 0]
        critic.descend((worth - goal).square().mean(), own.critic_rate, own.target_rate)
        made = actor(actor.flat, seen).sigmoid()
        judged = critic(critic.flat.detach(), torch.cat([seen, made], 1))
        actor.descend(-judged.mean(), own.actor_rate, own.target_rate)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that the agent is, by name."""
        found: dict[str, NDArray[Any]] = {}
        for name, network in (("actor", self.actor), ("critic", self.critic)):
            for part in ("flat", "target", "mean", "square"):
                found[f"{name}_{part}"] = getattr(network, part).detach().numpy().copy()
            found[f"{name}_updates"] = np.array([network.updates])
        held = self.replay.held
        found |= {f"replay_{name}": getattr(self.replay, name)[:held] for name in Replay.FIELDS}
        return found | {"replay_added": np.array([self.replay.added])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become what `arrays` says, of an agent of the same sizes."""
        self.begin_as(arrays)
        for name, network in (("actor", self.actor), ("critic", self.critic)):
            for part in ("target", "mean", "square"):
                _fill(getattr(network, part), arrays[f"{name}_{part}"])
            network.updates = int(arrays[f"{name}_updates"][0])
        self.replay.added = int(arrays["replay_added"][0])
        for name in Replay.FIELDS:
            stored = arrays[f"replay_{name}"]
            getattr(self.replay, name)[: len(stored)] = stored

    def begin_as(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over the networks of another agent of the same sizes, but not what it remembers."""
        for name, network in (("actor", self.actor), ("critic", self.critic)):
            _fill(network.flat, arrays[f"{name}_flat"])
            _fill(network.target, arrays[f"{name}_flat"])


def _fill(tensor: "torch.Tensor", values: NDArray[Any]) -> None:
    import torch

    with torch.no_grad():
        tensor.copy_(torch.from_numpy(np.array(values, np.float32)))


def new_agent(seen: int, action: int, parameters: Hyperparameters, rng: np.random.Generator) -> Agent:
    """An agent that has learned nothing, for observations (S,) and actions (A,) of these sizes."""
    return Agent(
        parameters,
        _Network((seen, *parameters.hidden, action), rng),
        _Network((seen + action, *parameters.hidden, 1), rng),
        Replay(parameters.capacity, seen, action),
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
