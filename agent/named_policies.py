"""Policies of known systems' HE sets for a whole network, at the widths it has: what a search is compared with.

What a set cannot run under is decided here, once: circuit privacy must have room, and of packing `slots`, where one
failure spoils a ciphertext, an inference may fail once in 2 to the power of `LEAST_SLOT_BITS`, as in the search's own
space.
"""

from dataclasses import dataclass, replace
from typing import Final

from autoprivacy.agent.options import LEAST_SLOT_BITS
from autoprivacy.common.errors import InsecureParameters, InvalidPolicy
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.agreeing import agree, linear_shape
from autoprivacy.protocol.error_model import decryption_errors, network_failure_bits
from autoprivacy.protocol.named_sets import NamedSet
from autoprivacy.protocol.policy import Policy, Provenance
from autoprivacy.protocol.wire import Response

FLOODING: Final = "flood:40"
"""The circuit privacy of sets that have no room for the search's own."""


@dataclass(frozen=True, slots=True)
class Named:
    """A policy, or None; `note` says what was tried before it, and why that cannot run."""

    policy: Policy | None
    note: str


def named_policy(network: QuantisedNetwork, chosen: NamedSet, circuit_privacy: str, *, own_t: bool) -> Policy:
    """A named set for every layer; at the system's t, or at the least that holds.

    Raises:
        InvalidPolicy: if its t, or circuit privacy, does not fit, or it fails too often.
    """
    least = least_modulus_bits(network)
    widths = {each.layer: each for each in network.widths.layers}
    layers = {}
    for layer in network.linear_layers:
        own = widths[layer.name]
        made = chosen.layer_policy(
            linear_shape(layer), own.weight_bits, own.activation_bits, least[layer.name], own_t=own_t
        )
        if circuit_privacy == "uniform":  # it masks one limb
            made = replace(made, response=Response(limbs=1))
        layers[layer.name] = made
    policy = Policy(
        schema_version=1,
        network=network.name,
        network_hash=network.trained_hash,
        circuit_privacy=circuit_privacy,
        security=chosen.security,
        layers=layers,
        made_by=Provenance("", chosen.title, (), "total", None, None),
    )
    errors = decryption_errors(network, agree(network, policy))
    bits = network_failure_bits(errors)
    if chosen.packing == "slots" and bits < LEAST_SLOT_BITS:
        raise InvalidPolicy(
            f"one coefficient that fails spoils a ciphertext, and an inference fails {2.0**-bits:.2g} times"
        )
    return policy


def fitting_policy(network: QuantisedNetwork, chosen: NamedSet, circuit_privacy: str, *, own_t: bool) -> Named:
    """A named set under the circuit privacy that is asked for; where it has no room, under `FLOODING`.

    Where the system's own t does not hold the accumulators, the least that does is tried.
    """
    reasons: list[str] = []
    for own in (True, False) if own_t else (False,):
        for privacy in dict.fromkeys((circuit_privacy, FLOODING)):
            try:
                return Named(named_policy(network, chosen, privacy, own_t=own), "; ".join(dict.fromkeys(reasons)))
            except (InvalidPolicy, InsecureParameters) as error:
                t = "its own t" if own else "its least t"
                reasons.append(f"not at {t} under {privacy}: {error}")
    return Named(None, "; ".join(dict.fromkeys(reasons)))
