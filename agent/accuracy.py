"""Accuracy under widths and decryption errors, simulated as the runtime behaves, bounded with confidence."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.records import record
from autoprivacy.networks import reference
from autoprivacy.networks.data import Split
from autoprivacy.networks.quantisation import QuantisedNetwork
from autoprivacy.protocol.error_model import decryption_errors
from autoprivacy.protocol.policy import Agreement

ERROR_DRAWS: Final = 3
CONFIDENCE: Final = 0.95


@record
class AccuracyDrop:
    """Top-1 accuracy against the baseline on the same images; `upper` bounds the drop with 95 % confidence.

    An image counts as lost if the baseline has it right and any error draw gets it wrong; `upper` is the exact binomial
    (Clopper-Pearson) bound of the lost share, with no credit for images gained. So it is above the drop itself.
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
    errors: dict[str, NDArray[np.int64]] = {}
    if agreement is not None:
        rng = np.random.default_rng(seed)
        models = decryption_errors(network, agreement)
        errors = {stage.name: models[stage.name].sample(rng, (len(x), *stage.output_shape)) for stage in network.stages}
    moduli = {layer.name: layer.policy.t.bit_length() - 1 for layer in agreement.layers} if agreement else None
    logits = reference.run(network, network.quantise_input(x), errors=errors, modulus_bits=moduli).logits
    classes: NDArray[np.int64] = logits.argmax(axis=1)
    return classes


def accuracy_drop(
    network: QuantisedNetwork, agreement: Agreement, baseline: QuantisedNetwork, split: Split, seed: int
) -> AccuracyDrop:
    """The paired drop on `split`, over several draws of the decryption errors."""
    from scipy.stats import beta

    right_before = classify(baseline, None, split.x, seed) == split.y
    right = np.array([classify(network, agreement, split.x, seed + draw) == split.y for draw in range(ERROR_DRAWS)])
    images, lost = len(split.y), int((right_before & ~right.all(axis=0)).sum())
    upper = 1.0 if lost == images else float(beta.ppf(CONFIDENCE, lost + 1, images - lost))
    return AccuracyDrop(float(right.mean()), float(right_before.mean()), upper, images, ERROR_DRAWS)
