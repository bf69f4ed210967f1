"""A policy as the parameters that SEAL takes, layer by layer.

SEAL takes the last of two or more primes as the special one. A set of several data limbs without a special prime
therefore gets a dummy one, under which no key is ever published: `dummy_special` says so, and that SEAL's own security
check, which would count it, must be off.
"""

from math import prod
from typing import Literal

from autoprivacy.common.records import record
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.policy import LayerPolicy, Policy
from autoprivacy.protocol.seal_context import key_primes
from autoprivacy.protocol.security import SecurityLabel, meets


@record
class SealParameters:
    """One layer for `EncryptionParameters` of scheme BFV.

    `coeff_modulus` are primes, the special one last if there are several; `sec_level` is what `SEALContext` is to
    check; `security` is what the set has, without a dummy special prime.
    """

    layer: str
    scheme: Literal["bfv"]
    poly_modulus_degree: int
    coeff_modulus: tuple[int, ...]
    coeff_modulus_bits: tuple[int, ...]
    plain_modulus: int
    dummy_special: bool
    sec_level: Literal["tc128", "none"]
    security: SecurityLabel


@record
class SealExport:
    """A policy's layers in order; `security` is the label that the policy was made under."""

    network: str
    network_hash: str
    circuit_privacy: str
    security: SecurityLabel
    layers: tuple[SealParameters, ...]


def seal_parameters(policy: Policy) -> SealExport:
    """What SEAL takes for every layer.

    Raises:
        InsecureParameters: if a layer is below the security that the policy promises.
        InvalidPolicy: if a set cannot be used.
    """
    layers = tuple(_layer(name, chosen, policy.security) for name, chosen in policy.layers.items())
    return SealExport(policy.network, policy.network_hash, policy.circuit_privacy, policy.security, layers)


def _layer(name: str, chosen: LayerPolicy, security: SecurityLabel) -> SealParameters:
    he_set: HeSet = chosen.he_set(security)
    primes = key_primes(he_set)
    dummy = primes != he_set.primes
    label = meets(he_set.n, modulus_bits=prod(he_set.primes).bit_length())
    return SealParameters(
        layer=name,
        scheme="bfv",
        poly_modulus_degree=he_set.n,
        coeff_modulus=primes,
        coeff_modulus_bits=tuple(prime.bit_length() for prime in primes),
        plain_modulus=he_set.t,
        dummy_special=dummy,
        sec_level="none" if dummy or label == "below" else "tc128",
        security=label,
    )
