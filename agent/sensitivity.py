"""What each layer alone costs in accuracy: by its weight bits, the bits that enter it, and its decryption error.

| symbol | meaning |
|---|---|
| margin | how far the class that the baseline (8 bits, no errors) gives an image leads over the next, in logits |
| D | the change of the margin under one deviation; V = mean of D^2 over the images whose margin is below the median |
| d, f | the mean paired drop of the deviation, and the share of images that it makes wrong or right |

A deviation that is small against the margins moves logits like independent noise: squares of several add up, images
change sides in proportion to sqrt(V), as many to the right as to the wrong at first order, so the drop goes with V. A
cost is therefore k V, with one k per network, the sum of all small deviations' drops over that of their V. Drops of
single deviations would say little: over 1,000 images they are within half a point of zero, and a search that trusted
them would pick the luckiest. Images well inside their class say nothing, hence the median.

Errors are in steps of what is made of the accumulators at 8 bits (`options`). Costs are made monotone (fewer bits, or
more error, never cost less); between measured errors they are interpolated, below the least they fall with the
variance. What is measured is kept in a file, so that an interrupted pass goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from autoprivacy.agent.coupling import BASELINE_BITS, Coupling
from autoprivacy.agent.options import Option
from autoprivacy.agent.tails import Variation, logits_of
from autoprivacy.common.confidence import CONFIDENCE
from autoprivacy.common.files import read_text
from autoprivacy.common.progress import Progress
from autoprivacy.common.records import parse, record, save, schema_version_of
from autoprivacy.networks.data import Split
from autoprivacy.networks.integer_network import LayerWidths, Widths
from autoprivacy.networks.quantisation import Quantiser

ERRORS: Final = (0.25, 1.0, 4.0, 16.0)
"""Deviations that are measured, in steps at 8 bits."""

SMALL: Final = 0.1
"""Deviations that change the side of fewer images tell what a square of the margin's change costs."""

SCHEMA_VERSION: Final = 3
"""Raised when effects are measured otherwise, too: files of an older one are measured anew."""


@record
class Effect:
    """What one deviation does: V in squares of a logit, the drop d, and `changed`, the f of the table above."""

    margin_square: float
    drop: float
    changed: float


@record
class Sensitivities:
    """Measured effects by what deviates: `conv1 weights 4`, `relu1 activations 4`, `conv1 error 1.0`."""

    schema_version: Literal[3]
    network_hash: str
    images: int
    seed: int
    effects: dict[str, Effect]

    def costs(self) -> "Costs":
        """What every deviation costs."""
        per_square, _ = self._factors()
        return Costs({what: min(1.0, per_square * each.margin_square) for what, each in self.effects.items()})

    def likely_upper(self, additive: float, images: int) -> float:
        """About which bound (`bounds.paired_upper`) a policy of this additive cost has on so many images.

        It changes the side of as many images as its V says, and each of these adds to the variance of the mean.
        """
        per_square, per_root = self._factors()
        changed = min(1.0, per_root * (additive / per_square) ** 0.5)
        return additive + float(np.sqrt(-2 * np.log(1 - CONFIDENCE) * changed / images))

    def _factors(self) -> tuple[float, float]:
        """The k of the module, above 0, and what the share of images that change sides is to the root of V."""
        small = [each for each in self.effects.values() if each.changed <= SMALL and each.margin_square > 0]
        if not small:
            return 1.0, 0.0
        squares = np.array([each.margin_square for each in small])
        drops = max(sum(each.drop for each in small), 1 / self.images)
        return float(drops / squares.sum()), float(sum(each.changed for each in small) / np.sqrt(squares).sum())


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost k V of every deviation, as a share of images; never below 0."""

    of: dict[str, float]

    def drop(self, coupling: Coupling, layer: str, option: Option) -> float:
        """What an option of a layer costs, as a share; activation bits count with the first layer that reads them."""
        chosen = option.chosen
        total = self.of_bits(f"{layer} weights", chosen.weight_bits)
        origin = coupling.origin_of[layer]
        if coupling.readers_of(origin)[0] == layer:
            total += self.of_bits(f"{origin} activations", chosen.activation_bits)
        return total + self.of_error(layer, option.error) + option.spoiled

    def of_bits(self, what: str, bits: int) -> float:
        """What so few bits cost."""
        return max([0.0, *(self.of.get(f"{what} {wider}", 0.0) for wider in range(bits, BASELINE_BITS))])

    def of_error(self, layer: str, error: float) -> float:
        """What an error of this deviation costs."""
        measured = np.maximum.accumulate([self.of[f"{layer} error {each}"] for each in ERRORS])
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
    made = Sensitivities(SCHEMA_VERSION, coupling.baseline.trained_hash, count, seed, known)
    if not missing:
        return made
    x, y = split.batch(slice(0, count)), split.y[:count]
    rng = np.random.default_rng(seed)
    unchanged = Variation("baseline", coupling.baseline, coupling.layers[-1], 0.0)
    with progress("measuring sensitivities", len(missing) + 1) as advance:
        ((_, before),) = logits_of(coupling.baseline, [unchanged], x, rng)
        advance()
        for variation, after in logits_of(coupling.baseline, missing, x, rng):
            known[variation.name] = effect(before, after, y)
            advance()
            if file is not None:
                save(made, file)
    return made


def effect(before: NDArray[np.float64], after: NDArray[np.float64], y: NDArray[np.int64]) -> Effect:
    """What changes logits `before` (N, classes) to `after`, where the true classes are y (N,)."""
    first, second = np.argsort(-before, axis=1, kind="stable")[:, :2].T
    images = np.arange(len(y))
    margins, later = (logits[images, first] - logits[images, second] for logits in (before, after))
    near = margins <= np.median(margins)
    lost = (first == y).astype(np.float64) - (after.argmax(axis=1) == y)
    squares = (later - margins)[near] ** 2
    return Effect(float(squares.mean()), float(lost.mean()), float(np.abs(lost).mean()))


def _known(file: Path | None, network_hash: str, images: int, seed: int) -> dict[str, Effect]:
    if file is None or not file.exists():
        return {}
    text = read_text(file)
    if schema_version_of(text) in range(1, SCHEMA_VERSION):
        return {}
    kept = parse(Sensitivities, text, source=str(file))
    same = (kept.network_hash, kept.images, kept.seed) == (network_hash, images, seed)
    return dict(kept.effects) if same else {}


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
