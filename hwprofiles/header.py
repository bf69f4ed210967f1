"""`profile.json`: what the machine was, and how quiet."""

from typing import Literal

from autoprivacy.common.records import record


@record
class Software:
    """What the figures depend on besides the machine; a profile of other software is stale."""

    seal: str
    kernels_version: int

    @classmethod
    def installed(cls, kernels_version: int) -> "Software":
        """What runs here; whoever knows the kernels says their version."""
        from importlib.metadata import version

        return cls(seal=version("seal-python"), kernels_version=kernels_version)


@record
class Caches:
    """Bytes of one core's data caches, and of the last level; 0 where unknown."""

    level_1_bytes: int
    level_2_bytes: int
    level_3_bytes: int


@record
class Machine:
    """What the machine is; no host name, user, serial number or address.

    `aes_path` and `ring_path` are the code paths that our kernels take here.
    """

    cpu: str
    architecture: str
    instruction_sets: tuple[str, ...]
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    aes_path: str
    ring_path: str
    caches: Caches
    frequency_policy: str
    virtualisation: str


@record
class Conditions:
    """How quiet it was.

    The reference operation's quiet and typical seconds, and its slow-down (over its quiet time): median, 95 %
    quantile, and quantiles as (share, slow-down), ascending. `steal_share` is processor time that a hypervisor took,
    `busy_share` what other processes used, of all cores; `throttled` counts thermal events. `reasons` say why a
    verdict is noisy.
    """

    load_average: float
    reference_quiet_s: float
    reference_typical_s: float
    reference_slowdown_median: float
    reference_slowdown_p95: float
    slowdown_quantiles: tuple[tuple[float, float], ...]
    steal_share: float
    busy_share: float
    throttled: int
    frequency_low_mhz: float
    frequency_high_mhz: float
    affinity_cores: int
    verdict: Literal["quiet", "noisy"]
    reasons: tuple[str, ...]


@record
class Header:
    """`profile.json`; `libraries` are versions by name; `interrupted` says that it was broken off and gone on with."""

    schema_version: Literal[1, 2]
    id: str
    name: str
    measured_on: str
    depth: Literal["quick", "standard", "full"]
    seed: int
    software: Software
    libraries: dict[str, str]
    machine: Machine
    conditions: Conditions
    processes: int
    rounds: int
    interrupted: bool = False
