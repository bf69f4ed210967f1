"""What this machine and this software are, as far as figures depend on it."""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from autoprivacy.hwprofiles.header import Caches, Machine, Software
from autoprivacy.protocol import KERNELS_VERSION

_RELEVANT = ("aes", "avx2", "avx512f", "avx512ifma", "vaes", "vpclmulqdq", "bmi2", "asimd")
_LIBRARIES = ("numpy", "scipy", "seal-python", "PyNaCl", "autoprivacy")
_CPU = Path("/sys/devices/system/cpu/cpu0")
UNKNOWN = "unknown"


def describe_machine() -> Machine:
    """The machine this runs on."""
    import psutil
    from cpuinfo import get_cpu_info

    from autoprivacy.protocol import _native
    from autoprivacy.protocol.he_set import ntt_prime
    from autoprivacy.protocol.rings import ring_of

    info = get_cpu_info()
    flags = set(info.get("flags", ()))
    return Machine(
        cpu=info.get("brand_raw", UNKNOWN),
        architecture=platform.machine(),
        instruction_sets=tuple(name for name in _RELEVANT if name in flags),
        cores=affinity_cores(),
        memory_bytes=psutil.virtual_memory().total,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        aes_path=_native.aes_path(),
        ring_path=ring_of(1024, (ntt_prime(1024, 26),)).path,
        caches=_caches(),
        frequency_policy=_line(_CPU / "cpufreq/scaling_governor"),
        virtualisation=_virtualisation(flags),
    )


def allowed_cores() -> tuple[int, ...]:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def affinity_cores() -> int:
    """How many cores this process may run on."""
    return len(allowed_cores())


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()[:80] or UNKNOWN
    except (OSError, UnicodeError):
        return UNKNOWN


def _caches() -> Caches:
    sizes = {1: 0, 2: 0, 3: 0}
    for index in sorted(_CPU.glob("cache/index*")):
        level, kind, size = (_line(index / name) for name in ("level", "type", "size"))
        if kind != "Instruction" and level in {"1", "2", "3"} and size.endswith("K") and size[:-1].isdigit():
            sizes[int(level)] = 1024 * int(size[:-1])
    return Caches(*sizes.values())


def _virtualisation(flags: set[str]) -> str:
    """The hypervisor's product where the firmware names it; serial numbers and host names are not read."""
    if "hypervisor" not in flags:
        return "none seen"
    product = _line(Path("/sys/class/dmi/id/sys_vendor"))
    return "hypervisor" if product == UNKNOWN else f"hypervisor of {product}"


def describe_software() -> Software:
    """The software that figures depend on."""
    return Software.installed(KERNELS_VERSION)


def describe_libraries() -> dict[str, str]:
    """Versions of the libraries that take part."""
    return {name: version(name) for name in _LIBRARIES}


@contextmanager
def on_core(index: int, among: Sequence[int] | None = None) -> Iterator[None]:
    """Run on one core alone, `among` those that there are; threads and processes that are made inside, too."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before, cores = os.sched_getaffinity(0), among or allowed_cores()
    os.sched_setaffinity(0, {cores[index % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
