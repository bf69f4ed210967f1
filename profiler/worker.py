"""One fresh process of a measurement: `python -m autoprivacy.profiler.worker ROUNDS SEED`.

Prints a dot line a round, then one JSON line of seconds by workload.
"""

import json
import sys

import numpy as np

from autoprivacy.profiler.harness import measure
from autoprivacy.profiler.workloads import workloads


def main() -> None:
    """Measure everything once."""
    rounds, seed = map(int, sys.argv[1:])
    seconds = measure(
        workloads(),
        rounds,
        np.random.default_rng(seed),
        lambda: print(".", flush=True),  # noqa: T201 - the protocol
    )
    print(json.dumps(seconds))  # noqa: T201 - as above


if __name__ == "__main__":
    main()
