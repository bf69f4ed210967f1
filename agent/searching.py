"""One search: what it was asked for, and everything that its steps share; what took long is kept in a folder."""

import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoprivacy.agent.accuracy import AccuracyDrop, accuracy_drop, classify
from autoprivacy.agent.coupling import BASELINE_BITS, Coupling, colourings, couple
from autoprivacy.agent.he_choices import set_choices
from autoprivacy.agent.methods import CALLS, MOST_CALLS, ddpg, dual_method, exact, method
from autoprivacy.agent.methods.interface import DualMethod, Method, Solution
from autoprivacy.agent.options import Choices
from autoprivacy.agent.pricing import Pricing
from autoprivacy.agent.problem import Ints, Layer, Problem
from autoprivacy.agent.sensitivity import Sensitivities, measure
from autoprivacy.agent.surrogate import Surrogate, steps, surrogate
from autoprivacy.common.errors import BadInput, Refused
from autoprivacy.common.progress import Progress
from autoprivacy.common.records import load, record, save
from autoprivacy.models.comparison import Objective
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Split, Splits
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.conversation import Schedule
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.policy import Policy, Provenance
from autoprivacy.protocol.security import SecurityLabel

LOGITS_FROM: Final = 250
"""The root mean square of logits is that of so many images: it only says what is small."""

M = TypeVar("M", Method, DualMethod)


@record
class Settings:
    """What a search is asked for; the same settings, seed and profiles give the same policy.

    `sensitivity_images` of the search split give the additive costs, `judged_images` judge whole policies.
    `most_priced` bounds how many policies a method may price; None is the method's own bound (`methods.CALLS`).
    """

    objective: Objective = "total"
    max_accuracy_drop: float = 0.005
    latency_budget_s: float | None = None
    method: str = "exact"
    circuit_privacy: str = "uniform"
    security: SecurityLabel = "he2024"
    packings: tuple[Packing, ...] = ("coefficients", "slots")
    weight_bits: tuple[int, ...] = (4, 5, 6, 8)
    activation_bits: tuple[int, ...] = (4, 5, 6, 8)
    sensitivity_images: int = 1000
    judged_images: int = 5000
    most_priced: int | None = None
    seed: int = 0


@record
class Simulations:
    """Joint simulations by circuit privacy and layers, so that a search that goes on need not repeat them."""

    schema_version: Literal[1]
    network_hash: str
    images: int
    seed: int
    drops: dict[str, AccuracyDrop]


@dataclass(slots=True)
class Spent:
    """What a method did in all its runs: policies priced, seconds in all, and seconds of pricing."""

    priced: int = 0
    seconds: float = 0.0
    pricing_s: float = 0.0


