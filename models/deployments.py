"""Deployments by the names of their profiles: what predictions need of them, and what reports say of them.

A link is a folder with `link.json`, found by name like machine profiles; `loopback` is the client's own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.link_profile import LinkProfile
from autoprivacy.hwprofiles.machine_profile import MachineProfile, Software, check_fresh
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import MachineModel, fit
from autoprivacy.models.prediction import Deployment
from autoprivacy.protocol import KERNELS_VERSION

LOOPBACK: Final = "loopback"


@record
class MachineFacts:
    """What a report says of a machine, from its profile; `reasons` say why it was noisy."""

    name: str
    profile_id: str
    cpu: str
    cores: int
    memory_bytes: int
    aes_path: str
    ring_path: str
    measured_on: str
    depth: str
    verdict: Literal["quiet", "noisy"]
    reasons: tuple[str, ...]
    slowdown_median: float
    slowdown_p95: float
    interrupted: bool


@record
class LinkFacts:
    """What a report says of a link; ids of machines are "" and figures None where the loopback's profile has none."""

    name: str
    kind: Literal["measured", "emulated", "declared"]
    measured_on: str
    source: str
    loopback: bool
    converged: bool
    client_profile: str
    server_profile: str
    round_trip_s: float | None
    rate_up_bytes_per_s: float | None
    rate_down_bytes_per_s: float | None


@record
class DeploymentFacts:
    """What a report says of a deployment; `workers` share the server's work on linear layers."""

    name: str
    server: MachineFacts
    client: MachineFacts
    link: LinkFacts
    workers: int


@dataclass(frozen=True, slots=True)
class NamedDeployment:
    """A deployment, and what is told of it."""

    facts: DeploymentFacts
    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Names:
    """The profiles of one deployment, by name or folder."""

    server: str
    client: str
    link: str = LOOPBACK

    @classmethod
    def parse(cls, text: str) -> "Names":
        """Read `server,client` or `server,client,link`.

        >>> Names.parse("office,laptop,wan")
        Names(server='office', client='laptop', link='wan')

        Raises:
            BadInput: if it is neither.
        """
        parts = [part.strip() for part in text.split(",")]
        if len(parts) not in {2, 3} or not all(parts):
            raise BadInput(f"deployment {text!r} must read SERVER,CLIENT or SERVER,CLIENT,LINK: names of profiles")
        return cls(*parts)

    def __str__(self) -> str:
        """As tables call it."""
        return f"{self.server},{self.client},{self.link}"


def pair(servers: Sequence[str], clients: Sequence[str], links: Sequence[str]) -> list[Names]:
    """Deployments from lists of their parts; a part that is named once is that of all.

    >>> [str(each) for each in pair(["office"], ["laptop", "phone"], ["wan"])]
    ['office,laptop,wan', 'office,phone,wan']

    Raises:
        BadInput: if lists differ in length.
    """
    most = max(len(servers), len(clients), len(links))
    if any(len(parts) not in {1, most} for parts in (servers, clients, links)):
        raise BadInput(
            f"{len(servers)} servers, {len(clients)} clients and {len(links)} links do not make deployments; "
            "name each part once, or once for every deployment"
        )
    whole = (list(parts) * most if len(parts) == 1 else list(parts) for parts in (servers, clients, links))
    return [Names(*each) for each in zip(*whole, strict=True)]


def load_deployments(names: Iterable[Names], *, workers: int = 1) -> tuple[NamedDeployment, ...]:
    """Deployments, ready to predict on; every machine is fitted once.

    Raises:
        BadInput: if there is no such profile, or it is damaged.
        ProfileMismatch: if a machine's profile is stale.
        UnmodelledOperation: for more workers than the server's profile measured at once.
    """
    fitted: dict[str, tuple[MachineProfile, MachineModel]] = {}

    def machine(name: str) -> tuple[MachineProfile, MachineModel]:
        if name not in fitted:
            profile = machine_profile.find(name)
            check_fresh(profile, Software.installed(KERNELS_VERSION))
            fitted[name] = profile, fit(profile)
        return fitted[name]

    found: list[NamedDeployment] = []
    for each in names:
        server, client = machine(each.server), machine(each.client)
        server[1].slowdown_of(workers)
        link = None if each.link == LOOPBACK else machine_profile.find_link(each.link)
        facts = DeploymentFacts(
            name=_called(each, server[0], client[0], link, [known.facts.name for known in found]),
            server=machine_facts(server[0]),
            client=machine_facts(client[0]),
            link=link_facts(link or client[0].loopback, client[0], own=link is None),
            workers=workers,
        )
        modelled = None if link is None else fit_link(link)
        found.append(NamedDeployment(facts, Deployment(server[1], client[1], modelled, workers)))
    return tuple(found)


def _called(
    names: Names, server: MachineProfile, client: MachineProfile, link: LinkProfile | None, taken: list[str]
) -> str:
    """By the names that profiles have of their own, which folders need not; as asked for where another is so called."""
    own = Names(server.header.name, client.header.name, LOOPBACK if link is None else link.header.name)
    return str(names) if str(own) in taken else str(own)


def machine_facts(profile: MachineProfile) -> MachineFacts:
    """What a report says of a machine."""
    header, conditions = profile.header, profile.header.conditions
    return MachineFacts(
        name=header.name,
        profile_id=header.id,
        cpu=header.machine.cpu,
        cores=header.machine.cores,
        memory_bytes=header.machine.memory_bytes,
        aes_path=header.machine.aes_path,
        ring_path=header.machine.ring_path,
        measured_on=header.measured_on,
        depth=header.depth,
        verdict=conditions.verdict,
        reasons=conditions.reasons,
        slowdown_median=conditions.reference_slowdown_median,
        slowdown_p95=conditions.reference_slowdown_p95,
        interrupted=header.interrupted,
    )


def link_facts(link: LinkProfile | None, client: MachineProfile, *, own: bool) -> LinkFacts:
    """What a report says of a link, or of the client's own loopback, which its inferences were measured over."""
    if link is None:
        return LinkFacts(
            name=LOOPBACK,
            kind="measured",
            measured_on=client.header.measured_on,
            source="the client's own, within its measured inferences",
            loopback=True,
            converged=True,
            client_profile=client.header.id,
            server_profile=client.header.id,
            round_trip_s=None,
            rate_up_bytes_per_s=None,
            rate_down_bytes_per_s=None,
        )
    header, summary = link.header, link.header.summary
    return LinkFacts(
        name=LOOPBACK if own else header.name,
        kind=header.kind,
        measured_on=header.measured_on,
        source=header.source,
        loopback=own or header.loopback,
        converged=header.converged,
        client_profile=client.header.id if own else header.client_profile,
        server_profile=client.header.id if own else header.server_profile,
        round_trip_s=summary.round_trip_s,
        rate_up_bytes_per_s=summary.rate_up_bytes_per_s,
        rate_down_bytes_per_s=summary.rate_down_bytes_per_s,
    )
