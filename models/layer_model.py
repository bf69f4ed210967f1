"""What whole layers cost beyond what their operations add up to, learnt from layers that the profile really ran.

In a loop code and data are warm; in an inference each operation runs a few times between waits for the peer. Each
component of a party (HE apart by kernel) is corrected by

    seconds = scale x composed + cold x min(composed, cold_s) + per_layer_s,    composed = sum of operations

(of the link: for every message; of HE, the link and the client's other work also `start_s` more in an inference's first
layer, when both parties have done something else before). What the client does between operations (`other_s`) is no
operation: it is per_layer_s and start_s alone. A message right behind another of its direction over loopback finds its
receiver awake: it takes what its bytes take beyond an empty message, and nothing once. A client that waits long for
the server's HE sleeps, and wakes up late: up to `sleep_s` more a layer, in proportion to the wait up to SLEEP_S. Of
circuits, transfers and messages the first `cold_s` take longer than the rest: small ones run cold, large ones at the
speed of a loop. It is fitted to relative errors and drawn towards scale = 1 and all else = 0 by a ridge of
strength `pull`. The pull, and the quantile of what was seen that is `cold_s`, are those of `PULLS` and
`COLD` that err least on runs left out whole; infinity, no correction, is one of them, so that few layers do not make it
worse.

Over a link parties wait longer for each other, and work begins colder. What it takes there is learnt from runs over
emulated links: in the same way, drawn towards what the part takes over loopback.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import record
from autoprivacy.hwprofiles.machine_profile import MeasuredLayer, Seconds, WorkDone
from autoprivacy.models.features import Handled
from autoprivacy.protocol.plan import hidden_share

PARTS: Final = {
    "encrypt": "client_he_s",
    "decrypt": "client_he_s",
    "receive": "server_he_s",
    "receive_add_share": "server_he_s",
    "to_ntt": "server_he_s",
    "weighted_sum": "server_he_s",
    "from_ntt": "server_he_s",
    "rotate": "server_he_s",
    "swap_rows": "server_he_s",
    "add": "server_he_s",
    "respond": "server_he_s",
    "ot_send": "server_ot_s",
    "ot_receive": "client_ot_s",
    "garble": "garble_s",
    "evaluate": "evaluate_s",
    "transfer": "link_s",
    "clear_linear": "server_clear_s",
    "choose_labels": "garble_s",
    "generate_keys": "client_setup_s",
    "generate_galois_keys": "client_setup_s",
    "load_galois_keys": "server_setup_s",
    "encode": "server_setup_s",
}
"""The part of a layer's time that each operation of a plan belongs to."""

PULLS: Final = (0.01, 0.1, 1.0, 10.0, inf)
COLD: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
LINK: Final = ("link_s", "")
OTHER: Final = ("other_s", "")
"""What is corrected apart from the works of a layer."""

BEGIN_PARTS: Final = frozenset({"client_he_s", "server_he_s", LINK[0], OTHER[0]})
"""What takes longer in the first layer of an inference."""

CIRCUIT_PARTS: Final = ("client_ot_s", "server_ot_s", "garble_s", "evaluate_s")
COLD_PARTS: Final = frozenset({*CIRCUIT_PARTS, "link_s"})
"""What starts cold. A search tabulates circuits by layer and the link by message, HE by work: that must be a line."""

SLEEP_S: Final = 0.005
"""Whoever waits longer sleeps no deeper.

Messages of layers whose server computes for 20 to 160 ms took 150 to 260 us longer than the same bytes where it
computes for 2 ms at most, those between lay between. Of 3, 5, 10, 20 and 40 ms this errs least on runs left out (Zen 4
virtual machine, two full profiles).
"""

NOTHING: Final = Seconds(0.0, 0.0)
EMPTY: Final = WorkDone("transfer", 0, 0, calls=1, items=0)
"""A message of no bytes."""

LEAST_RUNS: Final = 3


def part_of(handled: Handled) -> str:
    """The part that a work belongs to; a spill is of the party that makes it.

    Raises:
        UnmodelledOperation: if it belongs to none.
    """
    if handled.operation in {"spill_write", "spill_read"}:
        return f"{handled.state}_spill_s"
    if handled.operation not in PARTS:
        raise UnmodelledOperation(f"no latency model for operation {handled.operation!r}; profile and fit again")
    return PARTS[handled.operation]


