"""Our own rings against schoolbook arithmetic with Python's integers, on every path that this machine has."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol import _ring
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.he_set import he_set_for, ntt_primes
from autoprivacy.protocol.randomness import secret_bytes
from autoprivacy.protocol.ring_he import RingServer
from autoprivacy.protocol.rings import ring_of, word_type
from tests.protocol.interpreters import seal_pair

N = 32
SIZES = ((26,), (29, 30), (31,), (53,), (60, 49), (60, 60, 60), (20, 60))


def paths():
    for name in ("portable", "avx2", "avx512"):
        try:
            _ring.NarrowRing(N, [97 * 64 + 1], name)
        except ValueError as error:
            if "is no prime" in str(error) or "must be" in str(error):
                yield name
        else:
            yield name


PATHS = tuple(paths())


def negacyclic(a, b, q):
    found = [0] * len(a)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            place = i + j
            found[place % len(a)] += x * y if place < len(a) else -x * y
    return [value % q for value in found]


def random_words(rng, primes, polys, n=N):
    words = [[[int(rng.integers(0, q)) for _ in range(n)] for q in primes] for _ in range(polys)]
    return np.array(words, np.uint64).astype(word_type(primes))


def test_the_portable_path_is_always_there():
    assert "portable" in PATHS


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sizes", SIZES)
def test_sums_of_products_are_negacyclic(sizes, path):
    rng = np.random.default_rng(sum(sizes))
    primes = tuple(q for size in dict.fromkeys(sizes) for q in ntt_primes(N, size, sizes.count(size)))
    ring = ring_of(N, primes, path)
    for terms in (1, 2, 5, 9):
        left = [random_words(rng, primes, 2) for _ in range(terms)]
        right = [rng.integers(-(2**40), 2**40, N) for _ in range(terms)]
        transformed = [ring.forward(each) for each in left]
        assert all(np.array_equal(ring.inverse(f), x) for f, x in zip(transformed, left, strict=True))
        found = ring.inverse(ring.multiply_accumulate(transformed, [ring.encode(each) for each in right]))
        for poly in range(2):
            for limb, q in enumerate(primes):
                products = [negacyclic(x[poly, limb].tolist(), w.tolist(), q) for x, w in zip(left, right, strict=True)]
                assert found[poly, limb].tolist() == [sum(column) % q for column in zip(*products, strict=True)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bits", [26, 30, 53, 60, 61])
def test_sums_of_the_largest_words_do_not_overflow(bits, path):
    (q,) = ntt_primes(N, bits, 1)
    ring, terms = ring_of(N, (q,), path), 1200
    largest = np.full((2, 1, N), q - 1).astype(word_type((q,)))
    found = ring.multiply_accumulate([largest] * terms, [largest[0]] * terms)
    assert np.all(found == terms * (q - 1) ** 2 % q)


@settings(deadline=None)
@given(st.integers(2, 1 << 20), st.integers(0, 2**32), st.sampled_from(SIZES))
def test_plaintexts_are_added_at_their_scale(t, seed, sizes):
    rng = np.random.default_rng(seed)
    primes = tuple(q for size in dict.fromkeys(sizes) for q in ntt_primes(N, size, sizes.count(size)))
    words, plain, q = random_words(rng, primes, 2), rng.integers(0, t, N), prod(primes)
    found = ring_of(N, primes).add_plain(words, plain, t)
    assert np.array_equal(found[1], words[1])
    for limb, prime in enumerate(primes):
        for before, m, after in zip(words[0, limb].tolist(), plain.tolist(), found[0, limb].tolist(), strict=True):
            # Rounded to nearest, halves up, as SEAL does.
            assert after == (before + (q * m + (t + 1) // 2) // t) % prime


@pytest.mark.parametrize("sizes", [(29, 30), (60, 49), (60, 60, 60), (20, 60)])
def test_dropping_a_limb_divides_and_rounds(sizes):
    rng = np.random.default_rng(4)
    primes = tuple(q for size in dict.fromkeys(sizes) for q in ntt_primes(N, size, sizes.count(size)))
    q, last = prod(primes), primes[-1]
    values = [int.from_bytes(rng.bytes(32), "little") % q for _ in range(2 * N)]
    words = np.array([[value % prime for value in values] for prime in primes], np.uint64)
    words = words.reshape(len(primes), 2, N).swapaxes(0, 1).astype(word_type(primes))
    found = ring_of(N, primes).drop_limb(np.ascontiguousarray(words))
    for index, value in enumerate(values):
        poly, place = divmod(index, N)
        for limb, prime in enumerate(primes[:-1]):
            assert int(found[poly, limb, place]) == (value + last // 2) // last % prime


def test_an_encryption_of_zero_is_made_of_what_it_says():
    # With the key (1, 0) the two polynomials are u + e0 and e1.
    (q,), n = ntt_primes(1024, 26, 1), 1024
    ring = ring_of(n, (q,))
    key = np.zeros((2, 1, n), np.uint32)
    key[0, 0, 0] = 1
    key = ring.forward(key)
    draws = np.stack([ring.encrypt_zero(key, secret_bytes(n + 200 + 12 * n)) for _ in range(200)]).astype(np.int64)
    centred = (draws[:, :, 0] + q // 2) % q - q // 2
    both, noise = centred[:, 0].ravel(), centred[:, 1].ravel()
    assert abs(noise).max() <= 21
    assert abs(both).max() <= 22
    count = len(noise)
    assert noise.var() == pytest.approx(10.5, rel=6 * np.sqrt(2 / count))
    assert both.var() == pytest.approx(10.5 + 2 / 3, rel=6 * np.sqrt(2 / count))
    assert abs(noise.mean()) < 6 * np.sqrt(10.5 / count)
    assert len({draw.tobytes() for draw in draws}) == len(draws)


def test_a_byte_of_255_never_makes_a_ternary_value():
    (q,), n = ntt_primes(1024, 26, 1), 1024
    ring = ring_of(n, (q,))
    key = np.zeros((2, 1, n), np.uint32)
    key[0, 0, 0] = 1
    key = ring.forward(key)
    no_coin = ((1 << 21) - 1).to_bytes(6, "little") * (2 * n)  # 21 coins of 42: no noise
    ternary = bytes([255, 0, 1, 2] * n)
    found = ring.encrypt_zero(key, ternary + no_coin)
    assert found[0, 0, :3].tolist() == [0, 1, q - 1]
    with pytest.raises(ValueError, match="draw again"):
        ring.encrypt_zero(key, bytes([255] * 2 * n) + no_coin)
    with pytest.raises(ValueError, match="too few"):
        ring.encrypt_zero(key, no_coin)


@given(st.integers(2, 1 << 40), st.lists(st.tuples(st.integers(0, 2**60), st.integers(0, 2**60)), min_size=1))
def test_uniform_masks_and_their_shares_are_exact(t, pairs):
    (q,) = ntt_primes(N, 53, 1)
    values, masks = (np.array(column, np.uint64) % np.uint64(q) for column in zip(*pairs, strict=True))
    masked, shares = _ring.mask_uniformly(values, masks, q, t)
    assert masked.tolist() == [(v + m) % q for v, m in zip(values.tolist(), masks.tolist(), strict=True)]
    assert shares.tolist() == [-((2 * t * m + q) // (2 * q)) % t for m in masks.tolist()]


def test_what_does_not_fit_is_refused():
    primes = ntt_primes(N, 53, 2)
    for n, wrong, path, reason in (
        (24, primes, "best", "power of two"),
        (N, (), "best", "none given"),
        (N, (primes[0] + 2,), "best", "1 modulo 2n"),
        (N, (2 * N * 6 + 1,), "best", "no prime"),
        (N, (1 << 63,), "best", "62 bits"),
        (N, primes, "sse9", "processor"),
    ):
        with pytest.raises(ValueError, match=reason):
            _ring.WideRing(n, wrong, path)
    ring = _ring.WideRing(N, primes)
    two = np.zeros((2, 2, N), np.uint64)
    for call in (
        lambda: ring.forward(two[:, :1].copy()),
        lambda: ring.multiply_accumulate([two], []),
        lambda: ring.multiply_accumulate([two], [two[0, :1].copy()]),
        lambda: ring.add(two, two[:, :1].copy()),
        lambda: ring.add_plain(two, np.full(N, 9), 9),
        lambda: ring.add_plain(two, np.full(N, -1), 9),
        lambda: ring.drop_limb(two[:, :1].copy()),
        lambda: _ring.mask_uniformly(two[0, 0], two[0, 0] + np.uint64(97), 97, 16),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            call()


def test_our_server_has_no_rotations():
    he_set = he_set_for(4096, (36, 36), 1 << 16)
    _, server, _ = seal_pair(he_set, privacy=CircuitPrivacy("none"), server_kind=RingServer)
    with pytest.raises(InvalidPolicy, match="rotations"):
        server.rotate(np.zeros(1), 1)
    with pytest.raises(InvalidPolicy, match="rotations"):
        seal_pair(he_set, "slots", server_kind=RingServer)
