import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from autoprivacy.common.errors import AutoPrivacyError, ProtocolError
from autoprivacy.hwprofiles.exchange import export, import_bytes
from autoprivacy.hwprofiles.link_profile import LinkProfile
from autoprivacy.profiler import link
from autoprivacy.profiler.link import LinkMeter, measure_link, repeat
from autoprivacy.profiler.link_protocol import MAX_MESSAGE_BYTES, Command, converse, serve_profiles
from autoprivacy.protocol.shaping import EmulatedLink
from autoprivacy.protocol.transport import DEFAULT_TIMEOUT_S, Channel, Route, load_key, new_key
from tests import synthetic

KEY = bytes(range(32))


@contextmanager
def serving(profile: bytes = b"") -> Iterator[str]:
    """A peer in this process that serves one measurement."""
    said: list[str] = []
    ready = threading.Event()

    def report(line: str) -> None:
        said.append(line)
        ready.set()

    thread = threading.Thread(target=serve_profiles, args=("127.0.0.1:0", KEY, profile, report), kwargs={"once": True})
    thread.start()
    assert ready.wait(10)
    yield said[0].removeprefix("listening on ")
    thread.join(20)
    assert not thread.is_alive()


def measured(route: Route | None = None, profile: bytes = b"") -> tuple[LinkProfile, bytes, int]:
    steps: list[None] = []
    with serving(profile) as address:
        meter = LinkMeter(address, KEY, route)
        try:
            found = measure_link(meter, "mine", "quick", lambda: steps.append(None), route=route, loopback=True)
            theirs = meter.peer_profile()
        finally:
            meter.close()
    return found, theirs, len(steps)


def test_a_link_is_measured_whole_and_the_peers_profile_fetched() -> None:
    profile = synthetic.profile()
    found, theirs, steps = measured(profile=export(profile))
    assert import_bytes(theirs, "peer") == profile
    assert import_bytes(export(found), "mine") == found
    assert steps == link.STEPS["quick"]
    assert found.header.kind == "measured"
    assert {sample.direction for sample in found.transfers} == {"up", "down", "both", "round_trip", "circuits"}
    for sample in found.transfers:
        assert sample.quiet_s <= sample.typical_s
        assert sample.converged == (sample.typical_high_s - sample.typical_low_s <= 0.05 * sample.typical_s) or (
            not sample.converged
        )
    assert found.header.converged == all(sample.converged for sample in found.transfers)


def test_an_emulated_link_says_so_and_is_found_again() -> None:
    rate_bit, round_trip_s = 100e6, 0.02
    emulated = EmulatedLink(rate_bytes_per_s=rate_bit / 8, one_way_s=round_trip_s / 2)
    found, _, _ = measured(Route(emulated=emulated))
    assert found.header.kind == "emulated"
    # What was set is a bound that no machine can beat; how near it comes is a matter of its load.
    assert found.header.summary.round_trip_s >= 0.95 * round_trip_s
    assert found.header.summary.rate_up_bytes_per_s <= 1.1 * rate_bit / 8
    assert found.header.summary.rate_down_bytes_per_s <= 1.1 * rate_bit / 8


def test_another_key_is_refused() -> None:
    failed: list[BaseException] = []
    said: list[str] = []
    ready = threading.Event()

    def report(line: str) -> None:
        said.append(line)
        ready.set()

    def serve() -> None:
        try:
            serve_profiles("127.0.0.1:0", KEY, b"", report, once=True)
        except AutoPrivacyError as error:
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)
    with pytest.raises(ProtocolError):
        LinkMeter(said[0].removeprefix("listening on "), bytes(32))
    thread.join(20)
    assert "shared key" in str(failed[0])


@pytest.mark.parametrize(
    "command",
    [
        Command("up", MAX_MESSAGE_BYTES + 1, 1),
        Command("down", MAX_MESSAGE_BYTES, 1000),
        Command("both", 1, 1 << 30),
        Command("up", -1, 1),
        Command("up", 1, -1),
    ],
)
def test_a_command_that_takes_too_much_is_refused(command: Command) -> None:
    with pytest.raises(ProtocolError, match="too much"):
        command.check()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"do": "format"}', b'{"do": "up", "messages": "x"}', b"\xff"])
