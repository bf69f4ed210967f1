"""Whole private inferences between two processes on loopback: seconds and bytes an image, by component.

All policies and both schedules of a network run side by side, in random order within each round. Every inference is
checked: bytes, frames and round trips against the plan, logits of error-free policies against the integer reference.
Phases are timed by the client; `client` and `server` are each party's seconds by component (`link_s` is what it spent
in the channel: sending, and waiting for the other, which works meanwhile). A session's first inference is not kept.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import InvalidPolicy, ProtocolError
from autoprivacy.common.files import write_atomic
from autoprivacy.common.records import save
from autoprivacy.networks import data, reference, zoo
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.integer_network import LayerWidths, QuantisedNetwork, Widths
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.protocol.agreeing import agree, linear_shape
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.error_model import FAILURE_BITS, decryption_errors, network_failure_bits
from autoprivacy.protocol.he_set import he_set_for
from autoprivacy.protocol.linear_layer import default_tile_of
from autoprivacy.protocol.named_sets import NAMED_SETS
from autoprivacy.protocol.plan import Plan, plan_network
from autoprivacy.protocol.policy import LayerPolicy, Policy, Provenance
from autoprivacy.protocol.security import SecurityLabel
from autoprivacy.protocol.session import Schedule
from autoprivacy.protocol.transport import new_key
from benchmarks.document import RESULTS, Document, commit, parse_options
from benchmarks.inference_client import peak_bytes

BITS: Final = 4
SCHEDULES: Final[tuple[Schedule, ...]] = ("online", "preprocessed")
SETS: Final = {"tolerant": (1024, 26), "error-free": (2048, 53)}
POLICIES: Final = {
    "digits-cnn": ("tolerant", "error-free", "cheetah", "delphi"),
    "lenet5": ("tolerant", "error-free", "cheetah"),
    "minionn": ("tolerant", "error-free", "cheetah"),
    "resnet20": ("tolerant", "error-free"),
}
ROUNDS: Final = {"digits-cnn": 15, "lenet5": 7, "minionn": 2, "resnet20": 1}
IN_ROW: Final = {"digits-cnn": 5, "lenet5": 3, "minionn": 1, "resnet20": 0}
PARTIAL: Final = RESULTS / "inference.partial.json"


@dataclass(frozen=True, slots=True)
class Case:
    """One network under one policy: what a server runs, and what is to come out."""

    name: str
    policy: Policy
    network: QuantisedNetwork
    agreement: Agreement
    plans: dict[Schedule, Plan]
    error_free: bool


def case_of(network: QuantisedNetwork, name: str) -> Case:
    """A network with one set for all its layers, by the set's name.

    Raises:
        InvalidPolicy: if a named set's t does not hold the network's accumulators.
    """
    least, layers = least_modulus_bits(network), {}
    security: SecurityLabel = "he2024" if name in SETS else NAMED_SETS[name].security
    for layer in network.linear_layers:
        shape, bits = linear_shape(layer), least[layer.name]
        if name in NAMED_SETS:
            layers[layer.name] = NAMED_SETS[name].layer_policy(shape, BITS, BITS, bits)
        else:
            n, q_bits = SETS[name]
            he_set = he_set_for(n, (q_bits,), 1 << bits)
            tile = default_tile_of(shape, "coefficients", n)
            layers[layer.name] = LayerPolicy("coefficients", n, he_set.limbs, he_set.t, tile, BITS, BITS)
    privacy = "rerandomise" if any(each.packing == "slots" for each in layers.values()) else "uniform"
    made_by = Provenance("", "by hand, for benchmarks", (), "total", None, None)
    policy = Policy(1, network.name, network.trained_hash, privacy, security, layers, made_by)
    agreement = agree(network, policy)
    failure_bits = network_failure_bits(decryption_errors(network, agreement))
    plans = {schedule: plan_network(network, agreement, schedule) for schedule in SCHEDULES}
    return Case(name, policy, network, agreement, plans, failure_bits >= FAILURE_BITS)


@contextmanager
def server_of(case: Case, folder: Path, key: Path) -> Iterator[tuple[str, int]]:
    """A server process; its address and process id."""
    policy = folder / f"{case.name}.json"
    save(case.policy, policy)
    command = [sys.executable, "-m", "autoprivacy.cli.main", "serve", case.network.name, "--reveal-for-testing"]
    command += ["--policy", str(policy), "--key-file", str(key), "--timeout-s", "600"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        try:
            address = process.stdout.readline().strip().removeprefix("listening on ")
            if not address:
                raise ProtocolError(f"the server of {case.network.name}, {case.name}, ended before it listened")
            yield address, process.pid
        finally:
            process.kill()


def measure(name: str, policies: tuple[str, ...], rounds: int, in_row: int) -> dict[str, Any]:
    """All policies and schedules of one network; raw records, checked."""
    trained, splits = zoo.load(name), data.splits(name)
    widths = Widths(tuple(LayerWidths(layer.name, BITS, BITS) for layer in trained.network.linear_layers))
    network = Quantiser(trained, splits.calibrate.x).quantise(widths)
    cases, refused = {}, {}
    for each in policies:
        try:
            cases[each] = case_of(network, each)
        except InvalidPolicy as error:
            refused[each] = str(error)
    images = splits.confirm.x[: rounds + in_row]
    wanted = reference.logits(network, network.quantise_input(images))
    with tempfile.TemporaryDirectory() as text, ExitStack() as stack:
        folder = Path(text)
        key, file = folder / "key", folder / "images.npy"
        new_key(key)
        np.save(file, images)
        servers = {each: stack.enter_context(server_of(case, folder, key)) for each, case in cases.items()}
        sessions = []
        for each, case in cases.items():
            save(case.agreement, folder / f"{each}.agreement")
            for schedule in SCHEDULES:
                session = {"name": f"{each}/{schedule}", "address": servers[each][0], "schedule": schedule}
                sessions.append(session | {"agreement": str(folder / f"{each}.agreement")})
        job = {"key": str(key), "images": str(file), "in_row": in_row, "sessions": sessions}
        command = [sys.executable, "-m", "benchmarks.inference_client"]
        done = subprocess.run(command, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        peaks = {each: peak_bytes(pid) for each, (_, pid) in servers.items()}
    for each, case in cases.items():
        for schedule in SCHEDULES:
            check(case, schedule, found["sessions"][f"{each}/{schedule}"], wanted)
    return {
        "trained": trained.training is not None,
        "error_free": {each: case.error_free for each, case in cases.items()},
        "security": {each: case.policy.security for each, case in cases.items()},
        "circuit_privacy": {each: case.policy.circuit_privacy for each, case in cases.items()},
        "refused": refused,
        "client_peak_bytes": found["peak_bytes"],
        "server_peak_bytes": peaks,
        "spill_bytes": {
            each: [case.plans["preprocessed"].client_spill_bytes, case.plans["preprocessed"].server_spill_bytes]
            for each, case in cases.items()
        },
        "sessions": found["sessions"],
    }


def check(case: Case, schedule: Schedule, session: dict[str, Any], wanted: NDArray[np.int64]) -> None:
    """That traffic is the plan's, and logits the reference's where nothing can fail.

    Raises:
        ProtocolError: if they are not.
    """
    planned = case.plans[schedule]
    for run in session["runs"]:
        offline = run["offline"]
        if run["online"]["traffic"] != asdict(planned.online_traffic) or (
            offline is not None and offline["traffic"] != asdict(planned.offline_traffic)
        ):
            raise ProtocolError(f"{case.network.name}, {case.name}, {schedule}: traffic is not as planned")
    logits = np.array([run.pop("logits") for run in session["runs"]] + session.pop("row_logits"))
    off = np.abs(logits - wanted)
    session["logits_off"] = {"images": int(off.any(axis=1).sum()), "most": int(off.max())}
    session["labels_kept"] = float((logits.argmax(axis=1) == wanted.argmax(axis=1)).mean())
    if case.error_free and off.any():
        raise ProtocolError(f"{case.network.name}, {case.name}, {schedule}: logits are not the reference's")


def figures_of(name: str, measured: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Medians an image: seconds and bytes, online and offline."""
    for session, found in measured["sessions"].items():
        for phase in ("online", "offline"):
            runs = [run[phase] for run in found["runs"] if run[phase] is not None]
            if not runs:
                continue
            yield f"{name}/{session}/{phase}_s", float(np.median([run["latency_s"] for run in runs]))
            traffic = runs[0]["traffic"]
            yield f"{name}/{session}/{phase}_bytes", float(traffic["bytes_sent"] + traffic["bytes_received"])


