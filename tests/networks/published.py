"""Small random sets in the forms in which the real ones are published, written without the code under test."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from autoprivacy.networks.data_formats import BINARY, IDX, IDX_GZ, PNG, PYTHON, Bytes, Dimensions, Images
from autoprivacy.networks.data_sets import DataSet

GREY = Dimensions((1, 5, 3), 7, 4)
COLOUR = Dimensions((3, 4, 4), 20, 6)
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def random_images(size: Dimensions, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    return Images(
        *(rng.integers(0, 256 if name.endswith("x") else 10, shape, np.uint8) for name, shape in size.arrays.items())
    )


def grey_set(images: Images, **more: Any) -> DataSet:
    return _data_set("greys", GREY, images, layouts=(IDX, IDX_GZ), **more)


def colour_set(images: Images, **more: Any) -> DataSet:
    return _data_set("colours", COLOUR, images, layouts=(BINARY, PNG, PYTHON), **more)


def _data_set(name: str, size: Dimensions, images: Images, **more: Any) -> DataSet:
    content = images.train_x.tobytes() + images.train_y.tobytes() + images.test_x.tobytes() + images.test_y.tobytes()
    pinned = hashlib.sha256(content).hexdigest()
    return DataSet(name=name, title=name.title(), size=size, sha256=pinned, by_hand="the four files", **more)


def idx_files(images: Images) -> dict[str, bytes]:
    def idx(values: Bytes, *sizes: int) -> bytes:
        return bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + values.tobytes()

    files = {}
    for part, x, y in (("train", images.train_x, images.train_y), ("t10k", images.test_x, images.test_y)):
        files[f"{part}-images-idx3-ubyte"] = idx(x, len(x), x.shape[2], x.shape[3])
        files[f"{part}-labels-idx1-ubyte"] = idx(y, len(y))
    return files


def idx_gz_files(images: Images) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content) for name, content in idx_files(images).items()}


def _batches(images: Images) -> list[tuple[str, Bytes, Bytes]]:
    x = [*np.split(images.train_x, 5), images.test_x]
    y = [*np.split(images.train_y, 5), images.test_y]
    return list(zip(BATCHES, x, y, strict=True))


def binary_files(images: Images) -> dict[str, bytes]:
    return {f"{name}.bin": np.column_stack([y, x.reshape(len(x), -1)]).tobytes() for name, x, y in _batches(images)}


def png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def png_files(images: Images) -> dict[str, bytes]:
    files = {f"{name}.png": png(x.transpose(0, 2, 3, 1).reshape(len(x), -1, 3)) for name, x, _ in _batches(images)}
    files["train_lables.json"] = json.dumps(images.train_y.tolist()).encode()
    files["test_lables.json"] = json.dumps(images.test_y.tolist()).encode()
    return files


def python_batch(x: Bytes, y: Bytes) -> bytes:
    """The pickle that Python 2 wrote of a batch, opcode by opcode; a list is appended to in several runs."""
    labels = b"".join(b"(" + b"".join(b"K" + bytes([label]) for label in run) + b"e" for run in (y[:3], y[3:]))
    names = b"".join(b"U\x08%04d.png" % number for number in range(len(y)))
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05" + labels + b"U\x04"
        b"dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01M"
        + struct.pack("<H", len(x))
        + b"M"
        + struct.pack("<H", x[0].size)
        + b"\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<I", x.size) + x.tobytes() + b"tbU\x09filenamesq\x0c]q\x0d(" + names + b"eu."
    )


def python_files(images: Images) -> dict[str, bytes]:
    return {name: python_batch(x, y) for name, x, y in _batches(images)}


def folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def tar_gz(path: Path, files: dict[str, bytes], inside: str = "package") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{inside}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
