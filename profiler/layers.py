"""Small private inferences of random networks, really run between two processes, to correct what operations add up to.

`python -m autoprivacy.profiler.layers KEY_FILE DEPTH GROUP` is the server of sessions that take turns: for each it
prints an address and serves one client, all at once. Networks come from a fixed generator, so that both sides make the
same ones; they hold nobody's weights. Some run over emulated links too: after a wait for a far peer caches are cold.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from autoprivacy.common.errors import ProtocolError
from autoprivacy.common.records import to_json
from autoprivacy.hwprofiles.samples import ChosenSet, LayerShape, MeasuredLayer, MeasuredRun, Seconds, WorkDone
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.integer_network import QuantisedNetwork, Stage
from autoprivacy.profiler.link import PATIENCE_S
from autoprivacy.profiler.machine import on_core
from autoprivacy.profiler.random_networks import INPUT_BITS, chain, convolution, linear
from autoprivacy.profiler.spells import CLIENT_CORE, SERVER_CORE, Slowdown, Spells, busy_s, levelled
from autoprivacy.profiler.statistics import quiet, typical
from autoprivacy.protocol.agreeing import agree, linear_shape
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.he_set import he_set_for, least_batching_prime
from autoprivacy.protocol.plan import LayerPlan, plan_network
from autoprivacy.protocol.policy import LayerPolicy, Policy, Provenance
from autoprivacy.protocol.serving import serve
from autoprivacy.protocol.session import Client, Inference, LayerTimes, Revealed, Server
from autoprivacy.protocol.shaping import EmulatedLink
from autoprivacy.protocol.slot_tiles import default_slot_tile
from autoprivacy.protocol.tiles import default_tile
from autoprivacy.protocol.transport import Route, load_key, new_key

INFERENCES: Final = 24
LINKED_INFERENCES: Final = 12
LEAST_INFERENCES: Final = 6
WARM_UP: Final = 3
NETWORK_S: Final = {"quick": 4.0, "standard": 2.5, "full": 4.0}
"""By depth: a network whose inferences are slow gets fewer of them, so that it takes about so long."""

SEED: Final = 20200611
LEAST_LINK_S: Final = 1e-6
"""A link takes some time, whatever clocks of two processes say."""
HE_SETS: Final = ((1024, 26), (2048, 53))
WIDE_SETS: Final = ((2048, (53,), None), (4096, (53,), None), (4096, (53, 53), None), (8192, (53, 53), None))
SLOT_SET: Final = (8192, (53, 53, 53), 54)
FLOODED: Final = "flood:40"
SHAPES: Final = (
    ((16, 16, 16), 16, 3, 1),
    ((32, 8, 8), 32, 3, 1),
    ((64, 8, 8), 16, 1, 1),
    ((16, 32, 32), 16, 3, 1),
    ((16, 16, 16), 32, 3, 2),
    ((64, 8, 8), 64, 3, 1),
    ((32, 16, 16), 64, 1, 1),
    ((3, 32, 32), 16, 3, 1),
)
"""Convolutions of the zoo: input (C, H, W), output channels, kernel, stride."""

NETWORKS: Final = {"quick": (6, 0, 0), "standard": (8, 2, 3), "full": (16, 8, 8)}
"""By depth: random networks in packing `coefficients`, random ones in `slots`, and shapes of the zoo in both."""

LINKS: Final = (EmulatedLink(100e6, 0.0005), EmulatedLink(40e6, 0.01))
"""Emulated, with round trips of 1 and of 20 ms: between them and beyond lie the links of real deployments."""

LINKED: Final = {"quick": (3, 0, 0), "standard": (3, 1, 1), "full": (6, 2, 4)}
"""By depth: how many networks of each kind run over the links too; shapes in packing `coefficients`."""

TOGETHER: Final = 4
"""So many sessions take turns, between two processes."""

PASSES: Final = {"quick": 1, "standard": 1, "full": 3}
"""By depth: how often each session is held, by fresh processes, with its share of the inferences.

