"""One set of BFV parameters: built or refused.

| symbol | meaning |
|---|---|
| n | ring degree (`poly_modulus_degree`) |
| q | ciphertext modulus; here one prime limb, congruent to 1 modulo 2n |
| t | plaintext modulus; here a power of two |
"""

from functools import cache
from typing import Final

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record
from autoprivacy.protocol.security import SecurityLabel, check_security

_WITNESSES: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def is_prime(value: int) -> bool:
    """Miller-Rabin with the first twelve primes: exact below 3.3e24 [Sorenson, Webster 2015].

    >>> [p for p in range(30) if is_prime(p)]
    [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    """
    if value < 2:
        return False
    for prime in _WITNESSES:
        if value % prime == 0:
            return value == prime
    twos = ((value - 1) & (1 - value)).bit_length() - 1
    odd = (value - 1) >> twos
    for witness in _WITNESSES:
        power = pow(witness, odd, value)
        if power in (1, value - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % value
            if power == value - 1:
                break
        else:
            return False
    return True


@cache
def ntt_prime(n: int, bits: int) -> int:
    """The largest prime of exactly `bits` bits that is 1 modulo 2n; what SEAL's `CoeffModulus.Create` takes.

    >>> ntt_prime(1024, 26)
    67104769
    """
    candidate = (1 << bits) - 2 * n + 1
    while candidate >> (bits - 1):
        if is_prime(candidate):
            return candidate
        candidate -= 2 * n
    raise InvalidPolicy(f"no {bits}-bit prime is 1 modulo {2 * n}; take a wider limb")


@record
class HeSet:
    """Checked BFV parameters with one data limb and no special limb.

    Raises:
        InsecureParameters: below the security that `security` names.
        InvalidPolicy: if SEAL or the packing could not use it.
    """

    n: int
    q: int
    t: int
    security: SecurityLabel = "he2024"

    def __post_init__(self) -> None:
        check_security(self.n, modulus_bits=self.q_bits, label=self.security)
        if not is_prime(self.q) or self.q % (2 * self.n) != 1:
            raise InvalidPolicy(f"q = {self.q} is not a prime that is 1 modulo 2n = {2 * self.n}")
        if self.t < 4 or self.t & (self.t - 1):
            raise InvalidPolicy(f"t = {self.t} is not a power of two of at least 4")
        if 4 * self.t > self.q:
            raise InvalidPolicy(f"t = {self.t} leaves no room below q = {self.q}; take a wider limb")

    @property
    def q_bits(self) -> int:
        """Bits of a coefficient on the wire."""
        return self.q.bit_length()

    @property
    def t_bits(self) -> int:
        """The exponent of t."""
        return self.t.bit_length() - 1
