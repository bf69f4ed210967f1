"""From a network and a deployment to the policy of least predicted latency that keeps its accuracy.

Problem A, where accuracy costs of layers add up, is solved by a method, which may be exact. Problem B, where accuracy
is what the whole network does under all choices at once, is what counts: the additive budget is then widened or
narrowed by bisection until the joint simulation's bound is just within the limit. Every policy that is promised was
simulated as a whole; that no other one is faster is proven for problem A at that budget only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from autoprivacy.agent.accuracy import AccuracyDrop, accuracy_drop, classify
from autoprivacy.agent.coupling import BASELINE_BITS, Coupling, colourings, couple
from autoprivacy.agent.he_choices import set_choices
from autoprivacy.agent.methods import exact, method
from autoprivacy.agent.methods.interface import Solution
from autoprivacy.agent.options import Choices, Option
from autoprivacy.agent.pricing import Pricing
from autoprivacy.agent.problem import UNIT, Ints, units
from autoprivacy.agent.sensitivity import Sensitivities, measure
from autoprivacy.agent.surrogate import Surrogate, steps, surrogate
from autoprivacy.common.errors import BadInput, Refused
from autoprivacy.common.progress import Progress
from autoprivacy.common.records import load, record, save
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Split, Splits
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.error_model import FAILURE_BITS
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.policy import Policy, Provenance
from autoprivacy.protocol.security import SecurityLabel

MOST_SIMULATED: Final = 10
"""Joint simulations of one search."""

FRONT_POINTS: Final = 9


@record
class Settings:
    """What a search is asked for; the same settings, seed and profiles give the same policy.

    `sensitivity_images` of the search split give the additive costs, `judged_images` judge whole policies.
    `most_priced` bounds how many policies a method may price.
    """

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
    most_priced: int = 200_000
    seed: int = 0


@record
class Point:
    """One policy: predicted seconds, the additive estimate of its drop, and the joint bound where it was simulated."""

    latency_s: float
    additive_drop: float
    drop_upper: float | None


@record
class Why:
    """Why a layer has its set, in words, and what the next cheaper one would cost."""

    layer: str
    chosen: str
    next_cheaper: str


@record
class Rung:
    """One step of the ladder of gains; None where the deployment has no price for it, or nothing keeps the limit."""

    name: str
    latency_s: float | None


@record
class Found:
    """What a search found; `proven` is about problem A (see the module)."""

    policy: Policy
    latency_s: float
    drop: AccuracyDrop
    additive_drop: float
    proven: bool
    priced: int
    simulated: int
    policies_in_space: float
    options: tuple[int, ...]
    options_reduced: tuple[int, ...]
    front: tuple[Point, ...]
    ladder: tuple[Rung, ...]
    why: tuple[Why, ...]
    unpriced: tuple[str, ...]


@record
class Simulations:
    """Joint simulations by the policy's layers, so that a search that goes on need not repeat them."""

    schema_version: Literal[1]
    network_hash: str
    images: int
    seed: int
    drops: dict[str, AccuracyDrop]


