"""What several tests of this folder need: a deployed network, a server in a thread, both ends of a connection."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from autoprivacy.networks import data, load, reference
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Splits
from autoprivacy.networks.integer_network import LayerWidths, QuantisedNetwork, Widths
from autoprivacy.networks.quantisation import Quantiser, uniform_widths
from autoprivacy.protocol.agreeing import agree, linear_shape
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.he_set import ntt_prime
from autoprivacy.protocol.packing import Tile
from autoprivacy.protocol.policy import LayerPolicy, Policy, Provenance
from autoprivacy.protocol.serving import serve
from autoprivacy.protocol.session import Server
from autoprivacy.protocol.tiles import default_tile
from autoprivacy.protocol.tls import TlsEnd, client_end, new_certificate, server_end
from autoprivacy.protocol.transport import DEFAULT_TIMEOUT_S, KEY_BYTES, Channel

ACTIVATION_BITS = 5


@dataclass(frozen=True, slots=True)
class Deployed:
    """digits-cnn at some widths, a policy for it, and what both parties agree on."""

    network: QuantisedNetwork
    policy: Policy
    agreement: Agreement

    def least_bits(self, name: str) -> int:
        return least_modulus_bits(self.network)[name]

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.int64]:
        """The exact integer reference's."""
        return reference.logits(self.network, self.network.quantise_input(images))


Deploy = Callable[..., Deployed]


@pytest.fixture(scope="session")
def trained() -> TrainedNetwork:
    return load("digits-cnn")


@pytest.fixture(scope="session")
def digits() -> Splits:
    return data.splits("digits-cnn")


@pytest.fixture(scope="session")
def deploy(trained: TrainedNetwork, digits: Splits) -> Deploy:
    """`deploy(sets, weight_bits, tiles)`: by layer a pair (n, bits of q), and default tiles unless others are given."""

    quantiser = Quantiser(trained, digits.calibrate.x)

    @cache
    def deployed(
        sets: tuple[tuple[int, int], ...], weight_bits: int, tiles: tuple[tuple[int, int, int, int], ...] | None = None
    ) -> Deployed:
        names = [widths.layer for widths in uniform_widths(trained.network, 8).layers]
        widths = Widths(tuple(LayerWidths(name, weight_bits, ACTIVATION_BITS) for name in names))
        network = quantiser.quantise(widths)
        least = least_modulus_bits(network)
        layers = {}
        for index, (layer, (n, q_bits)) in enumerate(zip(network.linear_layers, sets, strict=True)):
            layers[layer.name] = LayerPolicy(
                packing="coefficients",
                n=n,
                limbs=(ntt_prime(n, q_bits),),
                t=1 << least[layer.name],
                tile=default_tile(linear_shape(layer), n) if tiles is None else Tile(*tiles[index]),
                weight_bits=weight_bits,
                activation_bits=ACTIVATION_BITS,
            )
        policy = Policy(
            schema_version=1,
            network=network.name,
            network_hash=network.trained_hash,
            circuit_privacy="uniform",
            security="he2024",
            layers=layers,
            made_by=Provenance("0", "by hand", ("none",), "total", 0.5, None),
        )
        return Deployed(network, policy, agree(network, policy))

    return deployed


@pytest.fixture(scope="session")
def exact(deploy: Deploy) -> Deployed:
    """One large set for all layers; an inference has a wrong accumulator less often than once in 10^5."""
    return deploy(((2048, 53),) * 3, 8)


@pytest.fixture(scope="session")
def tolerant(deploy: Deploy) -> Deployed:
    """The small set with 4-bit weights: decryption errors happen in nearly every inference."""
    return deploy(((1024, 26),) * 3, 4)


@pytest.fixture
def key() -> bytes:
    return os.urandom(KEY_BYTES)


class _Enough(Exception):  # noqa: N818 - it ends a server's loop, it is no error
    """Raised by a report to end a server that would go on for ever."""


@dataclass
class RunningServer:
    """A server's loop in a thread. It ends after one client, or else once a client got an inference."""

    server: Server
    once: bool
    tls: TlsEnd | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    listen: str = "127.0.0.1:0"
    lines: list[str] = field(default_factory=list)
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self._listening = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._listening.wait(10)

    def _run(self) -> None:
        try:
            serve(self.server, self.listen, self._report, once=self.once, tls=self.tls, timeout_s=self.timeout_s)
        except _Enough:
            pass
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failure = error
        finally:
            self._listening.set()

    def _report(self, line: str) -> None:
        self.lines.append(line)
        self._listening.set()
        served = line.startswith("served") and line != "served 0 inferences"
        if (served and not self.once) or self._stopping.is_set():
            raise _Enough

    @property
    def address(self) -> str:
        return self.lines[0].removeprefix("listening on ")

    def connect(self, timeout_s: float = 10) -> socket.socket:
        host, port = self.address.split(":")
        return socket.create_connection((host, int(port)), timeout_s)

    def join(self) -> None:
        """Wait for the loop's own end."""
        self._thread.join(10)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        self._stopping.set()
        while self._thread.is_alive():
            with suppress(OSError):
                self.connect().close()
            self._thread.join(0.05)


Serving = Callable[..., RunningServer]


@pytest.fixture
def serving(key: bytes) -> Iterator[Serving]:
    """`serving(deployed, reveal=False, once=True, tls=None, timeout_s=30)` starts a server in a thread, under `key`."""
    running: list[RunningServer] = []

    def start(
        deployed: Deployed,
        *,
        reveal: bool = False,
        once: bool = True,
        tls: TlsEnd | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        listen: str = "127.0.0.1:0",
    ) -> RunningServer:
        server = Server(deployed.network, deployed.agreement, key, reveal_for_testing=reveal)
        running.append(RunningServer(server, once, tls, timeout_s, listen))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of one TCP connection on loopback."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), 10) as near,
        listener.accept()[0] as far,
    ):
        yield near, far


@pytest.fixture
def channels(sockets: tuple[socket.socket, socket.socket]) -> tuple[Channel, Channel]:
    """Both ends of one connection, which give up after 0.2 s."""
    return Channel(sockets[0], 0.2), Channel(sockets[1], 0.2)


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[TlsEnd, TlsEnd]:
    """Both ends of TLS under one certificate, the client's first."""
    folder = tmp_path_factory.mktemp("certificate")
    new_certificate(folder / "certificate", folder / "key")
    return client_end(folder / "certificate"), server_end(folder / "certificate", folder / "key")
