"""Schedule `preprocessed`: what is prepared, where it lies, and that it is used once."""

import errno
import json
import os
import stat
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import psutil
import pytest

from autoprivacy import protocol
from autoprivacy.common.errors import BadInput
from autoprivacy.protocol import spill as spill_module
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.session import MOST_PREPARED, Client
from autoprivacy.protocol.spill import Spill, Spills
from tests.protocol.test_session import server_process

AHEAD = 3


@pytest.fixture
def spills(monkeypatch):
    """Both parties' files, as they are opened."""
    opened = []

    class Recorded(Spill):
        def __init__(self, folder=None):
            super().__init__(folder)
            opened.append(self)

    monkeypatch.setattr(spill_module, "Spill", Recorded)
    return opened


def test_several_are_prepared_ahead_and_the_oldest_is_used_first(exact, serving, key, digits):
    images = digits.confirm.x[: AHEAD + 1]
    planned = plan_network(exact.network, exact.agreement, "preprocessed")
    server = serving(exact)
    with Client(server.address, key, schedule="preprocessed") as client:
        ahead = [client.prepare() for _ in range(AHEAD)]
        assert client.prepared == AHEAD
        found = [client.infer(image) for image in images]
        assert client.prepared == 0
    server.join()
    assert np.array_equal(np.stack([each.logits for each in found]), exact.logits(images))
    assert [each.offline for each in found[:AHEAD]] == ahead
    assert found[AHEAD].offline not in ahead
    assert all(phase.traffic == planned.offline_traffic for phase in ahead)
    assert all(each.online.traffic == planned.online_traffic for each in found)
    assert server.lines[1:] == [f"served {AHEAD + 1} inferences"]


def test_material_lies_in_nameless_files_of_their_owner_of_the_planned_size(
    exact, serving, key, digits, tmp_path, spills
):
    planned = plan_network(exact.network, exact.agreement, "preprocessed")
    with Client(serving(exact).address, key, schedule="preprocessed", spill_dir=tmp_path) as client:
        client.prepare()
        client.prepare()
        mine = [prepared.spill for prepared, _ in client._prepared]
        theirs = [each for each in spills if each not in mine]
        for spill, size in [(each, planned.client_spill_bytes) for each in mine] + [
            (each, planned.server_spill_bytes) for each in theirs
        ]:
            # The server writes the end of its own while the client goes on.
            assert eventually(lambda spill=spill, size=size: os.fstat(spill.fileno()).st_size == size)
            seen = os.fstat(spill.fileno())
            assert (stat.S_IMODE(seen.st_mode), seen.st_nlink) == (0o600, 0)
            assert any(os.pread(spill.fileno(), size, 0))
        assert len(mine) == len(theirs) == 2
        assert not list(tmp_path.iterdir())
        client.infer(digits.confirm.x[0])
        # Used up, they are wiped and kept for what is prepared next; the server's after it has answered.
        assert not any(os.pread(mine[0].fileno(), planned.client_spill_bytes, 0))
        assert eventually(lambda: not any(os.pread(theirs[0].fileno(), planned.server_spill_bytes, 0)))
        assert any(os.pread(mine[1].fileno(), planned.client_spill_bytes, 0))
        client.prepare()
        assert client._prepared[-1][0].spill is mine[0]
        assert len(spills) == 4
    assert all(spill._file.closed for spill in mine)
    assert eventually(lambda: all(spill._file.closed for spill in theirs))


def test_of_a_file_used_again_only_what_was_written_last_can_be_read(tmp_path):
    spills = Spills(tmp_path)
    first = spills.take()
    with spills.using_up(first):
        first.write(b"0123456789")
        first.finish()
    with closing(spills.take()) as again:
        assert again is first
        again.write(b"abc")
        again.finish()
        view = memoryview(bytearray(3))
        again.read_into(view)
        assert bytes(view) == b"abc"
        with pytest.raises(BadInput, match="ends early"):
            again.read_into(view)


def test_a_file_whose_use_fails_is_deleted(tmp_path):
    spills = Spills(tmp_path)
    spill = spills.take()
    with pytest.raises(BadInput, match="ends early"), spills.using_up(spill):
        spill.read_into(memoryview(bytearray(1)))
    assert spill._file.closed
    with closing(spills.take()) as another:
        assert another is not spill


def test_what_cannot_be_wiped_is_deleted_and_nothing_else_is_lost(tmp_path, monkeypatch):
    spills = Spills(tmp_path)
    spill = spills.take()

    def full(_):
        raise BadInput("No space left")

    with spills.using_up(spill):
        spill.write(b"0123")
        monkeypatch.setattr(spill, "write", full)
    assert spill._file.closed
    with closing(spills.take()) as another:
        assert another is not spill


