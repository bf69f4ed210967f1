"""What this machine and this software are, as far as figures depend on it."""

import os
import platform
from importlib.metadata import version

from autoprivacy.hwprofiles.machine_profile import Machine, Software
from autoprivacy.protocol import KERNELS_VERSION

_RELEVANT = ("aes", "avx2", "avx512f", "avx512ifma", "vaes", "vpclmulqdq", "bmi2", "asimd")


def describe_machine() -> Machine:
    """The machine this runs on."""
    import psutil
    from cpuinfo import get_cpu_info

    from autoprivacy.protocol import _native

    info = get_cpu_info()
    flags = set(info.get("flags", ()))
    return Machine(
        cpu=info.get("brand_raw", "unknown"),
        architecture=platform.machine(),
        instruction_sets=tuple(name for name in _RELEVANT if name in flags),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        aes_path=_native.aes_path(),
    )


def describe_software() -> Software:
    """The software that figures depend on."""
    return Software(seal=version("seal-python"), kernels_version=KERNELS_VERSION)
