"""Published files of image data sets, decoded; and the one file in which this project keeps a set.

All bytes come from outside: every reader checks what it reads, bounds what it allocates, and refuses the rest with one
line. Nothing is ever unpickled: CIFAR-10's batches are pickles, and only the operands of their opcodes are looked at.
"""

import gzip
import hashlib
import json
import pickletools
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import islice, takewhile
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput

Bytes: TypeAlias = NDArray[np.uint8]
Files: TypeAlias = Mapping[str, bytes]
"""Contents of files, by name without folder."""

CLASSES: Final = 10
"""Of every set here."""
_TRAIN_BATCHES: Final = tuple(f"data_batch_{number}" for number in range(1, 6))
"""CIFAR-10's training images come in five files."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Shape (C, H, W) of each image, and how many there are."""

    image: tuple[int, int, int]
    train: int
    test: int

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the four arrays."""
        return {
            "train_x": (self.train, *self.image),
            "train_y": (self.train,),
            "test_x": (self.test, *self.image),
            "test_y": (self.test,),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A whole set as published: pixels (N, C, H, W) and labels (N,), all uint8."""

    train_x: Bytes
    train_y: Bytes
    test_x: Bytes
    test_y: Bytes

    def arrays(self) -> dict[str, Bytes]:
        """The four arrays by name, in the order in which they are hashed."""
        return {name: getattr(self, name) for name in ("train_x", "train_y", "test_x", "test_y")}

    def sha256(self) -> str:
        """SHA-256, in hexadecimal, of the bytes of the four arrays."""
        digest = hashlib.sha256()
        for values in self.arrays().values():
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which a set is published: the names of its files, and how they are read."""

    names: tuple[str, ...]
    decode: Callable[[Dimensions, Files], Images]


def _idx(size: Dimensions, files: Files) -> Images:
    """MNIST's own format: a magic number and the dimensions, big-endian, then the bytes."""
    _, height, width = size.image
    shapes = [(size.train, height, width), (size.train,), (size.test, height, width), (size.test,)]
    return _images(
        size, *(_idx_values(files[name], name, shape) for name, shape in zip(IDX.names, shapes, strict=True))
    )


def _idx_values(content: bytes, name: str, shape: tuple[int, ...]) -> Bytes:
    header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
    if len(content) != len(header) + prod(shape) or not content.startswith(header):
        raise BadInput(f"{name}: not the idx file of {' x '.join(map(str, shape))} bytes; take the original file")
    return np.frombuffer(content, np.uint8, offset=len(header))


def _idx_gz(size: Dimensions, files: Files) -> Images:
    largest = 16 + max(prod(shape) for shape in size.arrays.values())
    return _idx(size, {name.removesuffix(".gz"): _gunzip(files[name], name, largest) for name in IDX_GZ.names})


