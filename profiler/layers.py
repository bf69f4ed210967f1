"""Small private inferences of random networks, really run between two processes, to correct what operations add up to.

`python -m autoprivacy.profiler.layers KEY_FILE` is the server: for each random network it prints its address and serves
one client. Networks come from a fixed generator, so that both sides make the same ones; they hold nobody's weights.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import ProtocolError
from autoprivacy.common.records import to_json
from autoprivacy.hwprofiles.samples import ChosenSet, LayerShape, MeasuredLayer, MeasuredRun, Seconds, WorkDone
from autoprivacy.networks.accumulators import least_modulus_bits, linear_bounds
from autoprivacy.networks.integer_network import (
    LayerWidths,
    QuantisedNetwork,
    Requantise,
    Stage,
    Widths,
    chain_operations,
)
from autoprivacy.profiler.harness import REFERENCE_BLOCK_S, calls_per_block, reference_operation, time_block
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


def measure_layers(
    after_network: Callable[[], None], reference_quiet_s: float
) -> tuple[tuple[MeasuredRun, ...], tuple[MeasuredLayer, ...]]:
    """Run every random network between this process and a fresh one; `after_network` is called NETWORKS times.

    `reference_quiet_s` is what the reference operation takes when the machine is quiet; it runs beside every inference.

    Raises:
        ProtocolError: if the server process fails; its own message goes to standard error.
    """
    rng = np.random.default_rng(SEED)
    runs: list[MeasuredRun] = []
    layers: list[MeasuredLayer] = []
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
                        done = _inferences(client, image, reference_quiet_s)
                    run = _measured(agreement, done)
                    runs.append(run)
                    layers += _measured_layers(agreement, network, done)
                    after_network()
            finally:
                server.kill()
    return tuple(runs), tuple(layers)


Done: TypeAlias = tuple[Inference, Revealed, float]
"""One inference, and the reference operation's slow-down beside it."""


def _inferences(client: Client, image: NDArray[np.float64], reference_quiet_s: float) -> list[Done]:
    for _ in range(WARM_UP):
        client.infer(image)
    reference = reference_operation()
    calls = calls_per_block(reference, REFERENCE_BLOCK_S)
    before, done = time_block(reference, calls), list[Done]()
    for _ in range(INFERENCES):
        run = client.infer_revealed(image)
        after = time_block(reference, calls)
        done.append((*run, (before + after) / 2 / reference_quiet_s))
        before = after
    return done


def _seconds(values: Sequence[float], slowdowns: Sequence[float]) -> Seconds:
    """Quiet, and typical at the machine's quiet speed."""
    levelled = [value / slowdown for value, slowdown in zip(values, slowdowns, strict=True)]
    return Seconds(quiet(values), max(quiet(values), typical(levelled)))


def _measured(agreement: Agreement, done: list[Done]) -> MeasuredRun:
    slowdowns = [slowdown for _, _, slowdown in done]
    components = [component_seconds(run, revealed) for run, revealed, _ in done]
    return MeasuredRun(
        name=agreement.network,
        layers=len(agreement.layers),
        work=tuple(WorkDone(**asdict(work)) for layer in plan(agreement).layers for work in layer.work),
        components={name: _seconds([each[name] for each in components], slowdowns) for name in components[0]},
        latency=_seconds([run.latency_s for run, _, _ in done], slowdowns),
    )


def _measured_layers(agreement: Agreement, network: QuantisedNetwork, done: list[Done]) -> Iterator[MeasuredLayer]:
    slowdowns = [slowdown for _, _, slowdown in done]
    planned = plan(agreement).layers
    for index, (layer, own, each) in enumerate(zip(agreement.layers, network.linear_layers, planned, strict=True)):
        pairs = [(run.client[index], revealed.server[index]) for run, revealed, _ in done]
        parts = {
            "client_he_s": [client.he_s for client, _ in pairs],
            "server_he_s": [server.he_s for _, server in pairs],
            "client_ot_s": [client.ot_s for client, _ in pairs],
            "server_ot_s": [server.ot_s for _, server in pairs],
            "garble_s": [server.gc_s for _, server in pairs],
            "evaluate_s": [client.gc_s for client, _ in pairs],
        }
        yield MeasuredLayer(
            run=agreement.network,
            name=layer.name,
            shape=LayerShape(**asdict(linear_shape(own))),
            chosen=_chosen(layer.policy, str(agreement.privacy)),
            work=tuple(WorkDone(**asdict(work)) for work in each.work),
            inferences=len(done),
            bytes_up=each.bytes_up,
            bytes_down=each.bytes_down,
            components={name: _seconds(values, slowdowns) for name, values in parts.items() if min(values) > 0},
        )


def _chosen(chosen: LayerPolicy, privacy: str) -> ChosenSet:
    return ChosenSet(
        packing=chosen.packing,
        n=chosen.n,
        limbs=chosen.limbs,
        special=chosen.special,
        t=chosen.t,
        weight_bits=chosen.weight_bits,
        activation_bits=chosen.activation_bits,
        response_limbs=chosen.response.limbs,
        dropped_c0=chosen.response.dropped_c0,
        dropped_c1=chosen.response.dropped_c1,
        circuit_privacy=privacy,
        tile=to_json(chosen.tile, indent=None),
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
