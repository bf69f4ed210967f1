import subprocess
import sys

import pytest

from autoprivacy.protocol.memory import keep_freed_memory

FAULTS = """
import resource, threading
import numpy as np
from autoprivacy.protocol.memory import keep_freed_memory

def used():
    return [*(np.ones(3 << 20, np.uint8) for _ in range(30)), np.ones(40 << 20, np.uint8)]

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        used()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def main():
    faults(2)
    print(faults(4))

{first}
thread = threading.Thread(target=main)
thread.start()
thread.join()
"""


SERVER = """
from autoprivacy.profiler.layers import profiled_networks
from autoprivacy.protocol.session import Server

Server(*next(profiled_networks("quick")), b"key", reveal_for_testing=False)
"""


def faults(first: str) -> int:
    code = FAULTS.format(first=first)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="this C library gives memory back as it likes")
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    kept, given_back, served = faults("assert keep_freed_memory()"), faults(""), faults(SERVER)
    assert max(kept, served) < 100
    assert given_back > 1000
