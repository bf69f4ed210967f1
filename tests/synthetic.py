"""A machine whose every cost is known, because it was written down here and not measured."""

from collections.abc import Iterable
from math import log2

from autoprivacy.hwprofiles.machine_profile import (
    Caches,
    Conditions,
    Header,
    Machine,
    MachineProfile,
    Measured,
    MeasuredRun,
    Sample,
    Seconds,
    Software,
    WorkDone,
)
from autoprivacy.models.machine_model import MachineModel, fit
from autoprivacy.models.operation_model import Handled

SLOWER = 1.25
"""Typical time over quiet time, everywhere."""

SECONDS_PER_FEATURE = {
    "encrypt": {"calls": 3e-5, "calls n": 2e-8, "calls n log n": 1e-9},
    "receive": {"calls": 1e-5, "calls n": 5e-9, "calls n log n": 2e-9},
    "receive_add_share": {"calls": 2e-5, "calls n": 6e-9, "calls n log n": 3e-9},
    "to_ntt": {"calls": 2e-6, "calls n": 3e-9, "calls n log n": 1.5e-9},
    "from_ntt": {"calls": 3e-6, "calls n": 2e-9, "calls n log n": 2.5e-9},
    "weighted_sum": {"calls": 4e-6, "items": 1e-6, "items n": 8e-9},
    "respond": {"calls": 5e-5, "calls n": 4e-8, "calls n log n": 5e-9, "items": 2e-8},
    "decrypt": {"calls": 2e-5, "calls n": 3e-8, "calls n log n": 4e-9, "items": 1e-8},
    "garble": {"calls": 1e-4, "items": 9e-9, "values": 3e-7},
    "evaluate": {"calls": 2e-4, "items": 5e-9, "values": 4e-7},
    "ot_send": {"calls": 6e-5, "items": 2e-8},
    "ot_receive": {"calls": 7e-5, "items": 3e-8},
    "transfer": {"calls": 2e-5, "items": 4e-10},
}

COMPONENT = {
    "encrypt": "client_he_s",
    "decrypt": "client_he_s",
    "receive": "server_he_s",
    "receive_add_share": "server_he_s",
    "to_ntt": "server_he_s",
    "from_ntt": "server_he_s",
    "weighted_sum": "server_he_s",
    "respond": "server_he_s",
    "garble": "garble_s",
    "evaluate": "evaluate_s",
    "ot_send": "ot_s",
    "ot_receive": "ot_s",
    "transfer": "link_s",
}

WITHOUT_ITEMS = ("encrypt", "receive", "receive_add_share", "to_ntt", "from_ntt")
DEGREES = (1024, 2048, 4096, 8192, 16384)
TRANSFERS = (16, 512, 4096, 65536, 1 << 18, 1 << 20)


def seconds(handled: Handled) -> float:
    """The quiet time of a work or a sample on this machine, from the table above alone."""
    n, calls, items, values = handled.n, handled.calls, handled.items, handled.values
    amounts = {
        "calls": calls,
        "calls n": calls * n,
        "calls n log n": calls * n * log2(n) if n else 0,
        "items": items,
        "items n": items * n,
        "values": values,
    }
    return sum(cost * amounts[feature] for feature, cost in SECONDS_PER_FEATURE[handled.operation].items())


def sample(work: WorkDone, quiet_s: float) -> Sample:
    """`work`, measured to take `quiet_s`."""
    typical_s = SLOWER * quiet_s
    measured = Measured(
        blocks=42,
        quiet_s=quiet_s,
        quiet_low_s=0.99 * quiet_s,
        quiet_high_s=1.01 * quiet_s,
        typical_s=typical_s,
        typical_low_s=0.99 * typical_s,
        typical_high_s=1.01 * typical_s,
        seen_median_s=1.02 * typical_s,
        seen_p95_s=1.5 * typical_s,
        dispersion=0.1,
        outliers=1,
    )
    return Sample.of(work, measured)


def settings() -> list[WorkDone]:
    """Every operation at several settings."""
    found = []
    for n in DEGREES:
        found += [WorkDone(name, n, 26, 1, 0, 0) for name in WITHOUT_ITEMS]
        found += [WorkDone("weighted_sum", n, 26, 1, items, 0) for items in (1, 64)]
        found += [WorkDone(name, n, 26, 1, items, 0) for name in ("respond", "decrypt") for items in (1, n // 2)]
    for instances in (16, 128, 2048):
        for gates in (40, 90):
            found += [WorkDone(name, 0, 0, 1, gates * instances, instances) for name in ("garble", "evaluate")]
    for items in TRANSFERS:
        found += [WorkDone(name, 0, 0, 1, items, 0) for name in ("ot_send", "ot_receive")]
        found.append(WorkDone("transfer", 0, 0, 2, items, 0))
    return found


def runs(scale: float, per_layer_s: float) -> tuple[MeasuredRun, ...]:
    """Whole inferences in which each component takes `scale` times its operations, and `per_layer_s` a layer."""
    return tuple(
        _run(
            f"run{index}",
            layers,
            [work for work in settings() if work.n in {0, DEGREES[index % 3]}][index:],
            scale,
            per_layer_s,
        )
        for index, layers in enumerate((1, 3, 2, 1, 2, 3))
    )


def _run(name: str, layers: int, works: Iterable[WorkDone], scale: float, per_layer_s: float) -> MeasuredRun:
    work = tuple(works)
    quiet = dict.fromkeys(COMPONENT.values(), per_layer_s * layers)
    for done in work:
        quiet[COMPONENT[done.operation]] += scale * seconds(done)
    total = sum(quiet.values())
    return MeasuredRun(
        name=name,
        layers=layers,
        work=work,
        components={component: Seconds(value, SLOWER * value) for component, value in quiet.items()},
        latency=Seconds(total, SLOWER * total),
    )


def header(name: str = "synthetic") -> Header:
    return Header(
        schema_version=2,
        id="0123456789abcdef",
        name=name,
        measured_on="2026-11-23",
        depth="quick",
        seed=0,
        libraries={},
        software=Software(seal="none", kernels_version=0),
        machine=Machine(
            cpu="written down",
            architecture="x86_64",
            instruction_sets=("aes",),
            cores=2,
            memory_bytes=1 << 33,
            kernel="Linux 6.0",
            python="3.11.0",
            aes_path="portable",
            ring_path="portable",
            caches=Caches(1 << 15, 1 << 20, 1 << 25),
            frequency_policy="unknown",
            virtualisation="none",
        ),
        conditions=Conditions(
            load_average=0.0,
            reference_quiet_s=5.9e-5,
            reference_typical_s=6e-5,
            reference_slowdown_median=1.02,
            reference_slowdown_p95=1.5,
            slowdown_quantiles=((0.05, 1.0), (0.5, 1.02), (0.95, 1.5)),
            steal_share=0.0,
            busy_share=0.0,
            throttled=0,
            frequency_low_mhz=0.0,
            frequency_high_mhz=0.0,
            affinity_cores=2,
            verdict="quiet",
            reasons=(),
        ),
        processes=3,
        rounds=14,
    )


def profile(*, slower: float = 1.0, scale: float = 1.0, per_layer_s: float = 0.0) -> MachineProfile:
    """What would be measured on this machine, or on one `slower` times as slow."""
    return MachineProfile(
        header(),
        tuple(sample(work, slower * seconds(work)) for work in settings()),
        runs(slower * scale, slower * per_layer_s),
    )


def model(*, slower: float = 1.0, scale: float = 1.0, per_layer_s: float = 0.0) -> MachineModel:
    return fit(profile(slower=slower, scale=scale, per_layer_s=per_layer_s))
