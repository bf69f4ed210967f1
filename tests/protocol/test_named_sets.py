"""Sets of known systems: labelled honestly, and right on real ciphertexts."""

import numpy as np
import pytest

from autoprivacy.common.errors import BadInput, InsecureParameters, InvalidPolicy
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_layer import rotation_steps_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.named_sets import NAMED_SETS, fewest_limbs, named_set
from autoprivacy.protocol.security import MAX_MODULUS_BITS, SecurityTable, meets
from tests.protocol.interpreters import seal_pair
from tests.protocol.layers import convolve, run

SHAPE = LinearShape(8, 8, 8, 6, (3, 3), (1, 1), (1, 1, 1, 1))
T_BITS = 16  # 72 products of 4-bit weights and 5-bit inputs


@pytest.mark.parametrize("name", NAMED_SETS)
@pytest.mark.parametrize("own_t", [True, False])
def test_every_set_computes_plain_convolution(name, own_t):
    rng, named = np.random.default_rng(5), named_set(name)
    chosen = named.layer_policy(SHAPE, 4, 5, T_BITS, own_t=own_t)
    chosen.check(SHAPE, named.security, CircuitPrivacy("rerandomise"))
    he_set, layout = chosen.he_set(named.security), chosen.layout(SHAPE)
    client, server, _ = seal_pair(
        he_set, chosen.packing, chosen.response, CircuitPrivacy("rerandomise"), steps=rotation_steps_of(layout)
    )
    x, weight = rng.integers(0, 32, (8, 8, 8)), rng.integers(-8, 8, SHAPE.weight_shape)
    share = rng.integers(0, he_set.t, x.shape)
    found = run(client, server, layout, weight, share, (x - share) % he_set.t, he_set.t)
    assert np.array_equal(found, convolve(SHAPE, x, weight))


@pytest.mark.parametrize("name", NAMED_SETS)
def test_a_set_exists_only_under_the_label_it_earns(name):
    named = named_set(name)
    he_set = named.he_set()
    bits = sum(prime.bit_length() for prime in he_set.primes)
    assert bits == sum(named.limb_bits) + (named.special_bits or 0)
    assert named.security == meets(named.n, modulus_bits=bits)
    tables: tuple[SecurityTable, ...] = ("he2018", "he2024")
    for label in tables[{"below": 0, "he2018": 1, "he2024": 2}[named.security] :]:
        assert bits > MAX_MODULUS_BITS[label][named.n]
        with pytest.raises(InsecureParameters):
            HeSet(he_set.n, he_set.limbs, he_set.t, he_set.special, label)


def test_a_t_that_is_too_small_is_refused():
    with pytest.raises(InvalidPolicy, match="Gazelle's t = 557057"):
        named_set("gazelle").layer_policy(SHAPE, 8, 8, 20)
    assert named_set("gazelle").layer_policy(SHAPE, 8, 8, 20, own_t=False).t > 1 << 20


def test_responses_keep_as_few_limbs_as_are_right():
    kept = {name: fewest_limbs(named.he_set()).limbs for name, named in NAMED_SETS.items()}
    # 41 bits of t and 13 of rounding do not fit DELPHI's first limb of 43 bits.
    assert kept == {name: 2 if name == "delphi" else 1 for name in NAMED_SETS}


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(BadInput, match="delphi, gazelle"):
        named_set("aby")
