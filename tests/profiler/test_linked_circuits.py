import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from autoprivacy.common.errors import ProtocolError
from autoprivacy.hwprofiles.samples import LINKED_CIRCUITS, LINKED_TRANSFERS, Sample, WorkDone
from autoprivacy.profiler.end_to_end import end_to_end
from autoprivacy.profiler.link import LinkMeter, loopback_meter
from autoprivacy.profiler.link_protocol import Command
from autoprivacy.profiler.linked_circuits import (
    CIRCUITS,
    MAX_INSTANCES,
    MAX_TRANSFERS,
    Evaluator,
    Garbler,
    batch_bytes,
    batch_of,
    shares_of,
)
from autoprivacy.profiler.workloads import circuit_workloads, linked_workloads
from autoprivacy.protocol.transport import HEADER_BYTES, Channel
from tests import synthetic


class Known:
    """Stands in for a generator: masks that are written down."""

    def __init__(self, masks: list[np.ndarray]) -> None:
        self.left = iter(masks)

    def integers(self, *_: int) -> np.ndarray:
        return next(self.left)


@contextmanager
def both(circuit: int, instances: int, masks: list[np.ndarray]) -> Iterator[tuple[Evaluator, Channel]]:
    """The client's side, while a thread does the server's."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        garbler = Garbler(Channel(theirs, timeout_s=20))
        garbler._rng = cast("np.random.Generator", Known(masks))
        garbler.batch(circuit, instances)

    thread = threading.Thread(target=serve)
    thread.start()
    channel = Channel(ours, timeout_s=20)
    with ours, theirs:
        yield Evaluator(channel), channel
        thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("circuit", range(len(CIRCUITS)))
def test_shares_are_of_what_the_circuit_computes_and_bytes_are_those_said(circuit: int) -> None:
    kind, instances = CIRCUITS[circuit], 70
    masks = [np.arange(instances) % modulus for modulus in kind.moduli_out]
    own, kept = shares_of(circuit, instances)
    with both(circuit, instances, masks) as (evaluator, channel):
        evaluator.prepare()
        before = channel.traffic
        found = evaluator.batch(circuit, instances)
    passed = channel.traffic.since(before)
    assert passed.bytes_sent + passed.bytes_received == batch_bytes(batch_of(circuit, instances)) + 2 * HEADER_BYTES
    # ReLU of the signed value, requantised; then the greatest of a window.
    entering = (own + kept) % kind.modulus_in
    signed = np.where(entering > kind.modulus_in // 2, entering - kind.modulus_in, entering)
    expected = np.clip(signed >> kind.shift, 0, (1 << kind.bits) - 1).reshape(kind.window, instances).max(axis=0)
    for row, mask, modulus in zip(found, masks, kind.moduli_out, strict=True):
        assert np.array_equal((row + mask) % modulus, expected)


def test_two_processes_garble_and_transfer_again_and_again() -> None:
    with loopback_meter() as meter:
        for command in (Command("circuits", circuit=1, instances=65), Command("transfers", instances=1000)) * 2:
            assert meter.run(command) > 0
        assert meter.run(Command("up", 100, 3)) > 0
        assert meter.circuits(0, 3, 0.0).message_bytes == batch_bytes(batch_of(0, 3))


@pytest.mark.parametrize(
    "command",
    [
        Command("circuits", circuit=len(CIRCUITS), instances=1),
        Command("circuits", circuit=-1, instances=1),
        Command("circuits", circuit=0, instances=MAX_INSTANCES + 1),
        Command("circuits", circuit=0),
        Command("transfers", instances=MAX_TRANSFERS + 1),
        Command("transfers", instances=-1),
    ],
)
def test_what_takes_too_much_is_refused(command: Command) -> None:
    with pytest.raises(ProtocolError, match="instances"):
        command.check()


def test_every_batch_end_to_end_has_its_two_sides_in_memory() -> None:
    known = {workload.work for workload in circuit_workloads("full")}
    batches = [each.work for each in linked_workloads("full") if each.work.operation == LINKED_CIRCUITS]
    assert batches
    for work in batches:
        for side in ("garble", "evaluate"):
            same = [each for each in known if each == replace(work, operation=side, bytes=each.bytes)]
            assert len(same) == 1, work
            assert work.bytes > same[0].bytes


def sample(operation: str, items: int, seconds: float, **more: Any) -> Sample:
    return replace(synthetic.sample(WorkDone(operation, 0, 0, 1, items, **more), seconds), code_path="vaes512")


def test_bounds_by_hand() -> None:
    # 128 transfers take 2 ms to send and 1 ms to receive; garbling 3 ms, evaluating 5 ms; 2048 bytes of columns.
    profile = replace(
        synthetic.profile(),
        samples=(
            sample("ot_send", 128, 0.002),
            sample("ot_receive", 128, 0.001),
            sample("garble", 1000, 0.003, values=10, bytes=6000, wires=7),
            sample("evaluate", 1000, 0.005, values=10, bytes=6000, wires=7),
            sample(LINKED_CIRCUITS, 1000, 0.016, values=10, bytes=8048, wires=7),
            sample(LINKED_TRANSFERS, 256, 0.008, bytes=4096),
        ),
        loopback=synthetic.link(),
    )
    circuits, transfers = end_to_end(profile)
    # 1 MB a second: 8.048 ms on the link, above the 6 ms of the client and the 5 ms of the server.
    assert (circuits.operation, circuits.items, circuits.values) == (LINKED_CIRCUITS, 1000, 10)
    assert (circuits.processor_s, circuits.link_s) == pytest.approx((0.006, 0.008048))
    assert circuits.share == pytest.approx(0.503)
    assert (transfers.processor_s, transfers.link_s) == pytest.approx((0.004, 0.004096))
    assert transfers.share == pytest.approx(0.512)
    assert end_to_end(replace(profile, loopback=None)) == ()


def test_a_link_measured_says_what_circuits_take() -> None:
    with loopback_meter() as meter:
        assert isinstance(meter, LinkMeter)
        found = meter.circuits(1, 64, 0.01)
    assert found.direction == "circuits"
    assert found.bytes_per_s == pytest.approx(found.message_bytes / found.typical_s)
