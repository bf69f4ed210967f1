"""digits-cnn under policies written by hand: one HE set and one width of weights for all layers."""

from functools import cache

from autoprivacy.networks import data, load
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.data import Splits
from autoprivacy.networks.integer_network import LayerWidths, QuantisedNetwork, Widths
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.protocol.agreeing import linear_shape
from autoprivacy.protocol.he_set import ntt_prime
from autoprivacy.protocol.policy import LayerPolicy, Policy, Provenance
from autoprivacy.protocol.tiles import default_tile

ACTIVATION_BITS = 5


@cache
def splits() -> Splits:
    return data.splits("digits-cnn")


@cache
def _quantiser() -> Quantiser:
    return Quantiser(load("digits-cnn"), splits().calibrate.x)


@cache
def network(weight_bits: int, activation_bits: int = ACTIVATION_BITS) -> QuantisedNetwork:
    layers = [layer.name for layer in load("digits-cnn").network.linear_layers]
    return _quantiser().quantise(Widths(tuple(LayerWidths(name, weight_bits, activation_bits) for name in layers)))


def policy(n: int, q_bits: int, weight_bits: int) -> Policy:
    """The least t that holds each layer's accumulators, default tiles; n = 2048, 53 bits decrypts without errors."""
    quantised = network(weight_bits)
    least = least_modulus_bits(quantised)
    layers = {
        layer.name: LayerPolicy(
            packing="coefficients",
            n=n,
            limbs=(ntt_prime(n, q_bits),),
            t=1 << least[layer.name],
            tile=default_tile(linear_shape(layer), n),
            weight_bits=weight_bits,
            activation_bits=ACTIVATION_BITS,
        )
        for layer in quantised.linear_layers
    }
    made_by = Provenance("0", "by hand", ("0123456789abcdef",), "total", None, None)
    return Policy(1, quantised.name, quantised.trained_hash, "uniform", "he2024", layers, made_by)
