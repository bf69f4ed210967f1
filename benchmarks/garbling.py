"""How fast circuits are garbled and evaluated, and labels transferred, beside raw AES in the same run.

The circuit is the whole ReLU layer of a 32-bit prime with all bits kept: add shares, ReLU, share afresh. One core,
strict (re-keyed) hash, the best path of the machine; other paths and the other hash are context. Every rate is that of
the quickest of its blocks, as the machine has slow spells; all samples are kept. Over loopback two processes run whole
batches: transfers, garbling, tables, evaluation.
"""

import os
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from autoprivacy.profiler.harness import calls_per_block, reference_operation, time_block
from autoprivacy.protocol import _native, garbling
from autoprivacy.protocol.circuits import Nonlinear, to_bits
from autoprivacy.protocol.garbling import Evaluation, Hash
from autoprivacy.protocol.oblivious_transfer import CorrelatedOtReceiver, CorrelatedOtSender, extension_bytes
from autoprivacy.protocol.transport import Channel, Kind, connect
from benchmarks.document import Document, Target, parse_options

TARGETS: Final = {
    "garble_and_per_s": Target("at least", 120e6),
    "evaluate_and_per_s": Target("at least", 150e6),
    "loopback_and_per_s": Target("at least", 50e6),
    "ot_per_s": Target("at least", 40e6),
}
PRIME: Final = 4294967291
RELU: Final = Nonlinear(PRIME, 0, 31, (PRIME,))
INSTANCES: Final = 1024
TRANSFERS: Final = 1 << 16
AES_BLOCKS: Final = 1 << 14
LOOPBACK_INSTANCES: Final = 1 << 13
LOOPBACK_BATCHES: Final = 8
Call = Callable[[], object]


def _workloads(delta: bytes) -> dict[str, tuple[Call, int]]:
    """Every call that is timed, and how many AND gates, transfers or blocks it does."""
    circuit, rng = RELU.circuit, np.random.default_rng(1)
    shares = rng.integers(0, PRIME, (3, 1, INSTANCES), dtype=np.uint64)
    server_bits, client_bits = RELU.server_bits(shares[0], shares[1]), RELU.client_bits(shares[2])
    zero = rng.integers(0, 256, (*client_bits.shape, 16), dtype=np.uint8)
    active = zero ^ client_bits[:, :, None] * np.frombuffer(delta, np.uint8)
    calls: dict[str, tuple[Call, int]] = {}
    for path in _native.aes_paths():
        calls[f"aes/{path}"] = partial(_native.encrypt_counters, AES_BLOCKS, path), AES_BLOCKS
        for hash_ in Hash:
            start = garbling.new_start()

            def garble(path: str = path, hash_: Hash = hash_, start: bytes = start) -> list[int]:
                parts = garbling.garble_pieces(circuit, zero, server_bits, delta, start, hash_=hash_, path=path)
                return [len(part) for part in parts]

            parts = garbling.garble_pieces(circuit, zero, server_bits, delta, start, hash_=hash_, path=path)
            message = b"".join(bytes(part) for part in parts)

            def evaluate(path: str = path, hash_: Hash = hash_, message: bytes = message) -> object:
                return garbling.evaluate(circuit, active, message, hash_=hash_, path=path)

            gates = circuit.and_gates * INSTANCES
            calls[f"garble/{path}/{hash_}"] = garble, gates
            calls[f"evaluate/{path}/{hash_}"] = evaluate, gates
    choices = np.random.default_rng(2).integers(0, 2, TRANSFERS, dtype=np.uint8)
    sender, receiver = _transfer_pair(delta)
    message_view, _ = receiver.extend(choices)
    calls["ot_receive"] = partial(receiver.extend, choices), TRANSFERS
    calls["ot_send"] = partial(sender.extend, message_view, TRANSFERS), TRANSFERS
    calls["reference"] = reference_operation(), 1
    return calls


def _transfer_pair(delta: bytes) -> tuple[CorrelatedOtSender, CorrelatedOtReceiver]:
    sender, receiver = CorrelatedOtSender(delta), CorrelatedOtReceiver()
    receiver.finish_base(sender.answer_base(receiver.offer_base()))
    return sender, receiver


def _measure(rounds: int, budget_s: float | None) -> dict[str, list[float]]:
    """Items a second of every call, a value a round; calls in random order within a round."""
    calls, rng, started = _workloads(garbling.new_delta()), np.random.default_rng(3), time.perf_counter()
    sizes = {name: calls_per_block(call) for name, (call, _) in calls.items()}
    rates: dict[str, list[float]] = defaultdict(list)
    names = list(calls)
    for _ in range(rounds):
        for index in rng.permutation(len(names)):
            call, items = calls[names[index]]
            rates[names[index]].append(items / time_block(call, sizes[names[index]]))
        if budget_s is not None and time.perf_counter() - started > budget_s:
            break
    return rates


