"""What of whole layers a profile runs, over which links."""

import pytest

from autoprivacy.models.layer_model import LEAST_RUNS
from autoprivacy.profiler import layers


@pytest.mark.parametrize("depth", list(layers.NETWORKS))
def test_a_profile_runs_some_of_its_networks_over_every_link_too(depth: str) -> None:
    sessions = layers._sessions(depth)
    assert layers.PASSES[depth] * len(sessions) == layers.steps(depth)
    assert len({each.name for each in sessions}) == len(sessions)
    here = {each.agreement.network for each in sessions if each.link is None}
    assert len(here) == len([each for each in sessions if each.link is None])
    for link in layers.LINKS:
        there = {each.agreement.network for each in sessions if each.link == link}
        # As many as a correction takes, of packing `coefficients` at least.
        assert len([name for name in there if not name.startswith("slots")]) >= LEAST_RUNS
        assert there < here


def test_round_trips_of_links_tell_their_runs_apart() -> None:
    trips = {each.round_trip_s for each in layers._sessions("quick")}
    assert trips == {0.0, 0.001, 0.02}


@pytest.mark.parametrize("depth", list(layers.NETWORKS))
def test_every_session_has_its_turn_among_a_few(depth: str) -> None:
    groups = layers._groups(depth)
    assert all(len(group) <= layers.TOGETHER for group in groups)
    assert [each.name for group in groups for each in group] == [each.name for each in layers._sessions(depth)]
