"""The largest ciphertext modulus at 128 bits, from both published tables, and the check against them.

| label | meaning |
|---|---|
| he2024 | at least 128 bits by the 2024 guidelines [HES24]: the stricter table, and the default |
| he2018 | at least 128 bits by the 2018 standard [HES18], which SEAL enforces |
| below | unchecked: for sets of known systems that are outside both tables, never chosen by a search |

>>> check_security(1024, modulus_bits=26, label="he2024")
>>> check_security(1024, modulus_bits=27, label="he2024")
Traceback (most recent call last):
...
autoprivacy.common.errors.InsecureParameters: n = 1024 with a 27-bit modulus: he2024 allows at most 26 bits; \
take fewer or smaller limbs, or a larger n
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from autoprivacy.common.errors import InsecureParameters

SecurityTable = Literal["he2024", "he2018"]
SecurityLabel = Literal["he2024", "he2018", "below"]

MAX_MODULUS_BITS: Final[Mapping[SecurityTable, Mapping[int, int]]] = MappingProxyType(
    {
        # [HES24], ternary secret, classical 128 bits.
        "he2024": MappingProxyType({1024: 26, 2048: 53, 4096: 106, 8192: 214, 16384: 430, 32768: 868}),
        # [HES18], as coded in SEAL's hestdparms.h.
        "he2018": MappingProxyType({1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}),
    }
)


def check_security(n: int, *, modulus_bits: int, label: SecurityLabel = "he2024") -> None:
    """Refuse a modulus above what `label` allows for ring degree `n`.

    `modulus_bits` is the bit length of the largest modulus under which anything is published.

    Raises:
        InsecureParameters: if it is too large, or if the tables have no such `n`.
    """
    table = MAX_MODULUS_BITS["he2024" if label == "below" else label]
    if n not in table:
        raise InsecureParameters(f"n = {n}: {label} covers only {', '.join(map(str, table))}")
    if label != "below" and modulus_bits > table[n]:
        raise InsecureParameters(
            f"n = {n} with a {modulus_bits}-bit modulus: {label} allows at most {table[n]} bits; "
            "take fewer or smaller limbs, or a larger n"
        )


def meets(n: int, *, modulus_bits: int) -> SecurityLabel:
    """The strictest label that a modulus of so many bits earns.

    >>> [meets(4096, modulus_bits=bits) for bits in (106, 107, 109, 110)]
    ['he2024', 'he2018', 'he2018', 'below']
    """
    tables: tuple[SecurityTable, ...] = ("he2024", "he2018")
    return next((label for label in tables if modulus_bits <= MAX_MODULUS_BITS[label].get(n, 0)), "below")
