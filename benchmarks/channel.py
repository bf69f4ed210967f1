"""The channel: how much TLS costs on loopback, and how exactly a link is emulated.

Two processes, frames of 4 MiB one way, plain and in TLS 1.3 in random order, round after round; and a frame of one byte
there and back. An emulated link is asked for round trips of one byte, and for the time of 4 MB, over rates and delays.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from autoprivacy.common.errors import ProtocolError
from autoprivacy.profiler.statistics import median_interval
from autoprivacy.protocol.serving import serve
from autoprivacy.protocol.shaping import EmulatedLink
from autoprivacy.protocol.tls import client_end, new_certificate, server_end
from autoprivacy.protocol.transport import Channel, Kind, Route, connect
from benchmarks.document import Document, Target, parse_options

FRAME: Final = bytes(4 << 20)
MOST_BYTES: Final = 1 << 26
ROUNDS, QUICK_ROUNDS = 60, 5
PINGS: Final = 20
TARGETS: Final = {"worst_rtt_error": Target("at most", 0.05), "worst_rate_error": Target("at most", 0.05)}
LINKS: Final = ((10, 100), (100, 40), (1000, 10), (400, 20))
"""Mbit/s each way, milliseconds of round trip."""


class Echo:
    """Stands in for a server: answers every frame with an empty one."""

    def converse(self, channel: Channel) -> int:
        """Answer until the client goes."""
        answered = 0
        try:
            while True:
                channel.receive_at_most(Kind.CIPHERTEXTS, MOST_BYTES)
                channel.send(Kind.RESPONSES)
                answered += 1
        except ProtocolError:
            return answered


def _serve(tls: tuple[Path, Path] | None, pipe: Connection) -> None:
    end = None if tls is None else server_end(*tls)
    serve(Echo(), "127.0.0.1:0", pipe.send, once=False, tls=end)  # type: ignore[arg-type]


@contextmanager
def echoing(tls: tuple[Path, Path] | None) -> Iterator[str]:
    """The address of a process that echoes to one client after the other."""
    near, far = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(tls, far), daemon=True)
    process.start()
    try:
        yield near.recv().removeprefix("listening on ")
    finally:
        process.kill()
        process.join()


def _seconds(one: Channel, content: bytes) -> float:
    start = time.perf_counter()
    one.send(Kind.CIPHERTEXTS, content)
    one.receive(Kind.RESPONSES, 0)
    return time.perf_counter() - start


def _cost_of_tls(files: tuple[Path, Path], rounds: int, document: Document) -> None:
    rng = np.random.default_rng(0)
    samples: dict[str, list[float]] = {f"{way} {what}": [] for way in ("plain", "tls") for what in ("bulk", "ping")}
    with echoing(None) as near, echoing(files) as far:
        plain, secured = connect(near), connect(far, Route(client_end(files[0])))
        calls: list[tuple[str, Callable[[], float]]] = [
            (f"{way} {what}", lambda one=one, content=content: _seconds(one, content))  # type: ignore[misc]
            for way, one in (("plain", plain), ("tls", secured))
            for what, content in (("bulk", FRAME), ("ping", b"\0"))
        ]
        for _ in range(rounds + 2):
            for place in rng.permutation(len(calls)):
                name, call = calls[place]
                samples[name].append(call())
    samples = {name: taken[2:] for name, taken in samples.items()}
    for way in ("plain", "tls"):
        document.figures[f"{way}_mb_per_s"] = len(FRAME) / 1e6 / float(np.median(samples[f"{way} bulk"]))
        document.figures[f"{way}_ping_s"] = float(np.median(samples[f"{way} ping"]))
    ratios = np.divide(samples["tls bulk"], samples["plain bulk"])
    document.figures["tls_over_plain_time"] = float(np.median(ratios))
    document.context["tls_over_plain_time"] = median_interval(ratios.tolist())
    document.context["samples_s"] = samples


def _exactness(address: str, pings: int, document: Document) -> None:
    found: dict[str, dict[str, Any]] = {}
    for rate_mbit, rtt_ms in LINKS:
        link = EmulatedLink(rate_bytes_per_s=125_000 * rate_mbit, one_way_s=rtt_ms / 2000)
        content = bytes(min(4_000_000, round(link.rate_bytes_per_s * 0.5)))
        one = connect(address, Route(emulated=link))
        _seconds(one, b"\0")
        rtt = [_seconds(one, b"\0") for _ in range(pings)]
        bulk = [_seconds(one, content) - 2 * link.one_way_s for _ in range(max(3, pings // 5))]
        one.close()
        found[f"{rate_mbit} Mbit/s, {rtt_ms} ms"] = {
            "rtt_error": float(np.median(rtt)) * 1000 / rtt_ms - 1,
            "rate_error": float(np.median(bulk)) * link.rate_bytes_per_s / len(content) - 1,
            "rtt_s": rtt,
            "bulk_s": bulk,
        }
    for error in ("rtt_error", "rate_error"):
        document.figures[f"worst_{error}"] = max(abs(each[error]) for each in found.values())
    document.context["links"] = found


def main() -> None:
    """Measure, and write what came out."""
    options = parse_options(__doc__ or "")
    document = Document("channel", options.quick, TARGETS)
    document.conditions = {"interleaved": "plain and TLS", "frame_bytes": len(FRAME)}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "certificate", Path(folder) / "private"
        new_certificate(*files)
        _cost_of_tls(files, QUICK_ROUNDS if options.quick else ROUNDS, document)
    with echoing(None) as address:
        _exactness(address, 5 if options.quick else PINGS, document)
    document.finish(options)


if __name__ == "__main__":
    main()
