"""How accurate a trained network is: in float, and in integers at the widths that are recorded with it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from autoprivacy.networks.checkpoint import Accuracy, TrainedNetwork
from autoprivacy.networks.convolution import Floats, Ints
from autoprivacy.networks.graph import Network
from autoprivacy.networks.integer_network import LayerWidths, Widths
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.networks.reference import logits

if TYPE_CHECKING:
    from autoprivacy.networks.data import Split, Splits

RECORDED: Final = tuple((bits, ends) for bits in (8, 6, 5, 4, 3) for ends in dict.fromkeys((8, bits)))
"""Widths that are recorded: of all layers, and of the first and the last one."""

MEASUREMENTS: Final = 2 * (1 + len(RECORDED))
_IMAGES_AT_ONCE: Final = 500


def measure(trained: TrainedNetwork, data: "Splits", told: Callable[[], None]) -> tuple[Accuracy, ...]:
    """Accuracy on `search` and `confirm`, in float and at each of RECORDED; `told` is called MEASUREMENTS times."""
    quantiser = Quantiser(trained, data.calibrate.x)
    found = []
    for bits, end_bits in ((None, None), *RECORDED):
        for split in (data.search, data.confirm):
            correct = split.correct(_logits(quantiser, split, bits, end_bits))
            found.append(Accuracy(split.name, bits, end_bits, correct, len(split.y)))
            told()
    return tuple(found)


def widths_with_ends(network: Network, bits: int, end_bits: int) -> Widths:
    """`bits` for weights and activations of all linear layers, `end_bits` for those of the first and the last one."""
    names = [layer.name for layer in network.linear_layers]
    each = {name: end_bits if name in {names[0], names[-1]} else bits for name in names}
    return Widths(tuple(LayerWidths(name, chosen, chosen) for name, chosen in each.items()))


def _logits(quantiser: Quantiser, split: "Split", bits: int | None, end_bits: int | None) -> Floats | Ints:
    batches = (split.batch(slice(at, at + _IMAGES_AT_ONCE)) for at in range(0, len(split.y), _IMAGES_AT_ONCE))
    if bits is None or end_bits is None:
        return np.concatenate([quantiser.trained.run(x) for x in batches])
    quantised = quantiser.quantise(widths_with_ends(quantiser.trained.network, bits, end_bits))
    return np.concatenate([logits(quantised, quantised.quantise_input(x)) for x in batches])
