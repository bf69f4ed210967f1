"""What a plaintext modulus below the worst case risks: counted on images, bounded with confidence."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autoprivacy.common.confidence import binomial_upper
from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record
from autoprivacy.networks.convolution import Ints
from autoprivacy.networks.integer_network import Meeting, QuantisedNetwork, meetings
from autoprivacy.networks.reference import moduli_of_circuit_inputs, traces


@record
class Overflow:
    """How often t = 2^bits of a linear layer would wrap what becomes of its accumulators before a circuit.

    `outside` of `values` did, in `wrapped_images` of `images`; `upper` bounds the probability per image with 95 %
    confidence. Layers that meet have the same counts: they share t, and what they become.
    """

    layer: str
    bits: int
    values: int
    outside: int
    images: int
    wrapped_images: int
    upper: float


def overflow(network: QuantisedNetwork, x: Ints, bits: Mapping[str, int]) -> dict[str, Overflow]:
    """Count on quantised images x (N, C, H, W), by linear layer; each is judged on what enters it if nothing wraps.

    Raises:
        BadInput: if there are no images, or they do not fit; if a name is not that of a linear layer, bits are not
            1 to 62, or layers that meet have different ones.
    """
    if not len(x):
        raise BadInput(f"network {network.name!r}: give at least one image to count overflows on")
    if wrong := [name for name, each in bits.items() if not 1 <= each <= 62]:
        raise BadInput(f"layer {wrong[0]!r}: modulus of {bits[wrong[0]]} bits; give 1..62")
    moduli = moduli_of_circuit_inputs(network, {name: 1 << each for name, each in bits.items()})
    counted = [_Count(meeting) for meeting in meetings(network) if meeting.layers[0] in bits]
    for trace in traces(network, x):
        found = {**trace.circuit_inputs, network.operations[-1].name: trace.logits}
        for count in counted:
            count.add(found, moduli)
    return {
        layer: Overflow(
            layer=layer,
            bits=bits[layer],
            values=count.values,
            outside=count.outside,
            images=len(x),
            wrapped_images=count.wrapped_images,
            upper=binomial_upper(count.wrapped_images, len(x)),
        )
        for count in counted
        for layer in count.meeting.layers
    }


@dataclass
class _Count:
    meeting: Meeting
    values: int = 0
    outside: int = 0
    wrapped_images: int = 0

    def add(self, found: Mapping[str, Ints], moduli: Mapping[str, int]) -> None:
        """Count one chunk of images."""
        beyond = []
        for name in self.meeting.circuit_inputs:
            values, half = found[name].reshape(len(found[name]), -1), moduli[name] // 2
            beyond.append((values < -half) | (values >= half))
        together = np.concatenate(beyond, axis=1)
        self.values += together.size
        self.outside += int(together.sum())
        self.wrapped_images += int(together.any(axis=1).sum())
