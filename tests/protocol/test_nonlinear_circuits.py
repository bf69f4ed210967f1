"""Circuits for any modulus, against integer arithmetic written here, and their AND gates, against the closed form."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.networks import reference
from autoprivacy.networks.integer_network import Requantise
from autoprivacy.protocol.circuits import Argmax, Nonlinear

LARGE = [1 << 21, 1 << 32, 1 << 64, 1032193, 557057, 4294967291, 2061584302081, 2**61 - 1]
"""Powers of two and primes, those of known systems among them."""


def value_of(first, second, modulus):
    """What two shares stand for, by rational arithmetic."""
    total = Fraction((first + second) % modulus)
    return int(total - modulus if total >= Fraction(modulus, 2) else total)


def expected(rule, servers, clients, masks):
    """One instance, on Python integers."""
    values = []
    for first, second in zip(servers, clients, strict=True):
        quotient = value_of(first, second, rule.modulus_in) // 2**rule.shift
        if rule.relu:
            least, most = 0, 2**rule.bits - 1 if rule.maximum is None else rule.maximum
        else:
            least, most = -(2 ** (rule.bits - 1)), 2 ** (rule.bits - 1) - 1
        values.append(max(least, min(most, quotient)))
    return [(max(values) - mask) % modulus for mask, modulus in zip(masks, rule.moduli_out, strict=True)]


def run(rule, servers, clients, masks):
    """All instances: rows of values (or moduli), columns of instances."""
    servers, clients, masks = (np.array(rows, dtype=np.uint64) for rows in (servers, clients, masks))
    bits = np.concatenate([rule.server_bits(servers, masks), rule.client_bits(clients)])
    circuit = rule.circuit
    ordered = np.empty_like(bits)
    count = np.count_nonzero(circuit.server_inputs)
    ordered[circuit.server_inputs], ordered[~circuit.server_inputs] = bits[:count], bits[count:]
    return rule.shares_of(circuit.evaluate_clear(ordered))


def agree(rule, servers, clients, masks):
    got = run(rule, servers, clients, masks)
    columns = zip(zip(*servers, strict=True), zip(*clients, strict=True), zip(*masks, strict=True), strict=True)
    assert got.T.tolist() == [expected(rule, *column) for column in columns], rule


def bits_that_fit(moduli):
    return range(1, min(moduli).bit_length())


def small_rules():
    for modulus in (2, 3, 4, 5, 8, 11):
        width = (modulus - 1).bit_length()
        for modulus_out in (2, 3, 4, 5, 8):
            for shift in range(width):
                for bits in bits_that_fit([modulus_out]):
                    yield Nonlinear(modulus, shift, bits, (modulus_out,), relu=False)
                    for maximum in range(1, 1 << bits):
                        yield Nonlinear(modulus, shift, bits, (modulus_out,), relu=True, maximum=maximum)


def test_every_input_of_every_small_modulus() -> None:
    for rule in small_rules():
        every = itertools.product(range(rule.modulus_in), range(rule.modulus_in), range(rule.moduli_out[0]))
        server, client, mask = zip(*every, strict=True)
        agree(rule, [server], [client], [mask])


def test_the_closed_form_counts_the_gates_of_every_small_modulus() -> None:
    for rule in small_rules():
        assert rule.circuit.and_gates == rule.and_gates, rule


@pytest.mark.parametrize("modulus", [4, 5, 7])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("window", [2, 3])
def test_every_input_of_small_windows(modulus, relu, window) -> None:
    """All pairs of shares of all values in the window; masks at random, as they are added last."""
    rng = np.random.default_rng(1)
    for shift, bits in itertools.product((0, 1), (1, 2)):
        rule = Nonlinear(modulus, shift, bits, (5, 4), relu, window=window)
        own, theirs = range(modulus), range(modulus) if window == 2 else (0, modulus // 2, modulus - 1)
        columns = list(itertools.product(*[own] * window, *[theirs] * window))
        rows = list(zip(*columns, strict=True))
        masks = [rng.integers(0, m, len(columns)).tolist() for m in rule.moduli_out]
        agree(rule, rows[:window], rows[window:], masks)
        assert rule.circuit.and_gates == rule.and_gates


@st.composite
def rules(draw):
    modulus = draw(
        st.sampled_from(LARGE)
        | st.integers(1, 64).map(lambda k: 1 << k)
        | st.integers(1, 2**63 - 1).map(lambda k: 2 * k + 1)
    )
    moduli_out = tuple(draw(st.lists(st.sampled_from([*LARGE, 2, 4, 12289, 65537]), min_size=1, max_size=3)))
    bits = draw(st.integers(1, min(moduli_out).bit_length() - 1))
    relu = draw(st.booleans())
    maximum = draw(st.none() | st.integers(1, (1 << bits) - 1)) if relu else None
    shift = draw(st.integers(0, (modulus - 1).bit_length() - 1))
    return Nonlinear(modulus, shift, bits, moduli_out, relu, maximum, draw(st.integers(1, 4)))


@settings(deadline=None)
@given(rule=rules(), seed=st.integers(0, 2**32))
def test_any_modulus_width_and_window(rule, seed) -> None:
    """Values of every magnitude and both signs, the two ends of the range and the places where clamping starts."""
    rng = np.random.default_rng(seed)

    def word(below):
        return int.from_bytes(rng.bytes(9), "little") % below

    servers, clients, masks = [], [], []
    for row in range(rule.window):
        half = rule.modulus_in // 2
        edges = [0, -1, half - 1, -half, rule.bits << rule.shift, (1 << (rule.bits + rule.shift)) - 1 + row]
        values = edges + [(word(2 * half + 1) - half) >> word(rule.width_in) for _ in range(20)]
        own = [word(rule.modulus_in) for _ in values]
        servers.append(own)
        clients.append([(value - mine) % rule.modulus_in for value, mine in zip(values, own, strict=True)])
    masks = [[word(modulus) for _ in servers[0]] for modulus in rule.moduli_out]
    agree(rule, servers, clients, masks)
    assert rule.circuit.and_gates == rule.and_gates


@pytest.mark.parametrize("width", [21, 32, 41])
def test_a_relu_with_fresh_masks_takes_no_more_gates_than_known(width) -> None:
    prime = {21: 2**21 - 9, 32: 4294967291, 41: 2061584302081}[width]
    assert Nonlinear(1 << width, 0, width - 1, (1 << width,)).and_gates == 3 * (width - 1)
    assert Nonlinear(prime, 0, width - 1, (prime,)).and_gates == 6 * width - 3 <= 8 * width - 4


@pytest.mark.parametrize("modulus", [1 << 32, 4294967291])
def test_fewer_kept_bits_take_fewer_gates(modulus) -> None:
    counts = [Nonlinear(modulus, shift, 4, (1 << 8,)).and_gates for shift in range(0, 30, 4)]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == len(counts)


@pytest.mark.parametrize(("relu", "maximum"), [(True, None), (False, None), (True, 11)])
def test_the_meaning_is_the_integer_networks(relu, maximum) -> None:
    rng = np.random.default_rng(5)
    values = rng.integers(-(1 << 11), 1 << 11, 500)
    own, mask = rng.integers(0, 4093, (1, 500)), rng.integers(0, 257, (1, 500))
    rule = Nonlinear(4093, 5, 4, (257,), relu, maximum)
    values = np.clip(values, -2046, 2046)
    got = run(rule, own, (values - own) % 4093, mask)
    right = reference.requantise(Requantise(np.array([5]), 4, relu=relu, maximum=maximum), values.reshape(1, 1, 500, 1))
    np.testing.assert_array_equal((got[0].astype(np.int64) + mask[0]) % 257, right.ravel() % 257)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((6, 0, 1, (4,)), "modulus_in = 6"),
        ((8, 3, 1, (4,)), "shift = 3: use 0 to 2"),
        ((8, 0, 3, (5,)), "do not fit modulo 5; use 1 to 2"),
        ((8, 0, 1, (10,)), "modulus_out = 10"),
        ((8, 0, 1, ()), "at least one modulus"),
        ((8, 0, 2, (4,), True, 4), "maximum = 4: use 1 to 3"),
        ((8, 0, 2, (4,), False, 2), "only with ReLU"),
        ((8, 0, 2, (4,), True, None, 0), "one value a window"),
    ],
)
def test_what_does_not_fit_is_refused(bad, message) -> None:
    with pytest.raises(InvalidPolicy, match=message):
        Nonlinear(*bad)


def argmax(circuit, servers, clients):
    servers, clients = (np.array(rows, dtype=np.uint64) for rows in (servers, clients))
    bits = np.concatenate([circuit.server_bits(servers), circuit.client_bits(clients)])
    return circuit.indices_of(circuit.circuit.evaluate_clear(bits)).tolist()


@pytest.mark.parametrize("modulus", [2, 4, 5])
def test_argmax_of_three_for_every_input(modulus) -> None:
    columns = list(itertools.product(range(modulus), repeat=6))
    rows = list(zip(*columns, strict=True))
    right = [
        int(np.argmax([value_of(a, b, modulus) for a, b in zip(column[:3], column[3:], strict=True)]))
        for column in columns
    ]
    assert argmax(Argmax(modulus, 3), rows[:3], rows[3:]) == right


@settings(deadline=None, max_examples=15)
@given(classes=st.integers(2, 24), modulus=st.sampled_from(LARGE), seed=st.integers(0, 2**32))
def test_argmax_is_the_first_of_the_greatest(classes, modulus, seed) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 3, (classes, 8)) * rng.integers(1, modulus // 8, (1, 8), dtype=np.int64)
    own = rng.integers(0, modulus, (classes, 8), dtype=np.uint64)
    theirs = [
        [(v - o) % modulus for v, o in zip(*pair, strict=True)]
        for pair in zip(values.tolist(), own.tolist(), strict=True)
    ]
    circuit = Argmax(modulus, classes)
    assert argmax(circuit, own, theirs) == np.argmax(values, axis=0).tolist()
    assert circuit.circuit.and_gates == circuit.and_gates


def test_argmax_needs_a_choice() -> None:
    with pytest.raises(InvalidPolicy, match="nothing to choose"):
        Argmax(16, 1)
