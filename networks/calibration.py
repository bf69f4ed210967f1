"""What calibration images say of a network's tensors: how far they reach, and which step suits them."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, prod
from typing import Final

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.checkpoint import TrainedNetwork, as_channels_first
from autoprivacy.networks.convolution import Floats
from autoprivacy.networks.graph import INPUT, infer_shapes
from autoprivacy.networks.lowering import Rounding, lower
from autoprivacy.networks.rounding import signed_range, step_exponent, unsigned_range

MOST_SAMPLES: Final = 1 << 16
VALUES_AT_ONCE: Final = 1 << 24
"""As many images run together as have about so many values in all their tensors."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Values of every tensor that may be requantised, the input's included, by the name of the layer that puts it out.

    At most `MOST_SAMPLES` of each, evenly spread over images and positions, the least and the greatest among them.
    """

    samples: dict[str, Floats]
    _exponents: dict[tuple[str, int, bool, Fraction], int] = field(default_factory=dict)

    def exponent(self, tensor: str, bits: int, *, signed: bool, factor: Fraction = Fraction(1)) -> int:
        """The step exponent of least squared error for a tensor in units of `factor`."""
        key = (tensor, bits, signed, factor)
        if key not in self._exponents:
            low, high = signed_range(bits) if signed else unsigned_range(bits)
            values = self.samples[tensor].astype(np.float64) / float(factor)
            self._exponents[key] = step_exponent(values, low, high)
        return self._exponents[key]

    def least(self, tensor: str) -> float:
        """The least value that was seen."""
        return float(self.samples[tensor].min())

    def reach(self, tensor: str) -> float:
        """The greatest magnitude that was seen."""
        return float(np.abs(self.samples[tensor]).max())


def calibrate(trained: TrainedNetwork, x: Floats) -> Calibration:
    """Run the float network once on images x (N, C, H, W), some at a time.

    Raises:
        BadInput: if there are no images, or they do not have the network's input shape.
    """
    network = trained.network
    x = as_channels_first(network, x)
    if not len(x):
        raise BadInput(f"network {network.name!r}: calibration takes at least one image")
    shapes = infer_shapes(network)
    tensors = [INPUT, *(node.tensor for node in lower(network).nodes if isinstance(node, Rounding))]
    sizes = {name: prod(shapes[name]) for name in tensors}
    parts: dict[str, list[Floats]] = {name: [] for name in tensors}
    extremes = {name: [np.inf, -np.inf] for name in tensors}
    at_once = max(1, VALUES_AT_ONCE // sum(prod(shape) for shape in shapes.values()))
    for start in range(0, len(x), at_once):
        outputs = trained.outputs(x[start : start + at_once])
        for name in tensors:
            values = outputs[name].reshape(-1)
            stride = _stride(len(x) * sizes[name], sizes[name])
            parts[name].append(values[-start * sizes[name] % stride :: stride])
            least, greatest = extremes[name]
            extremes[name] = [min(least, float(values.min())), max(greatest, float(values.max()))]
    return Calibration({name: _with_extremes(np.concatenate(parts[name]), *extremes[name]) for name in tensors})


def _stride(count: int, size: int) -> int:
    """The least stride that leaves few enough of `count` values and meets every position of a tensor of `size`."""
    stride = -(-count // MOST_SAMPLES)
    while gcd(stride, size) > 1:
        stride += 1
    return stride


def _with_extremes(sample: Floats, least: float, greatest: float) -> Floats:
    sample[sample.argmin()], sample[sample.argmax()] = least, greatest
    return sample
