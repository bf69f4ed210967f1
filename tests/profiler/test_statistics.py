from math import comb

import numpy as np
import pytest

from autoprivacy.profiler.statistics import (
    coverage_of_median_interval,
    dispersion,
    median_interval,
    outliers,
    paired_ratio,
    quiet,
    ratio_interval,
    summarise,
    typical,
    weighted_quantile,
)


def test_quiet_is_the_5_percent_quantile() -> None:
    assert quiet([float(value) for value in range(101)]) == pytest.approx(5.0)
    assert quiet([7.0]) == 7.0
    # Position 0.05 * 4 = 0.2 of the way from the first of five values to the second.
    assert quiet([30.0, 10.0, 50.0, 20.0, 40.0]) == pytest.approx(12.0)


def test_typical_is_the_median() -> None:
    assert typical([9.0, 1.0, 2.0]) == 2.0
    assert typical([9.0, 1.0, 2.0, 4.0]) == 3.0


def test_outliers_do_not_move_either() -> None:
    values = [1.0 + index / 100 for index in range(40)]
    spoiled = [*values[:38], 100.0, 1000.0]
    assert quiet(spoiled) == quiet(values)
    assert typical(spoiled) == typical(values)


def coverage(count: int, outside: int) -> float:
    """P(the median lies between the values that leave `outside` others beyond each end), for continuous values."""
    return 1 - 2 * sum(comb(count, index) for index in range(outside + 1)) / 2.0**count


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("count", range(6, 31))
def test_the_median_interval_is_the_narrowest_that_covers(count: int, level: float) -> None:
    found = median_interval(range(count), level=level)
    if found is None:
        assert coverage(count, 0) < level
        return
    low, high = found
    outside = int(low)
    assert high == count - 1 - outside
    assert coverage(count, outside) >= level
    assert outside + 1 >= count / 2 or coverage(count, outside + 1) < level


@pytest.mark.parametrize("count", [3, 5, 6, 17, 20, 21, 100])
def test_an_interval_says_how_often_it_holds_the_median(count: int) -> None:
    found = median_interval(range(count))
    promised = coverage_of_median_interval(count)
    assert promised == (0.0 if found is None else pytest.approx(coverage(count, int(found[0]))))
    assert promised == 0.0 or promised >= 0.95


@pytest.mark.parametrize("count", range(1, 6))
def test_few_values_say_nothing_of_the_median(count: int) -> None:
    assert coverage(count, 0) < 0.95
    assert median_interval(range(count)) is None


def test_the_median_interval_depends_on_no_order_and_follows_the_scale() -> None:
    values = np.random.default_rng(3).exponential(1.0, 25)
    found = median_interval(values.tolist())
    assert found is not None
    low, high = found
    assert median_interval(sorted(values.tolist(), reverse=True)) == (low, high)
    assert median_interval((4 * values).tolist()) == (4 * low, 4 * high)
    assert low <= float(np.median(values)) <= high


def test_dispersion_and_outliers_by_hand() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 100.0]
    # Quartiles 3, 5 and 7: range 4; the fence is at 7 + 6.
    assert dispersion(values) == pytest.approx(4 / 5)
    assert outliers(values) == 1
    assert outliers([13.0, *values[1:]]) == 1
    assert outliers([*values[:-1], 13.0]) == 0


def test_typical_times_have_the_references_slow_down_divided_out() -> None:
    rng = np.random.default_rng(0)
    slowdowns = rng.uniform(1.0, 3.0, 42)
    found = summarise((1e-3 * slowdowns).tolist(), slowdowns.tolist(), rng)
    # The quiet time is a 5 % quantile of what was seen; without the slow-down every block took 1 ms.
    assert found.quiet_s == pytest.approx(1e-3 * quiet(slowdowns.tolist(), slowdowns.tolist()))
    assert 1e-3 * min(slowdowns) <= found.quiet_s < 1e-3 * quiet(slowdowns.tolist()), "spells count less"
    assert found.typical_s == found.quiet_s, "typical is never below quiet"
    assert found.seen_median_s == pytest.approx(1e-3 * float(np.median(slowdowns)))
    spells = np.where(np.arange(42) % 2, 1.0, 2.0)
    own = np.where(np.arange(42) < 8, 1.0, 1.2)
    found = summarise((1e-3 * spells * own).tolist(), spells.tolist(), rng)
    assert found.quiet_s == pytest.approx(1e-3)
    assert found.typical_s == pytest.approx(1.2e-3)
    assert found.blocks == 42


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.95])
@pytest.mark.parametrize("count", [2, 3, 7, 42])
def test_where_no_spell_was_all_count_alike(count: int, share: float) -> None:
    values = np.random.default_rng(count).exponential(1.0, (3, count))
    for weight in (1.0, 0.2):
        found = weighted_quantile(values, np.full((3, count), weight), share)
        assert found == pytest.approx(np.quantile(values, share, axis=1))
    assert quiet(values[0].tolist(), [0.98] * count) == pytest.approx(float(np.quantile(values[0], 0.05)))
    assert typical(values[0].tolist(), [1.3] * count) == pytest.approx(float(np.median(values[0])))


