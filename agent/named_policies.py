"""Policies of known systems' HE sets for a whole network, at the baseline's widths: what a search is compared with."""

from dataclasses import replace

from autoprivacy.common.errors import InsecureParameters, InvalidPolicy, UnmodelledOperation
from autoprivacy.models.prediction import Deployment, predict
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.agreeing import agree, linear_shape
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.named_sets import named_set
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import Policy, Provenance
from autoprivacy.protocol.wire import Response


def named_agreement(
    network: QuantisedNetwork, name: str, circuit_privacy: str, *, own_t: bool = True
) -> tuple[Policy, Agreement]:
    """A named set for every layer, under the search's circuit privacy; at the system's t, or the least that holds.

    Raises:
        InvalidPolicy: if its t, or circuit privacy, does not fit.
    """
    chosen = named_set(name)
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
    return policy, agree(network, policy)


def named_latency(
    network: QuantisedNetwork, name: str, circuit_privacy: str, deployment: Deployment, *, own_t: bool = True
) -> float | str:
    """Predicted seconds of a named set, or why there is no prediction."""
    try:
        _, agreement = named_agreement(network, name, circuit_privacy, own_t=own_t)
        return predict(plan_network(network, agreement), deployment).latency_s
    except (InvalidPolicy, InsecureParameters, UnmodelledOperation) as error:
        return str(error)
