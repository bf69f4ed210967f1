"""`profile --peer` and `serve --profile-only` as two real processes on loopback."""

import io
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.exchange import export
from autoprivacy.hwprofiles.link_profile import read_link
from autoprivacy.profiler.link import LinkMeter
from autoprivacy.profiler.link_protocol import converse
from autoprivacy.protocol.transport import Channel, load_key, new_key
from tests import synthetic

COMMAND = (sys.executable, "-m", "autoprivacy.cli.main")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds a shared key, another one, and the peer's machine profile `theirs`."""
    new_key(tmp_path / "key")
    new_key(tmp_path / "other")
    machine_profile.write(synthetic.profile(), tmp_path / "theirs")
    return tmp_path


@contextmanager
def peer(folder: Path, *options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    command = [*COMMAND, "serve", "--profile-only", "--key-file", "key", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder) as serving:
        try:
            assert serving.stdout is not None
            yield serving.stdout.readline().strip().removeprefix("listening on "), serving
        finally:
            serving.kill()


def measure(folder: Path, address: str, key: str = "key") -> "subprocess.CompletedProcess[str]":
    options = ["--depth", "quick", "--name", "link", "--out", "kept", "--peer", address, "--key-file", key]
    command = [*COMMAND, "profile", *options]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
    )


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """The message of a run that was refused: one line, no traceback, exit code 2; nothing is kept."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    found = [line for line in done.stderr.splitlines() if line.startswith("autoprivacy: ")]
    assert len(found) == 1
    return found[0]


def test_the_link_is_measured_and_the_peers_profile_fetched(folder: Path) -> None:
    with peer(folder, "--once", "--profile", "theirs") as (address, serving):
        done = measure(folder, address)
        assert done.returncode == 0, done.stderr
        assert serving.wait(20) == 0
    found = read_link(folder / "kept" / "link")
    theirs = machine_profile.read(folder / "kept" / "link-peer")
    assert theirs == synthetic.profile()
    assert found.header.server_profile == theirs.header.id
    assert found.header.loopback
    assert {sample.direction for sample in found.transfers} == {"up", "down", "both", "round_trip", "circuits"}


def test_a_wrong_key_is_refused_and_the_peer_goes_on(folder: Path) -> None:
    with peer(folder) as (address, serving):
        one_line(measure(folder, address, key="other"))
        assert not (folder / "kept" / "link" / "link.json").exists()
        meter = LinkMeter(address, load_key(folder / "key"))
        meter.close()
        serving.send_signal(signal.SIGINT)
        _, said = serving.communicate(timeout=20)
    assert said.count("dropped a client") == 1
    assert "shared key" in said


def test_nobody_there_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    one_line(measure(folder, f"127.0.0.1:{port}"))


@contextmanager
def dying(folder: Path, profile: bytes, *, after: int) -> Iterator[str]:
    """A peer in this process that knows the key, hands out `profile`, and is gone after so many frames."""
    key = load_key(folder / "key")

    class Dying(Channel):
        left = after

        def receive_at_most(self, kind, limit):
            self.left -= 1
            if self.left < 0:
                self.close()
            return super().receive_at_most(kind, limit)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, listener:
            try:
                converse(Dying(connection, timeout_s=20), key, profile)
            except Exception:  # noqa: BLE001 - dying is what it is for
                connection.close()

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(listener,))
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("after", [0, 40])
def test_a_peer_that_dies_is_one_line_and_leaves_nothing_half_done(folder: Path, after: int) -> None:
    with dying(folder, b"", after=after) as address:
        one_line(measure(folder, address))
    assert not (folder / "kept" / "link" / "link.json").exists()


def climbing() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("../../escaped", b"x")
    return content.getvalue()


HOSTILE = {
    "nonsense": lambda: b"\x00" * 1000,
    "truncated": lambda: export(synthetic.profile())[:-2000],
    "damaged": lambda: export(synthetic.profile()).replace(b"samples.csv", b"simples.csv"),
    "a path that climbs": climbing,
    "a link": lambda: export(synthetic.link()),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_profile_of_a_peer_is_one_line_and_keeps_nothing(folder: Path, what: str) -> None:
    with dying(folder, HOSTILE[what](), after=1000) as address:
        assert "the peer's profile" in one_line(measure(folder, address))
    assert not list(folder.rglob("escaped"))
    assert not (folder / "kept" / "link" / "link.json").exists()
    assert not (folder / "kept" / "link-peer").exists()
