"""The server's loop: one client at a time on loopback; a client that fails does not end it."""

import socket
from collections.abc import Callable

from autoprivacy.common.errors import AutoPrivacyError, BadInput
from autoprivacy.protocol.session import Server
from autoprivacy.protocol.transport import Channel, parse_address


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
