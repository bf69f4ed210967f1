"""How right latency models are on settings, layers and networks that they never saw, against private runs here.

    python -m benchmarks.prediction [--profile NAME-OR-FOLDER] [--seed N] [--measured FILE]

Without `--profile` this machine is profiled first (depth `full`; `quick` with --quick). One party per pinned core,
policies of one network interleaved in random order, fresh processes for every network. Quiet times are compared with
quiet ones, typical ones with typical ones at the machine's quiet speed. Settings come from a seeded generator
(`unseen.py`); `--seed` takes others, to develop models on; only the committed seed is kept as a result. `--measured
FILE` predicts again what a result file holds, of whichever seed and machine, and measures nothing; a result of the
committed seed goes back to that file.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput, ProtocolError
from autoprivacy.common.files import write_atomic
from autoprivacy.common.progress import silent
from autoprivacy.common.records import save, to_json
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.networks import data
from autoprivacy.profiler.link import loopback_meter, measure_link
from autoprivacy.profiler.profile import profile_machine
from autoprivacy.profiler.random_networks import INPUT_BITS
from autoprivacy.protocol import KERNELS_VERSION
from autoprivacy.protocol.shaping import EmulatedLink
from autoprivacy.protocol.transport import Route, new_key
from benchmarks.document import RESULTS, Document, commit
from benchmarks.prediction_figures import TARGETS, add_figures
from benchmarks.prediction_party import MOST_ROUNDS, cases_of
from benchmarks.unseen import NETWORKS, SEED, Unseen

PARTIAL: Final = RESULTS / "prediction.partial.json"
_OWN_PROFILE: Final = RESULTS / "prediction.partial.profile"
LINKS: Final = {"lan": (125e6, 0.00015), "wan": (50e6, 0.02)}
"""Emulated: bytes a second each way, seconds one way. The second is the WAN of [Cheetah]."""

SETTINGS: Final = 500
PROCESSES: Final = 3
ROUNDS: Final = 14
LAYER_NETWORKS: Final = 14
POLICIES: Final = 5
VISITS: Final = 2
"""Layers and networks are run so often, by fresh processes each time, and their runs are judged together."""

LAYERS_S: Final = 20.0
NETWORK_S: Final = {"digits-cnn": 12.0, "lenet5": 20.0, "minionn": 45.0, "resnet20": 45.0}

Jobs = dict[str, dict[str, Any]]


def jobs_of(seed: int, *, quick: bool) -> Jobs:
    """All that is measured, by name."""
    found: Jobs = {}
    for process in range(1 if quick else PROCESSES):
        count, rounds = (40, 4) if quick else (SETTINGS, ROUNDS)
        found[f"operations {process}"] = {"count": count, "rounds": rounds, "process": process}
    for name in ("lan",) if quick else LINKS:
        found[f"link {name}"] = {"link": name}
    for visit in range(1 if quick else VISITS):
        for index in range(1 if quick else LAYER_NETWORKS):
            budget_s = 1.0 if quick else LAYERS_S / VISITS
            found[f"layers {index}/{visit}"] = {"index": index, "policies": POLICIES, "budget_s": budget_s}
        for name in ("digits-cnn",) if quick else NETWORKS:
            budget_s = 1.0 if quick else NETWORK_S[name] / VISITS
            found[f"network {name}/{visit}"] = {"network": name, "budget_s": budget_s}
    if not quick:
        found["workers lenet5"] = {"network": "lenet5", "workers": 2, "budget_s": 8.0}
    common = {"seed": seed, "most_rounds": 3 if quick else MOST_ROUNDS}
    return {name: common | job for name, job in found.items()}


def run(name: str, job: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Measure one job."""
    if name.startswith("operations"):
        return _operations(job)
    if name.startswith("link"):
        return _link(LINKS[job["link"]])
    return _private(job)