@dataclass(slots=True, eq=False)
class Search:
    """One search: everything that its steps share. `folder` keeps what took long; None keeps nothing.

    `agents` is the folder of a search on another deployment, whose agents those of this one begin as.
    """

    trained: TrainedNetwork
    data: Splits
    pricing: Pricing
    settings: Settings
    progress: Progress
    version: str = "0"
    profiles: tuple[str, ...] = ()
    folder: Path | None = None
    agents: Path | None = None
    _quantiser: Quantiser | None = field(default=None)
    _coupling: Coupling | None = field(default=None)
    _whole: Surrogate | None = field(default=None)
    _tables: Surrogate | None = field(default=None)
    _sensitivities: Sensitivities | None = field(default=None)
    _simulated: dict[str, AccuracyDrop] = field(default_factory=dict)
    _spent: dict[str, Spent] = field(default_factory=dict)
    _right: NDArray[np.bool_] | None = field(default=None)

    def under(self, circuit_privacy: str, pricing: Pricing | None = None) -> Self:
        """The same search under another circuit privacy, or at other prices; what these do not decide is shared."""
        other = replace(
            self,
            settings=replace(self.settings, circuit_privacy=circuit_privacy),
            pricing=pricing or self.pricing,
            _whole=None,
            _tables=None,
        )
        other._sensitivities = self.sensitivities()  # noqa: SLF001 - its own class
        return other

    @property
    def quantiser(self) -> Quantiser:
        """Quantises at any widths."""
        if self._quantiser is None:
            self._quantiser = Quantiser(self.trained, self.data.calibrate.x)
        return self._quantiser

    @property
    def coupling(self) -> Coupling:
        """The graph's coupling, at all widths of the space."""
        if self._coupling is None:
            logits = self.trained.run(self.data.calibrate.x[:LOGITS_FROM])
            rms = float(np.sqrt((logits.astype(np.float64) ** 2).mean()))
            widths = self.settings.weight_bits, self.settings.activation_bits
            with self.progress("reading widths", colourings(self.quantiser, *widths)) as advance:
                self._coupling = couple(self.quantiser, *widths, rms, advance)
        return self._coupling

    @property
    def schedule(self) -> Schedule:
        """The schedule whose seconds are made least: with the objective `online`, what `preprocessed` leaves online."""
        return "online" if self.settings.objective == "total" else "preprocessed"

    def choices(self) -> Choices:
        """What every layer may choose from."""
        settings = self.settings
        privacy = CircuitPrivacy.parse(settings.circuit_privacy)
        sets = set_choices(settings.packings, settings.security)
        return Choices(sets, settings.weight_bits, settings.activation_bits, privacy, settings.security)

    def surrogate(self) -> Surrogate:
        """All options, priced."""
        if self._whole is None:
            coupling = self.coupling
            with self.progress("pricing options", steps(coupling)) as advance:
                self._whole = surrogate(coupling, self.choices(), self.pricing, advance)
        return self._whole

    def sensitivities(self) -> Sensitivities:
        """What layers cost alone."""
        if self._sensitivities is None:
            self._sensitivities = measure(
                self.coupling,
                self.quantiser,
                self.data.search,
                self.settings.weight_bits,
                self.settings.activation_bits,
                images=self.settings.sensitivity_images,
                seed=self.settings.seed,
                progress=self.progress,
                file=None if self.folder is None else self.folder / "sensitivities.json",
            )
        return self._sensitivities

    def tables(self) -> Surrogate:
        """The options that are worth looking at, priced, with what they cost in accuracy."""
        if self._tables is None:
            self._tables = self.with_costs(self.surrogate())
        return self._tables

    def with_costs(self, priced: Surrogate) -> Surrogate:
        """Some priced options, with what they cost in accuracy."""
        return priced.with_penalties(partial(self.sensitivities().costs().drop, self.coupling))

    def policy(self, tables: Surrogate, chosen: Ints, *, method_name: str) -> Policy:
        """The policy file of option numbers (layers,)."""
        made_by = Provenance(self.version, method_name, self.profiles, self.settings.objective, None, None)
        return Policy(
            schema_version=1,
            network=self.trained.network.name,
            network_hash=self.trained.hash,
            circuit_privacy=self.settings.circuit_privacy,
            security=self.settings.security,
            layers=tables.policy(chosen),
            made_by=made_by,
        )

    def simulate(self, policy: Policy) -> AccuracyDrop:
        """The joint drop of a policy on the search split, where it is kept."""
        known = self.simulated(policy)
        if known is not None:
            return known
        network = self.quantiser.quantise(policy.widths())
        seed, baseline, judged = self.settings.seed, self.coupling.baseline, self.judged
        if self._right is None:
            self._right = classify(baseline, None, judged.x, seed) == judged.y
        found = accuracy_drop(network, agree(network, policy), baseline, judged, seed, right_before=self._right)
        self._simulated[_kept_as(policy)] = found
        if self.folder is not None:
            kept = Simulations(1, self.trained.hash, len(judged.y), seed, dict(self._simulated))
            save(kept, self.folder / "simulations.json")
        return found

    def simulated(self, policy: Policy) -> AccuracyDrop | None:
        """The joint drop of a policy if it is known."""
        if not self._simulated:
            self._simulated.update(self._kept_simulations())
        return self._simulated.get(_kept_as(policy))

    def spent(self, name: str) -> Spent:
        """What a method spent so far."""
        return self._spent.setdefault(name, Spent())

    @property
    def judged(self) -> Split:
        """The images that whole policies are judged on."""
        whole, count = self.data.search, self.settings.judged_images
        return whole if count >= len(whole.y) else replace(whole, pixels=whole.pixels[:count], y=whole.y[:count])

    def _kept_simulations(self) -> dict[str, AccuracyDrop]:
        file = None if self.folder is None else self.folder / "simulations.json"
        if file is None or not file.exists():
            return {}
        kept = load(Simulations, file)
        same = (kept.network_hash, kept.images, kept.seed) == (
            self.trained.hash,
            len(self.judged.y),
            self.settings.seed,
        )
        return dict(kept.drops) if same else {}