@dataclass(slots=True, eq=False)
class Search:
    """One search: everything that its steps share. `folder` keeps what took long; None keeps nothing."""

    trained: TrainedNetwork
    data: Splits
    pricing: Pricing
    settings: Settings
    progress: Progress
    version: str = "0"
    profiles: tuple[str, ...] = ()
    folder: Path | None = None
    _quantiser: Quantiser | None = field(default=None)
    _coupling: Coupling | None = field(default=None)
    _simulated: dict[str, AccuracyDrop] = field(default_factory=dict)
    _right: NDArray[np.bool_] | None = field(default=None)

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
            logits = self.trained.run(self.data.calibrate.x)
            rms = float(np.sqrt((logits.astype(np.float64) ** 2).mean()))
            widths = self.settings.weight_bits, self.settings.activation_bits
            with self.progress("reading widths", colourings(self.quantiser, *widths)) as advance:
                self._coupling = couple(self.quantiser, *widths, rms, advance)
        return self._coupling

    def choices(self) -> Choices:
        """What every layer may choose from."""
        settings = self.settings
        privacy = CircuitPrivacy.parse(settings.circuit_privacy)
        sets = set_choices(settings.packings, settings.security)
        return Choices(sets, settings.weight_bits, settings.activation_bits, privacy, settings.security)

    def surrogate(self) -> Surrogate:
        """All options, priced."""
        coupling = self.coupling
        with self.progress("pricing options", steps(coupling)) as advance:
            return surrogate(coupling, self.choices(), self.pricing, advance)

    def sensitivities(self) -> Sensitivities:
        """What layers cost alone."""
        return measure(
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

    def policy(self, tables: Surrogate, chosen: Ints, *, method_name: str) -> Policy:
        """The policy file of option numbers (layers,)."""
        made_by = Provenance(self.version, method_name, self.profiles, "total", None, None)
        return Policy(
            schema_version=1,
            network=self.trained.network.name,
            network_hash=self.trained.hash,
            circuit_privacy=self.settings.circuit_privacy,
            security=self.settings.security,
            layers=tables.policy(chosen),
            made_by=made_by,
        )

    def simulate(self, tables: Surrogate, chosen: Ints, split: Split | None = None) -> AccuracyDrop:
        """The joint drop of a policy, by default on the search split, where it is kept."""
        policy = self.policy(tables, chosen, method_name="")
        network = self.quantiser.quantise(tables.widths(chosen))
        at = repr(policy.layers)
        if split is None and not self._simulated:
            self._simulated.update(self._kept_simulations())
        if split is None and at in self._simulated:
            return self._simulated[at]
        agreement, seed, baseline = agree(network, policy), self.settings.seed, self.coupling.baseline
        if split is not None:
            return accuracy_drop(network, agreement, baseline, split, seed)
        judged = self.judged
        if self._right is None:
            self._right = classify(baseline, None, judged.x, seed) == judged.y
        found = accuracy_drop(network, agreement, baseline, judged, seed, right_before=self._right)
        self._simulated[at] = found
        if self.folder is not None:
            kept = Simulations(1, self.trained.hash, len(judged.y), seed, dict(self._simulated))
            save(kept, self.folder / "simulations.json")
        return found

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


def run(search: Search) -> Found:
    """Search, and say what was found.

    Raises:
        Refused: if no policy keeps the limit; says how close the best came.
    """
    sensitivities = search.sensitivities()
    whole = search.surrogate()

    def cost(layer: str, option: Option) -> float:
        return sensitivities.drop(search.coupling, layer, option)

    tables = whole.with_penalties(cost)
    best, drop, simulated = choose(search, tables)
    reduced, _ = tables.problem.reduced()
    return Found(
        policy=_promising(search.policy(tables, best.policy, method_name=search.settings.method), best, drop),
        latency_s=best.latency_s,
        drop=drop,
        additive_drop=best.penalty * UNIT,
        proven=best.proven,
        priced=best.priced,
        simulated=simulated,
        policies_in_space=float(tables.problem.size),
        options=tuple(map(len, whole.options)),
        options_reduced=tuple(layer.size for layer in reduced.layers),
        front=_front(search, tables, best),
        ladder=tuple(_ladder(whole, cost, best, search)),
        why=tuple(_why(tables, best)),
        unpriced=whole.unpriced,
    )


def choose(search: Search, tables: Surrogate) -> tuple[Solution, AccuracyDrop, int]:
    """The best policy that was simulated as a whole, its drop, and how many were.

    Raises:
        Refused: if no simulated policy keeps the limit.
    """
    settings = search.settings
    if settings.latency_budget_s is not None:
        found = exact.most_accurate(tables.problem, settings.latency_budget_s)
        with search.progress("simulating", 1) as advance:
            drop = search.simulate(tables, found.policy)
            advance()
        return found, drop, 1
    limit = settings.max_accuracy_drop
    low, budget, high = -1, units(limit), None
    best: tuple[Solution, AccuracyDrop] | None = None
    closest, tried = 1.0, 0
    with search.progress("simulating", MOST_SIMULATED) as advance:
        while tried < MOST_SIMULATED and budget > low and (high is None or budget < high):
            solution = solved(search, tables, budget)
            advance()
            tried += 1
            if solution is None:
                low = budget
            else:
                drop = search.simulate(tables, solution.policy)
                closest = min(closest, drop.upper)
                if drop.upper <= limit:
                    low = budget
                    if best is None or solution.latency_s < best[0].latency_s:
                        best = solution, drop
                else:
                    high = budget
            budget = 2 * budget + 1 if high is None else (max(low, 0) + high) // 2
            if high is not None and high - max(low, 0) <= max(1, high // 20):
                break
    if best is None:
        raise Refused(
            f"no policy was found that keeps the accuracy drop below {limit:.2%} with confidence; the best bound of "
            f"{tried} simulated ones is {np.ceil(closest * 1e4) / 1e4:.2%}: allow that much with --max-accuracy-drop"
        )
    return *best, tried


def solved(search: Search, tables: Surrogate, budget: int, name: str | None = None) -> Solution | None:
    """What a method finds within a budget, by default the method that the search was asked for."""
    settings = search.settings
    rng = np.random.default_rng(settings.seed)
    try:
        return method(name or settings.method)(tables.problem, budget, rng, settings.most_priced)
    except Refused:
        return None


def _promising(policy: Policy, best: Solution, drop: AccuracyDrop) -> Policy:
    made_by = replace(policy.made_by, predicted_latency_s=best.latency_s, accuracy_drop_upper=max(0.0, drop.upper))
    return replace(policy, made_by=made_by)


def _front(search: Search, tables: Surrogate, best: Solution) -> tuple[Point, ...]:
    """Latency against the additive drop, exact at each of its budgets, and the joint bound where it is known."""
    most = max(2 * best.penalty, units(2 * search.settings.max_accuracy_drop), 8)
    found: dict[tuple[int, ...], Solution] = {}
    budgets = np.unique(np.geomspace(1, most, FRONT_POINTS - 1).astype(np.int64)).tolist()
    for budget in (*budgets, best.penalty, 0):
        solution = solved(search, tables, int(budget), "exact")
        if solution is not None:
            found[tuple(solution.policy.tolist())] = solution
    points = []
    least = np.inf
    for solution in sorted(found.values(), key=lambda each: (each.penalty, each.latency_s)):
        if solution.latency_s < least:
            least = solution.latency_s
            known = search._simulated.get(repr(tables.policy(solution.policy)))  # noqa: SLF001 - its own module
            points.append(Point(solution.latency_s, solution.penalty * UNIT, None if known is None else known.upper))
    return tuple(points)


def _ladder(whole: Surrogate, cost: Callable[[str, Option], float], best: Solution, search: Search) -> Iterator[Rung]:
    """What each freedom is worth, at the additive budget of what was found."""
    budget = max(best.penalty, 0)

    def wide(layer: str, option: Option) -> bool:  # noqa: ARG001 - one signature for all filters
        return option.chosen.weight_bits == option.chosen.activation_bits == BASELINE_BITS

    ruled_bits = FAILURE_BITS + np.log2(len(whole.coupling.layers))

    def ruled(layer: str, option: Option) -> bool:
        return wide(layer, option) and option.noise_bits >= ruled_bits

    rungs = (
        ("best uniform set at 2^-40, 8 bits", ruled, "uniform"),
        ("best uniform set with tolerated errors, 8 bits", wide, "uniform"),
        ("best uniform set with tolerated errors and widths", lambda *_: True, "uniform"),
        ("per layer at 2^-40, 8 bits", ruled, "exact"),
        ("per layer with tolerated errors, 8 bits", wide, "exact"),
    )
    for name, wanted, with_method in rungs:
        try:
            found = solved(search, whole.only(wanted).with_penalties(cost), budget, with_method)
        except Refused:
            found = None
        yield Rung(name, None if found is None else found.latency_s)
    yield Rung("per layer with tolerated errors and widths", best.latency_s)


def _why(tables: Surrogate, best: Solution) -> Iterator[Why]:
    for index, name in enumerate(tables.coupling.layers):
        options, number = tables.options[index], int(best.policy[index])
        changed = np.repeat(best.policy[None], len(options), axis=0)
        changed[:, index] = np.arange(len(options))
        seconds, penalty = tables.problem.latency(changed), tables.problem.penalty(changed)
        cheaper = np.flatnonzero(seconds < best.latency_s * (1 - 1e-12))
        said = "none is cheaper while the other layers stay as they are"
        if len(cheaper):
            at = int(cheaper[np.lexsort((seconds[cheaper], penalty[cheaper]))[0]])
            saved, cost = best.latency_s - seconds[at], (int(penalty[at]) - best.penalty) * UNIT
            said = f"{described(options[at])} saves {1000 * saved:.3f} ms, and costs {100 * cost:.3f} points more"
        yield Why(name, described(options[number]), said)


def described(option: Option) -> str:
    """An option in words."""
    chosen = option.chosen
    error = f"error {option.error:.2g} steps" if option.error else "error-free"
    dropped = f", drops {chosen.response.dropped_c0} and {chosen.response.dropped_c1} bits"
    some = dropped if chosen.response.dropped_c0 or chosen.response.dropped_c1 else ""
    return (
        f"{option.set_choice}, t of {option.t_bits} bits, {chosen.weight_bits}-bit weights, "
        f"{chosen.activation_bits}-bit activations{some}, {error}"
    )


def check(settings: Settings) -> None:
    """Refuse settings that make no sense.

    Raises:
        BadInput: naming the setting.
    """
    method(settings.method)
    CircuitPrivacy.parse(settings.circuit_privacy)
    for bits in (*settings.weight_bits, *settings.activation_bits):
        if not 2 <= bits <= BASELINE_BITS:
            raise BadInput(f"widths of {bits} bits: give 2 to {BASELINE_BITS}")
    if settings.method == "enumeration":
        raise BadInput("enumeration is for tests of small problems; use the method `exact`")