Composed = TypeVar("Composed", float, NDArray[np.float64])
AnyWork = TypeVar("AnyWork", bound=Handled)


@record
class Correction:
    """Of one part (and kernel, for HE), for the quiet and for the typical time. Of the link, a layer is a message.

    `cold_s` is of what operations add up to; `quiet_cold`, `typical_cold` say how much longer, as shares, it takes.
    `error_before`, `error_after` are mean absolute relative errors of the typical time, on runs left out.
    """

    part: str
    kernel: str
    cold_s: float
    quiet_scale: float
    quiet_cold: float
    quiet_per_layer_s: float
    quiet_start_s: float
    quiet_sleep_s: float
    typical_scale: float
    typical_cold: float
    typical_per_layer_s: float
    typical_start_s: float
    typical_sleep_s: float
    layers: int
    error_before: float
    error_after: float

    def __call__(self, composed: Seconds) -> Seconds:
        """Corrected seconds of one layer, or of one message of the link."""
        quiet = self.quiet_scale * composed.quiet_s + self.quiet_cold * min(composed.quiet_s, self.cold_s)
        quiet += self.quiet_per_layer_s
        typical = float(self.typical_s(composed.typical_s))
        return Seconds(min(quiet, typical), typical)

    @property
    def start(self) -> Seconds:
        """What the first layer of an inference takes more."""
        return Seconds(min(self.quiet_start_s, self.typical_start_s), self.typical_start_s)

    def asleep(self, waited_s: float) -> Seconds:
        """What a layer takes more whose client waits so long for the server."""
        share = min(1.0, waited_s / SLEEP_S)
        return Seconds(share * min(self.quiet_sleep_s, self.typical_sleep_s), share * self.typical_sleep_s)

    def typical_s(self, composed_s: Composed) -> Composed:
        """Corrected typical seconds, of one number or of many."""
        cold_s = np.minimum(composed_s, self.cold_s)
        found: Composed = self.typical_scale * composed_s + self.typical_cold * cold_s
        return found + self.typical_per_layer_s


_UNCHANGED: Final = (1.0, 0.0, 0.0, 0.0, 0.0)


def uncorrected(part: str, kernel: str) -> Correction:
    """The correction that changes nothing."""
    return Correction(part, kernel, 0.0, *_UNCHANGED, *_UNCHANGED, 0, 0.0, 0.0)


_NAMES: Final = ("scale", "cold", "per_layer_s", "start_s", "sleep_s")
_COEFFICIENTS: Final = tuple(f"{statistic}_{name}" for statistic in ("quiet", "typical") for name in _NAMES)


def between(near: Correction, far: Correction, share: float) -> Correction:
    """What lies so far from one to the other correction of a part, which have `cold_s` in common."""
    mixed = {name: (1 - share) * getattr(near, name) + share * getattr(far, name) for name in _COEFFICIENTS}
    return replace(far, **mixed)


@dataclass(frozen=True, slots=True)
class Observation:
    """One part of one measured layer: what its operations add up to, and what it took; `run` is left out whole.

    Of the link it is what every message that is waited for would take, what bytes of those `behind` others take, and
    for how long its client waits for the server's HE; `first` is the first layer of its run.
    """

    run: str
    composed: tuple[Seconds, ...]
    measured: Seconds
    first: bool = False
    behind: Seconds = NOTHING
    waited_s: float = 0.0


Where: TypeAlias = tuple[str, str]
"""Part and kernel."""
Compose: TypeAlias = Callable[[Handled], Seconds]


def by_part(work: Iterable[Handled]) -> dict[Where, list[Handled]]:
    """Works by part and kernel."""
    found: dict[Where, list[Handled]] = defaultdict(list)
    for each in work:
        found[part_of(each), each.kernel].append(each)
    return dict(found)


def added(work: Iterable[AnyWork], compose: Callable[[AnyWork], Seconds]) -> Seconds:
    """The sum of what works take."""
    seconds = [compose(each) for each in work]
    return Seconds(sum(each.quiet_s for each in seconds), sum(each.typical_s for each in seconds))


