"""A client of its own process: infers images, prints what it found as one line, and stays until its input ends."""

import json
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np

from autoprivacy.common.records import load
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.session import Client
from autoprivacy.protocol.transport import Traffic, load_key


def main() -> None:
    address, key, agreement, images, schedule = json.loads(sys.stdin.readline())
    expected = load(Agreement, Path(agreement))
    found = []
    with Client(address, load_key(Path(key)), expected=expected, schedule=schedule) as client:
        for image in np.load(images, allow_pickle=False):
            spilled = 0
            if schedule == "preprocessed":
                client.prepare()
                spilled = client._prepared[0][0].spill.size
            inference = client.infer(image)
            offline = inference.offline
            found.append(
                {
                    "logits": inference.logits.tolist(),
                    "online": astuple(inference.online.traffic),
                    "online_s": inference.latency_s,
                    "offline": astuple(Traffic() if offline is None else offline.traffic),
                    "offline_s": 0.0 if offline is None else offline.latency_s,
                    "spilled": spilled,
                }
            )
    print(json.dumps(found), flush=True)  # noqa: T201 - the test reads it
    sys.stdin.read()


if __name__ == "__main__":
    main()
