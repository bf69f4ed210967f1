"""Two profiles side by side: which operations differ, and by how much."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from autoprivacy.common.errors import ProfileMismatch
from autoprivacy.common.records import record
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.hwprofiles.samples import Sample, WorkDone

KINDS: Final = ("quiet", "typical", "seen")


@record
class Difference:
    """One setting in two profiles: the second's seconds over the first's.

    `distinct` says that the intervals of the quiet times do not touch.
    """

    work: WorkDone
    code_path: str
    quiet_ratio: float
    typical_ratio: float
    seen_ratio: float
    distinct: bool

    def ratio(self, kind: str) -> float:
        """One of the ratios."""
        return float(getattr(self, f"{kind}_ratio"))


@record
class Spread:
    """Absolute relative differences of all settings, in percent: median, 95 % quantile and largest."""

    median_pct: float
    p95_pct: float
    largest_pct: float


@record
class Comparison:
    """All settings that two profiles share, and how far apart they are; `only` counts settings that one alone has."""

    first: str
    second: str
    quiet: Spread
    typical: Spread
    seen: Spread
    only_first: int
    only_second: int
    differences: tuple[Difference, ...]


def compare(
    first: MachineProfile, second: MachineProfile, *, core: Sequence[tuple[WorkDone, str]] | None = None
) -> Comparison:
    """The settings that both measured, or those of `core` among them.

    Raises:
        ProfileMismatch: if there are none.
    """
    wanted = None if core is None else set(core)
    ours, theirs = _by_setting(first), _by_setting(second)
    shared = [key for key in ours if key in theirs and (wanted is None or key in wanted)]
    if not shared:
        raise ProfileMismatch(
            f"profiles {first.header.name} and {second.header.name} have no setting in common; measure one again"
        )
    found = tuple(_difference(key, ours[key], theirs[key]) for key in shared)
    return Comparison(
        first=first.header.name,
        second=second.header.name,
        quiet=spread([each.quiet_ratio for each in found]),
        typical=spread([each.typical_ratio for each in found]),
        seen=spread([each.seen_ratio for each in found]),
        only_first=len(ours) - len(set(ours) & set(theirs)),
        only_second=len(theirs) - len(set(ours) & set(theirs)),
        differences=found,
    )


def _by_setting(profile: MachineProfile) -> dict[tuple[WorkDone, str], Sample]:
    return {(sample.work, sample.code_path): sample for sample in profile.samples if sample.processes == 1}


def _difference(key: tuple[WorkDone, str], first: Sample, second: Sample) -> Difference:
    return Difference(
        work=key[0],
        code_path=key[1],
        quiet_ratio=second.quiet_s / first.quiet_s,
        typical_ratio=second.typical_s / first.typical_s,
        seen_ratio=second.seen_median_s / first.seen_median_s,
        distinct=second.quiet_low_s > first.quiet_high_s or first.quiet_low_s > second.quiet_high_s,
    )


def spread(ratios: Sequence[float]) -> Spread:
    """How far ratios are from 1: |second - first| over the mean of both.

    >>> spread([1.0, 1.0, 3.0]).largest_pct
    100.0
    """
    values = np.asarray(ratios)
    apart = 100 * np.abs(values - 1) / ((values + 1) / 2)
    return Spread(*(float(each) for each in (np.median(apart), np.quantile(apart, 0.95), apart.max())))