def eventually(holds):
    """Whether something comes true within 20 s."""
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_a_refused_image_uses_up_nothing(exact, serving, key, digits):
    with Client(serving(exact).address, key, schedule="preprocessed") as client:
        client.prepare()
        with pytest.raises(BadInput, match=r"\(1, 8, 8\)"):
            client.infer(np.zeros((1, 8, 9)))
        with pytest.raises(BadInput, match="use up what is prepared"):
            client.infer_revealed(digits.confirm.x[0])
        assert client.prepared == 1
        assert np.array_equal(client.infer(digits.confirm.x[0]).logits, exact.logits(digits.confirm.x[:1])[0])


def test_no_more_is_prepared_than_a_server_keeps(tolerant, serving, key):
    with Client(serving(tolerant).address, key, schedule="preprocessed") as client:
        for _ in range(MOST_PREPARED):
            client.prepare()
        with pytest.raises(BadInput, match=f"{MOST_PREPARED} inferences are prepared"):
            client.prepare()


def test_schedule_online_prepares_nothing(tolerant, serving, key):
    with Client(serving(tolerant).address, key) as client, pytest.raises(BadInput, match="schedule `preprocessed`"):
        client.prepare()


def test_who_has_prepared_may_be_idle_for_longer(exact, serving, key, digits):
    with Client(serving(exact, timeout_s=0.5).address, key, schedule="preprocessed") as client:
        client.prepare()
        time.sleep(1)
        assert np.array_equal(client.infer(digits.confirm.x[0]).logits, exact.logits(digits.confirm.x[:1])[0])


def test_a_folder_that_is_not_there_is_one_error_and_the_session_goes_on(exact, serving, key, digits, tmp_path):
    with Client(serving(exact).address, key, schedule="preprocessed", spill_dir=tmp_path / "none") as client:
        with pytest.raises(BadInput, match="--spill-dir") as caught:
            client.prepare()
        assert "\n" not in str(caught.value)
        tmp_path.joinpath("none").mkdir()
        assert np.array_equal(client.infer(digits.confirm.x[0]).logits, exact.logits(digits.confirm.x[:1])[0])


def test_a_full_disk_is_one_error_and_nothing_stays_open(tmp_path, monkeypatch):
    before = psutil.Process().num_fds()
    with closing(Spill(tmp_path)) as spill:

        class Full:
            def write(self, _):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(spill, "_file", Full())
            with pytest.raises(BadInput, match=r"No space left.*--spill-dir"):
                spill.write(b"1234")
    assert psutil.Process().num_fds() == before


def test_what_is_spilled_comes_back_once_in_order(tmp_path):
    rng = np.random.default_rng(1)
    parts = [rng.bytes(size) for size in (1, 70_000, 3, 200_000)]
    with closing(Spill(tmp_path)) as spill:
        for part in parts:
            spill.write(part)
        assert spill.size == sum(map(len, parts))
        spill.finish()
        for part in parts:
            view = memoryview(bytearray(len(part)))
            spill.read_into(view)
            assert view == part
        with pytest.raises(BadInput, match="ends early"):
            spill.read_into(memoryview(bytearray(1)))


@pytest.mark.parametrize("schedule", ["online", "preprocessed"])
def test_the_command_infers_in_either_schedule(exact, digits, tmp_path, schedule):
    image = digits.confirm.x[0]
    # A batch of one image serves as well.
    np.save(tmp_path / "image.npy", image if schedule == "online" else image[None])
    planned = plan_network(exact.network, exact.agreement, schedule)
    with server_process(exact, tmp_path, "--spill-dir", str(tmp_path)) as (address, _, server):
        command = [sys.executable, "-m", "autoprivacy.cli.main", "infer", "--peer", address, "--schedule", schedule]
        command += ["--key-file", str(tmp_path / "key"), "--input", str(tmp_path / "image.npy"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert server.wait(20) == 0
    report = json.loads(done.stdout)
    assert report["label"] == exact.logits(image[None])[0].argmax()
    assert report["schedule"] == schedule
    assert (report["bytes_up"], report["bytes_down"]) == (planned.bytes_up, planned.bytes_down)
    assert report["round_trips"] == planned.online_traffic.round_trips
    if schedule == "online":
        assert report["offline"] is None
    else:
        assert report["offline"]["bytes_down"] == planned.offline_traffic.bytes_received
        assert len(report["offline"]["layers"]) == len(planned.offline)


def test_the_client_has_a_short_name():
    assert protocol.Client is Client
    with pytest.raises(AttributeError, match="nothing"):
        _ = protocol.nothing