A spell of the machine may slow one part down more than the reference: for 12 s all of the client's own work took 1.2
times as long in four networks that took turns then, the reference did not (Zen 4 virtual machine).
"""

SetWidths: TypeAlias = tuple[int, tuple[int, ...], int | None]
"""n, bits of the data limbs, bits of the special prime (for packing `slots`)."""

Profiled: TypeAlias = tuple[QuantisedNetwork, Agreement]
Pair: TypeAlias = tuple[LayerTimes, LayerTimes]
"""Times of the client and of the server in one layer."""

_Turn: TypeAlias = tuple[int, tuple[Inference, Revealed]]
"""Number of an inference among all that took turns, and what it did."""


@dataclass(frozen=True, slots=True)
class _Session:
    """A network, run over an emulated link or over loopback."""

    network: QuantisedNetwork
    agreement: Agreement
    link: EmulatedLink | None = None

    @property
    def name(self) -> str:
        """What tells it apart from the others."""
        over = "" if self.link is None else f" over {2e3 * self.link.one_way_s:g} ms"
        return self.agreement.network + over

    @property
    def round_trip_s(self) -> float:
        """Of the emulated link; 0 over loopback."""
        return 0.0 if self.link is None else 2 * self.link.one_way_s


def steps(depth: str) -> int:
    """How many sessions are held."""
    random, slots, shapes = NETWORKS[depth]
    return PASSES[depth] * (random + slots + 2 * shapes + len(LINKS) * sum(LINKED[depth]))


def _sessions(depth: str) -> list[_Session]:
    """All networks over loopback, and some over each link."""
    found = [_Session(*each) for each in profiled_networks(depth)]
    kinds = zip(("random", "slots", "shape"), LINKED[depth], strict=True)
    names = {f"{kind}{index}" for kind, count in kinds for index in range(count)}
    linked = [each for each in found if each.agreement.network in names]
    return found + [replace(each, link=link) for link in LINKS for each in linked]


def _groups(depth: str) -> list[list[_Session]]:
    """Those that take turns."""
    found = _sessions(depth)
    return [found[at : at + TOGETHER] for at in range(0, len(found), TOGETHER)]


def profiled_networks(depth: str) -> Iterator[Profiled]:
    """Small networks of random weights and widths: both sides make the same ones. The first are those of any depth."""
    random, slots, shapes = NETWORKS[depth]
    for index in range(random):
        rng = np.random.default_rng((SEED, index))
        stages, bits = _random_stages(index, rng)
        yield _network(f"random{index}", stages, bits, [_narrow(rng) for _ in stages], "uniform")
    for index in range(slots):
        stages, bits = _random_stages(index, np.random.default_rng((SEED, 100 + index)))
        yield _network(f"slots{index}", stages, bits, [SLOT_SET] * len(stages), FLOODED)
    for index, shape in enumerate(SHAPES[:shapes]):
        rng = np.random.default_rng((SEED, 200 + index))
        stages, bits = _shaped_stages(index, shape, rng)
        chosen = WIDE_SETS[index % len(WIDE_SETS)]
        yield _network(f"shape{index}", stages, bits, [chosen] * len(stages), "uniform")
        yield _network(f"shape{index}slots", stages, bits, [SLOT_SET] * len(stages), FLOODED)


def _narrow(rng: np.random.Generator) -> SetWidths:
    n, q_bits = HE_SETS[rng.integers(len(HE_SETS))]
    return n, (q_bits,), None


def _random_stages(index: int, rng: np.random.Generator) -> tuple[tuple[Stage, ...], list[int]]:
    """Two convolutions and a fully connected layer."""
    channels, size = int(rng.integers(1, 5)), int(rng.integers(6, 13))
    bits = [int(rng.integers(4, 9)) for _ in range(3)]
    first = convolution(f"conv{index}a", rng, (channels, size, size), int(rng.integers(4, 13)), 3, bits[0])
    second = convolution(f"conv{index}b", rng, first.output_shape, int(rng.integers(4, 17)), 3, bits[1])
    flat = (int(np.prod(second.output_shape)), 1, 1)
    last = linear(f"linear{index}", rng, flat, int(rng.integers(5, 20)), bits[2])
    return (first, second, last), bits


def _shaped_stages(
    index: int, shape: tuple[tuple[int, int, int], int, int, int], rng: np.random.Generator
) -> tuple[tuple[Stage, ...], list[int]]:
    """A convolution of the zoo, and a fully connected layer after it."""
    entering, out_channels, kernel, stride = shape
    bits = [int(rng.integers(4, 7)) for _ in range(2)]
    first = convolution(f"conv{index}", rng, entering, out_channels, kernel, bits[0], stride=stride)
    flat = (int(np.prod(first.output_shape)), 1, 1)
    return (first, linear(f"linear{index}", rng, flat, 10, bits[1])), bits


def _network(
    name: str,
    stages: tuple[Stage, ...],
    bits: list[int],
    sets: list[SetWidths],
    privacy: str,
) -> Profiled:
    network = chain(name, stages, bits)
    return network, agree(network, _policy(network, bits, sets, privacy))


def _policy(
    network: QuantisedNetwork,
    bits: list[int],
    sets: list[SetWidths],
    privacy: str,
) -> Policy:
    layers = {}
    least = least_modulus_bits(network)
    for layer, weight_bits, (n, limb_bits, special_bits) in zip(network.linear_layers, bits, sets, strict=True):
        slots = special_bits is not None
        t = 1 << least[layer.name]
        he_set = he_set_for(n, limb_bits, least_batching_prime(n, t) if slots else t, special_bits=special_bits)
        shape = linear_shape(layer)
        layers[layer.name] = LayerPolicy(
            packing="slots" if slots else "coefficients",
            n=n,
            limbs=he_set.limbs,
            t=he_set.t,
            tile=default_slot_tile(shape, n) if slots else default_tile(shape, n),
            weight_bits=weight_bits,
            activation_bits=INPUT_BITS,
            special=he_set.special,
        )
    made_by = Provenance("", "random, for profiling", (), "total", None, None)
    return Policy(1, network.name, network.trained_hash, privacy, "he2024", layers, made_by)


def measure_layers(
    depth: str, after_session: Callable[[], None], reference_quiet_s: float
) -> tuple[tuple[MeasuredRun, ...], tuple[MeasuredLayer, ...]]:
    """Run every session between this process and fresh ones; `after_session` is called `steps(depth)` times.

    A few sessions at once take turns in random order, as in a confirmation; when all have been held, all are held
    again. Each party keeps to a core of its own, where there are two. `reference_quiet_s` is what the reference
    operation takes when the machine is quiet; it runs between inferences.

    Raises:
        ProtocolError: if a server process fails; its own message goes to standard error.
    """
    groups = _groups(depth)
    done: dict[str, list[Done]] = defaultdict(list)
    for number, group in [*enumerate(groups)] * PASSES[depth]:
        numbered, during = _run_group(depth, number, group, after_session)
        for session, own in zip(group, numbered, strict=True):
            loopback = session.link is None
            done[session.name] += [
                Done(*run, Slowdown.of(during[turn], reference_quiet_s, loopback=loopback)) for turn, run in own
            ]
    runs: list[MeasuredRun] = []
    layers: list[MeasuredLayer] = []
    for session in (each for group in groups for each in group):
        named, over = (session.name, session.agreement), session.round_trip_s
        planned = plan_network(session.network, session.agreement).layers
        runs.append(replace(measured_run(*named, planned, done[session.name]), round_trip_s=over))
        found = measured_layers(*named, session.network, planned, done[session.name])
        layers += [replace(each, round_trip_s=over) for each in found]
    return tuple(runs), tuple(layers)


def _run_group(
    depth: str, number: int, group: Sequence[_Session], after_session: Callable[[], None]
) -> tuple[list[list[_Turn]], list[tuple[float, float]]]:
    """What each session did, and by turn seconds of the reference operation on both cores."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        key_file = folder / "key"
        new_key(key_file)
        command = [sys.executable, "-m", "autoprivacy.profiler.layers", str(key_file), depth, str(number)]
        server = stack.enter_context(
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        )
        stack.callback(server.kill)
        assert server.stdout is not None  # noqa: S101 - it was asked for
        key = load_key(key_file)
        addresses = [server.stdout.readline().strip() for _ in group]
        clients = [
            stack.enter_context(_client(session, address, key))
            for session, address in zip(group, addresses, strict=True)
        ]
        spells = Spells()
        stack.enter_context(on_core(CLIENT_CORE))  # relays of links, processes by now, stay where they like
        most = [INFERENCES if session.link is None else LINKED_INFERENCES for session in group]
        return _inferences(clients, most, depth, spells, after_session), spells.during()


