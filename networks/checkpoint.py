"""A network with its trained weights, and the two files that keep it.

`NAME.json` holds the graph, how it was trained, and a hash; `NAME.npz` holds the weights. The hash covers the graph
and the values of the weights, not the bytes of the file, so that it names the function that is computed.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common import records
from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record
from autoprivacy.networks.convolution import Floats, Geometry, convolve, window_max, window_sum
from autoprivacy.networks.graph import (
    INPUT,
    Add,
    AnyLayer,
    AvgPool,
    Conv2d,
    Flatten,
    Linear,
    MaxPool,
    Network,
    ReLU,
    ReLU6,
    Reshape,
    Shape,
    infer_shapes,
    parameter_shapes,
)
from autoprivacy.networks.npz import read_npz, write_npz
from autoprivacy.networks.schedules import Schedule

SCHEMA_VERSION: Final = 2


@record
class Accuracy:
    """How many images of a split were classified rightly.

    `bits` are the widths of all weights and activations but those of the first and the last linear layer, which have
    `end_bits`; both are None for the float network.
    """

    split: str
    bits: int | None
    end_bits: int | None
    correct: int
    images: int

    @property
    def fraction(self) -> float:
        """Top-1 accuracy in 0..1."""
        return self.correct / self.images


@record
class TrainingRecord:
    """How a checkpoint came about: the command that made it, from what, and what it reached."""

    command: str
    seed: int
    data: str
    schedule: Schedule
    torch_version: str
    accuracies: tuple[Accuracy, ...]


@record
class Checkpoint:
    """The JSON half of a stored network; `hash` is that of the graph with its weights."""

    schema_version: Literal[2]
    network: Network
    training: TrainingRecord | None
    hash: str


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """A network and its float32 weights by name (`parameter_shapes`); `training` is None if untrained.

    Raises:
        BadInput: if a weight is missing, unexpected, wrongly shaped, not float32 or not finite.
    """

    network: Network
    weights: Mapping[str, Floats]
    training: TrainingRecord | None = None

    def __post_init__(self) -> None:
        _check_weights(self.network, self.weights)
        kept = {name: np.array(self.weights[name], order="C") for name in sorted(self.weights)}
        for values in kept.values():
            values.setflags(write=False)
        object.__setattr__(self, "weights", MappingProxyType(kept))

    @property
    def hash(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON of the graph and of every weight's name, shape and values."""
        graph = json.loads(records.to_json(self.network))
        digest = hashlib.sha256(json.dumps(graph, sort_keys=True, separators=(",", ":")).encode())
        for name, values in self.weights.items():
            digest.update(f"\n{name} {values.shape}\n".encode())
            digest.update(values.astype("<f4").tobytes())
        return digest.hexdigest()

    def run(self, x: Floats) -> Floats:
        """Float logits, shape (N, classes), of images (N, C, H, W).

        Raises:
            BadInput: if the images do not have the network's input shape.
        """
        x = as_channels_first(self.network, x)
        last = self.network.layers[-1].name
        chunks = [self._values(x[start : start + _IMAGES_AT_ONCE], {last})[last] for start in _starts(x)]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.network.classes), dtype=np.float32)

    def outputs(self, x: Floats) -> dict[str, Floats]:
        """The float output of every layer, and the input, by name; the first axis is the image.

        Raises:
            BadInput: if the images do not have the network's input shape.
        """
        x = as_channels_first(self.network, x)
        return self._values(x, {INPUT, *(layer.name for layer in self.network.layers)})

    def _values(self, x: Floats, kept: AbstractSet[str]) -> dict[str, Floats]:
        """The values of the `kept` names; others are let go as soon as nothing reads them any more."""
        last_reader = {name: layer.name for layer in self.network.layers for name in layer.inputs}
        values: dict[str, Floats] = {INPUT: np.asarray(x, dtype=np.float32)}
        for layer in self.network.layers:
            values[layer.name] = self._output(layer, [values[name] for name in layer.inputs])
            for name in layer.inputs:
                if last_reader[name] == layer.name and name not in kept:
                    values.pop(name, None)
        return values

    def _output(self, layer: AnyLayer, entering: list[Floats]) -> Floats:
        x = entering[0]
        match layer:
            case Conv2d():
                weight, bias = self._parameters(layer.name)
                geometry: Geometry = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
                found = convolve(weight, x, **geometry) + bias[:, None, None]
            case Linear():
                weight, bias = self._parameters(layer.name)
                found = x @ weight.T + bias
            case ReLU():
                found = np.maximum(x, np.float32(0))
            case ReLU6():
                found = x.clip(np.float32(0), np.float32(6))
            case MaxPool():
                found = window_max(x, layer.kernel, layer.stride, layer.padding)
            case AvgPool():
                found = window_sum(x, layer.kernel, layer.stride, layer.padding) / np.float32(prod(layer.kernel))
            case Add():
                found = sum(entering[1:], start=x)
            case Flatten() | Reshape():
                found = x.reshape(len(x), *infer_shapes(self.network)[layer.name])
        return found

    def _parameters(self, layer: str) -> tuple[Floats, Floats]:
        return self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]


