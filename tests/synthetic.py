"""A machine whose every cost is known, because it was written down here and not measured."""

from functools import cache
from itertools import cycle
from math import log2
from typing import Literal

from autoprivacy.hwprofiles.link_profile import (
    LinkHeader,
    LinkProfile,
    LinkSummary,
    RoundTrips,
    SlowStart,
    TransferSample,
)
from autoprivacy.hwprofiles.machine_profile import (
    Caches,
    ChosenSet,
    Conditions,
    Header,
    LayerShape,
    Machine,
    MachineProfile,
    Measured,
    MeasuredLayer,
    MeasuredRun,
    ParallelSample,
    Sample,
    Seconds,
    Software,
    WorkDone,
)
from autoprivacy.models.features import Handled
from autoprivacy.models.machine_model import MachineModel, fit
from autoprivacy.protocol.plan import hidden_share

SLOWER = 1.25
"""Typical time over quiet time, everywhere."""

SECONDS_PER_FEATURE = {
    "encrypt": {"calls": 3e-5, "nL": 2e-8, "nL log n": 1e-9},
    "receive": {"calls": 1e-5, "nL": 5e-9},
    "receive_add_share": {"calls": 2e-5, "nL": 6e-9},
    "to_ntt": {"calls": 2e-6, "nL": 3e-9, "nL log n": 1.5e-9},
    "from_ntt": {"calls": 3e-6, "nL": 2e-9, "nL log n": 2.5e-9},
    "weighted_sum": {"calls": 4e-6, "items": 1e-6, "items nL": 8e-9},
    "respond": {"calls": 5e-5, "nL": 4e-8, "nL log n": 5e-9, "items": 2e-8},
    "decrypt": {"calls": 2e-5, "nL": 3e-8, "nL log n": 4e-9, "items": 1e-8},
    "garble": {"calls": 1e-4, "items": 9e-9, "values": 3e-7},
    "evaluate": {"calls": 2e-4, "items": 5e-9, "values": 4e-7},
    "ot_send": {"calls": 6e-5, "items": 2e-8},
    "ot_receive": {"calls": 7e-5, "items": 3e-8},
    "transfer": {"calls": 2e-5, "bytes": 4e-10},
    "encode": {"calls": 3e-6, "nL": 4e-9, "nL log n": 1e-9},
    "generate_keys": {"calls": 1e-4, "nL": 9e-8, "nL log n": 2e-9},
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
    "ot_send": "server_ot_s",
    "ot_receive": "client_ot_s",
    "transfer": "link_s",
    "encode": "server_setup_s",
    "generate_keys": "client_setup_s",
}

WITHOUT_ITEMS = ("encrypt", "receive", "receive_add_share", "to_ntt", "from_ntt", "encode", "generate_keys")
ONCE = ("encode", "generate_keys")
"""What is done once a session, not in an inference."""
DEGREES = (1024, 2048, 4096, 8192, 16384)
TRANSFERS = (16, 512, 4096, 65536, 1 << 18, 1 << 20)


def seconds(handled: Handled) -> float:
    """The quiet time of a work or a sample on this machine, from the table above alone."""
    calls, items, size = handled.calls, handled.items, handled.n * handled.limbs
    amounts = {
        "calls": calls,
        "nL": calls * size,
        "nL log n": calls * size * log2(handled.n) if handled.n else 0,
        "items": items,
        "items nL": items * size,
        "values": handled.values,
        "bytes": handled.bytes,
    }
    return sum(cost * amounts[feature] for feature, cost in SECONDS_PER_FEATURE[handled.operation].items())


START = 5
LEAST_S = 1e-12


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


def he(operation: str, n: int, limb_bits: int, items: int = 0, *, limbs: int = 1) -> WorkDone:
    """One call of an HE operation of packing `coefficients`, masked uniformly."""
    return WorkDone(
        operation,
        n,
        limb_bits * limbs,
        calls=1,
        items=items,
        limbs=limbs,
        limb_bits=limb_bits,
        t_bits=16,
        kept=1 if operation in {"respond", "decrypt"} else 0,
        kernel="ring",
        privacy="uniform" if operation == "respond" else "",
        state="streamed" if operation == "weighted_sum" else "",
    )


