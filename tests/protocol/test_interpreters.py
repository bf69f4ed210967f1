"""The conformance suite: clear, counting and SEAL agree, over HE sets, packings, circuit privacy and dropped bits."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.clear import ClearHe, negacyclic_product, slot_product
from autoprivacy.protocol.counting import CountingHe
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import he_set_for, is_prime, ntt_prime
from autoprivacy.protocol.ring_he import RingServer
from autoprivacy.protocol.seal_he import SealServer
from autoprivacy.protocol.seal_keys import SWAP, ClientKeys
from autoprivacy.protocol.wire import Response
from tests.protocol.interpreters import Computation, seal_pair

TAPS = 8
HEAVIEST = 3
MOST_INPUTS = 3


@dataclass(frozen=True)
class Family:
    """HE sets whose noise is far from the limit up to `t_bits`, and what can be done with them."""

    n: int
    limb_bits: tuple[int, ...]
    t_bits: int
    privacy: tuple[str, ...]
    special_bits: int | None = None
    kept: int = 1
    noise_bits: int = 12  # of what flooding hides

    @property
    def slots(self):
        return self.special_bits is not None

    def moduli(self):
        """Values of t: powers of two, primes and others, or those that batch."""
        if self.slots:
            return st.sampled_from((17, self.t_bits)).map(lambda bits: ntt_prime(self.n, bits))
        numbers = st.integers(2, 1 << self.t_bits)
        primes = numbers.map(lambda value: next(p for p in range(value, 1, -1) if is_prime(p)))
        return st.one_of(st.integers(1, self.t_bits).map(lambda bits: 1 << bits), primes, numbers)


PLAIN = ("none", "rerandomise")
FAMILIES = (
    Family(1024, (26,), 11, PLAIN),
    Family(2048, (53,), 12, (*PLAIN, "uniform")),
    Family(2048, (27, 26), 12, PLAIN),
    Family(4096, (54, 52), 17, (*PLAIN, "uniform", "flood:20")),
    Family(4096, (36, 36, 34), 20, (*PLAIN, "flood:20")),
    Family(4096, (36, 35, 35), 50, PLAIN, kept=2),  # t is wider than a limb
    Family(8192, (60, 60, 60), 22, ("uniform", "flood:80")),
    Family(4096, (36, 36), 19, PLAIN, special_bits=34),
    Family(8192, (50, 50, 50), 20, (*PLAIN, "flood:40"), special_bits=60, noise_bits=60),
    Family(8192, (60, 60), 18, ("uniform",), special_bits=60),
    Family(8192, (43, 43, 44, 44), 41, PLAIN, special_bits=40, kept=2),
)


@st.composite
def settings_of(draw):
    family = draw(st.sampled_from(FAMILIES))
    he_set = he_set_for(family.n, family.limb_bits, draw(family.moduli()), special_bits=family.special_bits)
    privacy = CircuitPrivacy.parse(draw(st.sampled_from(family.privacy)))
    # Rounding a share fails with the probability of the noise in units of q/t, not only beyond half of it.
    margin = 37 if privacy.kind == "uniform" else 12
    room = max(0, family.limb_bits[0] - he_set.t_bits - margin) if family.kept == 1 and not family.slots else 0
    dropped_c0 = draw(st.integers(0, room))
    dropped_c1 = draw(st.integers(0, max(0, room - family.n.bit_length())))
    return family, he_set, privacy, Response(dropped_c0, dropped_c1, family.kept)


def computation(family, he_set, seed):
    rng = np.random.default_rng(seed)
    n, t = he_set.n, he_set.t
    inputs = rng.integers(1, MOST_INPUTS + 1)
    if family.slots:
        weights = rng.integers(-(t // 2), t // 2, (inputs, n))
    else:
        # A modulus holds the sums of a layer, hence its weights: none is a multiple of t but zero.
        heaviest = min(HEAVIEST, t // 2)
        weights = np.zeros((inputs, n), np.int64)
        for row in weights:
            row[rng.choice(n, TAPS, replace=False)] = rng.integers(-heaviest, heaviest + 1, TAPS)
    weights[rng.random(inputs) < 0.2] = 0
    return Computation(
        inputs=tuple(rng.integers(0, t, (inputs, n))),
        shares=tuple(rng.integers(0, t, n) if rng.random() < 0.7 else None for _ in range(inputs)),
        weights=tuple(weights),
        steps=tuple(rng.permutation([SWAP, 1, n // 2 - 1, 37])[: rng.integers(1, 4)].tolist()) if family.slots else (),
        positions=np.sort(rng.choice(n, rng.integers(1, 60), replace=False)),
    )


@settings(max_examples=25, deadline=None)
@given(settings_of(), st.integers(0, 2**32))
def test_every_interpreter_agrees_exactly(setting, seed):
    family, he_set, privacy, response = setting
    work = computation(family, he_set, seed)
    packing: Packing = "slots" if family.slots else "coefficients"
    clear = ClearHe(he_set.n, he_set.t, np.random.default_rng(seed), packing)
    expected, *_ = work.run(clear, clear, he_set.t)

    counted = CountingHe(he_set, packing, response)
    work.run(counted, counted, he_set.t)
    for server_kind in (SealServer,) if family.slots else (SealServer, RingServer):
        bound, steps = 1 << family.noise_bits, work.steps
        client, server, _ = seal_pair(
            he_set, packing, response, privacy, noise_bound=bound, steps=steps, server_kind=server_kind
        )
        found, requests, responses = work.run(client, server, he_set.t)
        assert np.array_equal(found, expected)
        assert +(client.operations + server.operations) == +counted.operations == +clear.operations
        assert counted.bytes_up == sum(map(len, requests))
        assert counted.bytes_down == sum(map(len, responses))


def naive_product(a, b, t):
    n = len(a)
    found = [0] * n
    for i, x in enumerate(a.tolist()):
        for j, y in enumerate(b.tolist()):
            found[(i + j) % n] += x * y if i + j < n else -x * y
    return [value % t for value in found]


@given(st.integers(2, 1 << 59), st.integers(0, 2**32), st.booleans())
def test_the_clear_products_are_exact_for_every_modulus(t, seed, power):
    t = 1 << (t.bit_length() - 1) if power else t
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, max(t, 2), (2, 8))
    b -= t // 2
    assert negacyclic_product(a, b, t).tolist() == naive_product(a, b, t)
    assert slot_product(a, b, t).tolist() == [x * y % t for x, y in zip(a.tolist(), b.tolist(), strict=True)]


def test_keys_made_for_one_plaintext_modulus_serve_another():
    made_for = he_set_for(4096, (36, 36), ntt_prime(4096, 18), special_bits=34)
    keys = ClientKeys.generate(made_for)
    for used_for in (
        he_set_for(4096, (36, 36), ntt_prime(4096, 20), special_bits=34),
        he_set_for(4096, (36, 36), ntt_prime(4096, 17), special_bits=34),
    ):
        client, server, _ = seal_pair(used_for, "slots", steps=(3,), keys=keys, privacy=CircuitPrivacy("rerandomise"))
        values = np.arange(4096)
        everything = np.arange(4096)
        sent, kept = server.respond(server.rotate(server.receive(client.encrypt(values), None), 3), everything)
        opened = (client.decrypt(sent, everything) + kept) % used_for.t
        assert np.array_equal(opened, np.roll(values.reshape(2, -1), -3, axis=1).ravel())


def test_keys_of_other_primes_are_refused():
    keys = ClientKeys.generate(he_set_for(2048, (53,), 1 << 10))
    for other in (he_set_for(2048, (52,), 1 << 10), he_set_for(2048, (27, 26), 1 << 10)):
        with pytest.raises(InvalidPolicy, match="cannot serve"):
            seal_pair(other, keys=keys)


def test_what_does_not_fit_a_packing_is_refused():
    for he_set in (
        he_set_for(4096, (36, 36), 1 << 20, special_bits=34),
        he_set_for(4096, (54, 52), ntt_prime(4096, 20)),
    ):
        with pytest.raises(InvalidPolicy, match="slots"):
            seal_pair(he_set, "slots")
    with pytest.raises(InvalidPolicy, match="special prime"):
        seal_pair(he_set_for(4096, (54, 52), ntt_prime(4096, 20)), steps=(1,))
    for steps in ((2048,), (-1,)):
        with pytest.raises(InvalidPolicy, match="steps"):
            seal_pair(he_set_for(4096, (36, 36), ntt_prime(4096, 20), special_bits=34), "slots", steps=steps)


def test_a_rotation_without_its_key_is_refused():
    he_set = he_set_for(4096, (36, 36), ntt_prime(4096, 20), special_bits=34)
    client, server, _ = seal_pair(he_set, "slots", steps=(2,), privacy=CircuitPrivacy("none"))
    received = server.receive(client.encrypt(np.arange(4096)), None)
    for turn in (lambda: server.rotate(received, 1), lambda: server.swap_rows(received)):
        with pytest.raises(InvalidPolicy, match="no Galois key"):
            turn()
