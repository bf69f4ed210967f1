"""The client process of `benchmarks.inference`, and of tests of its memory: a job in, records out, as JSON."""

import json
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from autoprivacy.common.records import load
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.session import Client, Inference, LayerTimes, Phase, Revealed
from autoprivacy.protocol.transport import load_key


def peak_bytes(pid: int | str = "self") -> int:
    """The most memory that a process has had resident so far, as its kernel says."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/{pid}/status names no peak")


def total(layers: tuple[LayerTimes, ...]) -> dict[str, float]:
    """Seconds by component, all layers together."""
    return {name: sum(getattr(layer, name) for layer in layers) for name in LayerTimes.__dataclass_fields__}


def _phase(phase: Phase, server: tuple[LayerTimes, ...]) -> dict[str, Any]:
    return {
        "latency_s": phase.latency_s,
        "traffic": asdict(phase.traffic),
        "client": total(phase.layers),
        "server": total(server),
    }


def _record(inference: Inference, revealed: Revealed) -> dict[str, Any]:
    offline = inference.offline
    return {
        "logits": inference.logits.tolist(),
        "online": _phase(inference.online, revealed.server),
        "offline": None if offline is None else _phase(offline, revealed.server_offline),
    }


def run(job: dict[str, Any]) -> dict[str, Any]:
    """All sessions of a job side by side, in random order within each round.

    `sessions` have a name, address, agreement (file) and schedule; `images` is an .npy file, one image a round, after
    the first was inferred in every session; `in_row` images more are inferred one after the other, each session for
    itself, without opening anything.
    """
    key, images = load_key(Path(job["key"])), np.load(job["images"], allow_pickle=False)
    rng, rounds = np.random.default_rng(0), len(images) - job["in_row"]
    with ExitStack() as stack:
        clients = {}
        for each in job["sessions"]:
            agreement = load(Agreement, Path(each["agreement"]))
            client = Client(each["address"], key, expected=agreement, schedule=each["schedule"])
            clients[each["name"]] = stack.enter_context(client)
        for client in clients.values():
            client.infer(images[0])
        names = list(clients)
        records: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for image in images[:rounds]:
            for index in rng.permutation(len(names)):
                records[names[index]].append(_record(*clients[names[index]].infer_revealed(image)))
        rows = {name: _in_row(client, images[rounds:]) for name, client in clients.items()}
    return {
        "peak_bytes": peak_bytes(),
        "sessions": {
            name: {"setup_s": client.setup_s, "runs": records[name], **rows[name]} for name, client in clients.items()
        },
    }


def _in_row(client: Client, images: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, Any]:
    """Seconds from the first to the last of these images; what is prepared for all of them is apart."""
    start = time.perf_counter()
    if client.schedule == "preprocessed":
        for _ in images:
            client.prepare()
    begun = time.perf_counter()
    logits = [client.infer(image).logits.tolist() for image in images]
    return {"row_prepared_s": begun - start, "row_s": time.perf_counter() - begun, "row_logits": logits}


def main() -> None:
    """Read the job from standard input, print the records."""
    print(json.dumps(run(json.load(sys.stdin))))


if __name__ == "__main__":
    main()