def settings() -> list[WorkDone]:
    """Every operation at several settings."""
    found = []
    for n in DEGREES:
        for bits in (26, 53):
            found += [he(name, n, bits) for name in WITHOUT_ITEMS]
            found += [he("weighted_sum", n, bits, items) for items in (1, 64)]
            found += [he(name, n, bits, items) for name in ("respond", "decrypt") for items in (1, n // 2)]
    for instances in (16, 128, 2048):
        for gates in (40, 90):
            found += [WorkDone(name, 0, 0, 1, gates * instances, instances) for name in ("garble", "evaluate")]
    for items, state in zip(TRANSFERS, cycle(("up", "down"))):  # each is waited for
        found += [WorkDone(name, 0, 0, 1, items) for name in ("ot_send", "ot_receive")]
        found.append(WorkDone("transfer", 0, 0, 2, items, bytes=items, state=state))
    return found


def layers(scale: float, per_layer_s: float) -> tuple[MeasuredLayer, ...]:
    """Layers of six runs, in which each part takes `scale` times its operations, and `per_layer_s`.

    Of the link a message takes that much more, and the first layer of a run `START` times that.
    """
    shape = LayerShape(1, 8, 8, 1, (3, 3), (1, 1), (1, 1, 1, 1), 1)
    chosen = ChosenSet("coefficients", 1024, (1,), None, 1 << 16, 4, 4, 1, 0, 0, "uniform", "")
    found = []
    for run, count in enumerate((1, 3, 2, 1, 2, 3)):
        for index in range(count):
            work = [each for each in settings() if each.n in {0, DEGREES[(run + index) % 3]}][run:]
            work = [each for each in work if each.operation not in ONCE]
            parts = dict.fromkeys(
                (part for operation, part in COMPONENT.items() if operation not in {*ONCE, "transfer"}), per_layer_s
            )
            messages = sum(done.operation == "transfer" for done in work)
            parts |= {"link_s": per_layer_s * (messages + START * (index == 0)), "other_s": max(per_layer_s, LEAST_S)}
            for done in work:
                parts[COMPONENT[done.operation]] += scale * seconds(done)
            measured = {part: Seconds(value, SLOWER * value) for part, value in parts.items()}
            found.append(
                MeasuredLayer(f"run{run}", f"layer{index}", shape, chosen, tuple(work), 24, 1000, 1000, measured)
            )
    return tuple(found)


def runs(scale: float, per_layer_s: float) -> tuple[MeasuredRun, ...]:
    """Whole inferences of those layers."""
    found: dict[str, list[MeasuredLayer]] = {}
    for layer in layers(scale, per_layer_s):
        found.setdefault(layer.run, []).append(layer)
    return tuple(_run(name, own) for name, own in found.items())


def _run(name: str, own: list[MeasuredLayer]) -> MeasuredRun:
    work = tuple(each for layer in own for each in layer.work)
    parts = {
        "client_he_s": ("client_he_s",),
        "server_he_s": ("server_he_s",),
        "ot_s": ("client_ot_s", "server_ot_s"),
        "garble_s": ("garble_s",),
        "evaluate_s": ("evaluate_s",),
        "link_s": ("link_s",),
        "other_s": ("other_s",),
    }
    quiet = {
        name: sum(layer.components[part].quiet_s for layer in own for part in those) for name, those in parts.items()
    }
    hidden = sum(
        hidden_share(layer.work) * min(layer.components[part].quiet_s for part in ("garble_s", "evaluate_s"))
        for layer in own
    )
    total = sum(quiet.values()) - hidden
    return MeasuredRun(
        name=name,
        layers=len(own),
        work=work,
        components={part: Seconds(value, SLOWER * value) for part, value in quiet.items()},
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
            slowdown_quantiles=((0.05, 1.0), (0.5, 1.02), (0.75, 1.1), (0.95, 1.5)),
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
        layers(slower * scale, slower * per_layer_s),
    )


@cache
def model(*, slower: float = 1.0, scale: float = 1.0, per_layer_s: float = 0.0) -> MachineModel:
    return fit(profile(slower=slower, scale=scale, per_layer_s=per_layer_s))


def link(*, kind: Literal["measured", "declared"] = "measured") -> LinkProfile:
    """A link of 8 Mbit/s and a round trip of 1 ms."""
    transfers = tuple(
        TransferSample(direction, 1000, 10, 9, 0.001, 0.001, 0.001, 0.001, 0.0, 1, 1e6)
        for direction in ("up", "down", "both", "round_trip")
    )
    measured = kind == "measured"
    header = LinkHeader(
        schema_version=1,
        id="fedcba9876543210",
        name="synthetic",
        kind=kind,
        measured_on="2026-11-23",
        source="written down",
        client_profile="",
        server_profile="",
        loopback=False,
        tls=True,
        congestion_control="cubic",
        summary=LinkSummary(0.001, 1e6, 1e6, 1e6, 1e-5, 1e-5),
        round_trips=RoundTrips(9, ((0.05, 0.001), (0.5, 0.001), (0.95, 0.002))) if measured else None,
        slow_start=SlowStart(1 << 20, 1.5, 1.0) if measured else None,
        converged=True,
    )
    return LinkProfile(header, transfers if measured else ())


def parallel() -> tuple[ParallelSample, ...]:
    """Two workers that hardly disturb each other."""
    return (ParallelSample("garble", "", 0, 1, 0, 100, 2, 40, 1.01, 1.05, 1.04, 1.06),)
