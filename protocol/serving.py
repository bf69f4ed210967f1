"""The server's loop: several clients at a time, a thread each; one that fails or stalls ends, and delays, no other.

Beyond the most that are served at once clients wait, connected but not greeted, for as long as their own time-out.

`python -m autoprivacy.protocol.serving NETWORK POLICY_FILE KEY_FILE [DATA_FILE]` serves one client on a free port and
reveals shares: the other process of a confirmation. For anything else there is `autoprivacy serve`.
"""

import queue
import select
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from autoprivacy.common.errors import AutoPrivacyError, BadInput
from autoprivacy.common.records import load
from autoprivacy.networks import zoo
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.networks.user_data import splits_for
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.session import Server
from autoprivacy.protocol.streams import listening
from autoprivacy.protocol.tls import TlsEnd
from autoprivacy.protocol.transport import DEFAULT_TIMEOUT_S, Channel, load_key, parse_address

MOST_CLIENTS: Final = 4
"""Clients that are served at a time, unless told otherwise."""
PATIENCE_S: Final = 3600.0
"""How long a confirmation's two processes wait for each other: sessions of slow policies take turns."""
ENDING_S: Final = 5.0
"""How long the end of the loop waits for each conversation that it cut off."""


def load_agreed(
    network: str, policy_file: Path, data_file: Path | None = None
) -> tuple[Policy, QuantisedNetwork, Agreement]:
    """A policy, its network at the policy's widths, and what both parties agree on.

    `data_file` holds a user's own images, on which a network that is not of the zoo is calibrated.
    """
    trained = zoo.load(network)
    policy = load(Policy, policy_file)
    quantised = Quantiser(trained, splits_for(trained, data_file).calibrate.x).quantise(policy.widths())
    return policy, quantised, agree(quantised, policy)


def serve(
    server: Server,
    listen: str,
    report: Callable[[str], None],
    *,
    once: bool,
    tls: TlsEnd | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    clients: int = MOST_CLIENTS,
) -> None:
    """Answer clients at `listen` (port 0 takes a free one), at most so many `clients` at a time.

    `report` gets one line per event, the address first, always in this thread; what it raises ends the loop.

    Raises:
        BadInput: if the address cannot be listened on; off loopback it needs `tls`.
        ProtocolError: with `once`, if the one client fails.
    """
    host, port = parse_address(listen, secured=tls is not None)
    try:
        listener = listening(host, port)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"cannot listen on {listen} ({why}); choose another port") from None
    with listener, _Conversations(partial(_converse, server, tls=tls, timeout_s=timeout_s), clients) as conversations:
        shown = f"[{host}]" if ":" in host else host
        report(f"listening on {shown}:{listener.getsockname()[1]}")
        if once:
            report(_served(_converse(server, _accepted(listener), tls=tls, timeout_s=timeout_s)))
            return
        while True:
            conversations.attend(listener, report)


def _accepted(listener: socket.socket) -> socket.socket:
    while True:
        with suppress(ConnectionError):  # gone again before it was accepted
            return listener.accept()[0]


class _Conversations:
    """Threads that serve a client each, and what they have to say when they are done."""

    def __init__(self, converse: Callable[[socket.socket], int], most: int) -> None:
        self._converse, self._most = converse, most
        self._running: dict[threading.Thread, socket.socket] = {}
        self._done: queue.SimpleQueue[tuple[threading.Thread, str]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()

    def attend(self, listener: socket.socket, report: Callable[[str], None]) -> None:
        """Wait until a client comes or one is done, and see to it."""
        waiting = [self._woken] if len(self._running) >= self._most else [self._woken, listener]
        ready, _, _ = select.select(waiting, [], [])
        if self._woken in ready:
            self._woken.recv(1)
            thread, line = self._done.get()
            thread.join()
            del self._running[thread]
            report(line)
        if listener in ready:
            self._start(_accepted(listener))

    def _start(self, connection: socket.socket) -> None:
        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
        self._running[thread] = connection
        thread.start()

    def _serve(self, connection: socket.socket) -> None:
        line = "dropped a client: a bug"
        try:
            line = _served(self._converse(connection))
        except (AutoPrivacyError, OSError) as error:
            line = f"dropped a client: {error}"
        finally:
            self._done.put((threading.current_thread(), line))
            self._wake.send(b"\0")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all conversations."""
        for thread, connection in self._running.items():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(ENDING_S)
        self._wake.close()
        self._woken.close()


def _served(inferences: int) -> str:
    return f"served {inferences} inferences"


def _converse(server: Server, connection: socket.socket, *, tls: TlsEnd | None, timeout_s: float) -> int:
    with connection:
        channel = Channel(connection, timeout_s=timeout_s, tls=tls)
        try:
            return server.converse(channel)
        finally:
            channel.close()


def main() -> None:
    """Serve one client that confirms."""
    network, policy_file, key_file, *data_file = sys.argv[1:]

    def report(line: str) -> None:
        print(line, flush=True)  # noqa: T201 - the confirming process reads it

    try:
        _, quantised, agreement = load_agreed(network, Path(policy_file), Path(data_file[0]) if data_file else None)
        server = Server(quantised, agreement, load_key(Path(key_file)), reveal_for_testing=True)
        serve(server, "127.0.0.1:0", report, once=True, timeout_s=PATIENCE_S)
    except AutoPrivacyError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
