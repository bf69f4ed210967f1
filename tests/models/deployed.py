"""Profiles and links in a folder, made for the software that runs here, as commands find them."""

from dataclasses import replace
from pathlib import Path

from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.header import Software
from autoprivacy.hwprofiles.link_profile import LinkHeader, LinkProfile, LinkSummary, write_link
from autoprivacy.protocol import KERNELS_VERSION
from tests import synthetic

ROUND_TRIP_S = 0.04
RATE_BYTES_PER_S = 5e7


def write_machine(folder: Path, name: str, *, slower: float = 1.0, profile_id: str = "0123456789abcdef") -> None:
    """A machine `slower` times as slow as the synthetic one."""
    made = synthetic.profile(slower=slower)
    header = replace(made.header, name=name, id=profile_id, software=Software.installed(KERNELS_VERSION))
    machine_profile.write(replace(made, header=header), folder / name)


def declared_link(name: str) -> LinkProfile:
    """400 Mbit/s and 40 ms, each way alike."""
    summary = LinkSummary(ROUND_TRIP_S, RATE_BYTES_PER_S, RATE_BYTES_PER_S, RATE_BYTES_PER_S, 0.0, 0.0)
    header = LinkHeader(
        schema_version=1,
        id="aa",
        name=name,
        kind="declared",
        measured_on="2026-11-01",
        source="written down",
        client_profile="",
        server_profile="",
        loopback=False,
        tls=False,
        congestion_control="",
        summary=summary,
        round_trips=None,
        slow_start=None,
        converged=True,
    )
    return LinkProfile(header, ())


def write_declared(folder: Path, name: str = "wan") -> None:
    write_link(declared_link(name), folder / name)
