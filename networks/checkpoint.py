"""A network with its trained weights, and the two files that keep it.

`NAME.json` holds the graph, how it was trained, and a hash; `NAME.npz` holds the weights. The hash covers the graph
and the values of the weights, not the bytes of the file, so that it names the function that is computed.
"""

import hashlib
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common import records
from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import read_bytes, write_atomic
from autoprivacy.common.records import record
from autoprivacy.networks.convolution import Floats, convolve
from autoprivacy.networks.graph import INPUT, Conv2d, Flatten, Linear, Network, ReLU, Shape, parameter_shapes

SCHEMA_VERSION: Final = 1


@record
class Accuracy:
    """How many images of a split were classified rightly; `bits` is None for float, else both widths."""

    split: str
    bits: int | None
    correct: int
    images: int

    @property
    def fraction(self) -> float:
        """Top-1 accuracy in 0..1."""
        return self.correct / self.images


@record
class TrainingRecord:
    """How a checkpoint came about: the command that made it, and what it reached."""

    command: str
    seed: int
    data: str
    accuracies: tuple[Accuracy, ...]


@record
class Checkpoint:
    """The JSON half of a stored network; `hash` is that of the graph with its weights."""

    schema_version: Literal[1]
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
        return self.outputs(x)[self.network.layers[-1].name]

    def outputs(self, x: Floats) -> dict[str, Floats]:
        """The float output of every layer, and the input, by name; the first axis is the image.

        Raises:
            BadInput: if the images do not have the network's input shape.
        """
        check_images(self.network, x)
        values: dict[str, Floats] = {INPUT: np.asarray(x, dtype=np.float32)}
        for layer in self.network.layers:
            entering = values[layer.inputs[0]]
            match layer:
                case Conv2d():
                    weight, bias = self._parameters(layer.name)
                    found = convolve(weight, entering, stride=layer.stride, padding=layer.padding)
                    values[layer.name] = found + bias[:, None, None]
                case Linear():
                    weight, bias = self._parameters(layer.name)
                    values[layer.name] = entering @ weight.T + bias
                case ReLU():
                    values[layer.name] = np.maximum(entering, np.float32(0))
                case Flatten():
                    values[layer.name] = entering.reshape(len(entering), -1)
        return values

    def _parameters(self, layer: str) -> tuple[Floats, Floats]:
        return self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]


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
    weights_path = _weights_path(path)
    packed = BytesIO()
    np.savez(packed, allow_pickle=False, **{name: w.astype("<f4") for name, w in trained.weights.items()})
    document = Checkpoint(
        schema_version=SCHEMA_VERSION, network=trained.network, training=trained.training, hash=trained.hash
    )
    # The JSON goes last: interrupted between the two, its hash tells that they do not belong together.
    write_atomic(weights_path, packed.getvalue())
    records.save(document, path)


def load(path: Path) -> TrainedNetwork:
    """Read a checkpoint from `path` (NAME.json) and the weights beside it.

    Raises:
        BadInput: naming the file and what is wrong in it.
    """
    weights_path = _weights_path(path)
    with _naming(path):
        document = records.load(Checkpoint, path)
    with _naming(weights_path):
        weights = _unpack(read_bytes(weights_path), parameter_shapes(document.network))
        trained = TrainedNetwork(document.network, weights, document.training)
    if trained.hash != document.hash:
        raise BadInput(
            f"{path}: field 'hash' is {document.hash[:16]}..., but this graph and {weights_path.name} give "
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


def _weights_path(path: Path) -> Path:
    if path.suffix != ".json":
        raise BadInput(f"{path}: a checkpoint is named by its .json file; the weights lie beside it as .npz")
    return path.with_suffix(".npz")


def _check_weights(network: Network, weights: Mapping[str, NDArray[Any]]) -> None:
    wanted = parameter_shapes(network)
    _check_names(wanted.keys(), weights.keys())
    for name, shape in wanted.items():
        values = weights[name]
        _check_shape(name, values.shape, shape)
        if values.dtype != np.float32:
            raise BadInput(f"weight {name!r} is of type {values.dtype}; weights are float32")
        if not np.isfinite(values).all():
            raise BadInput(f"weight {name!r} holds values that are not finite; train again")


def _check_names(wanted: AbstractSet[str], given: AbstractSet[str]) -> None:
    if missing := sorted(wanted - given):
        raise BadInput(f"weight {missing[0]!r} is missing; the graph needs it")
    if unexpected := sorted(given - wanted):
        raise BadInput(f"weight {unexpected[0]!r} is unexpected; the graph has no such parameter")


def _check_shape(name: str, shape: Shape, wanted: Shape) -> None:
    if shape != wanted:
        raise BadInput(f"weight {name!r} has shape {shape}; the graph needs {wanted}")


def _unpack(packed: bytes, wanted: Mapping[str, Shape]) -> dict[str, Floats]:
    """The arrays of an npz file; nothing is read that is larger than the graph says."""
    try:
        with zipfile.ZipFile(BytesIO(packed)) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            # Of two members of one name, it would be the reader's choice which one counts.
            if len(set(names)) != len(names):
                raise BadInput("holds two weights of one name; restore it, or train again")
            _check_names(wanted.keys(), set(names))
            return {name: _member(archive, name, shape) for name, shape in wanted.items()}
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise BadInput(f"not a whole .npz file ({reason}); restore it, or train again") from None


_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, KeyError, NotImplementedError, OSError, RuntimeError, ValueError),
)
"""What the standard library raises on a zip file that was truncated or changed."""

_NPY_HEADER: Final = re.compile(r"\{'descr': '<f4', 'fortran_order': False, 'shape': \(([0-9, ]+)\), \}\s*")
"""The header that numpy writes for a float32 array in C order; its own parser evaluates more than we store."""


def _member(archive: zipfile.ZipFile, name: str, wanted: Shape) -> Floats:
    if archive.getinfo(f"{name}.npy").compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise BadInput(f"weight {name!r} is compressed in a way that is not supported; write it with numpy.savez")
    with archive.open(f"{name}.npy") as member:
        magic, length = struct.unpack("<8sH", member.read(10))
        header = member.read(length).decode("latin-1")
        stored = _NPY_HEADER.fullmatch(header)
        if magic != b"\x93NUMPY\x01\x00" or stored is None:
            raise BadInput(
                f"weight {name!r} is not stored as little-endian float32 in C order: {header.strip()[:60]!r}"
            )
        _check_shape(name, tuple(int(size) for size in stored[1].split(",") if size.strip()), wanted)
        size = prod(wanted) * 4
        content = member.read(size + 1)
    if len(content) != size:
        raise BadInput(f"weight {name!r} does not hold the {size} bytes of its shape {wanted}; restore it")
    return np.frombuffer(content, dtype="<f4").reshape(wanted).astype(np.float32)
