"""Seconds of one party by layer and component, each counted once, and a channel whose use is timed."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias, TypeVar

from autoprivacy.common.records import record
from autoprivacy.protocol.transport import Channel, Kind

Component: TypeAlias = Literal["he_s", "clear_s", "ot_s", "gc_s", "spill_s", "link_s"]
Part = TypeVar("Part", bound=bytes | memoryview)


@record
class LayerTimes:
    """Seconds of one party in one layer, by component; what it does not do is 0.

    `he_s` is on ciphertexts, `clear_s` a linear layer on a share in the clear, `gc_s` garbling or evaluation,
    `spill_s` on files of prepared material, `link_s` in the channel: sending, and waiting for the peer, which computes
    meanwhile.
    """

    he_s: float = 0.0
    clear_s: float = 0.0
    ot_s: float = 0.0
    gc_s: float = 0.0
    spill_s: float = 0.0
    link_s: float = 0.0


class Stopwatch:
    """Adds up seconds by component. A component that starts within another stops the other's clock until it ends."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(LayerTimes.__dataclass_fields__, 0.0)
        self._running: Component | None = None
        self._since = 0.0

    @contextmanager
    def __call__(self, component: Component) -> Iterator[None]:
        """Time what runs inside."""
        outer = self._running
        self._switch(component)
        try:
            yield
        finally:
            self._switch(outer)

    def _switch(self, component: Component | None) -> None:
        now = time.perf_counter()
        if self._running is not None:
            self._seconds[self._running] += now - self._since
        self._running, self._since = component, now

    def each(self, component: Component, parts: Iterable[Part]) -> Iterator[Part]:
        """The same parts; making each is timed."""
        made = iter(parts)
        while True:
            with self(component):
                part = next(made, None)
            if part is None:
                return
            yield part

    def times(self) -> LayerTimes:
        """What was counted so far."""
        return LayerTimes(**self._seconds)


class Watches:
    """A stopwatch a linear layer; what runs after it and before the next one (and before the first) is its."""

    def __init__(self) -> None:
        self._watches = [Stopwatch()]
        self._begun = False

    def next_layer(self) -> None:
        """The next linear layer begins."""
        if self._begun:
            self._watches.append(Stopwatch())
        self._begun = True

    @property
    def current(self) -> Stopwatch:
        """That of the layer that runs."""
        return self._watches[-1]

    def times(self) -> tuple[LayerTimes, ...]:
        """By layer, in order."""
        return tuple(watch.times() for watch in self._watches)


class TimedChannel:
    """A channel all use of which is `link_s` of the layer that runs."""

    def __init__(self, channel: Channel, watches: Watches) -> None:
        self._channel, self._watches = channel, watches

    def send(self, kind: Kind, *parts: bytes | memoryview) -> None:
        """As `Channel.send`."""
        with self._watches.current("link_s"):
            self._channel.send(kind, *parts)

    def send_parts(self, kind: Kind, length: int, parts: Iterable[bytes | memoryview]) -> None:
        """As `Channel.send_parts`; whoever makes the parts times that."""
        with self._watches.current("link_s"):
            self._channel.send_parts(kind, length, parts)

    def receive(self, kind: Kind, length: int) -> bytes:
        """As `Channel.receive`."""
        with self._watches.current("link_s"):
            return self._channel.receive(kind, length)

    def receive_parts(self, kind: Kind, sizes: Sequence[int]) -> Iterator[memoryview]:
        """As `Channel.receive_parts`."""
        return self._watches.current.each("link_s", self._channel.receive_parts(kind, sizes))