def _client(session: _Session, address: str, key: bytes) -> Client:
    if not address:
        raise ProtocolError("the profiling server ended early; its message is above")
    route = Route(timeout_s=PATIENCE_S, emulated=session.link)
    return Client(address, key, expected=session.agreement, route=route)


@dataclass(frozen=True, slots=True)
class Done:
    """One inference (schedule `online`), what its server opened, and how slow the machine was."""

    inference: Inference
    revealed: Revealed
    slow: Slowdown

    @property
    def pairs(self) -> list[Pair]:
        """By layer, as it was."""
        return list(zip(self.inference.client, self.revealed.server, strict=True))

    @property
    def levelled(self) -> list[Pair]:
        """By layer, at the machine's quiet speed."""
        return [levelled(*pair, self.slow) for pair in self.pairs]


def _inferences(
    clients: Sequence[Client], most: Sequence[int], depth: str, spells: Spells, after_session: Callable[[], None]
) -> list[list[_Turn]]:
    """By client what it did in one of the passes of a depth, each inference with its number.

    In all passes together it is at `most` so many inferences or, where they are slow, fewer.
    """
    rng = np.random.default_rng(SEED)
    images = [rng.integers(0, 1 << INPUT_BITS, client.agreement.input_shape).astype(float) for client in clients]
    turns: list[int] = []
    for index, (client, image) in enumerate(zip(clients, images, strict=True)):
        started = time.monotonic()
        for _ in range(WARM_UP):
            client.infer(image)
        each_s = (time.monotonic() - started) / WARM_UP
        count = min(most[index], max(LEAST_INFERENCES, int(NETWORK_S[depth] / each_s)))
        turns += [index] * ceil(count / PASSES[depth])
    done: list[list[_Turn]] = [[] for _ in clients]
    spells.look()
    for index in rng.permutation(turns).tolist():
        run = clients[index].infer_revealed(images[index])
        spells.look()
        done[index].append((spells.latest, run))
        if len(done[index]) == turns.count(index):
            after_session()
    return done


