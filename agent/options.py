"""The options of one layer: every choice of its policy, with its seconds and the error that decryption then makes.

| symbol | meaning |
|---|---|
| w, a, t | weight bits, activation bits, plaintext modulus |
| delta | noise of a response in units of the plaintext |
| error | deviation of the integer error (root mean square over channels), in steps of what comes out at 8 bits |
| d0, d1 | bits that a response drops |

t is the least that holds the accumulators for all widths of other layers. How far a decryption error is tolerated
is not chosen as such: every modulus, tile and number of dropped bits makes an error of its own, and of options with one
(w, a, t) and one HE set, those are left that no other one beats in seconds and error alike.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log2, prod
from typing import Final, TypeAlias

import numpy as np

from autoprivacy.agent.circuit_work import transfer
from autoprivacy.agent.coupling import BASELINE_BITS, Coupling
from autoprivacy.agent.he_choices import SetChoice
from autoprivacy.agent.pricing import Pricing
from autoprivacy.agent.problem import Floats, Ints
from autoprivacy.common.errors import InvalidPolicy, UnmodelledOperation
from autoprivacy.networks.graph import INPUT
from autoprivacy.protocol.agreement import AgreedLayer
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.error_law import NoiseLaw
from autoprivacy.protocol.error_model import FAILURE_BITS, bound_to_flood, expected_error
from autoprivacy.protocol.error_noise import Setting, noise_parts
from autoprivacy.protocol.error_norms import coefficient_norms
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_layer import AnyTile, layout_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.named_sets import fewest_limbs
from autoprivacy.protocol.packing import CoefficientLayout
from autoprivacy.protocol.plan import Work, plan_layer
from autoprivacy.protocol.policy import LayerPolicy
from autoprivacy.protocol.security import SecurityLabel
from autoprivacy.protocol.transport import HEADER_BYTES
from autoprivacy.protocol.wire import Response, response_bytes

DROPPED_DELTAS: Final = (
    None,
    *(2.0**bits for bits in (-56, -48, -40, -32, -24, -18, -14, -11, -8, -6, -5, -4, -3, -2, -1)),
)
"""What dropped bits may add to delta's deviation, each of c0 and c1; None drops nothing."""

MOST_ERROR: Final = 32.0
"""Errors beyond so many steps are not considered."""

MOST_BITS: Final = 1e6
"""Probabilities below 2 to the power of minus this count as this."""

LEAST_SLOT_BITS: Final = 10.0
"""With `slots` an inference may fail once in 2 to the power of this; accuracy pays for it."""

SLOT_TILES: Final = 2
"""So many tiles of packing `slots` are considered a set: the quickest ones. They hardly differ in noise."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a space lets a layer choose from."""

    sets: tuple[SetChoice, ...]
    weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    privacy: CircuitPrivacy
    security: SecurityLabel