def components_of(measured: dict[str, Any]) -> dict[str, Any]:
    """By session, phase and party the median seconds of each component."""
    return {
        session: {
            f"{phase}/{party}": {
                component: float(np.median([run[phase][party][component] for run in found["runs"]]))
                for component in found["runs"][0][phase][party]
            }
            for phase in ("online", "offline")
            for party in ("client", "server")
            if found["runs"][0][phase] is not None
        }
        for session, found in measured["sessions"].items()
    }


def main() -> None:
    """Measure, print, and keep a full run."""
    options = parse_options(__doc__.splitlines()[0])
    document = Document("inference", options.quick, {})
    load, started = os.getloadavg()[0], time.monotonic()
    names = ("digits-cnn",) if options.quick else tuple(POLICIES)
    known = {} if options.quick else _partial()
    for name in names:
        if options.budget_s is not None and time.monotonic() - started > options.budget_s:
            print("stopped; the same command goes on", file=sys.stderr)
            return
        print(f"{time.monotonic() - started:.0f} s: {name}", file=sys.stderr)
        if options.quick:
            measured = measure(name, ("tolerant", "error-free"), rounds=1, in_row=1)
        else:
            measured = known.get(name) or measure(name, POLICIES[name], ROUNDS[name], IN_ROW[name])
            known[name] = measured
            write_atomic(PARTIAL, json.dumps({"commit": commit(), "networks": known}).encode())
        document.figures |= dict(figures_of(name, measured))
        document.context[name] = {"median_s": components_of(measured), **measured}
    document.conditions |= {
        "load_before": load,
        "interleaved": "policies and schedules of a network, in random order within each round; networks one by one",
        "bits": BITS,
        "link": "loopback, plain",
    }
    document.finish(options)
    if not options.quick:
        PARTIAL.unlink()


def _partial() -> dict[str, Any]:
    """The networks that were measured before at this commit."""
    if not PARTIAL.exists():
        return {}
    found: dict[str, Any] = json.loads(PARTIAL.read_text(encoding="utf-8"))
    networks: dict[str, Any] = found["networks"]
    return networks if found["commit"] == commit() else {}


if __name__ == "__main__":
    main()