def _seconds(values: Sequence[float], at_quiet_speed: Sequence[float], slowdowns: Sequence[float]) -> Seconds:
    """Quiet, and typical at the machine's quiet speed."""
    quiet_s = quiet(values, slowdowns)
    return Seconds(quiet_s, max(quiet_s, typical(at_quiet_speed, slowdowns)))


def measured_run(
    name: str, agreement: Agreement, planned: tuple[LayerPlan, ...], done: Sequence[Done], *, confirmed: bool = False
) -> MeasuredRun:
    """What inferences of one network (schedule `online`) took as a whole, under the name that tells them apart."""
    seen, at_quiet_speed = (
        [component_seconds(pairs, planned) for pairs in by_inference]
        for by_inference in ([each.pairs for each in done], [each.levelled for each in done])
    )
    slowdowns = [each.slow.mean for each in done]
    return MeasuredRun(
        name=name,
        layers=len(agreement.layers),
        work=tuple(WorkDone(**asdict(work)) for layer in planned for work in layer.work),
        components={
            name: _seconds([each[name] for each in seen], [each[name] for each in at_quiet_speed], slowdowns)
            for name in seen[0]
            if name != "overlapped_s"  # follows from the layers
        },
        latency=_seconds(
            [each.inference.latency_s for each in done],
            [sum(client.total_s for client, _ in each.levelled) for each in done],
            slowdowns,
        ),
        confirmed=confirmed,
    )


