"""An emulated link, by a clock of our own; and a real relay, whose timing nothing asserts."""

import os
from concurrent.futures import ThreadPoolExecutor
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprivacy.protocol.session import Client
from autoprivacy.protocol.shaping import BACKLOG_S, RECEIVER_BYTES, EmulatedLink, Lane, Relay
from autoprivacy.protocol.transport import Channel, Kind, Route

LINK = EmulatedLink(rate_bytes_per_s=1e6, one_way_s=0.05)
READ_BYTES = 1 << 16


class Link:
    """One lane whose sender has `waiting` bytes to send from the start, and whose receiver takes all at once."""

    def __init__(self, link, waiting):
        self.lane = Lane(link)
        self.waiting = memoryview(waiting)
        self.now = 0.0
        self.arrivals = []

    def run(self):
        """What arrived, as (time, bytes), stepping from change to change."""
        while True:
            while self.waiting and self.lane.takes(self.now):
                piece, self.waiting = self.waiting[:READ_BYTES], self.waiting[READ_BYTES:]
                self.lane.take(bytes(piece), self.now)
            while (due := self.lane.due(self.now)) is not None:
                self.arrivals.append((self.now, bytes(due)))
                self.lane.delivered(len(due))
            following = self.lane.next_change(self.now)
            if following == inf:
                return self.arrivals
            assert following > self.now
            self.now = following


def take_next(lane):
    """Deliver what is due next; how many bytes that was."""
    due = lane.due(lane.next_due)
    assert due is not None
    lane.delivered(len(due))
    return len(due)


@pytest.mark.parametrize("rate", [1.25e5, 1.25e6, 1.25e7, 1.25e8])
@pytest.mark.parametrize("one_way_s", [0, 0.005, 0.1])
def test_much_data_takes_its_size_over_the_rate_and_one_delay(rate, one_way_s):
    content = os.urandom(round(rate / 5))
    arrivals = Link(EmulatedLink(rate, one_way_s), content).run()
    assert b"".join(piece for _, piece in arrivals) == content
    assert arrivals[-1][0] == pytest.approx(0.2 + one_way_s)
    # It flows: nothing comes before the delay, and after it a share of the bytes for every share of the time.
    assert arrivals[0][0] > one_way_s
    half = sum(len(piece) for when, piece in arrivals if when <= one_way_s + 0.1)
    assert half == pytest.approx(len(content) / 2, rel=0.1)


@given(st.lists(st.tuples(st.floats(0, 0.2), st.integers(1, 300_000)), min_size=1, max_size=6))
def test_messages_arrive_when_the_link_has_sent_all_before_them(messages):
    lane, now, free, expected = Lane(LINK), 0.0, 0.0, []
    for pause, size in messages:
        now += pause
        lane.take(bytes(size), now)
        free = max(free, now) + size / LINK.rate_bytes_per_s
        expected.append(free + LINK.one_way_s)
    arrived, times = 0, list[float]()
    while lane.next_due < inf:
        when = lane.next_due
        arrived += take_next(lane)
        if arrived == sum(size for _, size in messages[: len(times) + 1]):
            times.append(when)
    assert times == pytest.approx(expected)


def test_a_ping_pong_takes_a_round_trip_and_both_transmissions_each():
    up, down, now = Lane(LINK), Lane(LINK), 0.0
    for _ in range(10):
        for lane in (up, down):
            lane.take(bytes(1000), now)
            now = lane.next_due
            take_next(lane)
    assert now == pytest.approx(10 * (2 * LINK.one_way_s + 2 * 1000 / LINK.rate_bytes_per_s))


def test_a_sender_has_in_flight_what_the_link_holds_and_no_more():
    lane = Lane(LINK)
    now, taken = 0.0, 0
    while lane.next_due > now:  # until the first byte arrives
        while lane.takes(now):
            lane.take(bytes(1000), now)
            taken += 1000
        now = lane.next_change(now)
    in_flight = LINK.rate_bytes_per_s * LINK.one_way_s
    assert in_flight <= taken <= in_flight + LINK.rate_bytes_per_s * (BACKLOG_S + 0.01)


def test_a_receiver_that_reads_nothing_stops_the_sender():
    lane, now = Lane(LINK), 0.0
    for _ in range(1000):
        if lane.takes(now):
            lane.take(bytes(100_000), now)
        now += 0.1
    assert not lane.takes(now)
    while (due := lane.due(now)) is not None:
        lane.delivered(min(10, len(due)) if len(due) > 10 else len(due))
        if lane.takes(now):
            break
    assert lane.takes(now)
    assert lane._held + 100_000 >= RECEIVER_BYTES


def test_a_sender_that_closes_is_noticed_after_its_last_byte():
    lane = Lane(LINK)
    lane.take(bytes(100_000), 1.0)
    lane.close(1.0)
    assert not lane.takes(10)
    assert not lane.ended(1.15)  # bytes are due, and must be delivered first
    while (due := lane.due(1.16)) is not None:
        lane.delivered(len(due))
    assert lane.next_due == lane.next_change(1.1) == pytest.approx(1.15)
    assert lane.ended(1.16)
    assert lane.next_change(1.16) == 1.16  # or who looked just before it ended would wait for ever


FAST = EmulatedLink(rate_bytes_per_s=1e9, one_way_s=0.0005)


def test_a_relay_passes_what_is_sent_and_ends_with_its_ends(sockets):
    near, far = sockets
    relay = Relay(near.dup(), FAST)
    near.close()
    channels = Channel(relay.near, 20, relay=relay), Channel(far, 20)
    contents = [os.urandom(size) for size in (0, 1, 70_000, 3_000_000)]

    def send(channel):
        for content in contents:
            channel.send(Kind.GARBLED, content)

    with ThreadPoolExecutor(2) as pool:
        sending = [pool.submit(send, channel) for channel in channels]
        for channel in channels:
            assert [channel.receive(Kind.GARBLED, len(content)) for content in contents] == contents
        for each in sending:
            each.result()
    channels[0].send(Kind.COMMAND, b"\0")
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(channels[0].close)
        assert channels[1].receive(Kind.COMMAND, 1) == b"\0"
        channels[1].close()
        closing.result()
    assert relay._process.returncode == 0


def test_a_relay_ends_when_the_server_is_gone(sockets):
    near, far = sockets
    relay = Relay(near.dup(), FAST)
    near.close()
    far.close()
    relay.near.settimeout(20)
    assert relay.near.recv(1) == b""
    relay.near.close()
    relay.close()
    assert relay._process.returncode == 0


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_an_inference_over_an_emulated_link_is_the_same(exact, serving, key, digits, certified, secured):
    near, far = certified if secured else (None, None)
    server = serving(exact, tls=far)
    with Client(server.address, key, expected=exact.agreement, route=Route(near, FAST)) as client:
        logits = client.infer(digits.confirm.x[0]).logits
    server.join()
    assert server.failure is None
    assert (logits == exact.logits(digits.confirm.x[:1])[0]).all()
