import errno
import itertools
import os
import stat
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import check_writable, read_bytes, read_text, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_atomic(path, b"one")
    write_atomic(path, "zwö".encode())
    assert read_bytes(path) == "zwö".encode()
    assert read_text(path) == "zwö"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_mode_is_the_one_asked_for(tmp_path: Path, mode: int) -> None:
    write_atomic(tmp_path / "file", b"", mode=mode)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match=r"file: cannot be written \(No space left on device\)"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_failing_rename_leaves_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(BadInput, match="cannot be written"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_an_interruption_passes_and_leaves_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", b"new")
    assert names(tmp_path) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files that were being opened
def test_an_interruption_between_any_two_instructions_leaves_no_temporary(tmp_path: Path) -> None:
    for moment in itertools.count():
        left = moment

        def interrupt(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if frame.f_code is not write_atomic.__code__:
                return None
            frame.f_trace_opcodes = True
            left -= event == "opcode"
            if left < 0:
                raise KeyboardInterrupt
            return interrupt

        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            write_atomic(tmp_path / "file", b"new")
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            sys.settrace(before)
        assert set(names(tmp_path)) <= {"file"}
    assert moment > 20
    assert names(tmp_path) == ["file"]


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.write_bytes(b"in the way")
    with pytest.raises(BadInput, match=r"parent/file: cannot be written"):
        write_atomic(parent / "file", b"new")
    with pytest.raises(BadInput, match=r"parent/file: cannot be read"):
        read_bytes(parent / "file")
    assert parent.read_bytes() == b"in the way"
    assert names(tmp_path) == ["parent"]


def test_a_folder_cannot_be_replaced_or_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="cannot be written"):
        write_atomic(tmp_path / "folder", b"new")
    with pytest.raises(BadInput, match="cannot be read"):
        read_text(tmp_path / "folder")
    assert names(tmp_path) == ["folder"]


def test_whether_a_file_could_be_written_is_found_out_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    (tmp_path / "folder").mkdir()
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new")
    with pytest.raises(BadInput, match="folder: is a folder"):
        check_writable(tmp_path / "folder")
    with pytest.raises(BadInput, match="file/new: cannot be written"):
        check_writable(tmp_path / "file" / "new")
    assert (tmp_path / "file").read_bytes() == b"kept"
    assert names(tmp_path) == ["file", "folder"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent: cannot be read \(No such file or directory\)"):
        read_bytes(tmp_path / "absent")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"caf\xe9")
    with pytest.raises(BadInput, match="file: not a text file"):
        read_text(tmp_path / "file")