@dataclass(frozen=True, slots=True)
class Option:
    """One policy of one layer, its seconds of HE (those ahead of the input, for the objective `online`) and its error.

    `noise_bits` is -log2 of how often noise passes half of q / t anywhere in an inference: the usual rule asks for
    40. What rounding of shares adds under `uniform` is in `error`. `spoiled` is how often an inference fails with
    `slots`.
    """

    chosen: LayerPolicy
    set_choice: SetChoice
    t_bits: int
    seconds: float
    error: float
    noise_bits: float
    spoiled: float = 0.0


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What the options of a layer depend on."""

    name: str
    shape: LinearShape
    alone: bool
    t_bits: dict[tuple[int, int], tuple[int, ...]]


def layer_facts(coupling: Coupling, choices: Choices, shape: LinearShape, name: str) -> LayerFacts:
    """The bits that t may have by (w, a): one where the layer meets no other."""
    meets = next(meets for meets in coupling.meetings if name in meets.layers)
    at = meets.scope.layers.index(name)
    own = len(meets.scope.layers) + meets.scope.origins.index(coupling.origin_of[name])
    deciding = range(len(meets.scope.layers) + len({coupling.origin_of[layer] for layer in meets.layers}))
    worst: dict[tuple[int, ...], int] = {}
    for key, bits in coupling.least_bits[meets.layers].items():
        if not _within(key, len(meets.scope.layers), choices):
            continue
        met = (*(key[index] for index in deciding), key[own])
        worst[met] = max(worst.get(met, 0), bits)
    found: dict[tuple[int, int], set[int]] = {}
    for met, bits in worst.items():
        found.setdefault((met[at], met[-1]), set()).add(bits)
    return LayerFacts(
        name, shape, coupling.origin_of[name] == INPUT, {key: tuple(sorted(bits)) for key, bits in found.items()}
    )


def _within(key: tuple[int, ...], layers: int, choices: Choices) -> bool:
    weights, activations = {*choices.weight_bits}, {*choices.activation_bits}
    return weights.issuperset(key[:layers]) and activations.issuperset(key[layers:])


def least_t_bits(coupling: Coupling, choices: Choices, layers: tuple[str, ...]) -> dict[tuple[int, ...], int]:
    """By (w of each layer that meets, then a of each) the bits of t that hold the sum for all other widths."""
    meets = next(meets for meets in coupling.meetings if meets.layers == layers)
    count = len(layers)
    places = [count + meets.scope.origins.index(coupling.origin_of[layer]) for layer in layers]
    found: dict[tuple[int, ...], int] = {}
    for key, bits in coupling.least_bits[layers].items():
        if _within(key, count, choices):
            met = (*key[:count], *(key[place] for place in places))
            found[met] = max(found.get(met, 0), bits)
    return found


def layer_options(
    facts: LayerFacts, coupling: Coupling, choices: Choices, pricing: Pricing, layers: int
) -> tuple[list[Option], set[str]]:
    """The options of a layer, and why some sets have none (what could not be priced).

    `layers` is how many the network has: error-free options fail less than 2^-40 all together.
    """
    maker = _Maker(facts, coupling, choices, pricing, layers)
    found: list[Option] = []
    for set_choice in choices.sets:
        try:
            for (w, a), bits in sorted(facts.t_bits.items()):
                for each in bits:
                    found += maker.options(set_choice, w, a, each)
        except UnmodelledOperation as error:
            maker.unpriced.add(f"{set_choice}: {error}")
    return found, maker.unpriced


@dataclass(frozen=True, slots=True, eq=False)
class _Tiles:
    """Tiles of one set and weight width, and their noise."""

    tiles: tuple[AnyTile, ...]
    variance: Floats  # (tiles, M) of e
    flooding: Floats  # (tiles,) half-width
    bounds: tuple[int, ...]  # of noise, to flood


class _Maker:
    def __init__(self, facts: LayerFacts, coupling: Coupling, choices: Choices, pricing: Pricing, layers: int) -> None:
        self._facts, self._coupling, self._choices, self._pricing = facts, coupling, choices, pricing
        self._failure_bits = FAILURE_BITS + log2(layers)
        self._tiles: dict[tuple[SetChoice, int, int], _Tiles] = {}
        self._priced: dict[LayerPolicy, list[float]] = {}
        self._slots: dict[tuple[SetChoice, int, int], list[AnyTile]] = {}
        self._failures: dict[LayerPolicy, float] = {}
        self.unpriced: set[str] = set()

    def options(self, set_choice: SetChoice, w: int, a: int, t_bits: int) -> Iterator[Option]:
        """The options of one set at one (w, a, t)."""
        t = set_choice.t(t_bits)
        try:
            he_set = set_choice.he_set(t, self._choices.security)
        except InvalidPolicy:
            return
        if set_choice.packing == "slots":
            yield from self._slot_options(set_choice, w, a, t_bits)
            return
        limbs = 1 if self._choices.privacy.kind == "uniform" else fewest_limbs(he_set).limbs
        kept_q = prod(he_set.limbs[:limbs])
        if 4 * t > kept_q:
            return
        tiles = self._coefficient_tiles(set_choice, w, limbs)
        unit = float((self._coupling.units[self._facts.name, w, a] ** 2).mean()) ** 0.5
        responses = _responses(kept_q / t, set_choice, limbs)
        scale = t / kept_q
        added = np.array([_dropping(each, set_choice.n) for each in responses]) * scale**2
        fitting = [i for i, bound in enumerate(tiles.bounds) if self._fits(he_set, Response(limbs=limbs), bound)]
        if not fitting:
            return
        variance = tiles.variance[fitting] * scale**2
        deviation = np.sqrt(variance.mean(axis=1)[:, None] + added)
        worst = np.sqrt(variance.max(axis=1)[:, None] + added)
        seconds = np.array(
            [
                self._seconds(
                    LayerPolicy("coefficients", set_choice.n, he_set.limbs, t, tiles.tiles[i], w, a), responses
                )
                for i in fitting
            ]
        )
        kept = _improving(seconds.ravel(), deviation.ravel(), worst.ravel())
        tile, response = np.divmod(kept, len(responses))
        flooding = tiles.flooding[fitting][tile] * scale
        shared = self._choices.privacy.kind == "uniform"
        errors = _by_flooding(deviation.ravel()[kept], flooding, shared)[0] * unit
        outputs = log2(self._facts.shape.output_values)
        _, failing, tails = _by_flooding(worst.ravel()[kept], flooding, shared)
        errors = np.where(failing - outputs >= self._failure_bits, 0.0, errors)
        least = np.inf
        for at, error in enumerate(errors.tolist()):
            if error > MOST_ERROR or error >= least:
                continue
            least = error
            policy = LayerPolicy(
                "coefficients",
                set_choice.n,
                he_set.limbs,
                t,
                tiles.tiles[fitting[tile[at]]],
                w,
                a,
                None,
                responses[response[at]],
            )
            yield Option(
                policy, set_choice, t_bits, float(seconds.ravel()[kept[at]]), error, float(tails[at]) - outputs
            )

    def _fits(self, he_set: HeSet, response: Response, bound: int) -> bool:
        """Whether circuit privacy has room over noise of this bound."""
        try:
            self._choices.privacy.check(he_set, response, bound)
        except InvalidPolicy:
            return False
        return True

    def _seconds(self, policy: LayerPolicy, responses: tuple[Response, ...]) -> list[float]:
        """Seconds of the layer's HE, its messages included, with each response; activation bits change nothing."""
        at = replace(policy, activation_bits=2)
        if at not in self._priced:
            self._priced[at] = self._price(policy, responses)
        return self._priced[at]

    def _price(self, policy: LayerPolicy, responses: tuple[Response, ...]) -> list[float]:
        layer = AgreedLayer(self._facts.name, "", self._facts.shape, replace(policy, response=responses[0]))
        layout = layer.layout
        weight = self._coupling.weights[self._facts.name, policy.weight_bits]
        kind = self._choices.privacy.kind
        # Ahead of the input, in schedule `preprocessed`, all that is encrypted is the client's share alone.
        alone = self._facts.alone or self._pricing.objective == "online"
        work = plan_layer(layer, alone=alone, nonzero=layout.nonzero(weight), privacy=kind).work
        other = [each for each in work if not _answers(each)]
        first = self._facts.name == self._coupling.layers[0]
        fixed = self._pricing.seconds(other) + self._pricing.once(work, first=first)
        waited_s = self._pricing.waited_s(other)
        sizes = Counter(layout.response_sizes.tolist())
        found = []
        for response in responses:
            down = sum(count * response_bytes(policy.n, policy.limbs, sent, response) for sent, count in sizes.items())
            answers = [
                transfer("down", HEADER_BYTES + down) if each.operation == "transfer" else replace(each, bytes=down)
                for each in work
                if _answers(each)
            ]
            asleep_s = self._pricing.asleep_s(waited_s + self._pricing.waited_s(answers))
            found.append(fixed + self._pricing.seconds(answers) + asleep_s)
        return found

    def _coefficient_tiles(self, set_choice: SetChoice, w: int, limbs: int) -> _Tiles:
        if (set_choice, w, limbs) in self._tiles:
            return self._tiles[set_choice, w, limbs]
        if w != BASELINE_BITS:  # what is left of the tiles hardly depends on the weights
            candidates = self._coefficient_tiles(set_choice, BASELINE_BITS, limbs).tiles
        else:
            candidates = set_choice.tiles(self._facts.shape)
        weight = self._coupling.weights[self._facts.name, w]
        t = 2
        he_set = set_choice.he_set(t, self._choices.security)
        found = []
        for tile in candidates:
            policy = LayerPolicy("coefficients", set_choice.n, he_set.limbs, t, tile, w, 2)
            layout = layout_of(self._facts.shape, "coefficients", tile, set_choice.n)
            assert isinstance(layout, CoefficientLayout)  # noqa: S101 - as asked for
            setting = Setting(he_set, layout, w, self._choices.privacy, Response(limbs=limbs), not self._facts.alone)
            parts = noise_parts(setting, coefficient_norms(layout, weight))
            (seconds,) = self._seconds(policy, (setting.response,))
            found.append(
                (tile, seconds, parts.normal[layout.row_of_channel, 0], parts.flooding_width, bound_to_flood(setting))
            )
        kept = [row for row in found if not any(_beats(other, row) for other in found)]
        made = _Tiles(
            tuple(row[0] for row in kept),
            np.array([row[2] for row in kept]),
            np.array([row[3] for row in kept]),
            tuple(row[4] for row in kept),
        )
        self._tiles[set_choice, w, limbs] = made
        return made

    def _slot_options(self, set_choice: SetChoice, w: int, a: int, t_bits: int) -> Iterator[Option]:
        """Options that hardly ever fail: one failure spoils a whole ciphertext."""
        t = set_choice.t(t_bits)
        he_set = set_choice.he_set(t, self._choices.security)
        limbs = 1 if self._choices.privacy.kind == "uniform" else fewest_limbs(he_set).limbs
        response = Response(limbs=limbs)
        for tile in self._slot_tiles(set_choice, w, limbs):
            policy = LayerPolicy("slots", set_choice.n, he_set.limbs, t, tile, w, a, he_set.special, response)
            bits = self._failure(set_choice, policy)
            free = bits >= self._failure_bits
            if bits >= LEAST_SLOT_BITS:
                spoiled = 0.0 if free else 2.0**-bits
                yield Option(policy, set_choice, t_bits, self._seconds(policy, (response,))[0], 0.0, bits, spoiled)
                return

    def _slot_tiles(self, set_choice: SetChoice, w: int, limbs: int) -> list[AnyTile]:
        """The quickest tiles, at the least t."""
        at = set_choice, w, limbs
        if at not in self._slots:
            he_set = set_choice.he_set(set_choice.t(2), self._choices.security)
            priced = []
            for tile in set_choice.tiles(self._facts.shape):
                policy = LayerPolicy(
                    "slots", set_choice.n, he_set.limbs, he_set.t, tile, w, 2, he_set.special, Response(limbs=limbs)
                )
                priced.append((tile, self._seconds(policy, (policy.response,))[0]))
            self._slots[at] = [tile for tile, _ in sorted(priced, key=lambda each: each[1])[:SLOT_TILES]]
        return self._slots[at]

    def _failure(self, set_choice: SetChoice, policy: LayerPolicy) -> float:
        """-log2 of how often an inference fails in this layer; 0 where circuit privacy has no room."""
        at = replace(policy, activation_bits=2)
        if at not in self._failures:
            he_set = set_choice.he_set(policy.t, self._choices.security)
            layout = policy.layout(self._facts.shape)
            shared = not self._facts.alone
            setting = Setting(he_set, layout, policy.weight_bits, self._choices.privacy, policy.response, shared)
            weight = self._coupling.weights[self._facts.name, policy.weight_bits]
            fits = 4 * policy.t <= setting.kept_q and self._fits(he_set, policy.response, bound_to_flood(setting))
            self._failures[at] = expected_error(setting, weight).failure_bits if fits else 0.0
        return self._failures[at]


