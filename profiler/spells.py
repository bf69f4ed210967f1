"""How slow the machine is beside inferences, and their times with that divided out.

Cores of a shared machine slow down apart from each other: what a neighbour does to one, the other does not feel. So the
reference operation is timed on the core of either party. A core that was idle is slow for its first millisecond; it
is kept busy as long before a reading. One reading may say little of the next tenth of a second, or much of the next
minute, by machine: how many around an inference tell best how slow it was, readings themselves say.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.profiler.harness import REFERENCE_BLOCK_S, calls_per_block, reference_operation, time_block
from autoprivacy.profiler.machine import allowed_cores, on_core
from autoprivacy.protocol.times import LayerTimes

CLIENT_CORE: Final = 0
SERVER_CORE: Final = 1
"""Of the cores that there are, those that the parties of a measurement keep to."""

WARM_BLOCKS: Final = 2
"""Blocks of the reference operation before the one that is timed: the first after idling took 1.19, the second 1.03,
the third 1.00 times as long as after work (Zen 3 virtual machine)."""

AROUND: Final = (2, 4, 8, 16, 32, 64, 128)
"""Before and after an inference so many readings may tell how slow the machine was meanwhile."""


@dataclass(frozen=True, slots=True)
class Slowdown:
    """How many times as long as on the quiet machine either party takes, and what passes between them."""

    client: float
    server: float
    link: float

    @classmethod
    def of(cls, reading: tuple[float, float], quiet_s: float, *, loopback: bool) -> "Slowdown":
        """From the operation's seconds on both cores, and its quiet ones; a link that is not theirs keeps its pace."""
        client, server = (each / quiet_s for each in reading)
        return cls(client, server, sqrt(client * server) if loopback else 1.0)

    @property
    def mean(self) -> float:
        """Of both parties: how slow the machine was."""
        return sqrt(self.client * self.server)


@dataclass(slots=True)
class Spells:
    """Seconds of the reference operation on the client's and on the server's core, read between inferences.

    To be made before the process is pinned to a core. Where the server runs elsewhere, the client's core stands for
    both.
    """

    server_here: bool = True
    readings: list[tuple[float, float]] = field(default_factory=list)
    _operation: Callable[[], object] = field(default_factory=reference_operation)
    _calls: int = field(init=False)
    _cores: tuple[int, ...] = field(default_factory=allowed_cores)

    def __post_init__(self) -> None:
        """Find out how many calls a reading takes."""
        self._calls = calls_per_block(self._operation, REFERENCE_BLOCK_S)

    def look(self) -> None:
        """Take a reading on both cores."""
        at_server_s = self._reading(SERVER_CORE) if self.server_here else None
        client_s = self._reading(CLIENT_CORE)  # last: an inference begins here, on a core that has not idled
        self.readings.append((client_s, client_s if at_server_s is None else at_server_s))

    def _reading(self, core: int) -> float:
        with on_core(core, self._cores):
            for _ in range(WARM_BLOCKS * self._calls):
                self._operation()
            return time_block(self._operation, self._calls)

    @property
    def latest(self) -> int:
        """Number of the inference that ran before the latest reading; the first, after one reading, is 0."""
        return len(self.readings) - 2

    def during(self) -> list[tuple[float, float]]:
        """Seconds on both cores while each inference ran: geometric means of the readings around it."""
        logs = np.log(np.array(self.readings))
        half = min(AROUND, key=lambda each: _error_of_left_out(logs, each))
        means = [logs[max(0, after - half) : after + half].mean(axis=0) for after in range(1, len(logs))]
        return [(client_s, server_s) for client_s, server_s in np.exp(means).tolist()]


def _error_of_left_out(logs: NDArray[np.float64], half: int) -> float:
    """Mean square error of predicting each row by the mean of so many before and so many after it."""
    errors = []
    for at, row in enumerate(logs):
        around = logs[max(0, at - half) : at + half + 1]
        errors.append((around.sum(axis=0) - row) / max(1, len(around) - 1) - row)
    return float(np.mean(np.square(errors)))


def levelled(client: LayerTimes, server: LayerTimes, slow: Slowdown) -> tuple[LayerTimes, LayerTimes]:
    """Times of both parties in one layer at the machine's quiet speed.

    The client waits in its channel while the server works: that part of its wait takes as long as the server's work.
    """
    at_client, at_server = _divided(client, slow.client), _divided(server, slow.server)
    waiting_s = (client.link_s - busy_s(server)) / slow.link
    return replace(at_client, link_s=max(0.0, busy_s(at_server) + waiting_s)), at_server


def _divided(times: LayerTimes, by: float) -> LayerTimes:
    return LayerTimes(**{name: getattr(times, name) / by for name in LayerTimes.__dataclass_fields__})


def busy_s(server: LayerTimes) -> float:
    """What a server's own work takes of a layer."""
    return server.he_s + server.clear_s + server.ot_s + server.gc_s + server.spill_s
