"""Data sets, and their split into four parts that never mix.

`train` trains; `calibrate` chooses quantisation steps; `search` judges policies; `confirm` is looked at last, and
nothing is ever chosen by it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.convolution import Floats, Ints

SEED: Final = 2026
"""Seeds the order in which images are dealt to the splits."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images x (N, C, H, W), float32, and labels y (N,)."""

    name: str
    x: Floats
    y: Ints

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


def splits(network_name: str) -> Splits:
    """The data that goes with a network of the zoo; the same images in the same splits every time.

    Raises:
        BadInput: if no data set goes with that name.
    """
    try:
        make = _DATA[network_name]
    except KeyError:
        raise BadInput(f"no data set goes with {network_name!r}; there is one for {', '.join(sorted(_DATA))}") from None
    return make()


def _digits() -> Splits:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images[:, None] / 16).astype(np.float32)
    sizes = {"train": 897, "calibrate": 100, "search": 500, "confirm": 300}
    return _deal(f"scikit-learn load_digits, pixels / 16, seed {SEED}", x, bunch.target.astype(np.int64), sizes)


def _deal(description: str, x: Floats, y: Ints, sizes: dict[str, int]) -> Splits:
    order = _shuffled(len(x), SEED)
    ends = np.cumsum(list(sizes.values()))
    if ends[-1] != len(x):
        raise BadInput(f"{description}: holds {len(x)} images; {ends[-1]} are to be dealt")
    parts = dict(zip(sizes, np.split(order, ends[:-1]), strict=True))
    return Splits(description, **{name: _part(name, x[where], y[where]) for name, where in parts.items()})


def _part(name: str, x: Floats, y: Ints) -> Split:
    x.setflags(write=False)
    y.setflags(write=False)
    return Split(name, x, y)


def _shuffled(count: int, seed: int) -> Ints:
    # By hash, not by numpy's generator, whose streams may change between versions: the splits must not.
    keys = [hashlib.sha256(f"{seed}:{index}".encode()).digest() for index in range(count)]
    return np.array(sorted(range(count), key=keys.__getitem__), dtype=np.int64)


_DATA: Final[dict[str, Callable[[], Splits]]] = {"digits-cnn": _digits}