def apart(messages: Sequence[AnyWork]) -> tuple[list[AnyWork], list[AnyWork]]:
    """Those that are waited for, and those right behind another of their direction."""
    turns = [True, *(one.state != before.state for before, one in pairwise(messages))]
    found: tuple[list[AnyWork], list[AnyWork]] = ([], [])
    for message, turn in zip(messages, turns, strict=True):
        found[0 if turn else 1].append(message)
    return found


def beyond_empty(message: Handled, compose: Compose) -> Seconds:
    """What a message takes beyond one without bytes."""
    full, empty = compose(message), compose(EMPTY)
    return Seconds(max(0.0, full.quiet_s - empty.quiet_s), max(0.0, full.typical_s - empty.typical_s))


def waited_s(work: Iterable[AnyWork], compose: Callable[[AnyWork], Seconds]) -> float:
    """Seconds for which a layer's client waits for the server's HE."""
    return added((each for each in work if part_of(each) == "server_he_s"), compose).typical_s


def hidden_s(work: Sequence[Handled], stages: Sequence[float]) -> float:
    """Seconds that garbling, sending and evaluating (or keeping) of a layer's circuits hide of each other."""
    return hidden_share(work) * (sum(stages) - max(stages, default=0.0))


def observations(layers: Iterable[MeasuredLayer], compose: Compose) -> dict[Where, list[Observation]]:
    """What measured layers, in the order in which they ran, say by part and kernel."""
    found: dict[Where, list[Observation]] = defaultdict(list)
    begun = set[str]()
    for layer in layers:
        first = layer.run not in begun
        for where, work in by_part(layer.work).items():
            if where[0] not in layer.components:
                continue
            measured = layer.components[where[0]]
            if where == LINK:
                waited_for, followers = apart(work)
                composed = tuple(map(compose, waited_for))
                behind = added(followers, lambda each: beyond_empty(each, compose))
                waited = waited_s(layer.work, compose)
                found[where].append(Observation(layer.run, composed, measured, first, behind, waited))
            else:
                found[where].append(Observation(layer.run, (added(work, compose),), measured, first))
        if OTHER[0] in layer.components:
            found[OTHER].append(Observation(layer.run, (NOTHING,), layer.components[OTHER[0]], first))
        begun.add(layer.run)
    return dict(found)


def fit_correction(where: Where, seen: Sequence[Observation]) -> Correction:
    """The correction of one part, with the pull and the cold share that err least on runs left out."""
    composed = [item.typical_s for each in seen for item in each.composed]
    shares = COLD if where[0] in COLD_PARTS else COLD[:1]
    return _fitted(seen, uncorrected(*where), [_quantile(composed, each) for each in shares])


def fit_corrections(seen: Mapping[Where, Sequence[Observation]]) -> tuple[Correction, ...]:
    """The corrections of all parts."""
    return tuple(fit_correction(where, each) for where, each in sorted(seen.items()))


def fit_over_link(known: Sequence[Correction], seen: Mapping[Where, Sequence[Observation]]) -> tuple[Correction, ...]:
    """Those of all parts but the link over a link, drawn towards those that are known over loopback."""
    others = (each for each in known if (each.part, each.kernel) != LINK)
    return tuple(_fitted(seen.get((each.part, each.kernel), ()), each, [each.cold_s]) for each in others)