_IMAGES_AT_ONCE: Final = 64


def _starts(x: Floats) -> range:
    return range(0, len(x), _IMAGES_AT_ONCE)


def untrained(network: Network, rng: np.random.Generator) -> TrainedNetwork:
    """Random weights by [He2015], whose spread keeps the variance through ReLUs; biases are zero."""
    weights = {}
    for name, shape in parameter_shapes(network).items():
        spread = np.sqrt(2 / prod(shape[1:])) if name.endswith(".weight") else 0.0
        weights[name] = (rng.standard_normal(shape) * spread).astype(np.float32)
    return TrainedNetwork(network, weights)


def as_channels_first(network: Network, x: Floats) -> Floats:
    """Images as (N, C, H, W); those of a channels-last network may come as (N, H, W, C) too.

    Where the two cannot be told apart, they are taken as the network's own file takes them.

    Raises:
        BadInput: naming the shape that was given and the one that is needed.
    """
    channels, height, width = network.input_shape
    if network.channels_last and x.ndim == 4 and x.shape[1:] == (height, width, channels):
        return x.transpose(0, 3, 1, 2)
    check_images(network, x)
    return x


def check_images(network: Network, x: NDArray[np.generic]) -> None:
    """Refuse images that the network cannot take.

    Raises:
        BadInput: naming the shape that was given and the one that is needed.
    """
    if x.shape[1:] != network.input_shape or x.ndim != 4:
        wanted = ", ".join(str(size) for size in network.input_shape)
        raise BadInput(f"network {network.name!r}: images of shape {x.shape} given; it takes (N, {wanted})")


def save(trained: TrainedNetwork, path: Path) -> None:
    """Write `path` (NAME.json) and the weights beside it (NAME.npz), each all or nothing.

    Raises:
        BadInput: if `path` does not end in .json or cannot be written.
    """
    beside = weights_path(path)
    document = Checkpoint(
        schema_version=SCHEMA_VERSION, network=trained.network, training=trained.training, hash=trained.hash
    )
    # The JSON goes last: interrupted between the two, its hash tells that they do not belong together.
    write_npz(beside, {name: w.astype("<f4") for name, w in trained.weights.items()})
    records.save(document, path)


def load(path: Path) -> TrainedNetwork:
    """Read a checkpoint from `path` (NAME.json) and the weights beside it.

    Raises:
        BadInput: naming the file and what is wrong in it.
    """
    beside = weights_path(path)
    with _naming(path):
        document = records.load(Checkpoint, path)
    with _naming(beside):
        trained = TrainedNetwork(document.network, _read_weights(beside, document.network), document.training)
    if trained.hash != document.hash:
        raise BadInput(
            f"{path}: field 'hash' is {document.hash[:16]}..., but this graph and {beside.name} give "
            f"{trained.hash[:16]}...; the files do not belong together, or were changed: restore both, or train again"
        )
    return trained


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file in front of errors that do not name it yet, such as those of a graph that does not fit."""
    try:
        yield
    except BadInput as error:
        named = str(error).startswith(str(path))
        raise BadInput(str(error) if named else f"{path}: {error}") from None


def weights_path(path: Path) -> Path:
    """Where the weights of the checkpoint `path` lie.

    Raises:
        BadInput: if `path` does not end in .json.
    """
    if path.suffix != ".json":
        raise BadInput(f"{path}: a checkpoint is named by its .json file; the weights lie beside it as .npz")
    return path.with_suffix(".npz")


def _check_weights(network: Network, weights: Mapping[str, NDArray[Any]]) -> None:
    wanted = parameter_shapes(network)
    if missing := sorted(wanted.keys() - weights.keys()):
        raise BadInput(f"weight {missing[0]!r} is missing; the graph needs it")
    if unexpected := sorted(weights.keys() - wanted.keys()):
        raise BadInput(f"weight {unexpected[0]!r} is unexpected; the graph has no such parameter")
    for name, shape in wanted.items():
        values = weights[name]
        _check_stored(name, values.dtype, values.shape, shape)
        if not np.isfinite(values).all():
            raise BadInput(f"weight {name!r} holds values that are not finite; train again")


def _check_stored(name: str, kind: "np.dtype[Any]", shape: Shape, wanted: Shape) -> None:
    if shape != wanted:
        raise BadInput(f"weight {name!r} has shape {shape}; the graph needs {wanted}")
    if kind != np.float32:
        raise BadInput(f"weight {name!r} is of type {kind}; weights are float32")


def _read_weights(path: Path, network: Network) -> dict[str, Floats]:
    """The arrays that the graph needs; nothing is read that is larger than the graph says."""
    wanted = parameter_shapes(network)
    return read_npz(path, tuple(wanted), lambda name, kind, shape: _check_stored(name, kind, shape, wanted[name]))
