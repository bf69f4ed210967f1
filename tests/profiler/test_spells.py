"""How slow cores are beside inferences, and times with that divided out."""

import os

import numpy as np
import pytest

from autoprivacy.profiler.machine import allowed_cores
from autoprivacy.profiler.spells import Slowdown, Spells, levelled
from autoprivacy.protocol.times import LayerTimes


def spells(*readings: tuple[float, float]) -> Spells:
    made = Spells()
    made.readings += readings
    return made


def test_each_party_is_levelled_by_its_own_core() -> None:
    # The client waits 6 s for 4 s of work at the server, and 2 s for what passes between them.
    client, server = LayerTimes(he_s=3.0, gc_s=1.5, link_s=6.0), LayerTimes(he_s=1.0, gc_s=2.0, ot_s=1.0)
    one, other = levelled(client, server, Slowdown(client=1.5, server=2.0, link=1.25))
    assert other == LayerTimes(he_s=0.5, gc_s=1.0, ot_s=0.5)
    assert one == LayerTimes(he_s=2.0, gc_s=1.0, link_s=2.0 + 2.0 / 1.25)
    assert levelled(client, server, Slowdown(1.0, 1.0, 1.0)) == (client, server)


def test_only_a_loopback_slows_down_as_its_machine_does() -> None:
    assert Slowdown.of((2.0, 8.0), 1.0, loopback=True) == Slowdown(2.0, 8.0, 4.0)
    assert Slowdown.of((2.0, 8.0), 1.0, loopback=False) == Slowdown(2.0, 8.0, 1.0)


def test_passing_noise_is_averaged_over_all_readings() -> None:
    noise = np.exp(np.random.default_rng(1).normal(0, 0.15, (200, 2)))
    during = np.array(spells(*map(tuple, noise.tolist())).during())
    assert during.shape == (199, 2)
    assert np.abs(np.log(during[60:140])).max() < 0.05


def test_a_spell_on_one_core_is_followed() -> None:
    readings = [(1.0, 1.0)] * 60 + [(1.0, 1.4)] * 60
    during = spells(*readings).during()
    assert during[20] == pytest.approx((1.0, 1.0))
    assert during[100] == pytest.approx((1.0, 1.4))
    assert during[53] == pytest.approx((1.0, 1.0))
    assert during[65] == pytest.approx((1.0, 1.4))


def test_one_inference_between_two_readings_has_their_mean() -> None:
    assert spells((1.0, 4.0), (4.0, 4.0)).during() == [pytest.approx((2.0, 4.0))]


def test_both_cores_are_read_and_the_process_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []
    made = Spells()
    monkeypatch.setattr(made, "_operation", lambda: seen.append(os.sched_getaffinity(0)))
    monkeypatch.setattr(made, "_calls", 2)
    before = os.sched_getaffinity(0)
    made.look()
    made.look()
    assert made.latest == 0
    assert os.sched_getaffinity(0) == before
    cores = allowed_cores()
    assert {frozenset(each) for each in seen} == {frozenset({cores[0]}), frozenset({cores[1 % len(cores)]})}
    assert all(seconds > 0 for reading in made.readings for seconds in reading)


def test_a_server_elsewhere_is_as_slow_as_the_client() -> None:
    made = Spells(server_here=False)
    made.look()
    ((client_s, server_s),) = made.readings
    assert client_s == server_s
