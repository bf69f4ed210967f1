import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from autoprivacy.common.errors import BadInput
from autoprivacy.hwprofiles import exchange, machine_profile
from autoprivacy.hwprofiles.exchange import export, import_bytes, import_file
from autoprivacy.hwprofiles.link_profile import LinkProfile, read_link, write_link
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from tests import synthetic


@pytest.fixture(scope="module")
def profile() -> MachineProfile:
    return synthetic.profile()


def archive(profile: MachineProfile, change: Callable[[dict[str, bytes]], object]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(export(profile))) as read:
        files = {name: read.read(name) for name in read.namelist()}
    change(files)
    return packed(list(files.items()))


def packed(files: list[tuple[str, bytes]]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in files:
            written.writestr(name, content)
    return made.getvalue()


def refused(content: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        import_bytes(content, "given.zip")
    message = str(caught.value)
    assert "\n" not in message
    assert "given.zip" in message
    assert len(message) < 500
    return message


def test_an_exported_profile_comes_back(profile: MachineProfile, tmp_path: Path) -> None:
    (tmp_path / "p.zip").write_bytes(export(profile))
    assert import_file(tmp_path / "p.zip") == profile
    assert export(profile) == export(profile)


def test_an_exported_link_comes_back() -> None:
    for link in (synthetic.link(), synthetic.link(kind="declared")):
        assert import_bytes(export(link), "given.zip") == link


def test_a_loopback_inside_a_profile_comes_back(profile: MachineProfile) -> None:
    header, samples, runs = profile.header, profile.samples, profile.runs
    whole = MachineProfile(header, samples, runs, synthetic.profile().layers, synthetic.parallel(), synthetic.link())
    assert import_bytes(export(whole), "given.zip") == whole


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "loopback/../../evil",
        "evil.py",
        "sub/profile.json",
        "C:\\evil",
        "loopback",
        "partial/asked.json",
    ],
)
def test_files_that_belong_to_no_profile_are_refused(
    profile: MachineProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(archive(profile, lambda files: files.update({name: b"x"})))
    assert list(tmp_path.iterdir()) == []


def test_a_file_twice_is_refused(profile: MachineProfile) -> None:
    with zipfile.ZipFile(io.BytesIO(export(profile))) as read:
        files = [(name, read.read(name)) for name in read.namelist()]
    with pytest.warns(UserWarning, match="Duplicate"):
        content = packed([*files, files[0]])
    assert "twice" in refused(content)


@pytest.mark.parametrize("name", ["profile.json", "samples.csv", "runs.json", "layers.json", "parallel.csv"])
def test_a_missing_file_is_named(profile: MachineProfile, name: str) -> None:
    assert name in refused(archive(profile, lambda files: files.pop(name)))


@pytest.mark.parametrize("name", ["profile.json", "samples.csv", "runs.json", "layers.json", "parallel.csv"])
@pytest.mark.parametrize("content", [b"\xff\x00", b"{", b"[[[[" * 10000, b"a,b\n1\n"])
def test_a_damaged_file_is_named(profile: MachineProfile, name: str, content: bytes) -> None:
    assert name in refused(archive(profile, lambda files: files.update({name: content})))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_an_archive_cut_short_is_refused(profile: MachineProfile, share: float) -> None:
    content = export(profile)
    refused(content[: int(share * len(content))])


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7])
def test_a_changed_byte_never_passes_silently(profile: MachineProfile, at: float) -> None:
    content = bytearray(export(profile))
    content[int(at * len(content))] ^= 0x55
    refused(bytes(content))


def test_an_archive_that_unpacks_to_too_much_is_refused(
    profile: MachineProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MAX_CONTENT_BYTES", 1 << 19)
    content = archive(profile, lambda files: files.update({"samples.csv": bytes(1 << 24)}))
    assert len(content) < 1 << 19
    assert "unpacks to more" in refused(content)


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_ARCHIVE_BYTES", 10)
    (tmp_path / "large.zip").write_bytes(bytes(11))
    with pytest.raises(BadInput, match="larger than"):
        import_file(tmp_path / "large.zip")


@pytest.fixture
def link_folder(tmp_path: Path) -> Path:
    write_link(synthetic.link(), tmp_path / "link")
    return tmp_path / "link"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("link.json", '"measured"', '"guessed"'),
        ("link.json", '"rate_up_bytes_per_s": 1000000.0', '"rate_up_bytes_per_s": 0.0'),
        ("link.json", '"round_trip_s": 0.001', '"round_trip_s": -1.0'),
        ("link.json", '"trials": 9', '"trials": -9'),
        ("transfers.csv", "up,", "sideways,"),
        ("transfers.csv", "0.001", "0"),
        ("transfers.csv", "0.001", "nan"),
    ],
)
def test_an_impossible_link_is_refused(link_folder: Path, file: str, old: str, new: str) -> None:
    text = (link_folder / file).read_text(encoding="utf-8")
    assert old in text
    (link_folder / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(BadInput, match=file):
        read_link(link_folder)


def test_a_measured_link_without_transfers_is_refused(link_folder: Path) -> None:
    path = link_folder / "transfers.csv"
    path.write_text(path.read_text(encoding="utf-8").split("\n")[0] + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match="no transfers"):
        read_link(link_folder)


def test_what_is_shipped_is_whole_and_names_nobody() -> None:
    machines = list(machine_profile.SHIPPED.glob("*/profile.json"))
    links = {path.parent.name: read_link(path.parent) for path in machine_profile.SHIPPED.glob("*/link.json")}
    for path in machines:
        machine_profile.read(path.parent)
    declared = {name: link for name, link in links.items() if link.header.kind == "declared"}
    assert len(declared) >= 4
    for link in declared.values():
        assert isinstance(link, LinkProfile)
        assert link.header.source
        assert link.transfers == ()
