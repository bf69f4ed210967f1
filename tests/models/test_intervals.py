"""Half-widths of intervals hold what they say, of short predictions as of long ones."""

import numpy as np
import pytest

from autoprivacy.models.intervals import (
    LEAST_S,
    Erred,
    Spread,
    conformal_quantile,
    fit_spread,
    scores,
    spread_at,
    usual_spread,
)


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


def spoilt(rng: np.random.Generator, count: int) -> list[Erred]:
    """Settings on a line of ten octaves, in groups of four; beyond the seventh they err by ten times as much."""
    places = rng.uniform(0, 10, count)
    errors = rng.laplace(scale=np.where(places > 7, 0.1, 0.01))
    return [Erred(at // 4, (place,), error) for at, (place, error) in enumerate(zip(places, errors, strict=True))]


def test_calm_and_rough_places_are_held_more_alike_than_by_one_width() -> None:
    rng = np.random.default_rng(4)
    held: dict[str, list[bool]] = {"calm": [], "rough": [], "rough by one width": []}
    for _ in range(60):
        operations = [spoilt(rng, 40) for _ in range(3)]
        factor = conformal_quantile([score for seen in operations for score in scores(seen, 0.02)], 0.95)
        width = conformal_quantile([each.error for seen in operations for each in seen], 0.95)
        for seen in operations:
            for each in spoilt(rng, 20):
                inside = abs(each.error) <= factor * spread_at(each.place, seen, 0.02)
                if each.place[0] > 7:
                    held["rough"].append(inside)
                    held["rough by one width"].append(abs(each.error) <= width)
                else:
                    held["calm"].append(inside)
    shares = {name: np.mean(found) for name, found in held.items()}
    assert 0.93 < np.mean(held["calm"] + held["rough"]) < 0.98
    assert shares["rough"] > shares["rough by one width"] + 0.02
    assert shares["calm"] < 0.995


def test_a_group_does_not_judge_itself() -> None:
    """One that errs much, where others of its group do, is as surprising as if it were alone."""
    calm = [Erred(at, (float(at),), 0.01) for at in range(8)]
    rough = [Erred(99, (20.0,), 0.5), Erred(99, (20.1,), 0.5)]
    found = scores([*calm, *rough], 0.01)
    assert found[-1] == pytest.approx(0.5 / spread_at((20.1,), calm, 0.01))
    assert found[-1] > 40


def test_where_nothing_near_was_seen_the_usual_error_stands_in() -> None:
    seen = [Erred(at, (0.0,), 0.02) for at in range(4)]
    assert usual_spread([], 0.05) == spread_at((3.0,), [], 0.05) == 0.05
    assert usual_spread(seen, 0.05) == pytest.approx((4 * 0.05 + 4 * 0.02) / 8)
    assert spread_at((50.0,), seen, 0.05) == pytest.approx(usual_spread(seen, 0.05))
    assert spread_at((0.0,), seen, 0.05) < usual_spread(seen, 0.05)
