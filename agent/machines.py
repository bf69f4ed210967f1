"""The machines that a run is about: this one alone as both parties, or this one as the client of a peer."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from autoprivacy.common.errors import BadInput, ProfileMismatch
from autoprivacy.common.progress import Progress
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.exchange import import_bytes
from autoprivacy.hwprofiles.link_profile import LinkProfile, read_link, write_link
from autoprivacy.hwprofiles.machine_profile import MachineProfile, check_fresh
from autoprivacy.models.fitted import fitted
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.prediction import Deployment
from autoprivacy.profiler.check import check
from autoprivacy.profiler.link import STEPS, LinkMeter, measure_link
from autoprivacy.profiler.machine import describe_software
from autoprivacy.profiler.profile import profile_machine
from autoprivacy.protocol.transport import Route

PEER: Final = "peer"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another machine: `address` of its `serve --profile-only`, and of its servers of policies, in their order."""

    address: str
    key: bytes
    route: Route
    serving: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Machines:
    """The profiles of both parties, and of what lies between; without a peer the server is the client, on loopback."""

    client: MachineProfile
    server: MachineProfile
    link: LinkProfile | None

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the profiles, each once."""
        links = () if self.link is None else (self.link.header.id,)
        return tuple(dict.fromkeys((self.server.header.id, self.client.header.id, *links)))

    def deployment(self) -> Deployment:
        """The models of all three."""
        client = fitted(self.client)
        server = client if self.server is self.client else fitted(self.server)
        return Deployment(server, client, None if self.link is None else fit_link(self.link))


def with_peer(
    out: Path,
    client: MachineProfile,
    peer: Peer,
    progress: Progress,
    meter: Callable[[str, bytes, Route], LinkMeter] = LinkMeter,
) -> Machines:
    """This machine as the client of a peer, whose profile is fetched and whose link is measured, unless `out` has both.

    Raises:
        BadInput: if the peer hands out no machine profile.
        ProfileMismatch: if its profile is stale.
        ProtocolError: if the peer cannot be reached, or serves something else.
    """
    if not (out / "link" / "link.json").exists() or not (out / "server-profile" / "profile.json").exists():
        found = meter(peer.address, peer.key, peer.route)
        try:
            with progress("measuring the link", STEPS["quick"]) as advance:
                link = measure_link(found, PEER, "quick", advance, route=peer.route, loopback=False)
            content = found.peer_profile()
        finally:
            found.close()
        if not content:
            raise BadInput("the peer hands out no machine profile; start it with `serve --profile-only --profile NAME`")
        theirs = import_bytes(content, "the peer's profile")
        if isinstance(theirs, LinkProfile):
            raise BadInput("the peer's profile is a link's; start it with the name of a machine profile")
        machine_profile.write(theirs, out / "server-profile")
        header = replace(link.header, client_profile=client.header.id, server_profile=theirs.header.id)
        write_link(LinkProfile(header, link.transfers), out / "link")
    server = machine_profile.read(out / "server-profile")
    check_fresh(server, describe_software())
    return Machines(client, server, read_link(out / "link"))


def measured_profile(
    out: Path, given: MachineProfile | None, depth: str, progress: Progress, *, fresh: bool
) -> MachineProfile:
    """The profile that is given, or kept in the run folder, if it still holds; else a new one, stored there.

    Raises:
        ProfileMismatch: if the one that is given does not hold.
    """
    if fresh and any((out / name).exists() for name in ("run.json", "predictions.json")):
        shutil.rmtree(out)
    folder = out / "profile"
    if given is not None:
        must_hold(given, progress)
        machine_profile.write(given, folder)
        return given
    taught = out / "profile-confirmed"
    if (taught / "profile.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        taught.rename(folder)
    if (folder / "profile.json").exists():
        kept = machine_profile.read(folder)
        try:
            must_hold(kept, progress)
        except ProfileMismatch:
            shutil.rmtree(folder)
        else:
            return kept
    return profile_machine("this-machine", folder, depth, progress)


def must_hold(profile: MachineProfile, progress: Progress) -> None:
    """Refuse a profile that is not of this machine as it is now.

    Raises:
        ProfileMismatch: saying what differs.
    """
    found = check(profile, progress)
    if not found.holds:
        drifted = sum(setting.drifted for setting in found.settings)
        what = f"other {', '.join(found.differing)}" if not found.same_machine else ""
        raise ProfileMismatch(
            f"profile {profile.header.name} is not of this machine as it is now "
            f"({what or f'{drifted} of {len(found.settings)} settings drifted'}); measure again"
        )
