"""The law of noise against numerical integration, known tails and draws."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from autoprivacy.protocol.error_law import NARROW, NoiseLaw, log_normal_integral

NO_SECANTS = np.zeros((1, 0))


def law(deviation, half_widths=(), secants=NO_SECANTS):
    return NoiseLaw(np.array([deviation], np.float64), half_widths, np.asarray(secants, np.float64))


@pytest.mark.parametrize("z", [-8.0, -1.0, 0.0, 0.5, 3.0, 19.0, 19.99, 20.01, 38.0])
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_integrals_of_the_normal_tail_are_those_of_a_quadrature(k, z):
    def integrand(u):
        # The k-fold integral of the tail is the mean of (z' - z)^k / k! beyond z; its peak is divided out.
        return u**k * np.exp(-z * u - u * u / 2 - (min(z, 0.0) ** 2) / 2)

    value, _ = integrate.quad(integrand, 0, 60, points=[max(-z, 0.01)], limit=200)
    expected = np.log(value / np.sqrt(2 * np.pi)) - max(0, z) ** 2 / 2
    expected -= np.log([1, 1, 2, 6][k])
    assert float(log_normal_integral(k, np.array(z))) == pytest.approx(expected, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("limit", [0.5, 3.0, 8.0, 40.0, 1e4])
def test_a_normal_tail_never_underflows(limit):
    assert law(1.0).log_tail(limit)[0] == pytest.approx(np.log(2) + stats.norm.logsf(limit), rel=1e-9)


@pytest.mark.parametrize("deviation", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("half_widths", [(0.3,), (2.0,), (2.0, 0.7)])
@pytest.mark.parametrize("limit", [0.5, 2.0, 4.0])
def test_tails_with_uniform_terms_are_those_of_a_quadrature(deviation, half_widths, limit):
    def tail(shift, widths):
        if not widths:
            return stats.norm.sf((limit + shift) / deviation)
        a = widths[0]
        kinks = [limit - sum(widths[1:]), limit + sum(widths[1:])]
        points = sorted({p for p in kinks if -a < p < a})
        return integrate.quad(lambda u: tail(shift + u, widths[1:]), -a, a, points=points or None)[0] / (2 * a)

    expected = 2 * tail(0.0, half_widths)
    assert np.exp(law(deviation, half_widths).log_tail(limit)[0]) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_narrow_uniform_terms_count_as_normal_without_a_step():
    for limit in (0.5, 3.0, 7.0):
        below, above = (law(1.0, (NARROW * factor,)).log_tail(limit)[0] for factor in (0.999, 1.001))
        assert below == pytest.approx(above, abs=1e-3)


@pytest.mark.parametrize(
    ("deviation", "half_widths"), [(0.02, ()), (0.3, ()), (2.5, ()), (0.2, (0.9,)), (0.02, (1.6, 0.4))]
)
def test_both_ways_of_rounding_do_to_draws_what_is_stated(deviation, half_widths):
    rng = np.random.default_rng(5)
    stated = law(deviation, half_widths)
    x = stated.sample(rng, 1_000_000)[:, 0]
    assert x.var() == pytest.approx(stated.variance[0], rel=0.01)
    shared = np.floor(x + rng.random(x.shape))
    assert (shared != 0).mean() == pytest.approx(np.exp(stated.log_shared_error()[0]), rel=0.03)
    assert shared.var() == pytest.approx(stated.shared_variance()[0], rel=0.03)
    nearest = np.rint(x)
    assert (nearest != 0).mean() == pytest.approx(np.exp(stated.log_tail(0.5)[0]), rel=0.03, abs=1e-5)
    assert nearest.var() == pytest.approx(stated.rounded_variance()[0], rel=0.03, abs=1e-5)


def test_share_rounding_of_small_noise_errs_by_its_mean_size():
    for deviation in (1e-2, 1e-5, 1e-12):
        error = np.exp(law(deviation).log_shared_error()[0])
        assert error == pytest.approx(deviation * np.sqrt(2 / np.pi), rel=1e-6)
        # Of errors of one unit the variance is the rate.
        assert law(deviation).shared_variance()[0] == pytest.approx(error, rel=1e-6)


def test_rounding_wide_noise_adds_a_twelfth():
    for deviation in (3.0, 49.9, 50.1, 1e5):
        assert law(deviation).rounded_variance()[0] == pytest.approx(deviation**2 + 1 / 12, rel=1e-9)
        assert law(deviation).shared_variance()[0] == pytest.approx(deviation**2 + 1 / 6, rel=1e-9)


def test_the_tail_of_a_secant_is_bounded_and_not_by_much():
    # P(|x| > h) = (4 / pi) arctan(exp(-pi h / 2r)) for a hyperbolic secant of deviation r.
    for limit in (2.0, 5.0, 18.0):
        exact = np.log(4 / np.pi * np.arctan(np.exp(-np.pi * limit / 2)))
        bound = law(1e-6, (), [[1.0]]).log_tail(limit)[0]
        assert exact <= bound < exact + 1.1 + np.log(limit * np.pi / 2)


def test_a_secant_is_a_normal_term_of_the_energy_of_key_noise():
    # What a key determines is its noise times 1 + X + ... + X^(n-1), seen through weights that look random.
    rng = np.random.default_rng(8)
    n = 256
    key = rng.standard_normal((200_000, n)).cumsum(axis=1, dtype=np.float32)
    running = 2 * key - key[:, -1:]
    x = np.sqrt((running**2).mean(axis=1) / n) * rng.standard_normal(len(key))
    assert x.var() == pytest.approx(1, rel=0.02)
    for limit in (1.0, 2.0, 3.0, 4.0):
        expected = 4 / np.pi * np.arctan(np.exp(-np.pi * limit / 2))
        assert (np.abs(x) > limit).mean() == pytest.approx(expected, rel=0.05)


def test_more_noise_is_never_less_likely_to_err():
    for half_widths in ((), (0.2,), (0.2, 1.0)):
        tails = [law(deviation, half_widths).log_tail(2.0)[0] for deviation in np.geomspace(0.01, 20, 60)]
        assert all(first <= second + 1e-9 for first, second in pairwise(tails))
        shared = [law(deviation, half_widths).log_shared_error()[0] for deviation in np.geomspace(0.01, 20, 60)]
        assert all(first <= second + 1e-9 for first, second in pairwise(shared))


def test_secants_that_hardly_count_change_nothing():
    plain, mixed = law(1.0), law(1.0, (), [[1e-9, 1e-9]])
    for limit in (1.0, 7.0):
        assert plain.log_tail(limit)[0] <= mixed.log_tail(limit)[0] < plain.log_tail(limit)[0] + 4
    assert mixed.log_shared_error()[0] == pytest.approx(plain.log_shared_error()[0])
