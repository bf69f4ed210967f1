"""Circuits in the clear, against integer arithmetic, and their AND gates, against known counts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.circuits import (
    ONE,
    ZERO,
    CircuitBuilder,
    from_bits,
    relu_requantise,
    relu_requantise_and_gates,
    to_bits,
)

Words = NDArray[np.uint64]


def reference(
    server: Words, client: Words, mask: Words, l_in: int, shift: int, bits: int, l_out: int, *, relu: bool
) -> Words:
    """The same function on Python integers, which have no width to get wrong."""
    results = []
    for s, c, r in zip(server.tolist(), client.tolist(), mask.tolist(), strict=True):
        v = (s + c) % 2**l_in
        v -= 2**l_in if v >= 2 ** (l_in - 1) else 0
        low, high = (0, 2**bits - 1) if relu else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        results.append((min(max(v // 2**shift, low), high) - r) % 2**l_out)
    return np.array(results, dtype=np.uint64)


def run(server: Words, client: Words, mask: Words, widths: tuple[int, int, int, int], *, relu: bool) -> Words:
    circuit = relu_requantise(*widths, relu=relu)
    bits = np.concatenate([to_bits(server, widths[0]), to_bits(client, widths[0]), to_bits(mask, widths[3])])
    return from_bits(circuit.evaluate_clear(bits))


SMALL = [
    (l_in, shift, bits, l_out)
    for l_in in range(1, 5)
    for shift in range(l_in)
    for l_out in range(1, 5)
    for bits in range(1, l_out + 1)
]


@pytest.mark.parametrize("relu", [True, False])
def test_requantisation_is_right_for_every_input_of_every_small_width(relu: bool) -> None:  # noqa: FBT001 - a parameter
    for l_in, shift, bits, l_out in SMALL:
        every = itertools.product(range(2**l_in), range(2**l_in), range(2**l_out))
        server, client, mask = np.array(list(every), dtype=np.uint64).T
        np.testing.assert_array_equal(
            run(server, client, mask, (l_in, shift, bits, l_out), relu=relu),
            reference(server, client, mask, l_in, shift, bits, l_out, relu=relu),
            err_msg=f"l_in={l_in} shift={shift} bits={bits} l_out={l_out}",
        )


@st.composite
def widths(draw: st.DrawFn) -> tuple[int, int, int, int]:
    l_in = draw(st.integers(1, 64))
    l_out = draw(st.integers(1, 64))
    return l_in, draw(st.integers(0, l_in - 1)), draw(st.integers(1, l_out)), l_out


@given(widths=widths(), relu=st.booleans(), seed=st.integers(0, 2**32))
def test_requantisation_is_right_at_any_width(widths: tuple[int, int, int, int], relu: bool, seed: int) -> None:  # noqa: FBT001
    l_in, _, _, l_out = widths
    rng = np.random.default_rng(seed)
    server, mask = (rng.integers(0, 2**64, 64, dtype=np.uint64) >> np.uint64(64 - width) for width in (l_in, l_out))
    # Values of every magnitude and both signs, and the two ends of the range.
    magnitude = rng.integers(0, 2**63, 64, dtype=np.int64) >> rng.integers(0, 63, 64)
    value = np.where(rng.integers(0, 2, 64) == 1, magnitude, -magnitude)
    value[:2] = 2 ** (l_in - 1) - 1, -(2 ** (l_in - 1))
    low_bits = np.uint64(2**l_in - 1)
    client = (value.astype(np.uint64) - server) & low_bits
    np.testing.assert_array_equal(
        run(server, client, mask, widths, relu=relu), reference(server, client, mask, *widths, relu=relu)
    )


@given(widths=widths(), relu=st.booleans())
def test_closed_form_counts_the_gates(widths: tuple[int, int, int, int], relu: bool) -> None:  # noqa: FBT001
    assert relu_requantise(*widths, relu=relu).and_gates == relu_requantise_and_gates(*widths, relu=relu)


def test_closed_form_counts_the_gates_of_every_small_width() -> None:
    for case in SMALL:
        for relu in (True, False):
            assert relu_requantise(*case, relu=relu).and_gates == relu_requantise_and_gates(*case, relu=relu), case


@pytest.mark.parametrize(("width", "known"), [(21, 60), (32, 93), (41, 120)])
def test_a_plain_relu_takes_the_known_number_of_gates(width: int, known: int) -> None:
    assert relu_requantise(width, 0, width - 1, width).and_gates == known


def test_shares_and_mask_belong_to_the_right_side() -> None:
    assert relu_requantise(3, 1, 2, 4).server_inputs.tolist() == [True] * 3 + [False] * 3 + [True] * 4


@pytest.mark.parametrize(
    "bad", [(0, 0, 1, 1), (65, 0, 1, 1), (8, 8, 4, 4), (8, -1, 4, 4), (8, 0, 5, 4), (8, 0, 0, 4), (8, 0, 4, 65)]
)
def test_widths_that_do_not_fit_are_refused(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(InvalidPolicy):
        relu_requantise(*bad)
    with pytest.raises(InvalidPolicy):
        relu_requantise_and_gates(*bad)


def test_builder_folds_what_is_known() -> None:
    builder = CircuitBuilder()
    a, b = builder.inputs(1, server=True) + builder.inputs(1, server=False)
    not_a = builder.not_(a)
    assert builder.not_(not_a) == a
    assert [builder.xor(a, ZERO), builder.xor(ONE, a), builder.xor(a, a), builder.xor(not_a, a)] == [
        a,
        not_a,
        ZERO,
        ONE,
    ]
    assert [builder.and_(a, ZERO), builder.and_(ONE, a), builder.and_(a, a), builder.and_(a, not_a)] == [
        ZERO,
        a,
        a,
        ZERO,
    ]
    assert builder.build([builder.and_(a, b)]).gates.tolist() == [[0, 0, 1]]


def test_builder_refuses_constant_outputs_and_late_inputs() -> None:
    builder = CircuitBuilder()
    (a,) = builder.inputs(1, server=True)
    with pytest.raises(ValueError, match="constant"):
        builder.build([builder.xor(a, a)])
    builder.not_(a)
    with pytest.raises(ValueError, match="before gates"):
        builder.inputs(1, server=True)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9), st.integers(1, 64))
def test_bits_are_little_endian(values: list[int], width: int) -> None:
    bits = to_bits(np.array(values, dtype=np.uint64), width)
    assert bits.T.tolist() == [[value >> i & 1 for i in range(width)] for value in values]
    assert from_bits(bits).tolist() == [value % 2**width for value in values]
