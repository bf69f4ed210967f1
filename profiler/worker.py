"""One fresh process of a measurement: `python -m autoprivacy.profiler.worker ASKED`.

ASKED is a JSON object: `depth`, `rounds`, `seed`, and `keys` (settings by key, all where it is null). Prints one JSON
line a round, of [key, seconds, seconds of the reference beside], then "done".
"""

import json
import os
import sys

import numpy as np

from autoprivacy.profiler.harness import Block, measure
from autoprivacy.profiler.workloads import workloads


def main() -> None:
    """Measure what is asked once."""
    asked = json.loads(sys.argv[1])
    wanted = None if asked["keys"] is None else set(asked["keys"])
    chosen = [each for each in workloads(asked["depth"]) if wanted is None or each.key in wanted]
    keys = [each.key for each in chosen]

    def report(blocks: list[Block]) -> None:
        print(json.dumps([[keys[i], seconds, beside] for i, seconds, beside in blocks]), flush=True)  # noqa: T201 - the protocol

    try:
        measure(chosen, asked["rounds"], np.random.default_rng(asked["seed"]), report)
        print(json.dumps("done"), flush=True)  # noqa: T201 - as above
    except BrokenPipeError:  # whoever asked is gone, so nothing is left to say, at the end neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
