"""Seconds of one party by layer and component, each counted once, and a channel whose use is timed."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias, TypeVar

from autoprivacy.common.records import record
from autoprivacy.protocol.transport import Channel, Kind

Component: TypeAlias = Literal["he_s", "clear_s", "ot_s", "gc_s", "spill_s", "link_s", "other_s"]
Part = TypeVar("Part", bound=bytes | memoryview)


@record
class LayerTimes:
    """Seconds of one party in one layer, by component; what it does not do is 0.

    `he_s` is on ciphertexts, `clear_s` a linear layer on a share in the clear, `gc_s` garbling or evaluation,
    `spill_s` on files of prepared material, `link_s` in the channel: sending, and waiting for the peer, which computes
    meanwhile; `other_s` is on none of these: shares, moduli, and going from one to the next.
    """

    he_s: float = 0.0
    clear_s: float = 0.0
    ot_s: float = 0.0
    gc_s: float = 0.0
    spill_s: float = 0.0
    link_s: float = 0.0
    other_s: float = 0.0

    @property
    def total_s(self) -> float:
        """From the layer's beginning to its end: nothing is left out."""
        return self.he_s + self.clear_s + self.ot_s + self.gc_s + self.spill_s + self.link_s + self.other_s


class Stopwatch:
    """Adds up seconds by component, from now on until it is read; `other_s` while none runs.

    A component that starts within another stops the other's clock until it ends.
    """

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(LayerTimes.__dataclass_fields__, 0.0)
        self._running: Component | None = "other_s"
        self._since = time.perf_counter()

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
        """What was counted; no more is."""
        self._switch(None)
        return LayerTimes(**self._seconds)


class Watches:
    """A stopwatch a linear layer, `current` that of the one that runs, up to the next one.

    Layers together take all the time from now until they are read.
    """

    def __init__(self) -> None:
        self.current = Stopwatch()
        self._done: list[LayerTimes] = []
        self._begun = False

    def next_layer(self) -> None:
        """The next linear layer begins."""
        if self._begun:
            self._done.append(self.current.times())
            self.current = Stopwatch()
        self._begun = True

    def times(self) -> tuple[LayerTimes, ...]:
        """By layer, in order; the last one ends."""
        return (*self._done, self.current.times())


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