def _gunzip(packed: bytes, name: str, largest: int) -> bytes:
    try:
        with gzip.open(BytesIO(packed)) as file:
            return file.read(largest + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{name}: damaged ({error}); take the original file") from None


def _binary(size: Dimensions, files: Files) -> Images:
    """CIFAR-10's binary version: a label and the pixels of each image, in five training batches and one of tests."""
    train = np.concatenate(
        [_records(size, files, f"{batch}.bin", size.train // len(_TRAIN_BATCHES)) for batch in _TRAIN_BATCHES]
    )
    test = _records(size, files, "test_batch.bin", size.test)
    return _images(size, train[:, 1:], train[:, 0], test[:, 1:], test[:, 0])


def _records(size: Dimensions, files: Files, name: str, count: int) -> Bytes:
    length = 1 + prod(size.image)
    content = files[name]
    if len(content) != count * length:
        raise BadInput(f"{name}: holds {len(content)} bytes, not {count} x {length}; take the original file")
    return np.frombuffer(content, np.uint8).reshape(count, length)


def _png(size: Dimensions, files: Files) -> Images:
    """Each batch as one PNG, an image a row (pixel by pixel, as PNG has them); labels as JSON, spelt as published."""
    train = [_pixel_rows(size, files, f"{batch}.png", size.train // len(_TRAIN_BATCHES)) for batch in _TRAIN_BATCHES]
    test = _pixel_rows(size, files, "test_batch.png", size.test)
    labels = [_json_labels(files, f"{part}_lables.json") for part in ("train", "test")]
    return _images(size, np.concatenate(train), labels[0], test, labels[1])


def _pixel_rows(size: Dimensions, files: Files, name: str, count: int) -> Bytes:
    from PIL import Image, UnidentifiedImageError

    channels, height, width = size.image
    try:
        with Image.open(BytesIO(files[name]), formats=["PNG"]) as picture:
            # Before its pixels are unpacked: a small file can claim a huge picture.
            if (picture.mode, picture.size) != ("RGB", (height * width, count)):
                raise BadInput(f"{name}: a {picture.mode} picture of {picture.size}; take the original file")
            pixels = np.asarray(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{name}: not a whole PNG file ({error}); take the original file") from None
    return pixels.reshape(count, height, width, channels).transpose(0, 3, 1, 2)


def _json_labels(files: Files, name: str) -> Bytes:
    try:
        labels = json.loads(files[name])
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, list):
        raise BadInput(f"{name}: not a JSON list of labels; take the original file")
    return _labels(labels, name)


def _python(size: Dimensions, files: Files) -> Images:
    """CIFAR-10's Python version: batches that are pickles, which are only looked at."""
    count = size.train // len(_TRAIN_BATCHES)
    train = [_pickled_batch(files[batch], batch, count * prod(size.image)) for batch in _TRAIN_BATCHES]
    test_x, test_y = _pickled_batch(files["test_batch"], "test_batch", size.test * prod(size.image))
    return _images(size, np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train]), test_x, test_y)


_NUMPY_GLOBALS: Final = {
    *("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"),
    *("numpy ndarray", "numpy dtype"),
}
"""What a pickled array names; a batch that names anything else is not CIFAR-10's."""


def _pickled_batch(content: bytes, name: str, length: int) -> tuple[Bytes, Bytes]:
    """The string of `length` bytes and the list of labels among the operands of a pickle, which is never run."""
    operands = list(islice(_operands(content, name), _MOST_OPERANDS + 1))
    pixels = [value for opcode, value in operands if opcode in _STRING_OPCODES and len(value) == length]
    starts = [place for place, (_, value) in enumerate(operands) if value in ("labels", b"labels")]
    if len(pixels) != 1 or len(starts) != 1 or len(operands) > _MOST_OPERANDS:
        raise BadInput(f"{name}: not a batch of CIFAR-10's Python version; take the original file")
    # The list is built by these opcodes alone, and whatever comes after it by another.
    listed = takewhile(lambda operand: operand[0] in _LIST_OPCODES, operands[starts[0] + 1 :])
    labels = _labels([value for opcode, value in listed if opcode == "BININT1"], name)
    # Strings of Python 2 are shown as Latin-1, which has one character for each byte.
    held = pixels[0].encode("latin-1") if isinstance(pixels[0], str) else pixels[0]
    return np.frombuffer(held, np.uint8), labels


_MOST_OPERANDS: Final = 100_000
"""A batch has two for each of its 10,000 images, a label and a file name, and some more."""
_LIST_OPCODES: Final = {"EMPTY_LIST", "MARK", "BININT1", "APPENDS"}
_STRING_OPCODES: Final = {"BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"}
_MEMO_OPCODES: Final = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}


def _operands(content: bytes, name: str) -> Iterator[tuple[str, Any]]:
    try:
        for opcode, value, _ in pickletools.genops(content):
            named = opcode.name in {"GLOBAL", "STACK_GLOBAL", "INST"}
            if (named and value not in _NUMPY_GLOBALS) or opcode.name.startswith(("EXT", "PERSID", "BINPERSID")):
                raise BadInput(f"{name}: a pickle that names {value!r}, which no batch of CIFAR-10 does; refused")
            if opcode.name not in _MEMO_OPCODES:
                yield opcode.name, value
    except (ValueError, OverflowError, struct.error) as error:
        reason = str(error)[:80]
        raise BadInput(f"{name}: not a whole pickle ({reason}); take the original file") from None


def _labels(values: list[object], name: str) -> Bytes:
    if not all(type(value) is int and 0 <= value < CLASSES for value in values):
        raise BadInput(f"{name}: labels must be integers from 0 to {CLASSES - 1}; take the original file")
    return np.array(values, dtype=np.uint8)


def _images(size: Dimensions, *arrays: Bytes) -> Images:
    shaped = {}
    for (name, shape), values in zip(size.arrays.items(), arrays, strict=True):
        if values.size != prod(shape):
            raise BadInput(f"{name}: {values.size} values given; {prod(shape)} are needed; take the original files")
        shaped[name] = np.ascontiguousarray(values.reshape(shape))
    return Images(**shaped)


_IDX_NAMES: Final = tuple(
    f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
)
_BATCHES: Final = (*_TRAIN_BATCHES, "test_batch")
IDX: Final = Layout(_IDX_NAMES, _idx)
IDX_GZ: Final = Layout(tuple(f"{name}.gz" for name in _IDX_NAMES), _idx_gz)
PNG: Final = Layout((*(f"{batch}.png" for batch in _BATCHES), "train_lables.json", "test_lables.json"), _png)
BINARY: Final = Layout(tuple(f"{batch}.bin" for batch in _BATCHES), _binary)
PYTHON: Final = Layout(_BATCHES, _python)
