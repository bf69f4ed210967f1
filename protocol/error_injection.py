"""Decryption errors drawn as they come about: a layer's computation, run on nothing but its noise.

`NoiseHe` is one more interpreter of a layer (`he_interface`): its ciphertexts are the noise of real ones. What it draws
is what SEAL draws - keys, fresh noise, digits of key switching, roundings - so that errors of outputs that share an
input are correlated as they are in a real run. `ExactErrors` draws errors from it; `DecryptionError.sample` is the fast
way, which takes every coefficient as independent. `injection_gap` says by how much the two differ.

| symbol | meaning |
|---|---|
| x | noise that meets no secret; a: noise that is multiplied by the secret |
| spectrum | values of a polynomial at half of the roots of X^n + 1 (the rest are conjugate), complex (n / 2,) |
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.records import record
from autoprivacy.networks import reference
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol import linear_layer
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.error_law import FloatArray
from autoprivacy.protocol.error_model import (
    DecryptionError,
    decryption_error,
    layer_settings,
    rounded_error,
)
from autoprivacy.protocol.error_noise import Setting, flooding_width
from autoprivacy.protocol.error_norms import automorphism, centred, encoded_coefficients
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.randomness import BINOMIAL_BITS
from autoprivacy.protocol.seal_keys import SWAP
from autoprivacy.protocol.slot_packing import SlotLayout

Spectrum: TypeAlias = NDArray[np.complex128]

Noise: TypeAlias = NDArray[Any]
"""A polynomial's coefficients, or its spectrum."""


class Ring:
    """Products of real polynomials modulo X^n + 1, by one complex Fourier transform of half the length."""

    def __init__(self, n: int) -> None:
        self._half = n // 2
        self._twist = np.exp(-1j * np.pi / n * np.arange(self._half))

    def spectrum(self, polynomial: FloatArray) -> Spectrum:
        """The spectrum of coefficients (n,)."""
        folded = polynomial[: self._half] - 1j * polynomial[self._half :]
        found: Spectrum = np.fft.fft(folded * self._twist)
        return found

    def polynomial(self, spectrum: Spectrum) -> FloatArray:
        """The inverse of `spectrum`."""
        folded = np.fft.ifft(spectrum) * self._twist.conj()
        return np.concatenate([folded.real, -folded.imag])


