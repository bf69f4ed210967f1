"""The exact integer reference: what the private protocol must compute, on batches, with hooks for decryption errors.

| symbol | meaning |
|---|---|
| accumulator | weight * x + bias + error, a signed integer; in [-2^(k-1), 2^(k-1) - 1] where a modulus 2^k is given |
| activation | the requantised accumulator, which enters the next stage |
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.convolution import Ints, convolve_exact
from autoprivacy.networks.quantisation import QuantisedNetwork, Requantise, Stage


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What every stage gave, by its name: (N, M, H', W') each; the last stage has accumulators only."""

    accumulators: Mapping[str, Ints]
    activations: Mapping[str, Ints]
    logits: Ints
    """The last accumulators, (N, classes)."""


def run(
    quantised: QuantisedNetwork,
    x: Ints,
    *,
    errors: Mapping[str, Ints] | None = None,
    modulus_bits: Mapping[str, int] | None = None,
) -> Trace:
    """Run quantised images x (N, C, H, W) through the network.

    Args:
        quantised: the network.
        x: integers in [0, 2^input_bits - 1], from `QuantisedNetwork.quantise_input`.
        errors: by stage, integers (N, M, H', W') that are added to the linear output, where decryption errors enter.
        modulus_bits: by stage, the k of its plaintext modulus 2^k, modulo which accumulators wrap.

    Raises:
        BadInput: if the images, or an error's shape, do not fit, or a name is not that of a stage.
    """
    errors, modulus_bits = errors or {}, modulus_bits or {}
    _check(quantised, x, errors, modulus_bits)
    accumulators: dict[str, Ints] = {}
    activations: dict[str, Ints] = {}
    entering = x
    for stage in quantised.stages:
        sums = linear(stage, entering)
        if stage.name in errors:
            sums = sums + errors[stage.name]
        if stage.name in modulus_bits:
            sums = wrap(sums, modulus_bits[stage.name])
        accumulators[stage.name] = sums
        if stage.requantise is not None:
            entering = activations[stage.name] = requantise(stage.requantise, sums)
    return Trace(accumulators, activations, logits=sums.reshape(len(x), -1))


def linear(stage: Stage, activations: Ints) -> Ints:
    """The accumulators (N, M, H', W') of inputs (N, C, H, W), or of any shape with as many values per image."""
    entering = activations.reshape(len(activations), *stage.input_shape)
    sums = convolve_exact(stage.weight, entering, stride=stage.stride, padding=stage.padding)
    return sums + stage.bias[:, None, None]


def requantise(requantisation: Requantise, accumulators: Ints) -> Ints:
    """floor(accumulator / 2^shift), saturated; of any shape."""
    low, high = requantisation.range
    # A right shift of a signed integer is the floor of the division.
    return (accumulators >> requantisation.shift).clip(low, high)


def wrap(values: Ints, bits: int) -> Ints:
    """The representatives modulo 2^bits in [-2^(bits-1), 2^(bits-1) - 1]."""
    half = 1 << (bits - 1)
    return ((values + half) & ((1 << bits) - 1)) - half


def _check(quantised: QuantisedNetwork, x: Ints, errors: Mapping[str, Ints], modulus_bits: Mapping[str, int]) -> None:
    if x.ndim != 4 or x.shape[1:] != quantised.input_shape or x.dtype != np.int64:
        raise BadInput(
            f"network {quantised.name!r}: quantised images of shape {x.shape}, {x.dtype} given; it takes "
            f"(N, {', '.join(str(size) for size in quantised.input_shape)}), int64"
        )
    stages = {stage.name: stage for stage in quantised.stages}
    for name in (*errors, *modulus_bits):
        if name not in stages:
            raise BadInput(f"network {quantised.name!r}: no linear layer is called {name!r}; there are {list(stages)}")
    for name, error in errors.items():
        wanted = (len(x), *stages[name].output_shape)
        if error.shape != wanted or error.dtype != np.int64:
            raise BadInput(f"layer {name!r}: errors of shape {error.shape}, {error.dtype}; give {wanted}, int64")
    for name, bits in modulus_bits.items():
        if not 1 <= bits <= 62:
            raise BadInput(f"layer {name!r}: modulus of {bits} bits; give 1..62")
