from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autoprivacy.networks.rounding import signed_range, step_exponent, step_exponents, to_integers, unsigned_range


@given(scaled=st.floats(-1000, 1000, width=32))
def test_rounding_is_half_up(scaled: float) -> None:
    expected = (Fraction(scaled) + Fraction(1, 2)).__floor__()
    for kind in (np.float32, np.float64):
        assert to_integers(np.array([scaled], dtype=kind), -2000, 2000).item() == expected


def test_rounding_does_not_round_twice() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert to_integers(np.array([below]), 0, 9).item() == 0


def test_ranges_by_hand() -> None:
    assert signed_range(4) == (-8, 7)
    assert unsigned_range(4) == (0, 15)


@given(
    sixteenths=st.lists(st.integers(-2000, 2000), min_size=1, max_size=8),
    bits=st.integers(2, 6),
    signed=st.booleans(),
)
def test_the_step_has_the_least_squared_error_of_all_powers_of_two(
    sixteenths: list[int], bits: int, *, signed: bool
) -> None:
    low, high = signed_range(bits) if signed else unsigned_range(bits)
    values = [Fraction(each if signed else abs(each), 16) for each in sixteenths]

    def error(exponent: int) -> Fraction:
        step = Fraction(2) ** -exponent
        rounded = [min(max((value / step + Fraction(1, 2)).__floor__(), low), high) * step for value in values]
        return sum(((value - each) ** 2 for value, each in zip(values, rounded, strict=True)), Fraction(0))

    chosen = step_exponent(np.array([float(value) for value in values]), low, high)
    assert error(chosen) == min(error(exponent) for exponent in range(-12, 14))


@given(seed=st.integers(0, 2**32), bits=st.integers(2, 8))
def test_rows_have_their_own_steps(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((5, 7)) * np.exp(rng.normal(0, 20, (5, 1)))
    rows[2] = 0
    low, high = signed_range(bits)
    assert step_exponents(rows, low, high).tolist() == [step_exponent(row, low, high) for row in rows]
    assert step_exponents(rows, low, high)[2] == 0
    # A step is a power of two, so scaling by one only moves the exponent.
    assert (step_exponents(rows * 2.0**30, low, high) == step_exponents(rows, low, high) - 30)[[0, 1, 3, 4]].all()
