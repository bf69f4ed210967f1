import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.npz import read_npz, write_npz


def anything(*_: object) -> None:
    """Refuse nothing."""


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, values, allow_pickle=False)
    return file.getvalue()


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    def write(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
            for name, content in members:
                archive.writestr(name, content)
        return tmp_path / "a.npz"

    return write


@pytest.mark.parametrize(
    "values", [np.arange(6, dtype=">i4").reshape(2, 3), np.float64(3), np.zeros((0, 2)), np.asfortranarray(np.eye(3))]
)
def test_what_is_written_is_read(values: Any, tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"values": values, "more": np.ones(1)})
    found = read_npz(tmp_path / "a.npz", ("values", "missing"), anything)
    assert list(found) == ["values"]
    np.testing.assert_array_equal(found["values"], values, strict=True)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["values"], values, strict=True)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(zipped: Callable[..., Path]) -> None:
    path = zipped(("x.npy", npy(np.zeros(2))), ("x.npy", npy(np.ones(2))))
    with pytest.raises(BadInput, match="two arrays of one name"):
        read_npz(path, ("x",), anything)


@pytest.mark.parametrize("change", [lambda whole: whole[:-1], lambda whole: whole + b"0"])
def test_a_shape_that_its_values_do_not_fill_is_refused(
    change: Callable[[bytes], bytes], zipped: Callable[..., Path]
) -> None:
    with pytest.raises(BadInput, match="does not hold the 16 bytes of its shape"):
        read_npz(zipped(("x.npy", change(npy(np.zeros(2))))), ("x",), anything)


def test_a_shape_beyond_all_memory_is_refused_unread(zipped: Callable[..., Path]) -> None:
    whole = npy(np.zeros(10))
    header = whole[10:128].replace(b"(10,), }", b"(9999999999999999,), }").rstrip() + b" "
    huge = whole[:10] + header.ljust(117) + b"\n" + whole[128:]
    with pytest.raises(BadInput, match="does not hold the 79999999999999992 bytes"):
        read_npz(zipped(("x.npy", huge)), ("x",), anything)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_numpy_does_not_write_is_refused(compression: int, zipped: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match="compressed in a way"):
        read_npz(zipped(("x.npy", npy(np.zeros(2))), compression=compression), ("x",), anything)


@pytest.mark.parametrize(
    "values",
    [np.array([print, 1]), np.array(["text"]), np.zeros(2, "i4,f8"), np.zeros(2, complex), np.zeros(2, "M8[s]")],
)
def test_only_plain_numbers_are_read(values: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=values)
    with pytest.raises(BadInput, match="not stored as plain numbers"):
        read_npz(tmp_path / "a.npz", ("x",), anything)


def test_the_check_comes_before_the_values(zipped: Callable[..., Path]) -> None:
    def refuse(name: str, kind: "np.dtype[Any]", shape: tuple[int, ...]) -> None:
        raise BadInput(f"{name} {kind} {shape}")

    damaged = npy(np.zeros((2, 3), "<f4"))[:-1]
    with pytest.raises(BadInput, match=r"^x float32 \(2, 3\)$"):
        read_npz(zipped(("x.npy", damaged)), ("x",), refuse)
