"""The arithmetic behind the figures of `benchmarks.prediction`, on points that were written down here."""

import pytest

from benchmarks.prediction_figures import Point, coverage, mape, order, within
from benchmarks.unseen import SEED, layer_cases, operation_workloads, setting_key


def points(errors: list[float], half_width: float) -> list[Point]:
    return [Point(str(index), 1 + error, 1.0, half_width) for index, error in enumerate(errors)]


def test_errors_are_relative_to_what_was_measured() -> None:
    assert mape([Point("", 3.0, 2.0), Point("", 4.0, 4.0)]) == 25.0
    assert within([Point("", 3.0, 2.0), Point("", 4.0, 4.0)], 0.1) == 50.0


def test_coverage_holds_its_level_from_both_sides() -> None:
    """19 of 20 is 95 %; 40 of 80 is not; nor are intervals that hold all of 400 points, far wider than errors."""
    right = points([0.1] * 19 + [0.5], 0.2)
    assert coverage(right, 0.95)["ok"]
    assert not coverage(points([0.1, 0.5] * 40, 0.2), 0.95)["ok"]
    held = coverage(points([0.1] * 400, 0.15), 0.95)
    assert held["covered"] == 1.0
    assert not held["ok"]
    assert not coverage(points([0.01] * 20, 0.5), 0.95)["ok"]


def test_the_binomial_interval_is_the_exact_one() -> None:
    """8 of 10 at 99 %: [0.3517, 0.9891], from tables of the beta distribution."""
    low, high = coverage(points([0.1] * 8 + [0.5] * 2, 0.2), 0.95)["interval"]
    assert (low, high) == pytest.approx((0.3517, 0.9891), abs=5e-4)


def test_only_pairs_that_differ_by_5_to_50_percent_are_asked_for() -> None:
    near, far, between = Point("a", 1.0, 1.0), Point("b", 2.0, 2.0), Point("c", 0.9, 1.2)
    assert order([[near, far]]) == (0.0, 0)
    assert order([[near, between]]) == (0.0, 1)
    assert order([[near, Point("d", 1.1, 1.2)], [near, between]]) == (50.0, 2)


def test_settings_are_those_of_their_seed() -> None:
    one, again = ([each.key for each in operation_workloads(SEED, 40)] for _ in range(2))
    assert one == again
    assert one != [each.key for each in operation_workloads(SEED + 1, 40)]
    assert len({setting_key(each.work) for each in operation_workloads(SEED, 40)}) > 20


def test_policies_of_a_layer_differ_and_both_packings_are_there() -> None:
    cases = layer_cases(SEED, 0, 5)
    assert {layer.policy.packing for case in cases for layer in case.agreement.layers} == {"coefficients", "slots"}
    assert len({case.agreement.digest() for case in cases}) > 3
    assert [case.agreement.digest() for case in cases] == [case.agreement.digest() for case in layer_cases(SEED, 0, 5)]
