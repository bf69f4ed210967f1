"""Networks of the zoo in private, between two processes: with error-free policies every logit is the reference's.

`make test-slow` runs them; minutes each. Untrained networks have random weights, which is as good for this.
"""

import json
import subprocess
import sys
from dataclasses import astuple

import numpy as np
import pytest

from autoprivacy.common.records import save
from autoprivacy.networks import data, zoo
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.integer_network import LayerWidths, Widths
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.protocol.agreeing import agree, linear_shape
from autoprivacy.protocol.error_model import FAILURE_BITS, decryption_errors, network_failure_bits
from autoprivacy.protocol.he_set import he_set_for, least_batching_prime
from autoprivacy.protocol.linear_layer import default_tile_of
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import LayerPolicy, Policy, Provenance
from benchmarks.inference_client import peak_bytes
from tests.protocol.conftest import Deployed
from tests.protocol.test_session import server_process

BITS = 5
IMAGES = {"digits-cnn": 100, "lenet5": 20, "minionn": 5, "resnet20": 2, "resnet32": 1}
MOST_RESIDENT = 2 << 30


def deploy(name, packing):
    trained, splits = zoo.load(name), data.splits(name)
    widths = Widths(tuple(LayerWidths(layer.name, BITS, BITS) for layer in trained.network.linear_layers))
    network = Quantiser(trained, splits.calibrate.x).quantise(widths)
    least = least_modulus_bits(network)
    layers = {}
    for layer in network.linear_layers:
        shape, bits = linear_shape(layer), least[layer.name]
        if packing == "slots":
            he_set = he_set_for(8192, (50, 50), least_batching_prime(8192, 1 << bits), special_bits=60)
        else:
            he_set = he_set_for(2048, (53,), 1 << bits)
        tile = default_tile_of(shape, packing, he_set.n)
        layers[layer.name] = LayerPolicy(packing, he_set.n, he_set.limbs, he_set.t, tile, BITS, BITS, he_set.special)
    made_by = Provenance("0", "by hand", ("none",), "total", None, None)
    policy = Policy(1, network.name, network.trained_hash, "rerandomise", "he2024", layers, made_by)
    return Deployed(network, policy, agree(network, policy)), splits.confirm


def inferred(deployed, images, schedule, folder):
    """What a client of its own process found, its peak of memory, and the server's, each read from outside."""
    save(deployed.agreement, folder / "agreement")
    np.save(folder / "images.npy", images)
    command = [sys.executable, "-m", "tests.protocol.client_process"]
    with server_process(deployed, folder) as (address, _, server):
        job = [address, str(folder / "key"), str(folder / "agreement"), str(folder / "images.npy"), schedule]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(json.dumps(job) + "\n")
            client.stdin.flush()
            found = json.loads(client.stdout.readline())
            peaks = [peak_bytes(process.pid) for process in (client, server)]
            client.stdin.close()
            assert client.wait(60) == 0
        assert server.wait(60) == 0
    return found, peaks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "packing", "schedule"),
    [
        *((name, "coefficients", "online") for name in IMAGES),
        *((name, "slots", "online") for name in ("digits-cnn", "lenet5")),
        *((name, "coefficients", "preprocessed") for name in ("digits-cnn", "lenet5", "minionn", "resnet32")),
        *((name, "slots", "preprocessed") for name in ("digits-cnn", "lenet5")),
    ],
)
def test_private_logits_are_those_of_the_integer_reference(name, packing, schedule, tmp_path):
    deployed, split = deploy(name, packing)
    failure_bits = network_failure_bits(decryption_errors(deployed.network, deployed.agreement))
    assert failure_bits >= FAILURE_BITS
    images = split.x[: IMAGES[name] if packing == "coefficients" else 3]
    planned = plan_network(deployed.network, deployed.agreement, schedule)
    found, peaks = inferred(deployed, images, schedule, tmp_path)
    assert [run["logits"] for run in found] == deployed.logits(images).tolist()
    for run in found:
        assert run["online"] == list(astuple(planned.online_traffic))
        assert run["offline"] == list(astuple(planned.offline_traffic))
        assert run["spilled"] == planned.client_spill_bytes
    assert max(peaks) < MOST_RESIDENT
    online, offline = (np.median([run[phase] for run in found]) for phase in ("online_s", "offline_s"))
    said = (
        f"{name}, {packing}, {schedule}: {len(images)} images equal, median {online:.3f} s online, "
        f"{offline:.3f} s offline, "
        f"at most {peaks[0] / 2**20:.0f} MiB resident at the client, {peaks[1] / 2**20:.0f} at the server, "
        f"{planned.bytes_up / 1e6:.1f} MB up, {planned.bytes_down / 1e6:.1f} MB down, "
        f"offline {planned.offline_traffic.bytes_sent / 1e6:.1f} up, "
        f"{planned.offline_traffic.bytes_received / 1e6:.1f} down, "
        f"spilled {planned.client_spill_bytes / 1e6:.1f} and {planned.server_spill_bytes / 1e6:.1f} MB, "
        f"fails once in 2^{failure_bits:.0f}"
    )
    print(said)  # noqa: T201 - the record of the run, which pytest -s shows