def test_a_value_that_counts_thrice_counts_as_three() -> None:
    values, weights = np.array([5.0, 1.0, 2.0, 9.0]), np.array([1.0, 1.0, 3.0, 1.0])
    # In order 1, 2, 5, 9 with weights 1, 3, 1, 1: between the middles of neighbours lie 2, 2 and 1.
    assert weighted_quantile(values, weights, 0.4) == pytest.approx(2.0)
    assert weighted_quantile(values, weights, 0.6) == pytest.approx(3.5)
    assert weighted_quantile(values, weights, 0.0) == 1.0
    assert weighted_quantile(values, weights, 1.0) == 9.0


@pytest.mark.parametrize("quiet_share", [0.15, 0.5, 1.0])
@pytest.mark.parametrize("steeper", [0.8, 1.0, 1.4])
def test_spells_move_neither_time_of_what_slows_down_otherwise_than_the_reference(
    steeper: float, quiet_share: float
) -> None:
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(40):
        spell = np.where(rng.random(56) < quiet_share, rng.uniform(1.0, 1.02, 56), rng.uniform(1.3, 1.6, 56))
        own = 1 + rng.exponential(0.02, 56)
        found = summarise((own * spell**steeper).tolist(), spell.tolist(), rng)
        ratios.append((found.quiet_s, found.typical_s))
    quiet_s, typical_s = np.mean(ratios, axis=0)
    # 1.01 times the 5 % quantile and the median of the exponential, give or take what few blocks tell.
    assert quiet_s == pytest.approx(1.01 * 1.001, abs=0.01)
    assert typical_s == pytest.approx(1.014, abs=0.015)


def test_a_summary_holds_its_own_values() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = (1 + rng.exponential(0.3, 42)).tolist()
        found = summarise(values, [1.0] * 42, rng)
        assert found.quiet_low_s <= found.quiet_s <= found.quiet_high_s
        assert found.typical_low_s <= found.typical_s <= found.typical_high_s
        assert found.quiet_s <= found.typical_s <= found.seen_p95_s


def disturbed(rng: np.random.Generator, count: int) -> list[float]:
    """Seconds as a shared machine gives them: a quiet time, its own noise, and now and then a spell of slow-down."""
    spell = np.where(rng.random(count) < 0.2, rng.uniform(1.2, 3.0, count), 1.0)
    seconds: list[float] = (1e-3 * (1 + rng.exponential(0.02, count)) * spell).tolist()
    return seconds


def test_the_same_operation_under_two_names_differs_as_often_as_promised() -> None:
    rng = np.random.default_rng(2)
    trials, blocks = 2000, 21
    held = 0
    for _ in range(trials):
        _, interval = paired_ratio(disturbed(rng, blocks), disturbed(rng, blocks))
        assert interval is not None
        held += interval[0] <= 1 <= interval[1]
    # At least 95 % are promised; with 21 values the narrowest interval holds in 97.3 %. Three sigmas are 1.1 %.
    assert held / trials == pytest.approx(0.9733, abs=0.012)


def test_a_true_difference_is_seen() -> None:
    rng = np.random.default_rng(3)
    second = disturbed(rng, 101)
    ratio, interval = paired_ratio([1.1 * value for value in disturbed(rng, 101)], second)
    assert interval is not None
    assert interval[0] > 1
    assert ratio == pytest.approx(1.1, rel=0.05)


def test_the_ratio_interval_holds_the_ratio_as_often_as_promised() -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        low, high = ratio_interval(disturbed(rng, 60), disturbed(rng, 60), rng)
        held += low <= 1 <= high
    assert held / 300 >= 0.9
