"""Small private inferences of random networks, really run between two processes, to correct what operations add up to.

`python -m autoprivacy.profiler.layers KEY_FILE` is the server: for each random network it prints its address and serves
one client. Networks come from a fixed generator, so that both sides make the same ones; they hold nobody's weights.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from autoprivacy.common.errors import ProtocolError
from autoprivacy.hwprofiles.machine_profile import MeasuredRun, Seconds, WorkDone
from autoprivacy.networks.accumulators import least_modulus_bits, linear_bounds
from autoprivacy.networks.integer_network import (
    LayerWidths,
    QuantisedNetwork,
    Requantise,
    Stage,
    Widths,
    chain_operations,
)
from autoprivacy.profiler.statistics import quiet, typical
from autoprivacy.protocol.agreeing import agree, linear_shape
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.he_set import ntt_prime
from autoprivacy.protocol.plan import plan
from autoprivacy.protocol.policy import LayerPolicy, Policy, Provenance
from autoprivacy.protocol.serving import serve
from autoprivacy.protocol.session import Client, Inference, Revealed, Server
from autoprivacy.protocol.tiles import default_tile
from autoprivacy.protocol.transport import load_key, new_key

NETWORKS: Final = 8
INFERENCES: Final = 24
WARM_UP: Final = 3
SEED: Final = 20200611
INPUT_BITS: Final = 5
HE_SETS: Final = ((1024, 26), (2048, 53))


def random_networks() -> list[tuple[QuantisedNetwork, Agreement]]:
    """Two convolutions and a fully connected layer each, of random shapes, widths and HE sets."""
    rng = np.random.default_rng(SEED)
    return [_random_network(index, rng) for index in range(NETWORKS)]


def _random_network(index: int, rng: np.random.Generator) -> tuple[QuantisedNetwork, Agreement]:
    channels, size = int(rng.integers(1, 5)), int(rng.integers(6, 13))
    bits = [int(rng.integers(4, 9)) for _ in range(3)]
    first = _stage(f"conv{index}a", rng, (channels, size, size), int(rng.integers(4, 13)), 3, bits[0], last=False)
    second = _stage(f"conv{index}b", rng, first.output_shape, int(rng.integers(4, 17)), 3, bits[1], last=False)
    flat = (int(np.prod(second.output_shape)), 1, 1)
    stages = (first, second, _stage(f"linear{index}", rng, flat, int(rng.integers(5, 20)), 1, bits[2], last=True))
    network = QuantisedNetwork(
        name=f"random{index}",
        trained_hash=f"random{index}",
        widths=Widths(tuple(LayerWidths(s.name, b, INPUT_BITS) for s, b in zip(stages, bits, strict=True))),
        operations=chain_operations(stages),
        input_shape=first.input_shape,
        input_range=first.input_range,
        input_step=1.0,
        logit_scale=1.0,
    )
    return network, agree(network, _policy(network, bits, rng))


def _stage(
    name: str,
    rng: np.random.Generator,
    input_shape: tuple[int, int, int],
    out_channels: int,
    kernel: int,
    bits: int,
    *,
    last: bool,
) -> Stage:
    stride, padding = (1, 0) if last else (int(rng.integers(1, 3)), 1)
    out = tuple((side + 2 * padding - kernel) // stride + 1 for side in input_shape[1:])
    weight = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (out_channels, input_shape[0], kernel, kernel))
    stage = Stage(
        name=name,
        kind="linear" if last else "conv2d",
        weight=weight,
        bias=np.zeros(out_channels, np.int64),
        stride=(stride, stride),
        padding=(padding, padding, padding, padding),
        groups=1,
        input_shape=input_shape,
        output_shape=(out_channels, out[0], out[1]),
        input_bits=INPUT_BITS,
        requantise=None,
    )
    if last:
        return stage
    # Channels drop different numbers of bits, so that a layer has several circuits, as trained ones do.
    most = int(np.abs(linear_bounds(stage)).max()).bit_length() - INPUT_BITS
    shifts = np.maximum(1, most - rng.integers(1, 4, out_channels))
    return replace(stage, requantise=Requantise(shifts, bits=INPUT_BITS, relu=True))


def _policy(network: QuantisedNetwork, bits: list[int], rng: np.random.Generator) -> Policy:
    layers = {}
    least = least_modulus_bits(network)
    for layer, weight_bits in zip(network.linear_layers, bits, strict=True):
        n, q_bits = HE_SETS[rng.integers(len(HE_SETS))]
        layers[layer.name] = LayerPolicy(
            packing="coefficients",
            n=n,
            limbs=(ntt_prime(n, q_bits),),
            t=1 << least[layer.name],
            tile=default_tile(linear_shape(layer), n),
            weight_bits=weight_bits,
            activation_bits=INPUT_BITS,
        )
    made_by = Provenance("", "random, for profiling", (), "total", None, None)
    return Policy(1, network.name, network.trained_hash, "uniform", "he2024", layers, made_by)


def measure_layers(after_network: Callable[[], None]) -> tuple[MeasuredRun, ...]:
    """Run every random network between this process and a fresh one; `after_network` is called NETWORKS times.

    Raises:
        ProtocolError: if the server process fails; its own message goes to standard error.
    """
    rng = np.random.default_rng(SEED)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        key_file = Path(folder) / "key"
        new_key(key_file)
        command = [sys.executable, "-m", "autoprivacy.profiler.layers", str(key_file)]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as server:
            try:
                assert server.stdout is not None  # noqa: S101 - it was asked for
                for network, agreement in random_networks():
                    address = server.stdout.readline().strip()
                    if not address:
                        raise ProtocolError("the profiling server ended early; its message is above")
                    with Client(address, load_key(key_file), expected=agreement) as client:
                        image = rng.integers(0, 1 << INPUT_BITS, network.input_shape).astype(float)
                        for _ in range(WARM_UP):
                            client.infer(image)
                        done = [client.infer_revealed(image) for _ in range(INFERENCES)]
                    runs.append(_measured(agreement, done))
                    after_network()
            finally:
                server.kill()
    return tuple(runs)


def _measured(agreement: Agreement, done: list[tuple[Inference, Revealed]]) -> MeasuredRun:
    seconds: dict[str, list[float]] = {}
    for run, revealed in done:
        for name, value in component_seconds(run, revealed).items():
            seconds.setdefault(name, []).append(value)
    return MeasuredRun(
        name=agreement.network,
        layers=len(agreement.layers),
        work=tuple(
            WorkDone(work.operation, work.n, work.q_bits, work.calls, work.items, work.values)
            for layer in plan(agreement).layers
            for work in layer.work
        ),
        components={name: Seconds(quiet(values), typical(values)) for name, values in seconds.items()},
        latency=Seconds(*(statistic([run.latency_s for run, _ in done]) for statistic in (quiet, typical))),
    )


def component_seconds(run: Inference, revealed: Revealed) -> dict[str, float]:
    """Seconds of one inference by component; the link is what neither party's clock accounts for."""
    found = {
        "client_he_s": sum(layer.he_s for layer in run.client),
        "server_he_s": sum(layer.he_s for layer in revealed.server),
        "ot_s": sum(layer.ot_s for layer in (*run.client, *revealed.server)),
        "garble_s": sum(layer.gc_s for layer in revealed.server),
        "evaluate_s": sum(layer.gc_s for layer in run.client),
    }
    return {**found, "link_s": run.latency_s - sum(found.values())}


def main() -> None:
    """Serve every random network to one client, one after the other."""
    key = load_key(Path(sys.argv[1]))

    def report(line: str) -> None:
        if line.startswith("listening on "):
            print(line.removeprefix("listening on "), flush=True)  # noqa: T201 - the other process reads it

    for network, agreement in random_networks():
        serve(Server(network, agreement, key, reveal_for_testing=True), "127.0.0.1:0", report, once=True)


if __name__ == "__main__":
    main()