_Row: TypeAlias = tuple[AnyTile, float, Floats, float, int]


def _beats(a: _Row, b: _Row) -> bool:
    """Whether one tile is quicker than another and no noisier."""
    return a is not b and bool(
        a[1] < b[1] and a[2].mean() <= b[2].mean() and a[2].max() <= b[2].max() and a[3] <= b[3] and a[4] <= b[4]
    )


def _answers(work: Work) -> bool:
    """Whether a work depends on how much of a response is sent."""
    return work.operation in {"respond", "decrypt"} or (work.operation == "transfer" and work.state == "down")


def _improving(seconds: Floats, deviation: Floats, worst: Floats) -> Ints:
    """Numbers, by seconds, of those that no quicker one equals in deviation and worst deviation."""
    order = np.lexsort((worst, deviation, seconds))
    kept, least, least_worst = [], np.inf, np.inf
    for number in order.tolist():
        if deviation[number] < least or worst[number] < least_worst:
            kept.append(number)
            least, least_worst = min(least, deviation[number]), min(least_worst, worst[number])
    return np.array(kept, np.int64)


_GRID: Final = np.arange(-100.0, 20.0, 1 / 32)
"""log2 of deviations of delta at which the law of an integer error is tabulated; between them it is interpolated."""


def _by_flooding(deviation: Floats, flooding: Floats, shared: bool) -> Floats:  # noqa: FBT001
    """By delta's deviation and its flooding noise, what `_law` says (3, ...)."""
    if not flooding.any():
        logs = np.log2(deviation)
        logs_of_integer, bits, tails = _tabulated(shared)
        found = [2.0 ** np.interp(logs, _GRID, logs_of_integer), *(np.interp(logs, _GRID, x) for x in (bits, tails))]
        return np.array(found)
    law = np.empty((3, len(deviation)))
    for width in np.unique(flooding).tolist():
        same = flooding == width
        law[:, same] = _law(deviation[same], (width,) if width else (), shared)
    return law


