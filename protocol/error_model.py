"""How far decryption is off in a layer's outputs, as a distribution (docs/protocol.md, "Decryption error").

| symbol | meaning |
|---|---|
| e | noise in the phase of a response, in units of 1, modulo the limbs that it keeps: q |
| delta | t e / q: the error in units of the plaintext, before rounding |
| R | rows: responses whose noise differs (`error_noise`) |

With `coefficients` a decryption error is a small integer on one value. With `slots` one coefficient that fails spoils
every slot of its response: all its values become uniform modulo t.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf, log, log2, prod, sqrt
from typing import Final

import numpy as np
from scipy.special import logsumexp

from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.agreement import Agreement, client_alone
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.error_law import FloatArray, NoiseLaw
from autoprivacy.protocol.error_noise import (
    NoiseParts,
    Setting,
    noise_bound,
    noise_parts,
    worst_noise,
)
from autoprivacy.protocol.error_norms import ProductNorms, coefficient_norms, expected_slot_norms, slot_norms
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.packing import CoefficientLayout
from autoprivacy.protocol.slot_packing import SlotLayout

VALUES_AT_ONCE: Final = 1 << 16
"""Errors that are drawn together: half a megabyte of them."""

FAILURE_BITS: Final = 40
"""The usual rule: an inference fails at most once in 2^40, by union bound [Cheetah]."""


@dataclass(frozen=True, slots=True, eq=False)
class DecryptionError:
    """The error of one layer's outputs.

    `law` is that of delta (R, classes), `parts` are the variances of e that it comes from, `rows` (M,) is the row that
    yields each output channel.

    Assumptions: noise that sums over n or more independent terms is normal, over all keys that a client may draw;
    flooding noise and the low bits of c0 are uniform; shares are uniform, so that rounding them adds 1/12. Where only
    the number of weights is known (`expected_error`), the noise that keys determine is a hyperbolic secant, and tails
    are bounds.
    """

    setting: Setting
    parts: NoiseParts
    law: NoiseLaw
    rows: IntArray

    @property
    def deviation(self) -> FloatArray:
        """Standard deviation of delta (M,); with `slots` the root mean square over a response's coefficients."""
        weights = np.array(self.setting.coefficient_counts, np.float64)
        found: FloatArray = np.sqrt((self.law.variance * weights).sum(axis=1) / weights.sum())[self.rows]
        return found

    @property
    def noise_deviation(self) -> FloatArray:
        """Standard deviation of e (M,), in units of 1 modulo the q of a response."""
        return self.deviation * (self.setting.kept_q / self.setting.he_set.t)

    @property
    def error_rates(self) -> FloatArray:
        """P(opened value is wrong) per output channel (M,)."""
        failure = np.exp(self._log_row_failure)
        if self._slots:
            failure = failure * (1 - 1 / self.setting.he_set.t)
        return np.asarray(failure[self.rows], np.float64)

    @property
    def standard_deviation(self) -> FloatArray:
        """Standard deviation of the integer error (M,), rounding included; a spoiled slot is uniform modulo t."""
        if self._slots:
            return np.sqrt(np.exp(self._log_row_failure) * ((self.setting.he_set.t**2 - 1) / 12))[self.rows]
        variance = self.law.shared_variance() if self._rounds_shares else self.law.rounded_variance()
        found: FloatArray = np.sqrt(variance[:, 0])[self.rows]
        return found

    @property
    def expected_errors(self) -> float:
        """Mean number of wrong values of the layer in one inference."""
        height, width = self.setting.layout.shape.out_size
        return float(self.error_rates.sum()) * height * width

    @property
    def failure_bits(self) -> float:
        """-log2 of the union bound on the probability that anything of the layer fails in one inference.

        Infinite where the worst case of the noise cannot make a rounding fail.
        """
        if not self._rounds_shares and self.worst_slack_bits > 0:
            return inf
        return -self._log_failure / log(2)

    @property
    def noise_bound(self) -> int:
        """Public bound on a sum's noise before it is rerandomised, exceeded once in 2^128: what `flood` hides."""
        return noise_bound(self.setting)

    @property
    def slack_bits(self) -> float:
        """log2 of q / 2t over the greatest standard deviation of e."""
        return -1 - log2(sqrt(float(self.law.variance.max())))

    @property
    def worst_slack_bits(self) -> float:
        """log2 of q / 2t over the worst case of e: where positive, and shares are not rounded, nothing can fail."""
        return log2(self.setting.kept_q) - 1 - log2(self.setting.he_set.t) - log2(worst_noise(self.setting))

    def sample(self, rng: np.random.Generator, images: int) -> IntArray:
        """Integer errors (images, M, H', W'), every coefficient independent: the fast injection.

        Images are drawn in blocks that stay in cache, each by a generator of its own, on all cores: what is drawn
        does not depend on how many there are.
        """
        layout = self.setting.layout
        shape = (images, layout.shape.out_channels, *layout.shape.out_size)
        if self._slots:
            return self._sample_slots(rng, images).reshape(shape)
        found = np.empty(shape, np.int64)
        at_once = max(1, VALUES_AT_ONCE // prod(shape[1:]))
        blocks = [found[start : start + at_once] for start in range(0, images, at_once)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(self._draw, blocks, rng.spawn(len(blocks))):
                pass
        return found

    def _draw(self, errors: IntArray, rng: np.random.Generator) -> None:
        """Fill a block of images with their errors."""
        delta = rng.standard_normal(errors.shape)
        delta *= self.law.deviation[:, 0][self.rows, None, None]
        for width in self.law.half_widths:
            uniform = rng.random(errors.shape)
            uniform -= 0.5
            uniform *= 2 * width
            delta += uniform
        errors[...] = rounded_error(rng, delta, self.setting.privacy)

    @property
    def _slots(self) -> bool:
        return isinstance(self.setting.layout, SlotLayout)

    @property
    def _rounds_shares(self) -> bool:
        return self.setting.privacy.kind == "uniform"

    @property
    def _log_coefficient_failure(self) -> FloatArray:
        """Log P(a coefficient fails) (R, classes)."""
        return self.law.log_shared_error() if self._rounds_shares else self.law.log_tail(0.5)

    @property
    def _log_row_failure(self) -> FloatArray:
        """Log P(a value of a response of the row is wrong or spoiled) (R,)."""
        each, counts = self._log_coefficient_failure, self.setting.coefficient_counts
        if not self._slots:
            return np.asarray(each[:, 0])
        union = logsumexp(each, b=np.array(counts), axis=1)
        # Below e^-20 the union bound is the probability itself; above, coefficients count as independent.
        well = (np.log1p(-np.exp(np.minimum(each, -1e-12))) * np.array(counts)).sum(axis=1)
        found: FloatArray = np.where(union < -20, union, np.log(-np.expm1(np.minimum(well, -1e-12))))
        return found

    @property
    def _log_failure(self) -> float:
        layout, each = self.setting.layout, self._log_coefficient_failure
        if isinstance(layout, SlotLayout):
            counts = np.array(self.setting.coefficient_counts) * layout.window_slabs
        else:
            # Every output once; rows differ in how many outputs they have.
            counts = np.bincount(self.rows, minlength=len(each))[:, None] * prod(layout.shape.out_size)
        return float(logsumexp(each, b=np.broadcast_to(counts, each.shape)))

    def _sample_slots(self, rng: np.random.Generator, images: int) -> IntArray:
        layout, t = self.setting.layout, self.setting.he_set.t
        failure = np.exp(self._log_row_failure)
        errors = np.zeros((images, layout.shape.output_values), np.int64)
        for response, (_, index) in enumerate(layout.outputs):
            spoiled = np.flatnonzero(rng.random(images) < failure[response % self.setting.rows])
            errors[spoiled[:, None], index] = rng.integers(0, t, (len(spoiled), len(index)))
        return errors


def rounded_error(rng: np.random.Generator, delta: FloatArray, privacy: CircuitPrivacy) -> IntArray:
    """The integer that noise of delta turns into on opening.

    Under `uniform` both shares are rounded, so that delta is rounded stochastically; else the nearest integer counts.
    """
    if privacy.kind == "uniform":
        return np.floor(delta + rng.random(delta.shape)).astype(np.int64)
    return np.rint(delta).astype(np.int64)


def decryption_error(setting: Setting, weight: IntArray) -> DecryptionError:
    """The error of a layer with integer weights (M, C / groups, kh, kw).

    With `slots` the weights are encoded to see the norms of their polynomials; `expected_error` does without.
    """
    layout = setting.layout
    if isinstance(layout, SlotLayout):
        return _error(setting, slot_norms(setting.he_set, layout, weight))
    return _error(setting, coefficient_norms(layout, weight))


def expected_error(setting: Setting, weight: IntArray) -> DecryptionError:
    """As `decryption_error`, but with `slots` only where weights are zero counts: fast, and tails are upper bounds."""
    layout = setting.layout
    if isinstance(layout, SlotLayout):
        return _error(setting, expected_slot_norms(setting.he_set.t, layout, weight))
    return decryption_error(setting, weight)


def network_failure_bits(errors: dict[str, DecryptionError]) -> float:
    """-log2 of the union bound on the probability that anything at all fails in one inference.

    A network is called error-free where this is at least `FAILURE_BITS`.
    """
    bits = [error.failure_bits for error in errors.values()]
    return inf if min(bits) == inf else -float(logsumexp([-each * log(2) for each in bits])) / log(2)


def layer_settings(agreement: Agreement) -> dict[str, Setting]:
    """What is public about every layer's noise; the server adds no share to what the client holds alone."""
    alone = client_alone(agreement)
    return {
        layer.name: Setting(
            he_set=layer.policy.he_set(agreement.security),
            layout=layer.layout,
            weight_bits=layer.policy.weight_bits,
            privacy=agreement.privacy,
            response=layer.policy.response,
            shared=layer.source not in alone,
        )
        for layer in agreement.layers
    }


def bound_to_flood(setting: Setting) -> int:
    """`noise_bound` where responses are flooded; 0 elsewhere, since nothing else looks at it."""
    return noise_bound(setting) if setting.privacy.kind == "flood" else 0


def decryption_errors(network: QuantisedNetwork, agreement: Agreement) -> dict[str, DecryptionError]:
    """The error of every linear layer of a network under the policy that was agreed on, by layer name."""
    weights = {layer.name: layer.weight for layer in network.linear_layers}
    return {name: expected_error(setting, weights[name]) for name, setting in layer_settings(agreement).items()}


def _error(setting: Setting, norms: ProductNorms) -> DecryptionError:
    parts = noise_parts(setting, norms)
    law = parts.law().scaled(setting.he_set.t / setting.kept_q)
    return DecryptionError(setting, parts, law, _rows_of_channels(setting))


def _rows_of_channels(setting: Setting) -> IntArray:
    layout = setting.layout
    if isinstance(layout, CoefficientLayout):
        return layout.row_of_channel
    rows = np.zeros(layout.shape.out_channels, np.int64)
    for response, (_, index) in enumerate(layout.outputs):
        rows[index // prod(layout.shape.out_size)] = response % setting.rows
    return rows
