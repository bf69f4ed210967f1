"""One set of BFV parameters: built or refused.

| symbol | meaning |
|---|---|
| n | ring degree (`poly_modulus_degree`) |
| limbs | the data primes; q is their product, the ciphertext modulus |
| special | the special prime, under which key-switching keys are published besides q; None without rotations |
| t | plaintext modulus |

Every prime is congruent to 1 modulo 2n. The first data limb is the one that a response keeps after switching.
"""

from collections.abc import Iterator
from functools import cache
from itertools import islice
from math import prod
from typing import Final

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record
from autoprivacy.protocol.security import SecurityLabel, check_security

MAX_LIMB_BITS: Final = 60
"""SEAL's limit."""

MAX_T: Final = 1 << 59
"""Below every 60-bit prime, so that one of those is coprime to any t."""

_WITNESSES: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


@cache
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


def _descending_primes(n: int, bits: int) -> Iterator[int]:
    candidate = (1 << bits) - 2 * n + 1
    while candidate >> (bits - 1):
        if is_prime(candidate):
            yield candidate
        candidate -= 2 * n


@cache
def ntt_primes(n: int, bits: int, count: int, *, avoid: int = 0) -> tuple[int, ...]:
    """The `count` largest primes of exactly `bits` bits that are 1 modulo 2n and not `avoid`.

    Without `avoid` they are what SEAL's `CoeffModulus.Create` takes.

    >>> ntt_primes(1024, 26, 2)
    (67104769, 67090433)

    Raises:
        InvalidPolicy: if there are not so many.
    """
    found = tuple(islice((prime for prime in _descending_primes(n, bits) if prime != avoid), count))
    if len(found) < count:
        raise InvalidPolicy(
            f"only {len(found)} usable {bits}-bit primes are 1 modulo {2 * n}, but {count} are needed; take wider limbs"
        )
    return found


def ntt_prime(n: int, bits: int) -> int:
    """The largest prime of exactly `bits` bits that is 1 modulo 2n.

    >>> ntt_prime(1024, 26)
    67104769
    """
    return ntt_primes(n, bits, 1)[0]


@cache
def least_batching_prime(n: int, least: int) -> int:
    """The least prime from `least` on that is 1 modulo 2n: the smallest t for packing `slots`.

    >>> least_batching_prime(4096, 1 << 16)
    65537
    """
    candidate = -(-(least - 1) // (2 * n)) * 2 * n + 1
    while not is_prime(candidate):
        candidate += 2 * n
    return candidate


@record
class HeSet:
    """Checked BFV parameters.

    Raises:
        InsecureParameters: below the security that `security` names, on the largest modulus under which anything is
            published: q, times the special prime if there is one.
        InvalidPolicy: if SEAL or the arithmetic could not use it.
    """

    n: int
    limbs: tuple[int, ...]
    t: int
    special: int | None = None
    security: SecurityLabel = "he2024"

    def __post_init__(self) -> None:
        if not self.limbs:
            raise InvalidPolicy("an HE set needs at least one data limb")
        check_security(self.n, modulus_bits=prod(self.primes).bit_length(), label=self.security)
        for prime in self.primes:
            if prime.bit_length() > MAX_LIMB_BITS or prime % (2 * self.n) != 1 or not is_prime(prime):
                raise InvalidPolicy(
                    f"limb {prime} is not a prime of at most {MAX_LIMB_BITS} bits that is 1 modulo 2n = {2 * self.n}"
                )
        if len(set(self.primes)) < len(self.primes):
            raise InvalidPolicy(f"limbs {self.primes} must differ from each other")
        if not 2 <= self.t <= MAX_T:
            raise InvalidPolicy(f"t = {self.t} must lie between 2 and 2^{MAX_T.bit_length() - 1}")
        if any(self.t % prime == 0 for prime in self.primes):
            raise InvalidPolicy(f"t = {self.t} must be coprime to the limbs {self.primes}")
        if 4 * self.t > self.q:
            raise InvalidPolicy(f"t = {self.t} leaves no room below q = {self.q}; take more or wider limbs")

    @property
    def primes(self) -> tuple[int, ...]:
        """The data limbs, then the special prime if there is one."""
        return self.limbs if self.special is None else (*self.limbs, self.special)

    @property
    def key_parameters(self) -> tuple[int, tuple[int, ...], int | None]:
        """What keys depend on; t is not part of it."""
        return self.n, self.limbs, self.special

    @property
    def q(self) -> int:
        """The ciphertext modulus: the product of the data limbs."""
        return prod(self.limbs)

    @property
    def q_bits(self) -> int:
        """Bits of q."""
        return self.q.bit_length()

    @property
    def limb_bits(self) -> tuple[int, ...]:
        """Bits of each data limb: what a coefficient takes on the wire."""
        return tuple(limb.bit_length() for limb in self.limbs)

    @property
    def t_bits(self) -> int:
        """Bits of a value in [0, t); for a power of two its exponent."""
        return (self.t - 1).bit_length()

    @property
    def has_slots(self) -> bool:
        """Whether plaintexts can be batched: t is a prime that is 1 modulo 2n."""
        return self.t % (2 * self.n) == 1 and is_prime(self.t)

    def require_slots(self) -> None:
        """Refuse a set that packing `slots` cannot use.

        Raises:
            InvalidPolicy: without batching, or without a special prime for rotations.
        """
        if not self.has_slots:
            raise InvalidPolicy(f"packing `slots` needs a prime t that is 1 modulo 2n = {2 * self.n}, got {self.t}")
        if self.special is None:
            raise InvalidPolicy("packing `slots` rotates, which needs a special prime; add one")


def he_set_for(
    n: int, limb_bits: tuple[int, ...], t: int, *, special_bits: int | None = None, security: SecurityLabel = "he2024"
) -> HeSet:
    """The set with data limbs of these bit sizes: the largest distinct primes of each size, coprime to t.

    >>> he_set_for(4096, (36, 36), 1 << 20, special_bits=34).limbs
    (68719403009, 68719230977)
    """
    sizes = limb_bits if special_bits is None else (*limb_bits, special_bits)
    unused = {bits: iter(ntt_primes(n, bits, sizes.count(bits), avoid=t)) for bits in set(sizes)}
    primes = tuple(next(unused[bits]) for bits in sizes)
    special = None if special_bits is None else primes[-1]
    return HeSet(n=n, limbs=primes[: len(limb_bits)], t=t, special=special, security=security)
