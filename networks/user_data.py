"""A user's own images, from an .npz file: x as the network takes it, and y where there are labels.

The deal depends on the number of images alone, never on a command's seed: otherwise images that one command trained on
could be among those by which another confirms.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.checkpoint import TrainedNetwork, as_channels_first
from autoprivacy.networks.convolution import Floats, Ints
from autoprivacy.networks.data import CALIBRATE, SEARCH, SEED, Splits, deal, set_of, splits
from autoprivacy.networks.graph import Network
from autoprivacy.networks.npz import read_npz

LEAST_IMAGES: Final = 200
"""With fewer, no accuracy drop of interest could be bounded."""
CONFIRM: Final = 10_000
"""The most images of that split, as CALIBRATE and SEARCH are of theirs; what is left over trains, or is not used."""

_LABELLING_BATCH: Final = 16
"""All layers' outputs of so many images are in memory at once."""


def user_splits(path: Path, trained: TrainedNetwork) -> Splits:
    """Images for a trained network: a tenth to calibrate, and the rest in halves to search and to confirm.

    A network that was trained on the same images with `training_splits` gets that deal again, so that nothing it learnt
    from judges it. Without y, the float network's own answers are the labels, and the result is marked so.

    Raises:
        BadInput: if the file is damaged, holds fewer than `LEAST_IMAGES`, or does not fit the network.
    """
    x, y = _read(path, trained.network)
    images = _identity(x)
    judged = len(x) - len(x) // 10
    if trained.training is not None and images in trained.training.data:
        sizes = _training_sizes(len(x))
    else:
        sizes = _sizes(len(x), search=judged // 2, confirm=judged - judged // 2)
    description = f"{path.name} ({images}), dealt by seed {SEED}"
    if y is None:
        labelled = deal(x, _own_labels(trained, x), sizes)
        return Splits.of(f"{description}, labelled by the float network", labelled, "float network's own")
    return Splits.of(description, deal(x, y, sizes))


def splits_for(trained: TrainedNetwork, path: Path | None) -> Splits:
    """A user's own images from `path`, or without one those that go with a network of the zoo.

    Raises:
        BadInput: if the file cannot be used, or there is none and the network is not of the zoo.
    """
    if path is not None:
        return user_splits(path, trained)
    if set_of(trained.network.name) is None:
        raise BadInput(f"no images go with {trained.network.name!r}; give your own by --data FILE.npz")
    return splits(trained.network.name)


def training_splits(path: Path, network: Network) -> Splits:
    """Labelled images to train a network on: half to train, a tenth to calibrate, a fifth each to search and confirm.

    Raises:
        BadInput: if the file is damaged, holds fewer than `LEAST_IMAGES`, does not fit the network, or has no labels.
    """
    x, y = _read(path, network)
    if y is None:
        raise BadInput(f"{path}: holds no labels; training needs them as array 'y', one integer an image")
    return Splits.of(f"{path.name} ({_identity(x)}), dealt by seed {SEED}", deal(x, y, _training_sizes(len(x))))


def _training_sizes(count: int) -> dict[str, int]:
    return _sizes(count, search=count // 5, confirm=count // 5)


def _sizes(count: int, *, search: int, confirm: int) -> dict[str, int]:
    judging = {
        "calibrate": min(count // 10, CALIBRATE),
        "search": min(search, SEARCH),
        "confirm": min(confirm, CONFIRM),
    }
    return {"train": count - sum(judging.values()), **judging}


def _identity(x: Floats) -> str:
    # Without the labels: the same images with and without them are the same images.
    return f"images of SHA-256 {hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()[:16]}"


def _own_labels(trained: TrainedNetwork, x: Floats) -> Ints:
    batches = (x[start : start + _LABELLING_BATCH] for start in range(0, len(x), _LABELLING_BATCH))
    return np.concatenate([trained.run(batch).argmax(axis=1) for batch in batches])


def _read(path: Path, network: Network) -> tuple[Floats, Ints | None]:
    def check(name: str, kind: "np.dtype[Any]", shape: tuple[int, ...]) -> None:
        if name == "x":
            _check_images(network, kind, shape)
        elif kind.kind not in "iu" or len(shape) != 1:
            raise BadInput(f"array 'y' is {kind} {shape}; it must be integers, one for each image")

    try:
        arrays = read_npz(path, ("x", "y"), check)
        x = _images(network, arrays.get("x"))
        return x, _labels(network, arrays.get("y"), len(x))
    except BadInput as error:
        told = str(error).removeprefix(f"{path}: ")
        raise BadInput(f"{path}: {told}; write it with numpy.savez(FILE, x=images, y=labels)") from None


def _check_images(network: Network, kind: "np.dtype[Any]", shape: tuple[int, ...]) -> None:
    if kind.kind != "f":
        raise BadInput(f"array 'x' is {kind}; it must be floats, scaled as the network takes them")
    # Of the shape alone, before the values are read; a view of one number takes no memory.
    as_channels_first(network, np.broadcast_to(np.float32(0), shape))
    if shape[0] < LEAST_IMAGES:
        raise BadInput(f"array 'x' holds {shape[0]} images; at least {LEAST_IMAGES} are needed to judge by them")


def _images(network: Network, x: NDArray[Any] | None) -> Floats:
    if x is None:
        raise BadInput("holds no array 'x'")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        images = np.ascontiguousarray(as_channels_first(network, x.astype(np.float32, copy=False)))
    # NaN passes through both, and no array of flags is made.
    if not (np.isfinite(images.min()) and np.isfinite(images.max())):
        raise BadInput("array 'x' holds values that are not finite")
    return images


def _labels(network: Network, y: NDArray[Any] | None, count: int) -> Ints | None:
    if y is None:
        return None
    if len(y) != count:
        raise BadInput(f"{count} images, but {len(y)} labels")
    least, largest = y.min(), y.max()
    if least < 0 or largest >= network.classes:
        raise BadInput(f"labels go from {least} to {largest}; the network's classes are 0 to {network.classes - 1}")
    return y.astype(np.int64)
