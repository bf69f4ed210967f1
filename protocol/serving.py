"""The server's loop: one client at a time on loopback; a client that fails does not end it.

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
from autoprivacy.protocol.transport import Channel, load_key, parse_address


def load_agreed(network: str, policy_file: Path) -> tuple[Policy, QuantisedNetwork, Agreement]:
    """A policy, its network at the policy's widths, and what both parties agree on."""
    trained = zoo.load(network)
    policy = load(Policy, policy_file)
    quantised = Quantiser(trained, data.splits(trained.network.name).calibrate.x).quantise(policy.widths())
    return policy, quantised, agree(quantised, policy)


def serve(server: Server, listen: str, report: Callable[[str], None], *, once: bool) -> None:
    """Answer clients at `listen` (port 0 takes a free one); `report` gets one line per event, the address first.

    Raises:
        BadInput: if the address cannot be listened on.
        ProtocolError: with `once`, if the one client fails.
    """
    host, port = parse_address(listen)
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise BadInput(f"cannot listen on {listen} ({error.strerror}); choose another port") from None
    with listener:
        report(f"listening on {host}:{listener.getsockname()[1]}")
        while True:
            connection, _ = listener.accept()
            with connection:
                try:
                    report(f"served {server.converse(Channel(connection))} inferences")
                except (AutoPrivacyError, OSError) as error:
                    if once:
                        raise
                    report(f"dropped a client: {error}")
            if once:
                return


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
