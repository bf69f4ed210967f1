"""HE sets of known systems, to be run on our runtime: the same tiling, wire format and circuit privacy for all.

So a policy from here is "DELPHI's set", never "DELPHI". Limb sizes are as published, the primes are the largest of each
size. A set is labelled with the strictest table of `security` that it meets.

>>> {name: each.security for name, each in NAMED_SETS.items()}
... # doctest: +NORMALIZE_WHITESPACE
{'delphi': 'he2018', 'gazelle': 'below', 'cryptflow2': 'he2018', 'cheetah': 'he2018', 'spu': 'he2024',
 'seal-4096': 'he2018', 'seal-8192': 'he2018'}
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from autoprivacy.common.errors import BadInput, InvalidPolicy
from autoprivacy.common.records import record
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet, he_set_for, least_batching_prime, ntt_prime
from autoprivacy.protocol.linear_layer import default_tile_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.policy import LayerPolicy
from autoprivacy.protocol.security import SecurityLabel, meets
from autoprivacy.protocol.wire import Response


@record
class NamedSet:
    """The HE set of a known system; `special_bits` is None where all limbs carry data."""

    title: str
    source: str
    packing: Packing
    n: int
    limb_bits: tuple[int, ...]
    special_bits: int | None
    t: int
    note: str = ""

    @property
    def security(self) -> SecurityLabel:
        """The strictest table that the modulus meets under which anything is published."""
        return meets(self.n, modulus_bits=sum(self.limb_bits) + (self.special_bits or 0))

    def he_set(self, t: int | None = None) -> HeSet:
        """The checked set, at the system's own t or at another."""
        return he_set_for(self.n, self.limb_bits, t or self.t, special_bits=self.special_bits, security=self.security)

    def layer_policy(
        self, shape: LinearShape, weight_bits: int, activation_bits: int, least_t_bits: int, *, own_t: bool = True
    ) -> LayerPolicy:
        """The policy of a layer whose accumulators need t of `least_t_bits`, with the default tile.

        With `own_t` the plaintext modulus is the system's; else the least that holds the accumulators.

        Raises:
            InvalidPolicy: if the system's t does not hold them.
        """
        t = self.t if own_t else self._least_t(least_t_bits)
        if t < 1 << least_t_bits:
            raise InvalidPolicy(
                f"{self.title}'s t = {t} does not hold accumulators of {least_t_bits} bits; take narrower weights"
            )
        he_set = self.he_set(t)
        return LayerPolicy(
            packing=self.packing,
            n=self.n,
            limbs=he_set.limbs,
            t=t,
            tile=default_tile_of(shape, self.packing, self.n),
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            special=he_set.special,
            response=fewest_limbs(he_set),
        )

    def _least_t(self, bits: int) -> int:
        return least_batching_prime(self.n, 1 << bits) if self.packing == "slots" else 1 << bits


def fewest_limbs(he_set: HeSet) -> Response:
    """The response with the fewest limbs after which rounding errors of switching alone cannot reach half of q/t.

    Switching adds at most (n + 1) / 2 to a coefficient of the phase, since the secret is ternary.
    """
    kept = 1
    for limbs in range(1, len(he_set.limbs) + 1):
        kept = limbs
        if 2 * he_set.t * (he_set.n + 1) < replace(he_set, limbs=he_set.limbs[:limbs], t=2, special=None).q:
            break
    return Response(limbs=kept)


NAMED_SETS: Final[Mapping[str, NamedSet]] = MappingProxyType(
    {
        "delphi": NamedSet(
            "DELPHI", "[DELPHI], its repository", "slots", 8192, (43, 43, 44, 44), 44, 2061584302081, "ReLU6 circuits"
        ),
        "gazelle": NamedSet(
            "Gazelle", "[Gazelle] section 8", "slots", 2048, (60,), 60, 557057,
            "one 60-bit word; rotations emulated with a special prime: below every table",
        ),
        "cryptflow2": NamedSet(
            "CrypTFlow2", "[CrypTFlow2], its repository SCI", "slots", 8192, (60, 60, 60), 38, 4293918721,
            "32-bit fields; larger n for larger layers are not run",
        ),
        "cheetah": NamedSet("Cheetah", "[Cheetah], its repository", "coefficients", 4096, (60, 49), None, 1 << 37),
        "spu": NamedSet(
            "SPU's Cheetah", "[SPU], its repository", "coefficients", 4096, (59, 37), None, 1 << 32, "32-bit rings"
        ),
        "seal-4096": NamedSet(
            "SEAL's default at 4096", "[SEAL] `BFVDefault`", "slots", 4096, (36, 36), 37, ntt_prime(4096, 20)
        ),
        "seal-8192": NamedSet(
            "SEAL's default at 8192", "[SEAL] `BFVDefault`", "slots", 8192, (43, 43, 44, 44), 44, ntt_prime(8192, 20)
        ),
    }
)  # fmt: skip
"""By the name that a command takes; figures from the systems' repositories, as far as public."""


def named_set(name: str) -> NamedSet:
    """The set of that name.

    Raises:
        BadInput: if there is none.
    """
    try:
        return NAMED_SETS[name]
    except KeyError:
        raise BadInput(f"no HE set is called {name!r}; there are: {', '.join(NAMED_SETS)}") from None
