"""Another machine as the server: its profile is fetched and the link measured, once."""

from dataclasses import replace
from pathlib import Path

import pytest

from autoprivacy.agent.machines import Machines, Peer, with_peer
from autoprivacy.common.errors import BadInput
from autoprivacy.common.progress import silent
from autoprivacy.hwprofiles.exchange import export
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.profiler.machine import describe_software
from autoprivacy.protocol.transport import Route
from tests import synthetic
from tests.profiler.test_link import KEY, serving


def machine(*, slower: float = 1.0, profile_id: str = "0123456789abcdef") -> MachineProfile:
    made = synthetic.profile(slower=slower)
    return replace(made, header=replace(made.header, id=profile_id, software=describe_software()))


def test_a_peers_profile_and_link_are_kept(tmp_path: Path) -> None:
    client, server = machine(), machine(slower=2.0, profile_id="fedcba9876543210")
    with serving(export(server)) as address:
        found = with_peer(tmp_path, client, Peer(address, KEY, Route()), silent)
    assert found.client is client
    assert found.server == server
    assert found.link is not None
    assert found.link.header.client_profile == client.header.id
    assert found.link.header.server_profile == server.header.id
    assert found.ids == (server.header.id, client.header.id, found.link.header.id)
    deployment = found.deployment()
    assert deployment.link is not None
    assert deployment.server.profile_id == server.header.id
    # Nobody serves any more: what is kept is taken.
    assert with_peer(tmp_path, client, Peer("127.0.0.1:1", KEY, Route()), silent) == found


def test_a_peer_without_a_profile_is_refused(tmp_path: Path) -> None:
    with serving() as address, pytest.raises(BadInput, match="serve --profile-only --profile NAME"):
        with_peer(tmp_path, machine(), Peer(address, KEY, Route()), silent)


def test_alone_both_parties_are_this_machine() -> None:
    own = machine()
    alone = Machines(own, own, None)
    assert alone.ids == (own.header.id,)
    deployment = alone.deployment()
    assert deployment.server is deployment.client
    assert deployment.link is None
