"""`profile`: measure this machine and put the result into the stored form.

Steps: blocks of every setting, round by round, in fresh processes; the widest intervals again; whole layers; several
processes at once; loopback. What is done is kept at once (`partial.py`), so that a measurement broken off goes on.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from autoprivacy.common.files import check_writable
from autoprivacy.common.progress import Progress
from autoprivacy.common.records import record, to_json
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.header import Header
from autoprivacy.hwprofiles.link_profile import LinkProfile
from autoprivacy.hwprofiles.machine_profile import SCHEMA_VERSION, MachineProfile
from autoprivacy.hwprofiles.samples import MeasuredLayer, MeasuredRun, ParallelSample, Sample
from autoprivacy.profiler import layers, link, parallel
from autoprivacy.profiler.conditions import Watch
from autoprivacy.profiler.harness import setting_of
from autoprivacy.profiler.machine import describe_libraries, describe_machine, describe_software
from autoprivacy.profiler.partial import Asked, Partial
from autoprivacy.profiler.processes import Beside, Blocks, measure_in_fresh_process
from autoprivacy.profiler.statistics import quiet, summarise


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is measured. Quiet and typical times mean the same at any depth."""

    processes: int
    rounds: int
    again: int
    again_rounds: int


DEPTHS: Final = {
    "quick": Depth(processes=3, rounds=14, again=0, again_rounds=14),
    "standard": Depth(processes=3, rounds=14, again=40, again_rounds=14),
    "full": Depth(processes=4, rounds=14, again=120, again_rounds=21),
}
"""Blocks per setting: processes x rounds, at least the 40 over 3 processes that a quiet time needs."""

AGAIN_ABOVE: Final = 0.03
"""What is known less well than this is measured again: the quiet time's interval over the quiet time."""


@record
class _LayerResults:
    runs: tuple[MeasuredRun, ...]
    layers: tuple[MeasuredLayer, ...]


@record
class _ParallelResults:
    parallel: tuple[ParallelSample, ...]


def profile_machine(
    name: str, folder: Path, depth: str, progress: Progress, *, seed: int = 0, resume: bool = False
) -> MachineProfile:
    """Measure everything, and store it in `folder`.

    Raises:
        BadInput: if the folder cannot be written, or with `resume` holds nothing to go on from.
        AutoPrivacyError: if a measuring process fails.
    """
    check_writable(folder / "profile.json")
    settings = DEPTHS[depth]
    watch, rng = Watch(), np.random.default_rng(seed)
    machine, software = describe_machine(), describe_software()
    partial = Partial(folder, Asked(depth, seed, software, machine), resume=resume)
    _measure_blocks(partial, depth, seed, progress, watch)
    blocks = _blocks(partial)
    samples = _samples(blocks, seed)
    _measure_again(partial, samples, depth, seed, progress)
    blocks = _blocks(partial)
    samples = _samples(blocks, seed)
    done = _layers(partial, depth, quiet(blocks.references), progress)
    together = _parallel(partial, depth, rng, progress)
    loopback = _loopback(partial, depth, progress)
    digest = hashlib.sha256(to_json([name, machine, samples, done], indent=None).encode()).hexdigest()
    header = Header(
        schema_version=SCHEMA_VERSION,
        id=digest[:16],
        name=name,
        measured_on=dt.datetime.now(dt.UTC).date().isoformat(),
        depth=depth,  # type: ignore[arg-type] # a key of DEPTHS
        seed=seed,
        software=software,
        libraries=describe_libraries(),
        machine=machine,
        conditions=watch.conditions(blocks.references, samples),
        processes=settings.processes,
        rounds=settings.rounds,
        interrupted=partial.resumed,
    )
    found = MachineProfile(header, samples, done.runs, done.layers, together, loopback)
    machine_profile.write(found, folder)
    partial.remove()
    return found