def _kept_as(policy: Policy) -> str:
    """What decides a joint drop."""
    return f"{policy.circuit_privacy} {policy.layers}"


def solved(search: Search, tables: Surrogate, budget: int, name: str | None = None) -> Solution | None:
    """What a method finds within a budget, by default the method that the search was asked for."""
    settings = search.settings
    name = name or settings.method
    calls = settings.most_priced or CALLS.get(name, MOST_CALLS)
    start = time.perf_counter()
    try:
        found_by = _keeping(search, method(name), str(budget))
        found = found_by(tables.problem, budget, np.random.default_rng(settings.seed), calls)
    except Refused:
        return None
    _count(search.spent(name), found, start)
    return settled(search, tables, found, budget)


def settled(search: Search, tables: Surrogate, found: Solution, budget: int) -> Solution:
    """A policy with all that its objective leaves open chosen too.

    The objective `online` leaves HE sets open: of the policies that are the same online, it is the one within the
    budget that takes the fewest seconds ahead of the input.
    """
    if search.settings.objective == "total":
        return found
    kept = tables.same_outside(found.policy)
    layers = []
    for layer, options, own in zip(tables.problem.layers, tables.options, kept, strict=True):
        seconds = np.array([options[number].seconds for number in own.tolist()])
        layers.append(Layer(layer.name, seconds, layer.penalty[own], layer.family[own]))
    ahead = exact.solve(Problem(tuple(layers)), budget, np.random.default_rng(0), 0)
    policy = np.array([own[at] for own, at in zip(kept, ahead.policy, strict=True)], np.int64)
    return replace(found, policy=policy, penalty=int(tables.problem.penalty(policy[None])[0]))


def most_accurate(search: Search, tables: Surrogate, latency_budget_s: float) -> Solution:
    """What the method that was asked for finds within a latency.

    Raises:
        Refused: if it finds no policy so fast.
    """
    settings = search.settings
    calls = settings.most_priced or CALLS.get(settings.method, MOST_CALLS)
    found_by = _keeping(search, dual_method(settings.method), f"{latency_budget_s:g}s")
    start = time.perf_counter()
    found = found_by(tables.problem, latency_budget_s, np.random.default_rng(settings.seed), calls)
    _count(search.spent(settings.method), found, start)
    return settled(search, tables, found, found.penalty)


def _count(spent: Spent, found: Solution, start: float) -> None:
    spent.priced += found.priced
    spent.seconds += time.perf_counter() - start
    spent.pricing_s += found.pricing_s


def _keeping(search: Search, found_by: M, limit: str) -> M:
    """A method; the agent keeps its state in the run folder, one file for each limit."""
    if search.folder is None or found_by not in {ddpg.solve, ddpg.most_accurate}:
        return found_by
    name = f"agent-{limit}.npz"
    other = None if search.agents is None else search.agents / name
    begin_as = other if other is not None and other.exists() else None
    return partial(found_by, file=search.folder / name, begin_as=begin_as)  # type: ignore[call-arg]


def check(settings: Settings) -> None:
    """Refuse settings that make no sense.

    Raises:
        BadInput: naming the setting.
    """
    method(settings.method)
    if settings.latency_budget_s is not None:
        dual_method(settings.method)
    CircuitPrivacy.parse(settings.circuit_privacy)
    for bits in (*settings.weight_bits, *settings.activation_bits):
        if not 2 <= bits <= BASELINE_BITS:
            raise BadInput(f"widths of {bits} bits: give 2 to {BASELINE_BITS}")
    if settings.method == "enumeration":
        raise BadInput("enumeration is for tests of small problems; use the method `exact`")
