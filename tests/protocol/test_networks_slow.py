"""Networks of the zoo in private, between two processes: with error-free policies every logit is the reference's.

`make test-slow` runs them; minutes each. Untrained networks have random weights, which is as good for this.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

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
from autoprivacy.protocol.session import Client
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


@contextmanager
def client_of(deployed, folder: Path):
    with server_process(deployed, folder) as (address, key, process):
        with Client(address, key, expected=deployed.agreement) as client:
            yield client, psutil.Process(process.pid)
        assert process.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "packing"),
    [*((name, "coefficients") for name in IMAGES), ("digits-cnn", "slots"), ("lenet5", "slots")],
)
def test_private_logits_are_those_of_the_integer_reference(name, packing, tmp_path):
    deployed, split = deploy(name, packing)
    failure_bits = network_failure_bits(decryption_errors(deployed.network, deployed.agreement))
    assert failure_bits >= FAILURE_BITS
    images = split.x[: IMAGES[name] if packing == "coefficients" else 3]
    planned, wanted = plan_network(deployed.network, deployed.agreement), deployed.logits(images)
    latencies, resident = [], 0
    with client_of(deployed, tmp_path) as (client, server):
        for image, logits in zip(images, wanted, strict=True):
            found = client.infer(image)
            assert np.array_equal(found.logits, logits)
            assert (found.bytes_up, found.bytes_down) == (planned.bytes_up, planned.bytes_down)
            latencies.append(found.latency_s)
            resident = max(resident, server.memory_info().rss, psutil.Process().memory_info().rss)
    assert resident < MOST_RESIDENT
    said = (
        f"{name}, {packing}: {len(images)} images equal, median {np.median(latencies):.3f} s, "
        f"{resident / 2**20:.0f} MiB resident, {planned.bytes_up / 1e6:.1f} MB up, "
        f"{planned.bytes_down / 1e6:.1f} MB down, fails once in 2^{failure_bits:.0f}"
    )
    print(said)  # noqa: T201 - the record of the run, which pytest -s shows
