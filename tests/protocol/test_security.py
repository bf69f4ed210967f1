import pytest

from autoprivacy.common.errors import InsecureParameters, InvalidPolicy
from autoprivacy.protocol.he_set import HeSet, ntt_prime
from autoprivacy.protocol.security import MAX_MODULUS_BITS, check_security


@pytest.mark.parametrize("label", ["he2018", "he2024"])
@pytest.mark.parametrize("n", [1024, 2048, 4096, 8192, 16384, 32768])
def test_the_largest_modulus_is_allowed_and_one_bit_more_is_refused(label, n):
    most = MAX_MODULUS_BITS[label][n]
    check_security(n, modulus_bits=most, label=label)
    with pytest.raises(InsecureParameters, match=f"at most {most} bits"):
        check_security(n, modulus_bits=most + 1, label=label)


def test_the_2018_table_is_the_one_that_seal_enforces():
    import seal

    for n, bits in MAX_MODULUS_BITS["he2018"].items():
        assert seal.CoeffModulus.MaxBitCount(n, seal.sec_level_type.tc128) == bits


def test_the_2024_guidelines_are_stricter_everywhere():
    assert all(MAX_MODULUS_BITS["he2024"][n] < bits for n, bits in MAX_MODULUS_BITS["he2018"].items())


@pytest.mark.parametrize(("n", "bits"), [(1024, 26), (2048, 26), (2048, 53), (4096, 50)])
def test_primes_are_those_that_seal_takes(n, bits):
    import seal

    assert ntt_prime(n, bits) == seal.CoeffModulus.Create(n, [bits])[0].value()


def test_a_set_that_is_insecure_or_malformed_cannot_exist():
    with pytest.raises(InsecureParameters):
        HeSet(n=1024, limbs=(ntt_prime(1024, 27),), t=1 << 10)
    with pytest.raises(InsecureParameters, match="covers only"):
        HeSet(n=512, limbs=(ntt_prime(512, 20),), t=1 << 10)
    q = ntt_prime(1024, 26)
    assert HeSet(n=1024, limbs=(q,), t=3000).q == q
    for limbs, t in (((q - 2048,), 3000), ((q,), q), ((q,), 1 << 25), ((q,), 1), ((), 3000)):
        with pytest.raises(InvalidPolicy):
            HeSet(n=1024, limbs=limbs, t=t)


def test_the_special_prime_counts_and_must_differ():
    data, special = ntt_prime(4096, 53), ntt_prime(4096, 52)
    assert HeSet(n=4096, limbs=(data,), t=1 << 20, special=special).primes == (data, special)
    with pytest.raises(InsecureParameters, match="107-bit"):
        HeSet(n=4096, limbs=(data,), t=1 << 20, special=ntt_prime(4096, 54))
    assert HeSet(n=4096, limbs=(data,), t=1 << 20, special=ntt_prime(4096, 54), security="he2018").security == "he2018"
    with pytest.raises(InvalidPolicy, match="differ"):
        HeSet(n=4096, limbs=(data,), t=1 << 20, special=data)
