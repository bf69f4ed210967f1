"""Profiles of schema 1, as written before November 2026: read, and brought into today's form. They are stale."""

from pathlib import Path
from typing import Literal

from autoprivacy.common.records import load, record, schema_version_of
from autoprivacy.hwprofiles.header import Caches, Conditions, Header, Machine, Software
from autoprivacy.hwprofiles.samples import Measured, Sample, WorkDone, check_times
from autoprivacy.hwprofiles.tables import read_table


@record
class _Machine:
    cpu: str
    architecture: str
    instruction_sets: tuple[str, ...]
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    aes_path: str


@record
class _Conditions:
    load_average: float
    reference_typical_s: float
    reference_slowdown_median: float
    reference_slowdown_p95: float
    verdict: Literal["quiet", "noisy"]


@record
class _Header:
    schema_version: Literal[1]
    id: str
    name: str
    measured_on: str
    software: Software
    machine: _Machine
    conditions: _Conditions
    processes: int
    rounds: int


@record
class _Sample:
    operation: str
    n: int
    q_bits: int
    calls: int
    items: int
    values: int
    blocks: int
    quiet_s: float
    quiet_low_s: float
    quiet_high_s: float
    typical_s: float


def is_schema_1(text: str) -> bool:
    """Whether `profile.json` says so."""
    return schema_version_of(text) == 1


def read_header(path: Path) -> Header:
    """The header in today's form; what was not recorded is "" or 0."""
    old = load(_Header, path)
    seen = old.conditions
    return Header(
        schema_version=1,
        id=old.id,
        name=old.name,
        measured_on=old.measured_on,
        depth="quick",
        seed=0,
        software=old.software,
        libraries={},
        machine=Machine(
            **{name: getattr(old.machine, name) for name in _Machine.__dataclass_fields__},
            ring_path="",
            caches=Caches(0, 0, 0),
            frequency_policy="",
            virtualisation="",
        ),
        conditions=Conditions(
            load_average=seen.load_average,
            reference_quiet_s=seen.reference_typical_s / max(seen.reference_slowdown_median, 1.0),
            reference_typical_s=seen.reference_typical_s,
            reference_slowdown_median=seen.reference_slowdown_median,
            reference_slowdown_p95=seen.reference_slowdown_p95,
            slowdown_quantiles=((0.5, seen.reference_slowdown_median), (0.95, seen.reference_slowdown_p95)),
            steal_share=0.0,
            busy_share=0.0,
            throttled=0,
            frequency_low_mhz=0.0,
            frequency_high_mhz=0.0,
            affinity_cores=old.machine.cores,
            verdict=seen.verdict,
            reasons=(),
        ),
        processes=old.processes,
        rounds=old.rounds,
    )


def read_samples(path: Path) -> tuple[Sample, ...]:
    """The samples in today's form: sets had one limb, t = 2^16, and packing `coefficients`."""
    return tuple(map(_upgraded, read_table(_Sample, path, lambda s, where: check_times(s.quiet_s, s.typical_s, where))))


def _upgraded(old: _Sample) -> Sample:
    he = bool(old.n)
    work = WorkDone(
        operation=old.operation,
        n=old.n,
        q_bits=old.q_bits,
        calls=old.calls,
        items=old.items,
        values=old.values,
        limb_bits=old.q_bits,
        t_bits=16 if he else 0,
        kept=int(he and old.operation in {"respond", "decrypt"}),
        kernel="ring" if he else "",
        privacy="uniform" if old.operation == "respond" else "",
        state="streamed" if old.operation == "weighted_sum" else "",
    )
    return Sample.of(
        work,
        Measured(
            blocks=old.blocks,
            quiet_s=old.quiet_s,
            quiet_low_s=old.quiet_low_s,
            quiet_high_s=old.quiet_high_s,
            typical_s=old.typical_s,
            typical_low_s=old.typical_s,
            typical_high_s=old.typical_s,
            seen_median_s=old.typical_s,
            seen_p95_s=old.typical_s,
            dispersion=0.0,
            outliers=0,
        ),
    )
