"""Memory that was freed stays with the process.

A page that the kernel hands out is cleared and mapped at its first touch. The C library gives large blocks, and the
ends of its heaps, back as soon as they are freed; an inference of `minionn` would take 36,000 page faults at both
parties together, a sixth of its time. A process that plays a party keeps all it ever used at once, until it ends.
"""

import ctypes
import sys
from typing import Final

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Parameters of mallopt(3) of the GNU C library."""

_MOST: Final = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """From now on, in the whole process; returns whether the C library can (GNU's can).

    All threads that are made later share one arena: heaps of others are bounded, and given back beyond their bounds.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    # No block is mapped on its own, whatever its size: a threshold for that can be at most 32 MiB.
    wanted = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _MOST))
    return all(mallopt(parameter, value) for parameter, value in wanted)