def serve(port_written: Callable[[int], None], batches: int) -> None:
    """The garbler of the loopback figure, in a process of its own."""
    circuit, delta, rng = RELU.circuit, garbling.new_delta(), np.random.default_rng(4)
    listener = socket.create_server(("127.0.0.1", 0))
    port_written(listener.getsockname()[1])
    channel = Channel(listener.accept()[0])
    sender = CorrelatedOtSender(delta)
    channel.send(Kind.BASE_OT, sender.answer_base(channel.receive(Kind.BASE_OT, 32)))
    transfers = RELU.width_in * LOOPBACK_INSTANCES
    columns = memoryview(bytearray(extension_bytes(transfers)))
    for _ in range(batches):
        shares = rng.integers(0, PRIME, (2, 1, LOOPBACK_INSTANCES), dtype=np.uint64)
        bits = RELU.server_bits(shares[0], shares[1])
        channel.receive_into(Kind.OT_COLUMNS, columns)
        zero = sender.extend(columns, transfers).reshape(RELU.width_in, LOOPBACK_INSTANCES, 16)
        for part in garbling.garble_pieces(circuit, zero, bits, delta, garbling.new_start()):
            channel.send(Kind.GARBLED, part)
    channel.receive(Kind.COMMAND, 1)


def _loopback(batches: int) -> tuple[list[float], str]:
    """AND gates a second of each batch but the first, from choices to outputs; and TCP's congestion control."""
    circuit, rng = RELU.circuit, np.random.default_rng(5)
    command = [sys.executable, "-m", "benchmarks.garbling", "--serve", str(batches)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None  # noqa: S101 - it was asked for
        channel = connect(f"127.0.0.1:{int(server.stdout.readline())}")
        receiver = CorrelatedOtReceiver()
        channel.send(Kind.BASE_OT, receiver.offer_base())
        receiver.finish_base(channel.receive(Kind.BASE_OT, 4096))
        cut = garbling.pieces(circuit, LOOPBACK_INSTANCES)
        buffer = memoryview(bytearray(max(garbling.piece_bytes(circuit, count) for _, count in cut)))
        rates = []
        for _ in range(batches):
            share = rng.integers(0, PRIME, LOOPBACK_INSTANCES, dtype=np.uint64)
            started = time.perf_counter()
            columns, labels = receiver.extend(to_bits(share, RELU.width_in).ravel())
            channel.send(Kind.OT_COLUMNS, columns)
            own = labels.reshape(RELU.width_in, LOOPBACK_INSTANCES, 16)
            evaluation = Evaluation(circuit, own, channel.receive(Kind.GARBLED, garbling.START_BYTES))
            for _, count in garbling.pieces(circuit, LOOPBACK_INSTANCES):
                piece = buffer[: garbling.piece_bytes(circuit, count)]
                channel.receive_into(Kind.GARBLED, piece)
                evaluation.take(piece)
            RELU.shares_of(evaluation.bits())
            rates.append(circuit.and_gates * LOOPBACK_INSTANCES / (time.perf_counter() - started))
        control = channel.congestion_control
        channel.send(Kind.COMMAND, b"\0")
        channel.close()
    return rates[1:], control


def main() -> None:
    """Measure, print, and keep a full run."""
    if sys.argv[1:2] == ["--serve"]:
        serve(lambda port: print(port, flush=True), int(sys.argv[2]))
        return
    options = parse_options(__doc__.splitlines()[0])
    document = Document("garbling", options.quick, TARGETS)
    load = os.getloadavg()[0]
    rates = _measure(3 if options.quick else 60, options.budget_s)
    loopback, control = _loopback(3 if options.quick else LOOPBACK_BATCHES)
    best = _native.aes_path()
    quiet = {name: max(values) for name, values in rates.items()}
    garble, evaluate = (quiet[f"{name}/{best}/rekeyed"] for name in ("garble", "evaluate"))
    document.conditions |= {
        "load_before": load,
        "drift_p95_over_median": float(np.quantile(rates["reference"], 0.95) / np.median(rates["reference"])),
        "interleaved": "all calls, in random order within each round; loopback after them",
        "path": best,
        "instances": INSTANCES,
        "and_gates": RELU.and_gates,
        "congestion_control": control,
    }
    document.figures |= {
        "garble_and_per_s": garble,
        "evaluate_and_per_s": evaluate,
        "aes_fraction_garble": 4 * garble / quiet[f"aes/{best}"],
        "aes_fraction_evaluate": 2 * evaluate / quiet[f"aes/{best}"],
        "loopback_and_per_s": max(loopback),
        "ot_per_s": 1 / (1 / quiet["ot_send"] + 1 / quiet["ot_receive"]),
    }
    document.context |= {
        "best_per_s": quiet,
        "median_per_s": {name: float(np.median(values)) for name, values in rates.items()},
        "ot_per_s": "both parties' work on one core, one after the other",
        "samples_per_s": {**rates, "loopback": loopback},
    }
    document.finish(options)


if __name__ == "__main__":
    main()
