"""Accuracy under widths and decryption errors, simulated as the runtime behaves, bounded with confidence."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.agent.bounds import paired_upper
from autoprivacy.common.records import record
from autoprivacy.networks import reference
from autoprivacy.networks.data import Split
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.error_model import FAILURE_BITS, decryption_errors, network_failure_bits

ERROR_DRAWS: Final = 3
IMAGES_AT_ONCE: Final = 64
"""Errors are drawn for so many images together, so that memory stays bounded."""


@record
class AccuracyDrop:
    """Top-1 accuracy against the baseline on the same images; `upper` bounds the drop with 95 % confidence.

    The drop is paired: what an image loses is whether the baseline has it right, less the share of error draws that do.
    `upper` bounds its mean (`bounds.paired_upper`); images gained are credited.
    """

    accuracy: float
    baseline: float
    upper: float
    images: int
    error_draws: int


def classify(
    network: QuantisedNetwork, agreement: Agreement | None, x: NDArray[np.float32], seed: int
) -> NDArray[np.int64]:
    """Predicted class per image (N,); with an agreement, under one draw of its decryption errors."""
    rng = np.random.default_rng(seed)
    models = decryption_errors(network, agreement) if agreement else {}
    if models and network_failure_bits(models) >= FAILURE_BITS:
        models = {}
    moduli = {layer.name: layer.policy.t for layer in agreement.layers} if agreement else {}
    classes = []
    for start in range(0, len(x), IMAGES_AT_ONCE):
        inputs = network.quantise_input(x[start : start + IMAGES_AT_ONCE])
        errors = {name: model.sample(rng, len(inputs)) for name, model in models.items()}
        classes.append(reference.logits(network, inputs, errors=errors, moduli=moduli).argmax(axis=1))
    return np.concatenate(classes)


def accuracy_drop(
    network: QuantisedNetwork,
    agreement: Agreement,
    baseline: QuantisedNetwork,
    split: Split,
    seed: int,
    *,
    right_before: NDArray[np.bool_] | None = None,
    draws: int = ERROR_DRAWS,
) -> AccuracyDrop:
    """The paired drop on `split`, over several draws of the decryption errors.

    `right_before` (N,) is which images the baseline has right, if that is known.
    """
    if right_before is None:
        right_before = classify(baseline, None, split.x, seed) == split.y
    error_free = network_failure_bits(decryption_errors(network, agreement)) >= FAILURE_BITS
    drawn = 1 if error_free else draws
    if error_free and network.widths == baseline.widths:  # the same network
        kept = float(right_before.mean())
        return AccuracyDrop(kept, kept, paired_upper(np.zeros(len(right_before))), len(split.y), drawn)
    right = np.array([classify(network, agreement, split.x, seed + draw) == split.y for draw in range(drawn)])
    upper = paired_upper(right_before - right.mean(axis=0))
    return AccuracyDrop(float(right.mean()), float(right_before.mean()), upper, len(split.y), drawn)
