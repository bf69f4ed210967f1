"""The processes of `benchmarks.prediction`: `python -m benchmarks.prediction_party ROLE JOB`, JOB a JSON file.

`server` makes every case of the job, prints one line a case, its number and its address, and serves until it is ended.
`client` holds a session for every one of the job, in random order within each round, and prints all records as JSON.
`operations` times the settings of the generator, as a profile does; it prints one JSON line a round.
Every party is pinned to a core of its own, where there are two.
"""

import json
import os
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

import numpy as np

from autoprivacy.common.records import load
from autoprivacy.profiler.harness import measure
from autoprivacy.profiler.spells import CLIENT_CORE, SERVER_CORE, Spells
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.serving import serve
from autoprivacy.protocol.session import Client, Inference, LayerTimes, Phase, Revealed, Server
from autoprivacy.protocol.shaping import EmulatedLink
from autoprivacy.protocol.transport import Route, load_key
from benchmarks.unseen import Unseen, layer_cases, network_cases, operation_workloads

WARM_UP: Final = 2
LEAST_ROUNDS: Final = 3
MOST_ROUNDS: Final = 30
LISTENING: Final = "listening on "


def pin(core: int) -> None:
    """Run on this core alone, of those that there are; threads and processes made later too."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def cases_of(job: dict[str, Any]) -> list[Unseen]:
    """What a job is about."""
    if "network" in job:
        return network_cases(job["seed"], job["network"])
    return layer_cases(job["seed"], job["index"], job["policies"])


def serve_cases(job: dict[str, Any]) -> None:
    """Serve all cases at once, each at an address of its own."""
    workers = job.get("workers", 1)
    if workers == 1:
        pin(SERVER_CORE)
    key = load_key(Path(job["key"]))
    for number, case in enumerate(cases_of(job)):
        server = Server(case.network, case.agreement, key, reveal_for_testing=True, workers=workers)

        def report(line: str, number: int = number) -> None:
            if line.startswith(LISTENING):
                # One write: threads that write parts of lines at once would mix them.
                sys.stdout.write(f"{number} {line.removeprefix(LISTENING)}\n")
                sys.stdout.flush()

        threading.Thread(
            target=serve, args=(server, "127.0.0.1:0", report), kwargs={"once": False, "timeout_s": 600.0}, daemon=True
        ).start()
    threading.Event().wait()


def infer(job: dict[str, Any]) -> dict[str, Any]:
    """All sessions side by side."""
    key, images = load_key(Path(job["key"])), np.load(job["images"], allow_pickle=False)
    rng = np.random.default_rng(job["seed"])
    with ExitStack() as stack:
        clients = [stack.enter_context(_client(session, key)) for session in job["sessions"]]
        spells = Spells()
        pin(CLIENT_CORE)  # relays of emulated links, which are processes by now, stay where they like
        started = time.monotonic()
        for client in clients:
            for _ in range(WARM_UP):
                client.infer(images[0])
        round_s = (time.monotonic() - started) / WARM_UP
        rounds = max(min(LEAST_ROUNDS, job["most_rounds"]), min(job["most_rounds"], int(job["budget_s"] / round_s)))
        done: list[list[tuple[int, tuple[Inference, Revealed]]]] = [[] for _ in clients]
        spells.look()
        for number in range(rounds):
            for index in rng.permutation(len(clients)).tolist():
                run = clients[index].infer_revealed(images[number % len(images)])
                spells.look()
                done[index].append((spells.latest, run))
        during = spells.during()
        return {
            session["name"]: {
                "setup_s": client.setup_s,
                "runs": [_record(*run, during[number]) for number, run in own],
            }
            for session, client, own in zip(job["sessions"], clients, done, strict=True)
        }


def _client(session: dict[str, Any], key: bytes) -> Client:
    link = session.get("link")
    route = None if link is None else Route(emulated=EmulatedLink(*link), timeout_s=600.0)
    agreement = load(Agreement, Path(session["agreement"]))
    return Client(session["address"], key, expected=agreement, route=route, schedule=session["schedule"])


def _record(inference: Inference, revealed: Revealed, reference_s: tuple[float, float]) -> dict[str, Any]:
    """One inference: seconds by layer and component of either party, in the order of `LayerTimes`."""
    offline = inference.offline
    return {
        "reference_s": [float(f"{seconds:.6g}") for seconds in reference_s],
        "online": _phase(inference.online, revealed.server),
        "offline": None if offline is None else _phase(offline, revealed.server_offline),
    }


def _phase(phase: Phase, server: tuple[LayerTimes, ...]) -> dict[str, Any]:
    return {"latency_s": phase.latency_s, "client": _rows(phase.layers), "server": _rows(server)}


def _rows(times: tuple[LayerTimes, ...]) -> list[list[float]]:
    return [[float(f"{seconds:.6g}") for seconds in astuple(layer)] for layer in times]


def time_operations(job: dict[str, Any]) -> None:
    """Blocks of every setting, as [key, seconds a call, seconds of the reference operation beside], a line a round."""
    pin(CLIENT_CORE)
    workloads = operation_workloads(job["seed"], job["count"])

    def report(blocks: list[tuple[int, float, float]]) -> None:
        print(json.dumps([[workloads[index].key, *beside] for index, *beside in blocks]), flush=True)

    measure(workloads, job["rounds"], np.random.default_rng((job["seed"], job["process"])), report)


def main() -> None:
    """Play one role."""
    role, file = sys.argv[1:]
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    if role == "server":
        serve_cases(job)
    elif role == "operations":
        time_operations(job)
    else:
        print(json.dumps(infer(job)))


if __name__ == "__main__":
    main()
