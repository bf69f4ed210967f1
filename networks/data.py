"""Data sets, and their split into four parts that never mix.

`train` trains; `calibrate` chooses quantisation steps; `search` judges policies; `confirm` is looked at last, and
nothing is ever chosen by it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.convolution import Floats, Ints
from autoprivacy.networks.data_sets import DataSet, named
from autoprivacy.networks.data_sources import load

SEED: Final = 2026
"""Seeds the order in which images are dealt to the splits."""

CALIBRATE: Final = 1000
SEARCH: Final = 5000
"""Images of those splits, of the sets that are fetched; what is left of the training images trains."""

_SCALE: Final = 1 / 256  # a power of two: quantised to 8 bits, a pixel is what it was

Pixels: TypeAlias = Floats | NDArray[np.uint8]
Labels: TypeAlias = Literal["given", "float network's own"]
"""Whose labels they are: where a user's data has none, accuracy is agreement with the float network."""


@dataclass(frozen=True, eq=False)  # without slots: `x` is kept once it was asked for
class Split:
    """Images and their labels y (N,).

    Attributes:
        pixels: images (N, C, H, W): float32, or uint8 as published, which takes a quarter of the memory.
        scale: what each pixel is multiplied by.
    """

    name: str
    pixels: Pixels
    y: Ints
    scale: float = 1.0

    @cached_property
    def x(self) -> Floats:
        """All images (N, C, H, W), float32, as a network takes them; of a large split, take batches."""
        x = self.batch(slice(None))
        x.setflags(write=False)
        return x

    def batch(self, chosen: Ints | slice) -> Floats:
        """The chosen images, float32, as a network takes them."""
        return np.multiply(self.pixels[chosen], self.scale, dtype=np.float32)

    def correct(self, logits: np.ndarray) -> int:
        """How many images the logits (N, classes) classify rightly; the first of equal logits counts."""
        return int((logits.argmax(axis=1) == self.y).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The four parts of one data set; `description` says what it is and how it was dealt."""

    description: str
    train: Split
    calibrate: Split
    search: Split
    confirm: Split
    labels: Labels = "given"

    @classmethod
    def of(cls, description: str, parts: Mapping[str, Split], labels: Labels = "given") -> "Splits":
        """From the four splits by name."""
        return cls(description, parts["train"], parts["calibrate"], parts["search"], parts["confirm"], labels)


def splits(network_name: str) -> Splits:
    """The data that goes with a network of the zoo; the same images in the same splits every time.

    Raises:
        BadInput: if no data set goes with that name, or it has not been fetched.
    """
    try:
        data_set = _DATA[network_name]
    except KeyError:
        raise BadInput(f"no data set goes with {network_name!r}; there is one for {', '.join(sorted(_DATA))}") from None
    return _digits() if data_set == DIGITS else fetched(named(data_set))


def set_of(network_name: str) -> str | None:
    """The data set that goes with a network of the zoo; None for other networks."""
    return _DATA.get(network_name)


def networks_on(set_name: str) -> tuple[str, ...]:
    """The networks of the zoo that go with a data set."""
    return tuple(network for network, name in _DATA.items() if name == set_name)


def _digits() -> Splits:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images[:, None] / 16).astype(np.float32)
    sizes = {"train": 897, "calibrate": 100, "search": 500, "confirm": 300}
    parts = deal(x, bunch.target.astype(np.int64), sizes)
    return Splits.of(f"scikit-learn load_digits, pixels / 16, seed {SEED}", parts)


def fetched(data_set: DataSet) -> Splits:
    """A set that was fetched: its training images are dealt, its test images are `confirm`.

    Raises:
        BadInput: if it is not in the cache, or damaged there.
    """
    images = load(data_set)
    sizes = {"train": data_set.size.train - CALIBRATE - SEARCH, "calibrate": CALIBRATE, "search": SEARCH}
    parts = deal(images.train_x, images.train_y.astype(np.int64), sizes, _SCALE)
    parts["confirm"] = _part("confirm", images.test_x, images.test_y.astype(np.int64), _SCALE)
    return Splits.of(f"{data_set.title}, pixels / {round(1 / _SCALE)}, training images dealt by seed {SEED}", parts)


def deal(pixels: Pixels, y: Ints, sizes: Mapping[str, int], scale: float = 1.0) -> dict[str, Split]:
    """Splits of the given names and sizes, which together take every image; always the same.

    Raises:
        BadInput: if the sizes do not add up to the images.
    """
    if sum(sizes.values()) != len(pixels):
        raise BadInput(f"the data holds {len(pixels)} images; {sum(sizes.values())} are to be dealt")
    parts = np.split(_shuffled(len(pixels), SEED), np.cumsum(list(sizes.values()))[:-1])
    return {name: _part(name, pixels[where], y[where], scale) for name, where in zip(sizes, parts, strict=True)}


def _part(name: str, pixels: Pixels, y: Ints, scale: float) -> Split:
    pixels.setflags(write=False)
    y.setflags(write=False)
    return Split(name, pixels, y, scale)


def _shuffled(count: int, seed: int) -> Ints:
    # By hash, not by numpy's generator, whose streams may change between versions: the splits must not.
    keys = [hashlib.sha256(f"{seed}:{index}".encode()).digest() for index in range(count)]
    return np.array(sorted(range(count), key=keys.__getitem__), dtype=np.int64)


DIGITS: Final = "digits"
"""Comes with scikit-learn, so it is never fetched."""

_DATA: Final[Mapping[str, str]] = {
    "digits-cnn": DIGITS,
    "lenet5": "mnist",
    **dict.fromkeys(("minionn", "resnet20", "resnet32", "mobilenetv2"), "cifar10"),
}