def _fitted(seen: Sequence[Observation], toward: Correction, colds: Sequence[float]) -> Correction:
    """What errs least on runs left out, of these cold seconds and of all pulls towards what is known."""
    if len({each.run for each in seen}) < LEAST_RUNS:
        return toward
    typical = {cold_s: _Rows.of(seen, toward, cold_s, "typical") for cold_s in colds}
    errors = {(pull, cold_s): error for cold_s, rows in typical.items() for pull, error in rows.left_out_errors()}
    pull, cold_s = min(errors, key=lambda each: (errors[each], -each[0], each[1]))
    quiet = _Rows.of(seen, toward, cold_s, "quiet").solved(pull)
    return Correction(
        toward.part,
        toward.kernel,
        cold_s,
        *quiet,
        *typical[cold_s].solved(pull),
        len(seen),
        errors[inf, colds[0]],
        errors[pull, cold_s],
    )


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if share else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Least squares of relative errors: `columns` (seen, 5) x (scale, cold share, constants in `unit_s`) should be 1.

    The columns are what is composed, the first `cold_s` of it, how much of it there is, whether an inference begins
    with it, and for how long its client sleeps, over what was measured. `toward` (5,) is what is known without them.
    """

    columns: NDArray[np.float64]
    toward: NDArray[np.float64]
    runs: NDArray[np.int64]
    unit_s: float

    @classmethod
    def of(cls, seen: Sequence[Observation], toward: Correction, cold_s: float, statistic: str) -> "_Rows":
        """Of the quiet or the typical times that were seen."""
        composed = [np.array([getattr(item, f"{statistic}_s") for item in each.composed]) for each in seen]
        measured = np.array([getattr(each.measured, f"{statistic}_s") for each in seen])
        columns = np.array([[items.sum(), np.minimum(items, cold_s).sum(), len(items), 0.0, 0.0] for items in composed])
        columns[:, 0] += [getattr(each.behind, f"{statistic}_s") for each in seen]
        if toward.part in BEGIN_PARTS:
            columns[:, 3] = [each.first for each in seen]
        columns[:, 4] = [min(1.0, each.waited_s / SLEEP_S) for each in seen]
        unit_s = float(np.median(measured / columns[:, 2]))
        known = [getattr(toward, f"{statistic}_{name}") for name in _NAMES]
        runs = np.unique([each.run for each in seen], return_inverse=True)[1]
        units = np.array([1, 1, unit_s, unit_s, unit_s])
        return cls(columns * units / measured[:, None], np.array(known) / units, runs, unit_s)

    def left_out_errors(self) -> Iterator[tuple[float, float]]:
        """By pull the mean absolute relative error on runs, each left out of the fit."""
        of_run = [self.columns[self.runs == run] for run in range(self.runs.max() + 1)]
        grams = np.array([rows.T @ rows for rows in of_run])
        right = np.array([rows.sum(axis=0) for rows in of_run])
        for pull in PULLS:
            found = self._drawn(grams.sum(axis=0) - grams, right.sum(axis=0) - right, pull)[self.runs]
            yield pull, float(np.abs((self.columns * found).sum(axis=1) - 1).mean())

    def solved(self, pull: float) -> tuple[float, float, float, float, float]:
        """Scale, cold share and the constants in seconds, of all that was seen."""
        scale, cold, *constants = self._drawn(self.columns.T @ self.columns, self.columns.sum(axis=0), pull).tolist()
        per_layer, start, sleep = (self.unit_s * each for each in constants)
        return scale, cold, per_layer, start, sleep

    def _drawn(self, gram: NDArray[np.float64], right: NDArray[np.float64], pull: float) -> NDArray[np.float64]:
        """What is at least 0 and minimises x gram x - 2 x right + pull |x - toward|^2, for many (..., 5) at once.

        A column that is 0 throughout, of what such rows do not have, is left as it is drawn to.
        """
        if pull == inf:
            return np.broadcast_to(self.toward, right.shape)
        used = np.diagonal(gram, axis1=-2, axis2=-1).reshape(-1, right.shape[-1]).any(axis=0)
        found = np.broadcast_to(self.toward, right.shape).copy()
        part = gram[..., used, :][..., used]
        drawn = (right + pull * self.toward)[..., used]
        found[..., used] = nonnegative_minimum(part + pull * np.eye(int(used.sum())), drawn)
        return found


def nonnegative_minimum(gram: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x >= 0 (..., k) that minimises x gram x - 2 x right, for many positive definite `gram` (..., k, k) at once.

    One of the 2^k sets of coordinates that are not 0 holds it; fits leave out hundreds of runs, and k is 5 at most.
    """
    size = right.shape[-1]
    found, least = np.zeros_like(right), np.zeros(right.shape[:-1])
    for number in range(1, 1 << size):
        chosen = [at for at in range(size) if number >> at & 1]
        part = np.linalg.solve(gram[..., chosen, :][..., chosen], right[..., chosen, None])[..., 0]
        value = -(part * right[..., chosen]).sum(axis=-1)
        better = (part >= 0).all(axis=-1) & (value < least)
        least = np.where(better, value, least)
        whole = np.zeros_like(right)
        whole[..., chosen] = part
        found = np.where(better[..., None], whole, found)
    return found