class NoiseHe:
    """Both parties of a layer at once; a ciphertext is the noise of one, and its NTT form a spectrum.

    What is "sent" are the integers by which decryption is off. Every object is one client with keys of its own.
    """

    def __init__(self, setting: Setting, rng: np.random.Generator) -> None:
        self.operations: Counter[str] = Counter()
        self._setting = setting
        self._rng = rng
        self._n = setting.he_set.n
        self._ring = Ring(self._n)
        self._slots = isinstance(setting.layout, SlotLayout)
        self._flooding_width = flooding_width(setting)
        self.renew_keys()

    def renew_keys(self) -> None:
        """Another client: a fresh secret, public key and Galois keys."""
        self._secret = self._ring.spectrum(self._ternary())
        self._public = self._ring.spectrum(self._fresh())
        self._galois: dict[int, list[Spectrum]] = {}

    def encrypt(self, values: IntArray) -> FloatArray:  # noqa: ARG002 - noise does not depend on the message
        """Fresh noise, and what rounding the scaled message adds; messages count as uniform."""
        return self._fresh() + self._rounding()

    def decrypt(self, response: Noise, positions: IntArray) -> IntArray:  # noqa: ARG002 - only those were sent
        """The errors that were "sent"."""
        errors: IntArray = response
        return errors

    def encode_weights(self, values: IntArray) -> Spectrum | None:
        """What multiplies noise, or None where all weights are zero."""
        if not values.any():
            return None
        if self._slots:
            return self._ring.spectrum(encoded_coefficients(self._setting.he_set, values))
        return self._ring.spectrum(values.astype(np.float64))

    def receive(self, request: Noise, share: IntArray | None) -> Noise:
        """With a share, one rounding more."""
        return request if share is None else request + self._rounding()

    def to_ntt(self, ciphertext: Noise) -> Noise:
        """The spectrum."""
        return self._ring.spectrum(ciphertext)

    def weighted_sum(self, ciphertexts: Sequence[Noise], weights: Sequence[Spectrum | None]) -> Noise | None:
        """Sum of products; None where there are none."""
        total: Noise | None = None
        for ciphertext, weight in zip(ciphertexts, weights, strict=True):
            if weight is not None:
                total = ciphertext * weight if total is None else total + ciphertext * weight
        return total

    def from_ntt(self, ciphertext: Noise) -> Noise:
        """The polynomial."""
        return self._ring.polynomial(ciphertext)

    def rotate(self, ciphertext: Noise, steps: int) -> Noise:
        """The noise where rotation moves it, and that of one key switching."""
        he_set = self._setting.he_set
        if steps not in self._galois:
            self._galois[steps] = [self._ring.spectrum(self._fresh()) for _ in he_set.limbs]
        special = he_set.special or 1
        added = self._ring.spectrum(self._rounding()) * self._secret
        for limb, key in zip(he_set.limbs, self._galois[steps], strict=True):
            # SEAL's digits are residues in [0, q_i), not centred.
            added += self._ring.spectrum(self._rng.uniform(0, limb / special, self._n)) * key
        return automorphism(ciphertext, self._n, steps) + self._ring.polynomial(added) + self._rounding()

    def swap_rows(self, ciphertext: Noise) -> Noise:
        """As `rotate`, by the automorphism that exchanges rows."""
        return self.rotate(ciphertext, SWAP)

    def add(self, ciphertexts: Sequence[Noise]) -> Noise:
        """The sum."""
        total: Noise = np.sum(ciphertexts, axis=0)
        return total

    def respond(self, total: Noise | None, positions: IntArray) -> tuple[Noise, IntArray]:
        """The integers by which the opened values at `positions` are off, and a share of zeros."""
        setting, he_set = self._setting, self._setting.he_set
        delta = self._final(total) * (he_set.t / setting.kept_q)
        share = np.zeros(len(positions), np.int64)
        if not self._slots:
            return rounded_error(self._rng, delta[positions], setting.privacy), share
        if not rounded_error(self._rng, delta, setting.privacy).any():
            return np.zeros(len(positions), np.int64), share
        return self._rng.integers(0, he_set.t, len(positions)), share

    def _final(self, total: Noise | None) -> FloatArray:
        """The noise e of a response: zero encryption, flooding, masking, switching, dropped bits, in this order."""
        setting, he_set = self._setting, self._setting.he_set
        x = np.zeros(self._n) if total is None else total
        a = np.zeros(self._n)
        product: Spectrum = np.zeros(self._n // 2, np.complex128)
        if setting.privacy.kind != "none" or total is None:
            x, a = x + self._fresh(), self._fresh()
            product = self._ring.spectrum(self._ternary()) * self._public
        if setting.privacy.kind == "flood":
            x = x + self._rng.uniform(-self._flooding_width, self._flooding_width, self._n)
        if setting.privacy.kind != "uniform":
            x = x + self._rounding()
        for prime in reversed(he_set.limbs[setting.response.limbs :]):
            x, a, product = x / prime + self._rounding(), a / prime + self._rounding(), product / prime
        x = x + self._dropped(setting.response.dropped_c0)
        a = a + self._dropped(setting.response.dropped_c1)
        found: FloatArray = x + self._ring.polynomial(product + self._ring.spectrum(a) * self._secret)
        return found

    def _fresh(self) -> FloatArray:
        coins = self._rng.integers(0, 1 << BINOMIAL_BITS, self._n, np.uint64)
        found: FloatArray = np.bitwise_count(coins).astype(np.float64) - BINOMIAL_BITS // 2
        return found

    def _ternary(self) -> FloatArray:
        return self._rng.integers(-1, 2, self._n).astype(np.float64)

    def _rounding(self) -> Noise:
        return self._rng.uniform(-0.5, 0.5, self._n)

    def _dropped(self, bits: int) -> FloatArray:
        if not bits:
            return np.zeros(self._n)
        half = 1 << (bits - 1)
        return self._rng.integers(1 - half, half + 1, self._n).astype(np.float64)


class ExactErrors:
    """Errors of one layer with known weights, drawn from its noise; every image has a client of its own."""

    def __init__(self, setting: Setting, weight: IntArray) -> None:
        self._setting = setting
        self._encoded = linear_layer.encode_layer(NoiseHe(setting, np.random.default_rng(0)), setting.layout, weight)

    def sample(self, rng: np.random.Generator, images: int) -> IntArray:
        """Integer errors (images, M, H', W'); spoiled slots are uniform in [0, t)."""
        layout, shape = self._setting.layout, self._setting.layout.shape
        he = NoiseHe(self._setting, rng)
        nothing = np.zeros((shape.in_channels, shape.height, shape.width), np.int64)
        share = nothing if self._setting.shared else None
        errors = np.empty((images, shape.output_values), np.int64)
        for row in errors:
            he.renew_keys()
            requests = linear_layer.request(he, layout, nothing)
            responses, _ = linear_layer.answer(he, layout, self._encoded, requests, share)
            row[:] = linear_layer.finish(he, layout, responses)
        return errors.reshape(images, shape.out_channels, *shape.out_size)


def exact_errors(network: QuantisedNetwork, agreement: Agreement) -> dict[str, ExactErrors]:
    """What draws the exact errors of every linear layer, by name."""
    weights = {layer.name: layer.weight for layer in network.linear_layers}
    return {name: ExactErrors(setting, weights[name]) for name, setting in layer_settings(agreement).items()}


@record
class Drawn:
    """What some draws of a layer's errors looked like.

    `rate` is the share of wrong values, `deviation` the errors' root mean square (spoiled slots counted modulo t),
    `correlation` the root mean square correlation between output channels: of errors with `coefficients`, of being
    wrong with `slots`; None where fewer than two channels erred.
    """

    rate: float
    deviation: float
    correlation: float | None


@record
class LayerGap:
    """One layer: what the model states, and what both ways of drawing gave on as many images."""

    layer: str
    stated_rate: float
    stated_deviation: float
    fast: Drawn
    exact: Drawn


@record
class LogitsGap:
    """Logits under errors against those without: share of images whose class stays, root mean square difference."""

    same_class_fast: float
    same_class_exact: float
    deviation_fast: float
    deviation_exact: float


@record
class InjectionGap:
    """Fast against exact injection."""

    images: int
    layers: tuple[LayerGap, ...]
    logits: LogitsGap


def injection_gap(
    network: QuantisedNetwork, agreement: Agreement, x: IntArray, rng: np.random.Generator
) -> InjectionGap:
    """Draw errors both ways for quantised images x (N, C, H, W), and compare them and what they do to the logits.

    Both come from the encoded weights; correlations of the fast way show what chance alone gives.
    """
    weights = {layer.name: layer.weight for layer in network.linear_layers}
    settings = layer_settings(agreement)
    models = {name: decryption_error(setting, weights[name]) for name, setting in settings.items()}
    fast = {name: model.sample(rng, len(x)) for name, model in models.items()}
    exact = {name: ExactErrors(setting, weights[name]).sample(rng, len(x)) for name, setting in settings.items()}
    moduli = {layer.name: layer.policy.t for layer in agreement.layers}
    clean = reference.logits(network, x, moduli=moduli)

    def judged(errors: Mapping[str, IntArray]) -> tuple[float, float]:
        found = reference.logits(network, x, errors=errors, moduli=moduli)
        same = float((found.argmax(axis=1) == clean.argmax(axis=1)).mean())
        return same, float(np.sqrt(((found - clean).astype(np.float64) ** 2).mean()))

    (same_fast, deviation_fast), (same_exact, deviation_exact) = judged(fast), judged(exact)
    return InjectionGap(
        images=len(x),
        layers=tuple(_layer_gap(name, model, fast[name], exact[name]) for name, model in models.items()),
        logits=LogitsGap(same_fast, same_exact, deviation_fast, deviation_exact),
    )


def _layer_gap(name: str, model: DecryptionError, fast: IntArray, exact: IntArray) -> LayerGap:
    slots, t = isinstance(model.setting.layout, SlotLayout), model.setting.he_set.t
    return LayerGap(
        layer=name,
        stated_rate=float(model.error_rates.mean()),
        stated_deviation=float(np.sqrt((model.standard_deviation**2).mean())),
        fast=_drawn(fast, t, slots=slots),
        exact=_drawn(exact, t, slots=slots),
    )


def _drawn(errors: IntArray, t: int, *, slots: bool) -> Drawn:
    sizes = centred(errors, t).astype(np.float64) if slots else errors.astype(np.float64)
    per_channel = np.moveaxis((errors != 0) if slots else sizes, 1, 0).reshape(errors.shape[1], -1)
    erring = per_channel[per_channel.std(axis=1) > 0]
    correlation = None
    if len(erring) > 1:
        matrix = np.corrcoef(erring)
        correlation = float(np.sqrt((matrix[~np.eye(len(matrix), dtype=bool)] ** 2).mean()))
    return Drawn(float((errors != 0).mean()), float(np.sqrt((sizes**2).mean())), correlation)
