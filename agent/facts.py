"""What an agent is told of a layer and of a deployment, and the traits of an option that it may ask for by name.

All are numbers of the order of 1, by fixed rules: nothing is scaled by what other layers, episodes or runs showed.
"""

from collections.abc import Sequence
from math import log2, log10
from typing import Final

import numpy as np

from autoprivacy.agent.circuit_work import transfer
from autoprivacy.agent.options import Option
from autoprivacy.agent.pricing import Pricing
from autoprivacy.agent.problem import Floats
from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.plan import Work

LEAST_BITS: Final = 2
MOST_BITS: Final = 8
"""Widths from the least to the most that a search takes are traits from 0 to 1."""

_REFERENCES: Final = (
    transfer("up", 1 << 10),
    transfer("up", 1 << 20),
    transfer("down", 1 << 20),
    Work("garble", 0, 0, calls=1, items=10**6, values=10**4, bytes=32 * 10**6, wires=4 * 10**5),
    Work("evaluate", 0, 0, calls=1, items=10**6, values=10**4, bytes=32 * 10**6, wires=4 * 10**5),
    Work("ot_send", 0, 0, calls=1, items=10**5, bytes=16 * 10**5),
)
"""Work that has a price on nearly every deployment: messages of 1 KiB and 1 MiB, a million AND gates, transfers."""


def traits(options: Sequence[Option]) -> Floats:
    """(O, 2): weight bits and activation bits."""
    bits = np.array([(option.chosen.weight_bits, option.chosen.activation_bits) for option in options], np.float64)
    found: Floats = (bits - LEAST_BITS) / (MOST_BITS - LEAST_BITS)
    return found


def size_facts(shape: LinearShape) -> tuple[float, ...]:
    """Size of a layer: channels in and out, height and width, kernel, stride, products, and whether it is a matrix."""
    products = shape.output_values * shape.in_channels // shape.groups * shape.kernel[0] * shape.kernel[1]
    counts = (shape.in_channels, shape.out_channels, shape.height, shape.width, products)
    is_matrix = (shape.height, shape.width) == (1, 1)
    return (*(log2(count) / 10 for count in counts), shape.kernel[0] / 5, shape.stride[0] / 2, float(is_matrix))


def deployment_facts(pricing: Pricing) -> tuple[float, ...]:
    """log10 of seconds of some reference work, 0 where it has no price, and whether it has one."""
    found: list[float] = []
    for work in _REFERENCES:
        try:
            seconds = pricing.seconds([work])
        except UnmodelledOperation:
            found += (0.0, 0.0)
        else:
            found += (log10(max(seconds, 1e-9)) / 3, 1.0)
    return tuple(found)
