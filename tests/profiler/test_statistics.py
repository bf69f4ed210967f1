from math import comb

import numpy as np
import pytest

from autoprivacy.profiler.statistics import median_interval, quiet, quiet_interval, typical


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


@pytest.mark.parametrize("seed", range(20))
def test_the_quiet_interval_holds_the_quiet_time(seed: int) -> None:
    values = (1 + np.random.default_rng(seed).exponential(0.2, 42)).tolist()
    low, high = quiet_interval(values, np.random.default_rng(seed))
    assert min(values) <= low <= quiet(values) <= high <= max(values)
    assert low < high


def test_the_quiet_interval_of_equal_values_is_that_value() -> None:
    assert quiet_interval([2.0] * 42, np.random.default_rng(0)) == (2.0, 2.0)


def test_a_higher_level_gives_a_wider_interval() -> None:
    values = np.random.default_rng(1).exponential(1.0, 42).tolist()
    narrow = quiet_interval(values, np.random.default_rng(0), level=0.5)
    wide = quiet_interval(values, np.random.default_rng(0), level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(1).exponential(1.0, 42).tolist()
    first, second = (quiet_interval(values, np.random.default_rng(7)) for _ in range(2))
    assert first == second


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