@lru_cache(maxsize=2)
def _tabulated(shared: bool) -> Floats:  # noqa: FBT001
    """`_law` on the grid, the deviation as a logarithm."""
    law = _law(2.0**_GRID, (), shared)
    law[0] = np.log2(np.maximum(law[0], 1e-300))
    return law


def _law(deviation: Floats, widths: tuple[float, ...], shared: bool) -> Floats:  # noqa: FBT001
    """Deviation of the integer error, -log2 P(it is not 0), and -log2 P(noise passes half of q / t)."""
    law = NoiseLaw(deviation, widths, np.zeros((len(deviation), 0)))
    variance = law.shared_variance() if shared else law.rounded_variance()
    tails = -law.log_tail(0.5) / np.log(2)
    failing = -law.log_shared_error() / np.log(2) if shared else tails
    return np.array([np.sqrt(np.maximum(variance, 0)), np.minimum(failing, MOST_BITS), np.minimum(tails, MOST_BITS)])


def _responses(room: float, set_choice: SetChoice, limbs: int) -> tuple[Response, ...]:
    """Responses that drop bits worth each of `DROPPED_DELTAS`; `room` is q / t."""
    found: dict[Response, None] = {}
    least = min(set_choice.limb_bits)
    for delta in DROPPED_DELTAS:
        if delta is None or limbs > 1:
            found[Response(limbs=limbs)] = None
            continue
        allowed = delta * room
        d0 = int(np.floor(log2(allowed * 12**0.5))) if allowed > 1 else 0
        per_term = allowed * (18 / set_choice.n) ** 0.5
        d1 = int(np.floor(log2(per_term))) if per_term > 1 else 0
        found[Response(min(max(d0, 0), least - 2), min(max(d1, 0), least - 2), limbs)] = None
    return tuple(found)


def _dropping(response: Response, n: int) -> float:
    """What dropped bits add to the variance of e."""

    def of(bits: int) -> float:
        return (4.0**bits + 2) / 12 if bits else 0.0

    return of(response.dropped_c0) + of(response.dropped_c1) * (2 * n / 3)
