"""The server's loop: one client at a time; a client that fails, or does nothing for the time-out, does not end it.

Others wait meanwhile, connected but not greeted, for as long as their own time-out.

`python -m autoprivacy.protocol.serving NETWORK POLICY_FILE KEY_FILE` serves one client on a free port and reveals
shares: the other process of a confirmation. For anything else there is `autoprivacy serve`.
"""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

from autoprivacy.common.errors import AutoPrivacyError, BadInput
from autoprivacy.common.records import load
from autoprivacy.networks import data, zoo
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.session import Server
from autoprivacy.protocol.tls import TlsEnd
from autoprivacy.protocol.transport import DEFAULT_TIMEOUT_S, Channel, load_key, parse_address


def load_agreed(network: str, policy_file: Path) -> tuple[Policy, QuantisedNetwork, Agreement]:
    """A policy, its network at the policy's widths, and what both parties agree on."""
    trained = zoo.load(network)
    policy = load(Policy, policy_file)
    quantised = Quantiser(trained, data.splits(trained.network.name).calibrate.x).quantise(policy.widths())
    return policy, quantised, agree(quantised, policy)


def serve(
    server: Server,
    listen: str,
    report: Callable[[str], None],
    *,
    once: bool,
    tls: TlsEnd | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> None:
    """Answer clients at `listen` (port 0 takes a free one); `report` gets one line per event, the address first.

    Raises:
        BadInput: if the address cannot be listened on; off loopback it needs `tls`.
        ProtocolError: with `once`, if the one client fails.
    """
    host, port = parse_address(listen, secured=tls is not None)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"cannot listen on {listen} ({why}); choose another port") from None
    with listener:
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        report(f"listening on {shown}:{listener.getsockname()[1]}")
        while True:
            try:
                connection, _ = listener.accept()
            except ConnectionError:  # gone again before it was accepted
                continue
            try:
                report(f"served {_converse(server, connection, timeout_s, tls)} inferences")
            except (AutoPrivacyError, OSError) as error:
                if once:
                    raise
                report(f"dropped a client: {error}")
            if once:
                return


def _converse(server: Server, connection: socket.socket, timeout_s: float, tls: TlsEnd | None) -> int:
    with connection:
        channel = Channel(connection, timeout_s=timeout_s, tls=tls)
        try:
            return server.converse(channel)
        finally:
            channel.close()


def main() -> None:
    """Serve one client that confirms."""
    network, policy_file, key_file = sys.argv[1:]

    def report(line: str) -> None:
        print(line, flush=True)  # noqa: T201 - the confirming process reads it

    try:
        _, quantised, agreement = load_agreed(network, Path(policy_file))
        server = Server(quantised, agreement, load_key(Path(key_file)), reveal_for_testing=True)
        serve(server, "127.0.0.1:0", report, once=True)
    except AutoPrivacyError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
