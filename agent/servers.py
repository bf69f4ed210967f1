"""Who serves the policies that are confirmed: a fresh process of this machine each, or servers that run elsewhere."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol, TextIO

from autoprivacy.common.errors import BadInput, ProtocolError
from autoprivacy.common.records import save
from autoprivacy.hwprofiles.link_profile import LinkProfile
from autoprivacy.profiler.machine import on_core
from autoprivacy.profiler.spells import SERVER_CORE
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.conversation import Schedule
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.serving import PATIENCE_S
from autoprivacy.protocol.session import Client
from autoprivacy.protocol.shaping import EmulatedLink
from autoprivacy.protocol.transport import Route, load_key, new_key

SAME_RATE: Final = 0.1
"""Rates up and down that differ by more cannot be emulated as one."""


def route_over(link: LinkProfile) -> Route:
    """A route on loopback that emulates a link's round trip and rate.

    Raises:
        BadInput: if its two directions differ.
    """
    seen = link.header.summary
    up, down = seen.rate_up_bytes_per_s, seen.rate_down_bytes_per_s
    if abs(up / down - 1) > SAME_RATE:
        raise BadInput(
            f"link {link.header.name} has {8e-6 * up:.4g} Mbit/s up and {8e-6 * down:.4g} down; only one rate for both "
            "can be emulated: name another link"
        )
    return Route(emulated=EmulatedLink(min(up, down), seen.round_trip_s / 2))


class Servers(Protocol):
    """Gives a client of a server that runs a policy, and that opens its shares for testing."""

    @property
    def here(self) -> bool:
        """Whether servers run on this machine."""
        ...

    def client(
        self, label: str, policy: Policy, agreement: Agreement, schedule: Schedule
    ) -> AbstractContextManager[Client]:
        """A session, which ends with the context.

        Raises:
            ProtocolError: if the server fails, or runs something else.
        """
        ...


@dataclass(frozen=True, slots=True)
class LocalServers:
    """A fresh server process on loopback for each policy; `network` is a name or a file.

    A `route` with an emulated link puts that between both processes.
    """

    network: str
    data_file: Path | None = None
    route: Route = field(default_factory=Route)

    @property
    def here(self) -> bool:
        """They do."""
        return True

    @contextmanager
    def client(self, label: str, policy: Policy, agreement: Agreement, schedule: Schedule) -> Iterator[Client]:
        """A session with a new process."""
        with tempfile.TemporaryDirectory() as folder:
            key, file, log = Path(folder) / "key", Path(folder) / "policy.json", Path(folder) / "server.log"
            new_key(key)
            save(policy, file)
            command = [sys.executable, "-m", "autoprivacy.protocol.serving", self.network, str(file), str(key)]
            command += [] if self.data_file is None else [str(self.data_file)]
            with log.open("w") as errors, _started(command, errors) as server:
                try:
                    assert server.stdout is not None  # noqa: S101 - it was asked for
                    address = server.stdout.readline().strip().removeprefix("listening on ")
                    if not address:
                        said = log.read_text().strip().splitlines() or ["nothing"]
                        raise ProtocolError(
                            f"the server process of policy {label} ended before it listened; it said: {said[-1]}"
                        )
                    route = replace(self.route, timeout_s=PATIENCE_S)
                    with Client(address, load_key(key), expected=agreement, route=route, schedule=schedule) as client:
                        yield client
                    server.wait(timeout=30)
                finally:
                    server.kill()


def _started(command: list[str], errors: TextIO) -> subprocess.Popen[str]:
    """The process, on a core of its own as when profiles measure; Ctrl-C reaches only this one, which then ends it."""
    with on_core(SERVER_CORE):
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )


@dataclass(frozen=True, slots=True)
class RemoteServers:
    """Servers that were started elsewhere with --reveal-for-testing: an address for each policy's label."""

    addresses: Mapping[str, str]
    key: bytes
    route: Route

    @property
    def here(self) -> bool:
        """They do not."""
        return False

    @contextmanager
    def client(
        self,
        label: str,
        policy: Policy,  # noqa: ARG002 - the server has it
        agreement: Agreement,
        schedule: Schedule,
    ) -> Iterator[Client]:
        """A session with the server of that policy."""
        if label not in self.addresses:
            raise BadInput(f"no server is named for policy {label}; give one --peer for each --policy")
        with Client(self.addresses[label], self.key, expected=agreement, route=self.route, schedule=schedule) as client:
            yield client
