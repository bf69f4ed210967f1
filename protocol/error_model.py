"""How far decryption is off under a layer policy, as a distribution (docs/protocol.md, "Decryption error").

| symbol | meaning |
|---|---|
| e | noise in the phase after rerandomising, in units of 1 (of q) |
| delta | t e / q: the error in units of the plaintext, before rounding |
"""

from dataclasses import dataclass
from math import erfc, exp, pi, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.packing import CoefficientLayout

FRESH_VARIANCE: Final = 21 / 2
"""SEAL draws noise as a centred binomial over 42 bits: variance 42 / 4."""

ERROR_FREE: Final = 2.0**-40
"""The usual rule: an inference fails at most this often, by union bound [Cheetah]."""


@dataclass(frozen=True, slots=True)
class DecryptionError:
    """The error of one layer's outputs under `uniform` circuit privacy, per output channel.

    `deviation` (M,): standard deviation of delta. Assumption: e is normal, because each coefficient of an encryption
    of zero sums about 4n/3 independent terms.
    """

    deviation: NDArray[np.float64]

    @property
    def error_rates(self) -> NDArray[np.float64]:
        """P(opened value is wrong) per output channel (M,): 1 - E[max(0, 1 - |delta|)]."""
        return np.array([_error_rate(float(sd)) for sd in self.deviation])

    @property
    def standard_deviation(self) -> NDArray[np.float64]:
        """Standard deviation of the integer error (M,), share rounding included."""
        return np.array([sqrt(sd * sd + _rounding_variance(float(sd))) for sd in self.deviation])

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> IntArray:
        """Integer errors (images, M, H', W'): stochastic rounding of normal delta, coefficients independent."""
        delta = rng.standard_normal(shape) * self.deviation[:, None, None]
        return np.floor(delta + rng.random(shape)).astype(np.int64)


def decryption_error(he_set: HeSet, layout: CoefficientLayout, weight: IntArray) -> DecryptionError:
    """The error of a layer with integer weights (M, C / groups, kh, kw) under `he_set` and the tile of `layout`.

    Output channels that share a product share its whole noise: the norm is that of the packed polynomial.
    """
    norm = (layout.row_weights(weight).astype(np.float64) ** 2).sum(axis=1)[layout.row_of_channel]
    variance = norm * (FRESH_VARIANCE + 2 / 12) + FRESH_VARIANCE * (1 + 4 * he_set.n / 3) + 1 / 12
    return DecryptionError(np.sqrt(variance) * (he_set.t / he_set.q))


def decryption_errors(network: QuantisedNetwork, agreement: Agreement) -> dict[str, DecryptionError]:
    """The error of every linear layer of a network under the policy that was agreed on, by layer name."""
    return {
        layer.name: decryption_error(layer.policy.he_set(agreement.security), layer.layout, stage.weight)
        for layer, stage in zip(agreement.layers, network.stages, strict=True)
    }


def _error_rate(sd: float) -> float:
    """1 - E[max(0, 1 - |delta|)] for normal delta: a folded normal cut at 1."""
    if sd == 0:
        return 0.0
    tail = erfc(1 / (sd * sqrt(2)))
    inside = sd * sqrt(2 / pi) * (1 - exp(-1 / (2 * sd * sd)))
    return tail + inside


def _rounding_variance(sd: float) -> float:
    """E[f (1 - f)] for f the fraction of normal delta, from its Fourier series (1/6 where sd is large)."""
    if sd == 0:
        return 0.0
    if sd < 0.05:
        return sd * sqrt(2 / pi) - sd * sd
    k = np.arange(1, 200)
    return float(1 / 6 - (np.exp(-2 * (pi * k * sd) ** 2) / (pi * k) ** 2).sum())
