import time
from itertools import count

import pytest

from autoprivacy.protocol.times import LayerTimes, Watches


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by one second each time it is read."""
    ticks = count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))


@pytest.mark.usefixtures("ticking")
def test_layers_take_all_the_time_and_none_twice() -> None:
    watches = Watches()  # 0
    watches.next_layer()
    with watches.current("he_s"), watches.current("link_s"):  # 1, 2
        pass  # 3, 4
    watches.next_layer()  # 5, and 6 the next one's first
    with watches.current("gc_s"):  # 7
        pass  # 8
    assert watches.times() == (  # 9
        LayerTimes(he_s=2.0, link_s=1.0, other_s=2.0),
        LayerTimes(gc_s=1.0, other_s=2.0),
    )


@pytest.mark.usefixtures("ticking")
def test_what_was_read_is_not_counted_on() -> None:
    watches = Watches()
    first = watches.times()
    assert watches.times() == first
