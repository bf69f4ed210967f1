"""What each layer alone costs in accuracy: by its weight bits, the bits that enter it, and its decryption error.

Each is the paired drop on images of the search split when only that differs from 8 bits without errors; errors are in
steps of what is made of the accumulators at 8 bits (`options`). Drops are made monotone (fewer bits, or more error,
never cost less); between measured errors they are interpolated, below the least they fall with the variance. Kept in a
file as they are measured, so that an interrupted pass goes on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from autoprivacy.agent.coupling import BASELINE_BITS, Coupling
from autoprivacy.agent.options import Option
from autoprivacy.agent.tails import Variation, classes_of
from autoprivacy.common.progress import Progress
from autoprivacy.common.records import load, record, save
from autoprivacy.networks.data import Split
from autoprivacy.networks.integer_network import LayerWidths, Widths
from autoprivacy.networks.quantisation import Quantiser

ERRORS: Final = (0.25, 1.0, 4.0, 16.0)
"""Deviations that are measured, in steps at 8 bits."""

DRAWS: Final = 2
VERSION: Final = 1
"""Of how drops are measured: files of another version are measured anew."""


@record
class Sensitivities:
    """Measured drops, as shares, by what deviates: `conv1 weights 4`, `relu1 activations 4`, `conv1 error 1.0`."""

    schema_version: Literal[1]
    version: int
    network_hash: str
    images: int
    seed: int
    drops: dict[str, float]

    def drop(self, coupling: Coupling, layer: str, option: Option) -> float:
        """What an option of a layer costs, as a share; activation bits count with the first layer that reads them."""
        chosen = option.chosen
        total = self._bits(f"{layer} weights", chosen.weight_bits)
        origin = coupling.origin_of[layer]
        if coupling.readers_of(origin)[0] == layer:
            total += self._bits(f"{origin} activations", chosen.activation_bits)
        return total + self.of_error(layer, option.error) + option.spoiled

    def _bits(self, what: str, bits: int) -> float:
        return max([0.0, *(self.drops.get(f"{what} {wider}", 0.0) for wider in range(bits, BASELINE_BITS))])

    def of_error(self, layer: str, error: float) -> float:
        """What an error of this deviation costs."""
        measured = np.maximum.accumulate([max(0.0, self.drops[f"{layer} error {each}"]) for each in ERRORS])
        if error <= ERRORS[0]:
            return float(measured[0]) * (error / ERRORS[0]) ** 2
        if error >= ERRORS[-1]:
            return min(1.0, float(measured[-1]) * (error / ERRORS[-1]) ** 2)
        return float(np.interp(np.log(error), np.log(ERRORS), measured))


def measure(
    coupling: Coupling,
    quantiser: Quantiser,
    split: Split,
    weight_bits: Sequence[int],
    activation_bits: Sequence[int],
    *,
    images: int,
    seed: int,
    progress: Progress,
    file: Path | None = None,
) -> Sensitivities:
    """Measure what `file` does not hold yet, on the first `images` images of the split."""
    count = min(images, len(split.y))
    known = _known(file, coupling.baseline.trained_hash, count, seed)
    missing = [
        each for each in _variations(coupling, quantiser, weight_bits, activation_bits) if each.name not in known
    ]
    made = Sensitivities(1, VERSION, coupling.baseline.trained_hash, count, seed, known)
    if not missing:
        return made
    x, y = split.batch(slice(0, count)), split.y[:count]
    rng = np.random.default_rng(seed)
    baseline = Variation("baseline", coupling.baseline, coupling.layers[-1], 0.0)
    with progress("measuring sensitivities", len(missing) + 1) as advance:
        (_, (classes, *_)), *_ = classes_of(coupling.baseline, [baseline], x, rng, 1)
        right = classes == y
        advance()
        for variation, found in classes_of(coupling.baseline, missing, x, rng, DRAWS):
            after = np.mean([each == y for each in found], axis=0)
            known[variation.name] = float((right - after).mean())
            advance()
            if file is not None:
                save(made, file)
    return made


def _known(file: Path | None, network_hash: str, images: int, seed: int) -> dict[str, float]:
    if file is None or not file.exists():
        return {}
    kept = load(Sensitivities, file)
    same = (kept.version, kept.network_hash, kept.images, kept.seed) == (VERSION, network_hash, images, seed)
    return dict(kept.drops) if same else {}


def _variations(
    coupling: Coupling, quantiser: Quantiser, weight_bits: Sequence[int], activation_bits: Sequence[int]
) -> list[Variation]:
    found = []
    for layer in coupling.layers:
        for bits in sorted({*weight_bits} - {BASELINE_BITS}):
            network = quantiser.quantise(_widths(coupling, {layer: bits}, {}))
            found.append(Variation(f"{layer} weights {bits}", network))
        unit = float((coupling.units[layer, BASELINE_BITS, BASELINE_BITS] ** 2).mean()) ** 0.5
        found += [Variation(f"{layer} error {error}", coupling.baseline, layer, error / unit) for error in ERRORS]
    for origin in dict.fromkeys(coupling.origin_of.values()):
        for bits in sorted({*activation_bits} - {BASELINE_BITS}):
            network = quantiser.quantise(_widths(coupling, {}, dict.fromkeys(coupling.readers_of(origin), bits)))
            found.append(Variation(f"{origin} activations {bits}", network))
    return found


def _widths(coupling: Coupling, weights: dict[str, int], activations: dict[str, int]) -> Widths:
    return Widths(
        tuple(
            LayerWidths(layer, weights.get(layer, BASELINE_BITS), activations.get(layer, BASELINE_BITS))
            for layer in coupling.layers
        )
    )