def test_a_hostile_command_ends_the_conversation(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprivacy.profiler.link_protocol.greet_as_server", lambda *_: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        from autoprivacy.protocol.transport import Kind

        Channel(ours).send(Kind.COMMAND, text)
        with pytest.raises(ProtocolError):
            converse(Channel(theirs, timeout_s=5), KEY, b"")


class Clock:
    """Seconds that pass only in trials."""

    def __init__(self, seconds: list[float]) -> None:
        self.now_s, self.left = 0.0, seconds

    def trial(self) -> float:
        spent = self.left.pop(0)
        self.now_s += spent
        return spent


def test_trials_end_when_the_interval_is_narrow() -> None:
    clock = Clock([1.0] * 100)
    found = repeat(clock.trial, 1000.0, lambda: clock.now_s)
    assert found.converged
    assert len(found.seconds) == 9
    assert (found.low_s, found.high_s) == (1.0, 1.0)


def test_trials_that_never_agree_end_with_the_time_and_say_so() -> None:
    seconds = np.random.default_rng(0).uniform(1.0, 9.0, 1000).tolist()
    clock = Clock(seconds)
    found = repeat(clock.trial, 500.0, lambda: clock.now_s)
    assert not found.converged
    assert 50 < len(found.seconds) < 200
    assert found.high_s - found.low_s > 0.05 * 5


def test_a_link_far_slower_than_its_time_gets_three_trials() -> None:
    clock = Clock([100.0] * 10)
    found = repeat(clock.trial, 1.0, lambda: clock.now_s)
    assert len(found.seconds) == 3
    assert not found.converged


SHAPED = """
set -e
ip netns add {name}
ip link add {name}a type veth peer name {name}b netns {name}
ip addr add 10.213.77.1/30 dev {name}a
ip link set {name}a up
ip -n {name} addr add 10.213.77.2/30 dev {name}b
ip -n {name} link set {name}b up
tc qdisc add dev {name}a root tbf rate 100mbit burst 64kb latency 100ms
ip netns exec {name} tc qdisc add dev {name}b root tbf rate 100mbit burst 64kb latency 100ms
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace behind a link that the kernel limits to 100 Mbit/s each way."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        pytest.skip("needs the commands ip and tc")
    name = "apprv"
    done = subprocess.run(["sh", "-c", SHAPED.format(name=name)], capture_output=True, text=True, check=False)  # noqa: S607
    try:
        if done.returncode:
            pytest.skip(f"network namespaces are not permitted here: {done.stderr.strip()[:80]}")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)  # noqa: S607
        subprocess.run(["ip", "link", "del", f"{name}a"], capture_output=True, check=False)  # noqa: S607


def test_the_kernels_limit_of_100_mbit_is_found(namespace: str, tmp_path: Path) -> None:
    from autoprivacy.protocol.tls import client_end, new_certificate

    new_key(tmp_path / "key")
    new_certificate(tmp_path / "c", tmp_path / "ck")
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "autoprivacy.cli.main", "serve"]
    options = "--profile-only --once --listen 10.213.77.2:0 --key-file key --certificate c --certificate-key ck"
    with subprocess.Popen([*command, *options.split()], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as peer:
        try:
            assert peer.stdout is not None
            address = peer.stdout.readline().strip().removeprefix("listening on ")
            route = Route(tls=client_end(tmp_path / "c"))
            meter = LinkMeter(address, load_key(tmp_path / "key"), route)
            found = measure_link(meter, "shaped", "quick", lambda: None, route=route, loopback=False)
            meter.close()
            assert peer.wait(20) == 0
        finally:
            peer.kill()
    assert found.header.tls
    assert not found.header.loopback
    for sample in found.transfers:
        if sample.message_bytes >= 65536:
            # A bucket of 64 kB passes at once, headers take 4 %: what the kernel lets through, whatever else runs.
            assert sample.bytes_per_s * 8 < 125e6
            assert sample.bytes_per_s * 8 > 20e6


@pytest.mark.slow
def test_a_peer_of_our_own_outwaits_what_is_measured_meanwhile() -> None:
    with link.loopback_meter() as meter:
        time.sleep(DEFAULT_TIMEOUT_S + 3)
        assert meter.run(Command("up")) > 0  # it answered
