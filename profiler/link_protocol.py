"""What two processes say to each other to measure the link between them: `serve --profile-only`, `profile --peer`.

After the usual greeting, which proves the shared key and binds what is offered, the client sends one command after the
other; every length is checked before it is used.
"""

import socket
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal

from autoprivacy.common.errors import AutoPrivacyError, BadInput, ProtocolError
from autoprivacy.common.records import parse, record, to_json
from autoprivacy.profiler.linked_circuits import CIRCUITS, MAX_INSTANCES, MAX_TRANSFERS, Garbler
from autoprivacy.protocol.memory import keep_freed_memory
from autoprivacy.protocol.streams import listening
from autoprivacy.protocol.tls import TlsEnd
from autoprivacy.protocol.transport import (
    DEFAULT_TIMEOUT_S,
    Channel,
    Kind,
    greet_as_server,
    parse_address,
)

OFFER: Final = b'{"autoprivacy":"profile-only","version":2}'
MAX_MESSAGE_BYTES: Final = 64 << 20
MAX_TRIAL_BYTES: Final = 1 << 30
MAX_MESSAGES: Final = 1 << 20
MAX_COMMAND_BYTES: Final = 200
MAX_PROFILE_BYTES: Final = 32 << 20


@record
class Command:
    """What comes next, each but the last two ended by an empty frame from the server.

    `up`, `down`, `both` ways at once: `messages` frames of `message_bytes`; `circuits`: a garbled batch of so many
    `instances` of a `circuit`; `transfers`: so many (`instances`) oblivious ones; the peer's `profile`; the `end`.
    """

    do: Literal["up", "down", "both", "circuits", "transfers", "profile", "end"]
    message_bytes: int = 0
    messages: int = 0
    circuit: int = 0
    instances: int = 0

    def check(self) -> None:
        """Refuse what would take too much.

        Raises:
            ProtocolError: with the limits.
        """
        if not (0 <= self.message_bytes <= MAX_MESSAGE_BYTES and 0 <= self.messages <= MAX_MESSAGES) or (
            self.message_bytes * self.messages > MAX_TRIAL_BYTES
        ):
            raise ProtocolError(f"the peer asked for {self.messages} frames of {self.message_bytes} bytes: too much")
        least, most = int(self.do in {"circuits", "transfers"}), MAX_INSTANCES
        if self.do == "transfers":
            most = MAX_TRANSFERS
        if not (0 <= self.circuit < len(CIRCUITS) and least <= self.instances <= most):
            raise ProtocolError(
                f"the peer asked for {self.instances} instances of circuit {self.circuit}: between {least} and {most} "
                f"of the first {len(CIRCUITS)} circuits can be asked for"
            )


def send_command(channel: Channel, command: Command) -> None:
    """The client's side of a command."""
    channel.send(Kind.COMMAND, _encoded(command))


# Writing and reading JSON takes longer than a round trip on loopback: what is repeated is done once.
@lru_cache(maxsize=256)
def _encoded(command: Command) -> bytes:
    return to_json(command, indent=None).encode()


@lru_cache(maxsize=256)
def _decoded(text: bytes) -> Command:
    """A command that was asked for, checked.

    Raises:
        ProtocolError: if it is none, or takes too much.
    """
    try:
        command = parse(Command, text, source="the client's command")
    except BadInput as error:
        raise ProtocolError(str(error)) from None
    command.check()
    return command


def send_frames(channel: Channel, command: Command) -> None:
    """All frames of one direction."""
    content = bytes(command.message_bytes)
    for _ in range(command.messages):
        channel.send(Kind.CIPHERTEXTS, content)


def receive_frames(channel: Channel, command: Command) -> None:
    """All frames of one direction."""
    for _ in range(command.messages):
        channel.receive(Kind.CIPHERTEXTS, command.message_bytes)


def exchange_frames(channel: Channel, command: Command) -> None:
    """Frames both ways at once.

    Raises:
        ProtocolError: if either way fails.
    """
    failed: list[AutoPrivacyError] = []

    def send() -> None:
        try:
            send_frames(channel, command)
        except AutoPrivacyError as error:
            failed.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    receive_frames(channel, command)
    sender.join()
    if failed:
        raise failed[0]


def converse(channel: Channel, key: bytes, profile: bytes) -> None:
    """The server's side, until the client ends it; `profile` is this machine's, or empty.

    Raises:
        ProtocolError: if the client does not follow the protocol.
    """
    greet_as_server(channel, key, OFFER)
    garbler: Garbler | None = None
    while True:
        command = _decoded(channel.receive_at_most(Kind.COMMAND, MAX_COMMAND_BYTES))
        if command.do == "end":
            return
        if command.do == "profile":
            channel.send(Kind.TIMES, profile)
            continue
        if command.do in {"circuits", "transfers"}:
            garbler = garbler or Garbler(channel)
            if command.do == "circuits":
                garbler.batch(command.circuit, command.instances)
            else:
                garbler.transfers(command.instances)
        else:
            {"up": receive_frames, "down": send_frames, "both": exchange_frames}[command.do](channel, command)
        channel.send(Kind.RESPONSES)


def serve_profiles(
    listen: str,
    key: bytes,
    profile: bytes,
    report: Callable[[str], None],
    *,
    once: bool,
    tls: TlsEnd | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> None:
    """Let clients measure the link to `listen` (port 0 takes a free one), one after the other.

    Raises:
        BadInput: if the address cannot be listened on; off loopback it needs `tls`.
        ProtocolError: with `once`, if the one client fails.
    """
    keep_freed_memory()
    host, port = parse_address(listen, secured=tls is not None)
    try:
        listener = listening(host, port)
    except (OSError, UnicodeError) as error:
        raise BadInput(f"cannot listen on {listen} ({error}); choose another port") from None
    with listener:
        shown = f"[{host}]" if ":" in host else host
        report(f"listening on {shown}:{listener.getsockname()[1]}")
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    channel = Channel(connection, timeout_s=timeout_s, tls=tls)
                    try:
                        converse(channel, key, profile)
                    finally:
                        channel.close()
                    report("measured a link")
                except (AutoPrivacyError, OSError) as error:
                    if once:
                        raise
                    report(f"dropped a client: {error}")
            if once:
                return