def measured_layers(
    name: str,
    agreement: Agreement,
    network: QuantisedNetwork,
    planned: tuple[LayerPlan, ...],
    done: Sequence[Done],
    *,
    confirmed: bool = False,
) -> Iterator[MeasuredLayer]:
    """The same by layer: together they take what their run took."""
    seen, at_quiet_speed = [each.pairs for each in done], [each.levelled for each in done]
    slowdowns = [each.slow.mean for each in done]
    for index, (layer, own, each) in enumerate(zip(agreement.layers, network.linear_layers, planned, strict=True)):
        raw, level = (_parts([pairs[index] for pairs in found], each) for found in (seen, at_quiet_speed))
        yield MeasuredLayer(
            run=name,
            name=layer.name,
            shape=LayerShape(**asdict(linear_shape(own))),
            chosen=_chosen(layer.policy, str(agreement.privacy)),
            work=tuple(WorkDone(**asdict(work)) for work in each.work),
            inferences=len(done),
            bytes_up=each.bytes_up,
            bytes_down=each.bytes_down,
            components={part: _seconds(raw[part], level[part], slowdowns) for part in raw if min(raw[part]) > 0},
            confirmed=confirmed,
        )


def _parts(pairs: Sequence[Pair], planned: LayerPlan) -> dict[str, list[float]]:
    """Seconds of one layer by part, in every inference."""
    return {
        "client_he_s": [client.he_s for client, _ in pairs],
        "server_he_s": [server.he_s for _, server in pairs],
        "client_ot_s": [client.ot_s for client, _ in pairs],
        "server_ot_s": [server.ot_s for _, server in pairs],
        "garble_s": [server.gc_s for _, server in pairs],
        "evaluate_s": [client.gc_s for client, _ in pairs],
        "link_s": [max(LEAST_LINK_S, link_seconds(*pair, planned)) for pair in pairs],
        "other_s": [client.other_s for client, _ in pairs],
    }


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


def link_seconds(client: LayerTimes, server: LayerTimes, planned: LayerPlan) -> float:
    """Seconds of one layer in the channel that no work of the server accounts for; 0 where clocks disagree."""
    return max(0.0, client.link_s - busy_s(server) + overlap(client, server, planned))


def overlap(client: LayerTimes, server: LayerTimes, planned: LayerPlan) -> float:
    """Seconds of one layer in which both parties handle circuits at once."""
    return planned.hidden_share * min(client.gc_s + client.spill_s, server.gc_s)


def component_seconds(pairs: Sequence[Pair], planned: Sequence[LayerPlan]) -> dict[str, float]:
    """Seconds of one inference by component, of its planned layers; `overlapped_s` is what two of them do at once."""
    layers = [(*pair, each) for pair, each in zip(pairs, planned, strict=True)]
    clients, servers = [client for client, _ in pairs], [server for _, server in pairs]
    return {
        "client_he_s": sum(each.he_s for each in clients),
        "server_he_s": sum(each.he_s for each in servers),
        "ot_s": sum(each.ot_s for each in (*clients, *servers)),
        "garble_s": sum(each.gc_s for each in servers),
        "evaluate_s": sum(each.gc_s for each in clients),
        "other_s": sum(each.other_s for each in clients),
        "overlapped_s": sum(overlap(*layer) for layer in layers),
        "link_s": max(LEAST_LINK_S, sum(link_seconds(*layer) for layer in layers)),
    }


def main() -> None:
    """Serve every session's client, all at once; their addresses come in order."""
    key = load_key(Path(sys.argv[1]))
    with on_core(SERVER_CORE):
        _serve_all(_groups(sys.argv[2])[int(sys.argv[3])], key)


def _serve_all(sessions: Sequence[_Session], key: bytes) -> None:
    conversations = []
    for session in sessions:
        listening = threading.Event()

        def report(line: str, listening: threading.Event = listening) -> None:
            if line.startswith("listening on "):
                print(line.removeprefix("listening on "), flush=True)  # noqa: T201 - the other process reads it
                listening.set()

        server = Server(session.network, session.agreement, key, reveal_for_testing=True)
        # Until all are made, the first client waits: give it time.
        options = {"once": True, "timeout_s": PATIENCE_S}
        conversations.append(
            threading.Thread(target=serve, args=(server, "127.0.0.1:0", report), kwargs=options, daemon=True)
        )
        conversations[-1].start()
        listening.wait()
    for each in conversations:
        each.join()


if __name__ == "__main__":
    main()