def _operations(job: dict[str, Any]) -> list[list[Any]]:
    """By setting: its key, and its blocks with the reference beside each."""
    with _party("operations", job) as process:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        blocks: dict[str, list[list[float]]] = {}
        for line in process.stdout:
            for key, seconds, beside in json.loads(line):
                blocks.setdefault(key, []).append([float(f"{seconds:.6g}"), float(f"{beside:.6g}")])
        if process.wait():
            raise ProtocolError("the process that times operations failed; its message is above")
    return [[key, found] for key, found in blocks.items()]


@contextmanager
def _party(role: str, job: dict[str, Any]) -> Iterator["subprocess.Popen[str]"]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.prediction_party", role, str(file)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


def _link(shape: tuple[float, float]) -> str:
    """The emulated link, measured as a user would measure a real one; its profile."""
    route = Route(emulated=EmulatedLink(*shape), timeout_s=600.0)
    with loopback_meter(route) as meter:
        found = measure_link(meter, "emulated", "quick", lambda: None, route=route, loopback=False)
    return to_json(found, indent=None)


def _sessions(job: dict[str, Any], cases: list[Unseen]) -> list[dict[str, Any]]:
    """What is run of each case: of networks also preprocessed, and over emulated links."""
    found: list[dict[str, Any]] = [
        {"case": number, "schedule": "online", "over": "loopback"} for number in range(len(cases))
    ]
    if "network" in job and "workers" not in job:
        small = job["network"] in {"digits-cnn", "lenet5"} and job["most_rounds"] == MOST_ROUNDS
        found.append({"case": 0, "schedule": "preprocessed", "over": "loopback"})
        found.append({"case": 1, "schedule": "online", "over": "lan"})
        found += [{"case": number, "schedule": "online", "over": "wan"} for number in ((0, 2) if small else ())]
    for each in found:
        each["name"] = f"{cases[each['case']].name}/{each['schedule']}/{each['over']}"
        if each["over"] in LINKS:
            each["link"] = LINKS[each["over"]]
    return found


def _private(job: dict[str, Any]) -> dict[str, Any]:
    """All sessions of one network between two processes."""
    cases = cases_of(job)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        new_key(folder / "key")
        np.save(folder / "images.npy", _images(job, cases[0]))
        job = job | {"key": str(folder / "key"), "images": str(folder / "images.npy")}
        with _party("server", job) as server:
            assert server.stdout is not None  # noqa: S101 - it was asked for
            addresses = dict(server.stdout.readline().split() for _ in cases)
            if len(addresses) < len(cases):
                raise ProtocolError("the server process ended early; its message is above")
            sessions = _sessions(job, cases)
            for each in sessions:
                file = folder / f"{each['case']}.agreement"
                save(cases[each["case"]].agreement, file)
                each |= {"address": addresses[str(each["case"])], "agreement": str(file)}
            with _party("client", job | {"sessions": sessions}) as client:
                assert client.stdout is not None  # noqa: S101 - as above
                printed = client.stdout.read()
                if client.wait():
                    raise ProtocolError("the client process failed; its message is above")
    records = json.loads(printed)
    return {
        each["name"]: {key: each[key] for key in ("case", "schedule", "over")} | records[each["name"]]
        for each in sessions
    }


def _images(job: dict[str, Any], case: Unseen) -> NDArray[np.floating]:
    if "network" in job:
        images: NDArray[np.floating] = data.splits(job["network"]).confirm.x[:MOST_ROUNDS]
        return images
    rng = np.random.default_rng(job["seed"])
    return rng.integers(0, 1 << INPUT_BITS, (4, *case.network.input_shape)).astype(float)


def measure_all(jobs: Jobs, known: dict[str, Any], keep: Callable[[], None], left_s: float) -> bool:
    """Measure what `known` lacks, in a shuffled order; whether all of it is known now."""
    started = time.monotonic()
    names = np.random.default_rng(0).permutation(list(jobs)).tolist()
    for number, name in enumerate(names):
        if name in known:
            continue
        if time.monotonic() - started > left_s:
            print("stopped; the same command goes on", file=sys.stderr)
            return False
        print(f"{time.monotonic() - started:.0f} s: {name} ({number + 1} of {len(names)})", file=sys.stderr)
        known[name] = run(name, jobs[name])
        keep()
    return True


