"""The noise of a response, source by source, and public bounds on it (docs/protocol.md, "Decryption error").

| symbol | meaning |
|---|---|
| e | noise in the phase of a response, in units of 1, modulo the limbs that it keeps |
| s^2 | variance of fresh noise |
| P | the special prime |
| sources | each independent of the others; variances add |
"""

from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from autoprivacy.protocol import error_bounds
from autoprivacy.protocol.circuit_privacy import UNIFORM, CircuitPrivacy
from autoprivacy.protocol.error_bounds import FRESH_VARIANCE
from autoprivacy.protocol.error_law import FloatArray, NoiseLaw
from autoprivacy.protocol.error_norms import ProductNorms, fold_gains
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_layer import Layout
from autoprivacy.protocol.slot_packing import SlotLayout
from autoprivacy.protocol.wire import WHOLE_LIMB, Response

ROUNDING: Final = 1 / 12
"""Variance of what rounding to an integer adds."""

SECANT_SHARE: Final = 0.03
"""Secant terms below this share of the normal deviation count as normal: at 7 deviations a tail moves by 0.02 %."""


@dataclass(frozen=True, slots=True)
class Setting:
    """All that is public about the noise of one layer's responses.

    `shared` says whether the server adds a share to the inputs; the weights have `weight_bits` bits.
    """

    he_set: HeSet
    layout: Layout
    weight_bits: int
    privacy: CircuitPrivacy = UNIFORM
    response: Response = WHOLE_LIMB
    shared: bool = True

    @property
    def kept_q(self) -> int:
        """The modulus of a response."""
        return prod(self.he_set.limbs[: self.response.limbs])

    @property
    def rows(self) -> int:
        """Responses that differ in their noise: windows do not."""
        layout = self.layout
        return layout.group_slabs * layout.out_parts if isinstance(layout, SlotLayout) else layout.rows

    @property
    def coefficient_counts(self) -> tuple[int, ...]:
        """With `slots`, how many coefficients of a response each class of `NoiseParts` has."""
        return fold_gains(self.layout)[0] if isinstance(self.layout, SlotLayout) else (1,)


@dataclass(frozen=True, slots=True, eq=False)
class NoiseParts:
    """Variance of e by source, per row and class of coefficients (R, classes).

    With `coefficients` there is one class; with `slots` folding makes coefficients differ (`fold_gains`). `unknown`
    (R, classes, keys) is the part of `input_switching` that keys determine where weights are unknown.
    """

    fresh: FloatArray
    input_switching: FloatArray
    output_switching: FloatArray
    zero: FloatArray
    masking: FloatArray
    flooding: FloatArray
    switching: FloatArray
    dropping: FloatArray
    unknown: FloatArray
    flooding_width: float
    dropping_width: float

    @property
    def normal(self) -> FloatArray:
        """Variance of all that is normal."""
        total = self.fresh + self.input_switching + self.output_switching
        found: FloatArray = total + self.zero + self.masking + self.switching + self.dropping
        return found

    def law(self) -> NoiseLaw:
        """The law of e. Low bits of c0, and flooding noise, are uniform; all else sums over n or more terms."""
        widths = tuple(width for width in (self.flooding_width, self.dropping_width) if width > 0)
        normal = self.normal - self.unknown.sum(axis=-1)
        if (self.unknown <= SECANT_SHARE**2 * normal[..., None]).all():
            return NoiseLaw(np.sqrt(self.normal), widths, np.zeros((*normal.shape, 0)))
        return NoiseLaw(np.sqrt(normal), widths, np.sqrt(self.unknown))