def _measure_blocks(partial: Partial, depth: str, seed: int, progress: Progress, watch: Watch) -> None:
    settings = DEPTHS[depth]
    with progress("timing operations", settings.processes * settings.rounds) as advance:
        for process in range(settings.processes):
            done = partial.rounds_of(process)
            for _ in range(done):
                advance()
            if done >= settings.rounds:
                continue

            def keep(found: list[tuple[str, float, float]], process: int = process) -> None:
                partial.keep_round(process, found)
                watch.look()
                advance()

            # A process that goes on for one that was broken off draws other orders.
            asked: dict[str, object] = {
                "depth": depth,
                "rounds": settings.rounds - done,
                "seed": [seed, process, done],
                "keys": None,
            }
            measure_in_fresh_process(asked, keep)


def _measure_again(partial: Partial, samples: tuple[Sample, ...], depth: str, seed: int, progress: Progress) -> None:
    """Settings whose intervals are widest, once more in another process."""
    settings = DEPTHS[depth]
    process = settings.processes
    left = settings.again_rounds - partial.rounds_of(process)
    chosen = widest(samples, settings.again)
    if not chosen or left <= 0:
        return
    with progress("timing the widest again", left) as advance:

        def keep(found: list[tuple[str, float, float]]) -> None:
            partial.keep_round(process, found)
            advance()

        asked: dict[str, object] = {"depth": depth, "rounds": left, "seed": [seed, process], "keys": chosen}
        measure_in_fresh_process(asked, keep)


def widest(samples: tuple[Sample, ...], most: int) -> list[str]:
    """Keys of at most so many settings whose quiet times are known least well."""
    from autoprivacy.profiler.harness import key_of

    def width(sample: Sample) -> float:
        return (sample.quiet_high_s - sample.quiet_low_s) / sample.quiet_s

    found = sorted((sample for sample in samples if width(sample) > AGAIN_ABOVE), key=width, reverse=True)
    return [key_of(sample.work, sample.code_path) for sample in found[:most]]


def _blocks(partial: Partial) -> Blocks:
    blocks = Blocks()
    for _, found in partial.rounds:
        blocks.add(found)
    return blocks


def _samples(blocks: Blocks, seed: int) -> tuple[Sample, ...]:
    quiet_reference_s, rng = quiet(blocks.references), np.random.default_rng(seed)
    return tuple(sample_of(key, found, quiet_reference_s, rng) for key, found in sorted(blocks.by_key.items()))


def sample_of(key: str, blocks: list[Beside], quiet_reference_s: float, rng: np.random.Generator) -> Sample:
    """The sample of one setting from its blocks."""
    work, code_path = setting_of(key)
    seconds, beside = zip(*blocks, strict=True)
    slowdowns = [reference_s / quiet_reference_s for reference_s in beside]
    return Sample.of(work, summarise(seconds, slowdowns, rng), code_path=code_path)


def _layers(partial: Partial, depth: str, reference_quiet_s: float, progress: Progress) -> _LayerResults:
    found = partial.result(_LayerResults, "layers")
    if found is None:
        with progress("running whole layers", layers.steps(depth)) as advance:
            found = _LayerResults(*layers.measure_layers(depth, advance, reference_quiet_s))
        partial.keep_result(found, "layers")
    return found


def _parallel(partial: Partial, depth: str, rng: np.random.Generator, progress: Progress) -> tuple[ParallelSample, ...]:
    found = partial.result(_ParallelResults, "parallel")
    if found is None:
        with progress("several processes at once", parallel.steps(depth)) as advance:
            found = _ParallelResults(parallel.measure_parallel(depth, rng, advance))
        partial.keep_result(found, "parallel")
    return found.parallel


def _loopback(partial: Partial, depth: str, progress: Progress) -> LinkProfile:
    found = partial.result(LinkProfile, "loopback")
    if found is None:
        with progress("measuring loopback", link.STEPS[depth]) as advance:
            found = link.measure_loopback(depth, advance)
        partial.keep_result(found, "loopback")
    return found