def main() -> None:
    """Measure, predict, print; keep a full run of the committed seed."""
    options = _options()
    document = Document("prediction", options.quick or options.seed != SEED, TARGETS)
    load, started = os.getloadavg()[0], time.monotonic()
    if options.measured:
        known, jobs = options.held["context"]["measured"], options.held["context"]["jobs"]
        document.conditions |= options.held["conditions"]
    else:
        jobs = jobs_of(options.seed, quick=options.quick)
        known, commits = ({}, []) if options.quick else _partial(options.seed)
        document.conditions["measured_at"] = list(dict.fromkeys([*commits, commit()]))
    profile = _profile(options)

    def keep() -> None:
        if not options.quick:
            done = {"kernels_version": KERNELS_VERSION, "seed": options.seed, "known": known}
            done["commits"] = document.conditions["measured_at"]
            write_atomic(PARTIAL, json.dumps(done).encode())

    budget_s = float("inf") if options.budget_s is None else options.budget_s
    if not measure_all(jobs, known, keep, budget_s):
        return
    document.conditions |= {
        "interleaved": "policies, schedules and links of a network, in random order within each round",
        "pinned": "each party to a core",
        "seed": options.seed,
        "profile": {"depth": profile.header.depth, "id": profile.header.id, "measured_on": profile.header.measured_on},
    }
    document.conditions.setdefault("load_before", load)
    document.conditions.setdefault("seconds", round(time.monotonic() - started))
    add_figures(document, jobs, known, profile)
    document.context |= {"jobs": jobs, "measured": known}
    document.finish(options, options.measured)
    if options.out:
        options.out.write_text(json.dumps(document.as_json()), encoding="utf-8")
    if not document.quick and not options.measured:
        PARTIAL.unlink(missing_ok=True)
        shutil.rmtree(_OWN_PROFILE, ignore_errors=True)


def _options() -> Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only check, within a minute, that it works")
    parser.add_argument("--json", action="store_true", help="print the whole document")
    parser.add_argument("--budget-s", type=float, help="stop after so many seconds; the same command goes on")
    parser.add_argument("--profile", help="this machine's profile, by name or folder (default: profile it now)")
    parser.add_argument("--seed", type=int, default=SEED, help="settings to develop models on; nothing is kept")
    parser.add_argument("--measured", type=Path, help="predict again what this result file holds; measure nothing")
    parser.add_argument("--out", type=Path, help="also write the document here")
    options = parser.parse_args()
    try:
        if options.measured:
            options.held = json.loads(options.measured.read_text(encoding="utf-8"))
            options.seed = options.held["conditions"]["seed"]
        options.profile = options.profile and machine_profile.find(options.profile)
    except BadInput as error:
        parser.error(str(error))
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"--measured {options.measured}: no result of this benchmark ({error})")
    return options


def _profile(options: Namespace) -> MachineProfile:
    if options.profile:
        return options.profile  # type: ignore[no-any-return] # argparse's namespace
    folder = _OWN_PROFILE
    if options.quick:
        with tempfile.TemporaryDirectory() as text:
            return profile_machine("prediction", Path(text) / "profile", "quick", silent)
    if (folder / "profile.json").exists():
        return machine_profile.read(folder)
    print("profiling this machine", file=sys.stderr)
    return profile_machine("prediction", folder, "full", silent, resume=(folder / "partial").exists())


def _partial(seed: int) -> tuple[dict[str, Any], list[str]]:
    """What was measured before with the same kernels and seed, and at which commits."""
    if not PARTIAL.exists():
        return {}, []
    found: dict[str, Any] = json.loads(PARTIAL.read_text(encoding="utf-8"))
    if (found["kernels_version"], found["seed"]) != (KERNELS_VERSION, seed):
        return {}, []
    return found["known"], found["commits"]


if __name__ == "__main__":
    main()
