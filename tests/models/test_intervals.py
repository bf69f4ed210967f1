"""Half-widths of intervals hold what they say, of short predictions as of long ones."""

import numpy as np
import pytest

from autoprivacy.models.intervals import LEAST_S, Spread, conformal_quantile, fit_spread


def test_conformal_quantiles_hold_their_level() -> None:
    rng = np.random.default_rng(1)
    hits = [abs(rng.normal()) <= conformal_quantile(rng.normal(size=39).tolist(), 0.95) for _ in range(4000)]
    assert 0.94 < np.mean(hits) < 0.965


def drawn(rng: np.random.Generator, count: int, more_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors of 2 % and more, and what was predicted: a millisecond to a tenth of a second."""
    seconds = np.exp(rng.uniform(np.log(1e-3), np.log(0.1), count))
    return rng.laplace(scale=0.02 * (1 + more_s / seconds)), seconds


def held(spread: Spread, errors: np.ndarray, seconds: np.ndarray) -> float:
    widths = [spread.half_width(each) for each in seconds.tolist()]
    return float(np.mean(np.abs(errors) <= widths))


@pytest.mark.parametrize("more_s", [0.0, 1e-3, 4e-3])
def test_short_and_long_predictions_are_held_alike(more_s: float) -> None:
    rng, short, long = np.random.default_rng(2), [], []
    for _ in range(200):
        errors, seconds = drawn(rng, 100, more_s)
        spread = fit_spread(errors.tolist(), seconds.tolist(), 0.95)
        fresh, lengths = drawn(rng, 100, more_s)
        short.append(held(spread, fresh[lengths < 5e-3], lengths[lengths < 5e-3]))
        long.append(held(spread, fresh[lengths > 2e-2], lengths[lengths > 2e-2]))
    assert 0.92 < np.mean(short) < 0.975
    assert 0.93 < np.mean(long) < 0.98


def test_errors_that_are_alike_at_any_length_have_one_width() -> None:
    errors, seconds = drawn(np.random.default_rng(3), 4000, 0.0)
    spread = fit_spread(errors.tolist(), seconds.tolist(), 0.95)
    assert spread.more_s == 0.0
    assert spread.half_width(1e-3) == spread.half_width(1.0) == pytest.approx(-0.02 * np.log(0.05), rel=0.1)


def test_nothing_that_was_seen_leaves_everything_open() -> None:
    assert fit_spread([], [], 0.95) == Spread(1.0, 0.0)
    assert fit_spread([0.0, 0.0], [1.0, 2.0], 0.8) == Spread(0.0, 0.0)
    assert Spread(0.1, 1e-3).half_width(0.0) == Spread(0.1, 1e-3).half_width(LEAST_S)
