"""The largest ciphertext modulus at 128 bits, from both published tables, and the check against them.

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

SecurityLabel = Literal["he2024", "he2018"]

MAX_MODULUS_BITS: Final[Mapping[SecurityLabel, Mapping[int, int]]] = MappingProxyType(
    {
        # [HES24], ternary secret, classical 128 bits.
        "he2024": MappingProxyType({1024: 26, 2048: 53, 4096: 106, 8192: 214, 16384: 430}),
        # [HES18], as coded in SEAL's hestdparms.h.
        "he2018": MappingProxyType({1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438}),
    }
)


def check_security(n: int, *, modulus_bits: int, label: SecurityLabel = "he2024") -> None:
    """Refuse a modulus above what `label` allows for ring degree `n`.

    `modulus_bits` is the bit length of the largest modulus under which anything is published.

    Raises:
        InsecureParameters: if it is too large, or if the table has no such `n`.
    """
    table = MAX_MODULUS_BITS[label]
    if n not in table:
        raise InsecureParameters(f"n = {n}: {label} covers only {', '.join(map(str, table))}")
    if modulus_bits > table[n]:
        raise InsecureParameters(
            f"n = {n} with a {modulus_bits}-bit modulus: {label} allows at most {table[n]} bits; "
            "take fewer or smaller limbs, or a larger n"
        )
