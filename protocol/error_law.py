"""The law of noise that is a sum of a normal, some uniform and some hyperbolic secant terms, and of its rounding.

| symbol | meaning |
|---|---|
| x | the noise |
| s | standard deviation of the normal term |
| a | half-width of a uniform term |
| r | standard deviation of a hyperbolic secant term: a normal term whose variance depends on the client's keys |
| I_k(z) | the k-fold integral of the standard normal tail: I_0 = P(> z), I_{k+1}(z) is the integral of I_k from z on |

Everything is in logarithms: 2^-40 and far less is what matters. Moments of the positive part are differences of I_k: a
uniform term of half-width a turns I_k(z) into s (I_{k+1}(z - a/s) - I_{k+1}(z + a/s)) / 2a.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import log, pi, prod, sqrt
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, logsumexp, ndtr

FloatArray: TypeAlias = NDArray[np.float64]

NARROW: Final = 0.1
"""A uniform term below this many s counts as normal of the same variance: at 7 s that changes a tail by 0.1 %."""

_ASYMPTOTIC: Final = 20.0
_SERIES_TERMS: Final = 6
_WIDE: Final = 50.0
"""From this standard deviation on, rounding adds 1/12 to a variance, to 300 digits."""


@dataclass(frozen=True, slots=True, eq=False)
class NoiseLaw:
    """x = normal + uniforms + secants: `deviation` (...), `secants` (..., terms), and `half_widths` common to all.

    Without secant terms everything is exact. With them tails are Chernoff's bound, and what depends on the size of
    small noise (`shared` rounding) takes x as normal of its variance, which is never below the truth.
    """

    deviation: FloatArray
    half_widths: tuple[float, ...]
    secants: FloatArray

    @property
    def variance(self) -> FloatArray:
        """Variance of x (...)."""
        found: FloatArray = self._unknown + self.deviation**2 + sum(a * a / 3 for a in self.half_widths)
        return found

    @property
    def _unknown(self) -> FloatArray:
        total: FloatArray = (self.secants**2).sum(axis=-1)
        return total

    def scaled(self, factor: float) -> "NoiseLaw":
        """The law of factor x."""
        widths = tuple(a * factor for a in self.half_widths)
        return NoiseLaw(self.deviation * factor, widths, self.secants * factor)

    def log_tail(self, limit: float) -> FloatArray:
        """Log P(|x| > limit) (...), for limit > 0."""
        if self.secants.size:
            return np.minimum(0.0, self._log_chernoff(limit))
        return log(2) + self._log_excess(0, limit)

    def log_shared_error(self) -> FloatArray:
        """Log P(error) (...) where shares are rounded, which rounds x stochastically: E|x| - 2 E max(0, x - 1)."""
        law = self._as_normal()
        small = law._log_excess(1, 0.0)  # noqa: SLF001 - its own class
        large = law._log_excess(1, 1.0)  # noqa: SLF001
        return log(2) + small + np.log1p(-np.exp(np.minimum(large - small, 0.0)))

    def shared_variance(self) -> FloatArray:
        """Variance of x rounded stochastically: Var x + E[f (1 - f)], f the fraction of x."""
        law = self._as_normal()
        k = np.arange(1, 200)
        waves = np.exp(-2 * (pi * k * law.deviation[..., None]) ** 2)
        for a in law.half_widths:
            waves = waves * np.sinc(2 * k * a)
        series = 1 / 6 - (waves / (pi * k) ** 2).sum(axis=-1)
        # Where x is small the series converges slowly, but |x| < 1: f (1 - f) = |x| - x^2.
        small = 2 * np.exp(law._log_excess(1, 0.0)) - law.variance  # noqa: SLF001 - its own class
        found: FloatArray = law.variance + np.where(law.variance < 0.05**2, small, series)
        return found

    def rounded_variance(self) -> FloatArray:
        """Variance of x rounded to the nearest integer: the sum over k >= 1 of (2k - 1) P(|x| > k - 1/2)."""
        law = self._as_normal()
        wide = law.variance > _WIDE**2
        widest = float(np.sqrt(np.where(wide, 0.0, law.variance)).max(initial=0.0))
        most = int(10 * widest + sum(law.half_widths if widest else ())) + 2
        terms = ((2 * k - 1) * np.exp(law.log_tail(k - 0.5)) for k in range(1, most))
        return np.where(wide, law.variance + 1 / 12, sum(terms, start=np.zeros(wide.shape)))

    def sample(self, rng: np.random.Generator, images: int) -> FloatArray:
        """Independent draws (images, ...)."""
        shape = (images, *self.deviation.shape)
        law = self._as_normal()
        found = rng.standard_normal(shape) * law.deviation
        for a in law.half_widths:
            found += rng.uniform(-a, a, shape)
        return found

    def _as_normal(self) -> "NoiseLaw":
        if not self.secants.size:
            return self
        return NoiseLaw(np.sqrt(self.deviation**2 + self._unknown), self.half_widths, self.secants[..., :0])

    def _log_excess(self, order: int, limit: float) -> FloatArray:
        """Log of P(x > limit) (order 0) or E max(0, x - limit) (order 1), without secants."""
        return _by_width(self.deviation, self.half_widths, lambda s, widths: _log_excess(s, widths, order, limit))

    def _log_chernoff(self, limit: float) -> FloatArray:
        """Log of 2 E[exp(y x)] exp(-y limit), least over y; any y gives a bound, so a grid will do."""
        widest = np.maximum(self.secants.max(axis=-1), 1e-3 * np.sqrt(self.variance))
        best = np.full(self.deviation.shape, np.inf)
        normal_best = limit / np.maximum(self.variance, 1e-300)
        for share in np.linspace(0.005, 0.995, 199):
            y = np.minimum(share * (pi / 2) / widest, 4 * share * normal_best)
            exponent = (y * self.deviation) ** 2 / 2 - np.log(np.cos(y[..., None] * self.secants)).sum(axis=-1)
            for a in self.half_widths:
                exponent = exponent + _log_sinhc(y * a)
            best = np.minimum(best, exponent - y * limit)
        found: FloatArray = log(2) + best
        return found


def _by_width(
    deviation: FloatArray, widths: tuple[float, ...], evaluate: Callable[[FloatArray, tuple[float, ...]], FloatArray]
) -> FloatArray:
    """Evaluate each entry with its narrow uniform terms counted as normal."""
    if not widths:
        return evaluate(deviation, ())
    first, rest = widths[0], widths[1:]
    narrow = first < NARROW * deviation
    merged = np.sqrt(deviation**2 + first**2 / 3)
    found = np.empty_like(deviation)
    found[narrow] = _by_width(merged[narrow], rest, evaluate)
    found[~narrow] = _by_width(deviation[~narrow], rest, lambda s, others: evaluate(s, (first, *others)))
    return found


def _log_excess(s: FloatArray, widths: tuple[float, ...], order: int, limit: float) -> FloatArray:
    if not s.size:
        return s
    integrals, signs = [], []
    for ends in product((-1, 1), repeat=len(widths)):
        shift = sum(end * a for end, a in zip(ends, widths, strict=True))
        integrals.append(log_normal_integral(order + len(widths), (limit + shift) / s))
        signs.append(prod(-end for end in ends))
    total = logsumexp(np.array(integrals), axis=0, b=np.array(signs).reshape(-1, *(1,) * s.ndim))
    found: FloatArray = total + (order + len(widths)) * np.log(s) - sum(log(2 * a) for a in widths)
    return found


def log_normal_integral(k: int, z: FloatArray) -> FloatArray:
    """Log I_k(z): by I_k = (I_{k-2} - z I_{k-1}) / k, divided by the density where z > 0; as a series where z is large.

    >>> [round(float(log_normal_integral(k, np.array(0.0))), 4) for k in range(3)]
    [-0.6931, -0.9189, -1.3863]
    """
    density = -(z**2) / 2 - log(sqrt(2 * pi))
    middle = np.clip(z, 0.0, _ASYMPTOTIC)
    before, last = np.ones_like(z), sqrt(pi / 2) * erfcx(middle / sqrt(2))
    left = np.minimum(z, 0.0)
    before_left, last_left = np.exp(-(left**2) / 2) / sqrt(2 * pi), ndtr(-left)
    for order in range(1, k + 1):
        before, last = last, (before - middle * last) / order
        before_left, last_left = last_left, (before_left - left * last_left) / order
    right = np.maximum(z, _ASYMPTOTIC)
    term = np.ones_like(z)
    series = np.ones_like(z)
    for j in range(1, _SERIES_TERMS):
        term = -term * (k + 2 * j) * (k + 2 * j - 1) / (2 * j * right**2)
        series += term
    large = np.log(series) - (k + 1) * np.log(right)
    found: FloatArray = np.where(
        z > _ASYMPTOTIC, density + large, np.where(z > 0, density + np.log(last), np.log(last_left))
    )
    return found


def _log_sinhc(v: FloatArray) -> FloatArray:
    """log(sinh(v) / v) for v > 0."""
    v = np.maximum(v, 1e-8)
    found: FloatArray = v + np.log1p(-np.exp(-2 * v)) - np.log(2 * v)
    return found
