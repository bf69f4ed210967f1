"""The loopback link between two real processes, through the runtime's own frames.

`python -m autoprivacy.profiler.loopback` is the peer: it prints its port, then answers every frame with an empty one.
"""

import atexit
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache

from autoprivacy.common.errors import ProtocolError
from autoprivacy.profiler.link import PATIENCE_S, LinkMeter, loopback_meter
from autoprivacy.protocol.memory import keep_freed_memory
from autoprivacy.protocol.streams import listening
from autoprivacy.protocol.transport import Channel, Kind, connect

MAX_FRAME_BYTES = 1 << 26


@cache
def connected() -> Channel:
    """A channel to one fresh peer process, which ends with this one."""
    peer = subprocess.Popen(
        [sys.executable, "-m", "autoprivacy.profiler.loopback"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(peer.kill)
    assert peer.stdout is not None  # noqa: S101 - it was asked for
    return connect(f"127.0.0.1:{int(peer.stdout.readline())}")


@cache
def meter() -> LinkMeter:
    """A connection to one fresh process that answers commands of a link's measurement, which ends with this one."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(loopback_meter())


def connected_sender(content_bytes: int) -> Callable[[], object]:
    """A call that sends one frame to the peer process and waits for its empty answer."""
    channel, content = connected(), bytes(content_bytes)

    def call() -> None:
        channel.send(Kind.CIPHERTEXTS, content)
        channel.receive(Kind.RESPONSES, 0)

    return call


def main() -> None:
    """Answer frames until the other side goes away."""
    keep_freed_memory()  # as a party does
    with listening("127.0.0.1", 0) as listener:
        print(listener.getsockname()[1], flush=True)  # noqa: T201 - the other process reads it
        connection, _ = listener.accept()
    channel = Channel(connection, timeout_s=PATIENCE_S)
    try:
        while True:
            channel.receive_at_most(Kind.CIPHERTEXTS, MAX_FRAME_BYTES)
            channel.send(Kind.RESPONSES)
    except ProtocolError:
        channel.close()


if __name__ == "__main__":
    main()
