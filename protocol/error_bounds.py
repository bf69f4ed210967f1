"""Public bounds on the noise of a layer's sums, before they are rerandomised: what `flood` has to hide.

They hold for any weights of the agreed widths, so they say nothing about those that a server has.

| symbol | meaning |
|---|---|
| m | the largest coefficient of a weight polynomial: t/2 with `slots`, whose encodings are dense |
| reach | a bound on a value that is linear in the noise and the secret: a sub-Gaussian parameter, and a rest |

Fresh noise (42 halves of +-1) and ternary secrets are sub-Gaussian with a parameter equal to their deviation. Given the
uniform halves of all ciphertexts and keys, which are independent of both, a sum is linear in them, so the squares of
its coefficients add up to its own parameter [Vershynin]. Roundings may depend on anything: they count at their worst.
"""

from dataclasses import dataclass
from math import ceil, inf, log, prod, sqrt
from typing import Final

import numpy as np

from autoprivacy.protocol.circuit_privacy import CircuitPrivacy, zero_noise_bound
from autoprivacy.protocol.error_norms import rotation_paths
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_layer import Layout
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.packing import CoefficientLayout
from autoprivacy.protocol.randomness import BINOMIAL_BITS
from autoprivacy.protocol.slot_packing import SlotLayout
from autoprivacy.protocol.wire import Response

FRESH_VARIANCE: Final = BINOMIAL_BITS / 4
"""SEAL draws noise as a centred binomial over 42 bits: variance 42 / 4."""

FRESH_BOUND: Final = BINOMIAL_BITS // 2

SECRET_VARIANCE: Final = 2 / 3

UNLIKELY_BITS: Final = 128
"""`noise_bound` is exceeded in an inference with a probability of at most 2^-128, over keys and noise."""


@dataclass(frozen=True, slots=True)
class Reach:
    """|value| <= `rest` + z `deviation` but for a probability of 2 exp(-z^2 / 2); and never above `worst`."""

    deviation: float
    rest: float
    worst: float

    def plus(self, other: "Reach", times: float = 1.0) -> "Reach":
        """The reach of self + times other, whatever they have in common."""
        return Reach(
            self.deviation + times * other.deviation, self.rest + times * other.rest, self.worst + times * other.worst
        )

    def bound(self, z: float) -> float:
        """The lesser of both bounds."""
        return min(self.worst, self.rest + z * self.deviation)


def noise_bound(he_set: HeSet, layout: Layout, weight_bits: int, *, shared: bool) -> int:
    """The E of `flood`: beyond it no coefficient of a sum's noise is, but with a probability of 2^-128 an inference."""
    z = sqrt(2 * log(2) * (UNLIKELY_BITS + 1) + 2 * log(layout.responses * layout.n))
    return ceil(sum_reach(he_set, layout, weight_bits, shared=shared).bound(z))


def sum_reach(he_set: HeSet, layout: Layout, weight_bits: int, *, shared: bool) -> Reach:
    """How far the noise of a sum reaches, before it is rerandomised; `shared` if the server adds a share to inputs."""
    rounding = 1.0 if shared else 0.5
    if isinstance(layout, CoefficientLayout):
        return _coefficient_reach(layout, weight_bits, rounding)
    return _slot_reach(he_set, layout, rounding)


def response_bound(he_set: HeSet, privacy: CircuitPrivacy, response: Response, reach: Reach, flooding: float) -> float:
    """No noise of a response is beyond this, from that of its sum and the most that each later step can add."""
    n = he_set.n
    worst = reach.worst + flooding + 0.5
    if privacy.kind != "none":
        worst += zero_noise_bound(n)
    for prime in reversed(he_set.limbs[response.limbs :]):
        worst = worst / prime + (1 + n) / 2
    d0, d1 = response.dropped_c0, response.dropped_c1
    return worst + (2.0 ** (d0 - 1) if d0 else 0.0) + (n * 2.0 ** (d1 - 1) if d1 else 0.0)


def _coefficient_reach(layout: CoefficientLayout, weight_bits: int, rounding: float) -> Reach:
    shape, tile = layout.shape, layout.tile
    outputs = min(tile.out_channels, shape.out_channels // shape.groups)
    count = shape.in_channels // shape.groups * outputs * tile.groups * prod(shape.kernel)
    heaviest = 1 << (weight_bits - 1)
    return Reach(
        deviation=sqrt(FRESH_VARIANCE * count) * heaviest,
        rest=count * heaviest * rounding,
        worst=count * heaviest * (FRESH_BOUND + rounding),
    )


def _slot_reach(he_set: HeSet, layout: SlotLayout, rounding: float) -> Reach:
    """Of the row of sums that reaches furthest, rotated and folded."""
    structure = layout.structure
    counts = {
        row.tobytes(): row for row in (structure[where].sum(axis=(0, 1)) for where in np.ndindex(structure.shape[:2]))
    }
    reach = max((_row_reach(he_set, layout, row, rounding) for row in counts.values()), key=lambda each: each.worst)
    switch = _switch_reach(he_set)
    reach = reach.plus(switch, layout.swaps * layout.giants)
    for _ in layout.folds:
        reach = reach.plus(reach).plus(switch)
    return reach


def _row_reach(he_set: HeSet, layout: SlotLayout, counts: IntArray, rounding: float) -> Reach:
    """Of a sum of `counts` (inputs, baby steps, shifts) products: each has n terms of at most m times noise.

    Products of one input meet the same fresh noise, rotations with one key the same key noise: they add up before
    they are squared.
    """
    n, m = he_set.n, he_set.t // 2
    products = counts.reshape(layout.in_parts, -1)
    by_step = dict[int, int]()
    for step, count in zip(layout.baby_rotations.ravel().tolist(), products.sum(axis=0).tolist(), strict=True):
        by_step[step] = by_step.get(step, 0) + count
    by_key = dict[int, int]()
    paths = rotation_paths(layout)
    for step, count in by_step.items():
        for key, _ in paths[step]:
            by_key[key] = by_key.get(key, 0) + count
    rotated = sum(by_key.values())
    total = int(products.sum())
    fresh = FRESH_VARIANCE * n * float((products.sum(axis=1).astype(np.float64) ** 2).sum())
    keys = FRESH_VARIANCE * n * n**2 * sum(float(count) ** 2 for count in by_key.values()) * _squared_ratios(he_set)
    secret = SECRET_VARIANCE * n * (n / 2 * rotated) ** 2
    return Reach(
        deviation=m * sqrt(fresh + keys + secret),
        rest=float(n * m) * (total * rounding + rotated / 2),
        worst=float(n * m) * (total * (FRESH_BOUND + rounding) + rotated * _switch_reach(he_set).worst),
    )


def _switch_reach(he_set: HeSet) -> Reach:
    """Of what one key switching adds: digits below q_i times key noise, over P, and rounding."""
    if he_set.special is None:
        return Reach(inf, inf, inf)
    n = he_set.n
    worst = FRESH_BOUND * n * sum(limb / he_set.special for limb in he_set.limbs) + (1 + n) / 2
    return Reach(sqrt(FRESH_VARIANCE * n * _squared_ratios(he_set) + SECRET_VARIANCE * n / 4), 0.5, worst)


def _squared_ratios(he_set: HeSet) -> float:
    return 0.0 if he_set.special is None else sum((limb / he_set.special) ** 2 for limb in he_set.limbs)
