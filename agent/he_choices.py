"""HE sets and tiles that a layer may choose from; only what passes security exists.

Limbs run from the most that the table allows downwards: less modulus means fewer bytes, and errors come sooner. With
`slots` the last limb is the special one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from autoprivacy.common.errors import InsecureParameters, InvalidPolicy
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet, he_set_for, least_batching_prime
from autoprivacy.protocol.linear_layer import AnyTile
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.security import SecurityLabel
from autoprivacy.protocol.slot_tiles import slot_tiles
from autoprivacy.protocol.tiles import tiles

COEFFICIENT_LIMBS: Final[Mapping[int, tuple[tuple[int, ...], ...]]] = MappingProxyType(
    {
        1024: ((26,), (24,), (22,), (20,), (18,)),
        2048: ((53,), (49,), (45,), (41,), (37,), (33,), (29,)),
        4096: ((60,), (36, 36), (44, 44), (53, 53)),
        8192: ((60, 60), (54, 53, 53)),
    }
)
"""Bits of data limbs, by n, for packing `coefficients`."""

SLOT_LIMBS: Final[Mapping[int, tuple[tuple[int, ...], ...]]] = MappingProxyType(
    {4096: ((53, 53), (35, 35, 36)), 8192: ((53, 53, 54), (53, 53, 53, 55))}
)
"""The same for `slots`, the special limb last."""

LARGEST_N: Final = max((*COEFFICIENT_LIMBS, *SLOT_LIMBS))
"""One t for `slots` at all n: fewer circuits to tell apart, and layers that meet may differ in n."""


@dataclass(frozen=True, slots=True, order=True)
class SetChoice:
    """Packing, ring degree, and the bits of the data limbs and of the special one."""

    packing: Packing
    n: int
    limb_bits: tuple[int, ...]
    special_bits: int | None = None

    def t(self, bits: int) -> int:
        """The least t that this packing can use, at any n, and that holds accumulators of so many bits."""
        return least_batching_prime(LARGEST_N, 1 << bits) if self.packing == "slots" else 1 << bits

    def he_set(self, t: int, security: SecurityLabel) -> HeSet:
        """The checked set.

        Raises:
            InsecureParameters: below `security`.
            InvalidPolicy: if it has no room for t.
        """
        return _he_set(self, t, security)

    def tiles(self, shape: LinearShape) -> tuple[AnyTile, ...]:
        """Tiles worth considering; none if not even the least fits."""
        try:
            return slot_tiles(shape, self.n) if self.packing == "slots" else tiles(shape, self.n)
        except InvalidPolicy:
            return ()

    def __str__(self) -> str:
        special = f" + {self.special_bits} special" if self.special_bits else ""
        return f"{self.packing}, n = {self.n}, {' + '.join(map(str, self.limb_bits))}{special} bits"


@lru_cache(maxsize=65536)
def _he_set(choice: SetChoice, t: int, security: SecurityLabel) -> HeSet:
    return he_set_for(choice.n, choice.limb_bits, t, special_bits=choice.special_bits, security=security)


def set_choices(packings: tuple[Packing, ...], security: SecurityLabel) -> tuple[SetChoice, ...]:
    """Every set of these packings that is secure."""
    found = []
    if "coefficients" in packings:
        found += [SetChoice("coefficients", n, limbs) for n, each in COEFFICIENT_LIMBS.items() for limbs in each]
    if "slots" in packings:
        found += [SetChoice("slots", n, limbs[:-1], limbs[-1]) for n, each in SLOT_LIMBS.items() for limbs in each]
    return tuple(choice for choice in found if _is_secure(choice, security))


def _is_secure(choice: SetChoice, security: SecurityLabel) -> bool:
    try:
        choice.he_set(2 if choice.packing == "coefficients" else choice.t(2), security)
    except InsecureParameters:
        return False
    return True
