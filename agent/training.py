"""Episodes of an agent, or of random actions, in an environment: they go on where they were interrupted.

The generator, the agent and the curve are one file of arrays, written every few seconds between episodes; what comes
after is the same whether a run was interrupted or not.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from autoprivacy.agent.ddpg import Agent, Hyperparameters, Taken, new_agent, one_thread
from autoprivacy.agent.environment import Environment
from autoprivacy.agent.problem import Ints
from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import parse, record, to_json
from autoprivacy.networks.npz import read_npz, write_npz

SAVED_EVERY_S: Final = 5.0
STATE_FILE: Final = "agent.npz"


@record
class _Meta:
    schema_version: Literal[2]
    made_from: str
    episodes: int
    generator: str


@dataclass(slots=True, eq=False)
class Training:
    """One run: `policies` (episodes, layers) and their `costs`, in the order in which they were tried."""

    environment: Environment
    agent: Agent
    rng: np.random.Generator
    most: int
    began: str
    transferred: bool = False
    costs: list[float] = field(default_factory=list)
    policies: list[Ints] = field(default_factory=list)
    pricing_s: float = 0.0

    @property
    def best(self) -> Ints | None:
        """The policy of least cost, the first of equals."""
        at = int(np.argmin(self.costs)) if self.costs else 0
        return self.policies[at] if self.costs and np.isfinite(self.costs[at]) else None

    @property
    def best_cost(self) -> float:
        """Its cost."""
        return min(self.costs, default=np.inf)

    def run(self, file: Path | None = None, *, stop_after: int | None = None) -> None:
        """Episodes until `most` are tried, or `stop_after` of them; kept in `file`, from which it goes on.

        Raises:
            BadInput: if the file is damaged or of another run.
        """
        if file is not None:
            self._read(file)
        saved = time.monotonic()
        with one_thread():
            while len(self.costs) < min(self.most, stop_after or self.most):
                self._episodes()
                if file is not None and time.monotonic() - saved > SAVED_EVERY_S:
                    self._write(file)
                    saved = time.monotonic()
        if file is not None:
            self._write(file)

    def _episodes(self) -> None:
        """A few episodes side by side, then updates; some stay random, so that no first impression is final."""
        own, environment = self.agent.parameters, self.environment
        done = len(self.costs)
        count = min(own.episodes_at_once, self.most - done)
        warm = 0.0 if self.transferred else own.warmup_share * self.most
        first = own.transferred_noise if self.transferred else own.first_noise
        deviation = first * (own.last_noise / first) ** ((done - warm) / max(1.0, self.most - warm))
        walk = environment.start(count)
        seen = environment.observe(walk)
        steps = []
        while walk.layer < environment.layers:
            offer = environment.offer(walk)
            if done < warm:
                action = self.rng.random((count, environment.action_size))
            else:
                action = self.agent.choose(seen, offer, deviation, self.rng)
                lost = min(own.random_at_once, count - 1)
                action[:lost] = self.rng.random((lost, environment.action_size))
            if done == 0:
                action[0] = 0.0  # the first policy spends least: there is always one
            step = environment.step(walk, action)
            after = environment.observe(walk)
            steps.append(Taken(seen, step.action, step.reward, after, offer))
            seen = after
        self.agent.replay.add(steps)
        policies = environment.policies(walk)
        self.policies += list(policies)
        start = time.perf_counter()
        self.costs += environment.costs(policies).tolist()
        self.pricing_s += time.perf_counter() - start
        if done + count >= warm:
            for _ in range(max(1, round(own.updates_per_step * count * environment.layers))):
                self.agent.learn(self.rng)

    def _identity(self) -> str:
        environment = self.environment
        digest = hashlib.sha256()
        for layer in environment.problem.layers:
            for part in (layer.seconds, layer.penalty, layer.traits):
                digest.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
            digest.update(repr((layer.name, layer.facts)).encode())
        for term in environment.problem.terms:
            digest.update(repr(term.layers).encode())
            for array in (*term.attributes, term.table):
                digest.update(np.ascontiguousarray(array).tobytes())
        said = environment.limit, self.most, environment.problem.deployment, self.began, self.transferred
        return hashlib.sha256(digest.digest() + repr(said).encode() + to_json(self._parameters).encode()).hexdigest()

    @property
    def _parameters(self) -> Hyperparameters:
        return self.agent.parameters

    def _write(self, file: Path) -> None:
        meta = _Meta(2, self._identity(), len(self.costs), json.dumps(self.rng.bit_generator.state))
        arrays: dict[str, NDArray[Any]] = self.agent.arrays()
        arrays |= {"costs": np.array(self.costs), "policies": np.array(self.policies, np.int64)}
        arrays |= {"meta": np.frombuffer(to_json(meta, indent=None).encode(), np.uint8)}
        write_npz(file, arrays)

    def _read(self, file: Path) -> None:
        if not file.exists():
            return
        names = (*self.agent.arrays(), "costs", "policies", "meta")
        arrays = read_npz(file, names, _any_shape)
        if set(names) != set(arrays):
            raise BadInput(f"{file}: not the state of an agent; remove it to begin anew")
        meta = parse(_Meta, arrays["meta"].tobytes(), source=str(file))
        if meta.made_from != self._identity():
            raise BadInput(
                f"{file}: was left by a search with other profiles, limits or settings; "
                "search with those again, or choose another run folder"
            )
        self.agent.restore(arrays)
        self.rng.bit_generator.state = json.loads(meta.generator)
        self.costs, self.policies = arrays["costs"].tolist(), list(arrays["policies"])


def networks_of(file: Path) -> dict[str, NDArray[Any]]:
    """The networks of an agent that a run left.

    Raises:
        BadInput: if the file holds none.
    """
    names = ("actor_flat", "critic_flat")
    arrays = read_npz(file, names, _any_shape)
    if set(arrays) != set(names):
        raise BadInput(f"{file}: not the state of an agent")
    return arrays


def _any_shape(name: str, kind: "np.dtype[Any]", shape: tuple[int, ...]) -> None:
    """Our own files: what they hold is compared with the run."""


def trained(
    environment: Environment,
    rng: np.random.Generator,
    most: int,
    *,
    parameters: Hyperparameters | None = None,
    file: Path | None = None,
    begin_as: Mapping[str, NDArray[Any]] | None = None,
    stop_after: int | None = None,
) -> Training:
    """A run of `most` episodes; the agent begins with the networks of another one (its arrays), or knows nothing."""
    began = json.dumps(rng.bit_generator.state)
    with one_thread():
        agent = new_agent(environment.observation_size, environment.traits, parameters or Hyperparameters(), rng)
        if begin_as is not None:
            agent.begin_as(begin_as)
        made = Training(environment, agent, rng, most, began, begin_as is not None)
        made.run(file, stop_after=stop_after)
    return made