def noise_parts(setting: Setting, norms: ProductNorms) -> NoiseParts:
    """The noise of every row's response whose products have these norms."""
    he_set = setting.he_set
    gains, added = _gains(setting.layout)
    random, fixed = _key_switching(he_set)
    # SEAL drops the last limb first, and rounds each time.
    shrink, switching = 1.0, 0.0
    for prime in reversed(he_set.limbs[setting.response.limbs :]):
        shrink /= prime
        switching = switching / prime**2 + _rounding(he_set.n)
    flooding = flooding_width(setting) * shrink
    rows = np.zeros((len(norms.fresh), 1))
    fresh = FRESH_VARIANCE + ROUNDING * (2 if setting.shared else 1)
    zeros = FRESH_VARIANCE * (1 + 4 * he_set.n / 3)
    # Even `none` sends an encryption of zero where there is no product: a transparent ciphertext is refused.
    without = np.where(norms.fresh > 0, 0.0, zeros)[:, None] if setting.privacy.kind == "none" else zeros
    unknown = norms.unknown[..., None] * np.array(fixed) * he_set.n  # (R, keys, digits)
    total_fixed = norms.fixed * sum(fixed) * he_set.n + unknown.sum(axis=(1, 2))
    by_key = unknown.reshape(len(unknown), 1, -1) * gains[:, None]
    per_switch = random + he_set.n * sum(fixed)
    dropped = setting.response
    return NoiseParts(
        fresh=shrink**2 * fresh * norms.fresh[:, None] * gains,
        input_switching=shrink**2 * (norms.switched * random + total_fixed)[:, None] * gains,
        output_switching=shrink**2 * per_switch * (norms.after[:, None] * gains + added),
        zero=rows + shrink**2 * without,
        masking=rows + shrink**2 * (0.0 if setting.privacy.kind == "uniform" else ROUNDING),
        flooding=rows + flooding**2 / 3,
        switching=rows + switching,
        dropping=rows + _dropping(dropped.dropped_c1) * (2 * he_set.n / 3),
        unknown=shrink**2 * by_key,
        flooding_width=flooding,
        dropping_width=float(np.sqrt(3 * _dropping(dropped.dropped_c0))),
    )


def noise_bound(setting: Setting) -> int:
    """Public bound on the noise of a sum before it is rerandomised: the E of `flood` (`error_bounds.noise_bound`)."""
    return error_bounds.noise_bound(setting.he_set, setting.layout, setting.weight_bits, shared=setting.shared)


def worst_noise(setting: Setting) -> float:
    """No noise of a response is beyond this, whatever the weights of the agreed widths."""
    he_set = setting.he_set
    reach = error_bounds.sum_reach(he_set, setting.layout, setting.weight_bits, shared=setting.shared)
    return error_bounds.response_bound(he_set, setting.privacy, setting.response, reach, flooding_width(setting))


def _gains(layout: Layout) -> tuple[FloatArray, FloatArray]:
    if isinstance(layout, SlotLayout):
        _, gains, added = fold_gains(layout)
        return np.array(gains), np.array(added)
    return np.ones(1), np.zeros(1)


def _rounding(n: int) -> float:
    """Variance of rounding both polynomials, the second of which meets a ternary secret."""
    return ROUNDING * (1 + 2 * n / 3)


def _key_switching(he_set: HeSet) -> tuple[float, tuple[float, ...]]:
    """Variance of one key switching: its random part, and by digit, over n, the part that its key determines."""
    if he_set.special is None:
        return 0.0, (0.0,)
    ratios = [(limb / he_set.special) ** 2 for limb in he_set.limbs]
    random = he_set.n * FRESH_VARIANCE * sum(ratios) / 12 + _rounding(he_set.n)
    return random, tuple(FRESH_VARIANCE * ratio / 4 for ratio in ratios)


def flooding_width(setting: Setting) -> float:
    """Half the width of the uniform noise that `flood` adds to a sum; 0 without."""
    if setting.privacy.kind != "flood":
        return 0.0
    return float(1 << setting.privacy.flood_exponent(setting.he_set.n, noise_bound(setting)))


def _dropping(bits: int) -> float:
    """Mean square of what dropping low bits adds: halves are rounded up, so its mean is 1/2 and not 0."""
    return (4.0**bits + 2) / 12 if bits else 0.0
