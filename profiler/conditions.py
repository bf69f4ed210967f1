"""What went on beside a measurement: load, other processes, stolen time, frequency, throttling."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from autoprivacy.hwprofiles.header import Conditions
from autoprivacy.hwprofiles.samples import Sample
from autoprivacy.profiler.machine import affinity_cores
from autoprivacy.profiler.statistics import quiet, typical

SHARES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
NOISY_SLOWDOWN: Final = 1.15
NOISY_QUARTER: Final = 1.25
"""The reference operation took so many times its quiet time for a quarter of the time. With 1.48, and 1.148 at the
median, levelled times of whole layers still were 10 to 20 % longer than with 1.09 and 1.12 (Emerald Rapids virtual
machine, three full profiles)."""
NOISY_STEAL: Final = 0.02
NOISY_OTHERS_CORES: Final = 0.2
NOISY_FREQUENCY: Final = 0.9
WIDE_INTERVAL: Final = 0.05
NOISY_WIDE_SHARE: Final = 0.25
_STAT: Final = Path("/proc/stat")
_CPUS: Final = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Counters:
    """Processor seconds of all cores since the machine started; thermal events."""

    busy_s: float
    stolen_s: float
    throttled: int


def read_counters() -> Counters:
    """What the kernel counts; zeros where it does not."""
    try:
        fields = _STAT.read_text(encoding="utf-8").splitlines()[0].split()[1:]
        ticks = [int(each) for each in fields] + [0] * 8
        per_s = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        ticks, per_s = [0] * 8, 1
    user, nice, system, _, _, irq, soft, steal = ticks[:8]
    events = 0
    for path in _CPUS.glob("cpu*/thermal_throttle/*_throttle_count"):
        try:
            events += int(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return Counters((user + nice + system + irq + soft) / per_s, steal / per_s, events)


def frequency_mhz() -> float:
    """The highest current frequency of any core; 0 where unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return max((float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")), default=0.0)
    except (OSError, ValueError):
        return 0.0


def own_cpu_s() -> float:
    """Processor seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass(slots=True)
class Watch:
    """Watches from its making until `conditions`; `look` notes the frequency."""

    load_average: float = field(default_factory=lambda: round(os.getloadavg()[0], 2))
    started_s: float = field(default_factory=time.monotonic)
    own_s: float = field(default_factory=own_cpu_s)
    counters: Counters = field(default_factory=read_counters)
    frequencies: list[float] = field(default_factory=lambda: [frequency_mhz()])

    def look(self) -> None:
        """Note what changes while it is measured."""
        self.frequencies.append(frequency_mhz())

    def conditions(self, references: Sequence[float], samples: Sequence[Sample]) -> Conditions:
        """How quiet it was, from the reference operation's blocks and what was counted."""
        now = read_counters()
        elapsed = max(1e-9, time.monotonic() - self.started_s)
        busy_s = max(0.0, now.busy_s - self.counters.busy_s - (own_cpu_s() - self.own_s))
        cores = os.cpu_count() or 1
        quiet_s = quiet(references)
        slowdown = np.asarray(references) / quiet_s
        known = [each for each in self.frequencies if each]
        found = Conditions(
            load_average=self.load_average,
            reference_quiet_s=quiet_s,
            reference_typical_s=typical(references),
            reference_slowdown_median=float(np.median(slowdown)),
            reference_slowdown_p95=float(np.quantile(slowdown, 0.95)),
            slowdown_quantiles=tuple((share, float(np.quantile(slowdown, share))) for share in SHARES),
            steal_share=min(1.0, max(0.0, now.stolen_s - self.counters.stolen_s) / elapsed / cores),
            busy_share=min(1.0, busy_s / elapsed / cores),
            throttled=max(0, now.throttled - self.counters.throttled),
            frequency_low_mhz=min(known, default=0.0),
            frequency_high_mhz=max(known, default=0.0),
            affinity_cores=affinity_cores(),
            verdict="quiet",
            reasons=(),
        )
        return judged(found, cores, [wide(sample) for sample in samples])


def wide(sample: Sample) -> bool:
    """Whether the quiet time's interval is wider than WIDE_INTERVAL of it."""
    return sample.quiet_high_s - sample.quiet_low_s > WIDE_INTERVAL * sample.quiet_s


def judged(found: Conditions, cores: int, wide_intervals: Sequence[bool]) -> Conditions:
    """The conditions with their verdict: noisy for any one reason."""
    from dataclasses import replace

    reasons = []
    if found.reference_slowdown_median >= NOISY_SLOWDOWN:
        reasons.append(
            f"the reference operation typically took {found.reference_slowdown_median:.2f} times its quiet time"
        )
    quarter = dict(found.slowdown_quantiles)[0.75]
    if quarter >= NOISY_QUARTER:
        reasons.append(f"a quarter of the time the reference operation took {quarter:.2f} times its quiet time or more")
    if found.steal_share >= NOISY_STEAL:
        reasons.append(f"the hypervisor took {found.steal_share:.1%} of processor time")
    if found.busy_share * cores >= NOISY_OTHERS_CORES:
        reasons.append(f"other processes kept {found.busy_share * cores:.2f} cores busy")
    if found.throttled:
        reasons.append(f"{found.throttled} thermal throttling events")
    if found.frequency_low_mhz < NOISY_FREQUENCY * found.frequency_high_mhz:
        reasons.append(f"the frequency went from {found.frequency_low_mhz:.0f} to {found.frequency_high_mhz:.0f} MHz")
    share = sum(wide_intervals) / max(1, len(wide_intervals))
    if share > NOISY_WIDE_SHARE:
        reasons.append(f"{share:.0%} of the quiet times are known to within {WIDE_INTERVAL:.0%} only, or worse")
    return replace(found, verdict="noisy" if reasons else "quiet", reasons=tuple(reasons))
