"""`profiles check`: a sample of a profile measured again, in seconds: is it still this machine?"""

from typing import Final

import numpy as np

from autoprivacy.common.errors import ProfileMismatch
from autoprivacy.common.progress import Progress
from autoprivacy.common.records import record
from autoprivacy.hwprofiles.machine_profile import MachineProfile, check_fresh
from autoprivacy.profiler.harness import key_of
from autoprivacy.profiler.machine import describe_machine, describe_software
from autoprivacy.profiler.processes import Blocks, measure_in_fresh_process
from autoprivacy.profiler.statistics import quiet

SETTINGS: Final = 16
PROCESSES: Final = 2
ROUNDS: Final = 20
DRIFTED: Final = 0.1
"""A quiet time further off than this has drifted: above what two profiles of one machine differ by."""

MUST_MATCH: Final = ("cpu", "architecture", "instruction_sets", "cores", "aes_path", "ring_path")
"""What makes it another machine; a kernel, a Python or a little memory more is said, and judged by what it costs."""


@record
class Drift:
    """One setting: what the profile says, and what it takes now."""

    operation: str
    kernel: str
    n: int
    limbs: int
    items: int
    profiled_quiet_s: float
    quiet_s: float
    ratio: float
    drifted: bool


@record
class Checked:
    """A profile against this machine, today.

    `differing` names what the machine is described by otherwise; `same_machine` says that none of it makes it another
    one (`MUST_MATCH`). `reference_ratio` is the reference operation's quiet time now over that of the profile; `holds`
    says that the machine is the same, and that at most one setting in ten drifted.
    """

    profile: str
    same_machine: bool
    differing: tuple[str, ...]
    reference_ratio: float
    median_ratio: float
    settings: tuple[Drift, ...]
    holds: bool


def check(profile: MachineProfile, progress: Progress, *, seed: int = 0) -> Checked:
    """Measure a random sample of the core settings again.

    Raises:
        ProfileMismatch: if the profile is stale, or holds no core setting.
        AutoPrivacyError: if a measuring process fails.
    """
    from autoprivacy.profiler.workloads import workloads

    check_fresh(profile, describe_software())
    rng = np.random.default_rng(seed)
    known = {workload.key for workload in workloads("quick")}
    samples = {key_of(sample.work, sample.code_path): sample for sample in profile.samples if sample.processes == 1}
    usable = sorted(set(samples) & known)
    if not usable:
        raise ProfileMismatch(
            f"profile {profile.header.name} holds no setting that is measured here; "
            "measure again with `autoprivacy profile`"
        )
    chosen = [usable[index] for index in rng.permutation(len(usable))[:SETTINGS].tolist()]
    blocks = Blocks()
    with progress("measuring a sample again", PROCESSES * ROUNDS) as advance:

        def keep(found: list[tuple[str, float, float]]) -> None:
            blocks.add(found)
            advance()

        for process in range(PROCESSES):
            measure_in_fresh_process(
                {"depth": "quick", "rounds": ROUNDS, "seed": [seed, process], "keys": chosen}, keep
            )
    drifts = []
    reference_s = quiet(blocks.references)
    for key in chosen:
        seconds, beside = zip(*blocks.by_key[key], strict=True)
        sample, now = samples[key], quiet(seconds, [each / reference_s for each in beside])
        ratio = now / sample.quiet_s
        drifts.append(
            Drift(
                operation=sample.operation,
                kernel=sample.kernel,
                n=sample.n,
                limbs=sample.limbs,
                items=sample.items,
                profiled_quiet_s=sample.quiet_s,
                quiet_s=now,
                ratio=ratio,
                drifted=abs(ratio - 1) > DRIFTED,
            )
        )
    here = describe_machine()
    fields = type(here).__dataclass_fields__
    differing = tuple(name for name in fields if getattr(here, name) != getattr(profile.header.machine, name))
    same = not set(differing) & set(MUST_MATCH)
    drifted = sum(drift.drifted for drift in drifts)
    return Checked(
        profile=profile.header.name,
        same_machine=same,
        differing=differing,
        reference_ratio=reference_s / profile.header.conditions.reference_quiet_s,
        median_ratio=float(np.median([drift.ratio for drift in drifts])),
        settings=tuple(drifts),
        holds=same and drifted <= len(drifts) // 10,
    )
