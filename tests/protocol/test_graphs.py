"""Whole graphs in private: pooling, shortcuts, several readers of a value; every logit as the integer reference."""

from dataclasses import replace

import numpy as np
import pytest

from autoprivacy.common.errors import InsecureParameters, InvalidPolicy
from autoprivacy.common.records import parse, to_json
from autoprivacy.networks import reference
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.checkpoint import untrained
from autoprivacy.networks.graph import Add, AvgPool, Conv2d, Flatten, Linear, MaxPool, Network, ReLU, ReLU6
from autoprivacy.networks.integer_network import LayerWidths, Widths, meetings
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.protocol.agreeing import agree, linear_shape
from autoprivacy.protocol.agreement import Agreement, Windows, moduli
from autoprivacy.protocol.he_set import he_set_for, least_batching_prime, ntt_prime
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import LayerPolicy, Policy, Provenance
from autoprivacy.protocol.session import Client
from autoprivacy.protocol.slot_tiles import default_slot_tile
from autoprivacy.protocol.tiles import default_tile
from autoprivacy.protocol.transport import Traffic
from tests.protocol.conftest import Deployed

SAME = (1, 1, 1, 1)


def conv(name, source, channels, size=3, stride=1):
    pad = (size // 2,) * 4
    return Conv2d(name, (source,), channels, (size, size), (stride, stride), pad)


def pooled():
    """Mean pooling between layers, a global one at the end."""
    layers = (
        conv("conv1", "input", 4),
        ReLU("relu1", ("conv1",)),
        AvgPool("pool1", ("relu1",), (2, 2), (2, 2)),
        conv("conv2", "pool1", 6),
        ReLU("relu2", ("conv2",)),
        AvgPool("pool2", ("relu2",), (4, 4), (4, 4)),
        Flatten("flat", ("pool2",)),
        Linear("fc", ("flat",), 5),
    )
    return Network("pooled", (2, 8, 8), layers)


def residual():
    """A shortcut as it is, a projected one, and an activation that three layers read."""
    layers = (
        conv("conv1", "input", 4),
        ReLU("relu1", ("conv1",)),
        conv("a1", "relu1", 4),
        ReLU("a2", ("a1",)),
        conv("a3", "a2", 4),
        Add("a", ("a3", "relu1")),
        ReLU("ar", ("a",)),
        conv("b1", "ar", 6, stride=2),
        ReLU("b2", ("b1",)),
        conv("b3", "b2", 6),
        conv("bs", "ar", 6, size=1, stride=2),
        Add("b", ("b3", "bs")),
        ReLU("br", ("b",)),
        AvgPool("pool", ("br",), (4, 4), (4, 4)),
        Flatten("flat", ("pool",)),
        Linear("fc", ("flat",), 5),
    )
    return Network("residual", (3, 8, 8), layers)


def ends_in_a_sum():
    """Logits that are the sum of two layers, and pixels below zero."""
    layers = (
        Flatten("flat", ("input",)),
        Linear("a", ("flat",), 6),
        ReLU("ar", ("a",)),
        Linear("b", ("ar",), 5),
        Linear("c", ("flat",), 5),
        Add("sum", ("b", "c")),
    )
    return Network("sum", (1, 4, 4), layers)


def maximal():
    """Max pooling with and without a border, ReLU6, and a depthwise convolution."""
    layers = (
        conv("conv1", "input", 6),
        ReLU("relu1", ("conv1",)),
        MaxPool("pool1", ("relu1",), (3, 3), (2, 2), SAME),
        Conv2d("depthwise", ("pool1",), 6, (3, 3), (1, 1), SAME, 6),
        ReLU6("relu2", ("depthwise",)),
        MaxPool("pool2", ("relu2",), (2, 2), (2, 2)),
        Flatten("flat", ("pool2",)),
        Linear("fc", ("flat",), 5),
    )
    return Network("maximal", (2, 8, 8), layers)


NETWORKS = {"pooled": pooled, "residual": residual, "ends in a sum": ends_in_a_sum, "maximal": maximal}


def in_slots(layer, bits, least_bits):
    """A layer in packing `slots`, with the least prime that holds its accumulators."""
    t = least_batching_prime(8192, 1 << least_bits)
    he_set = he_set_for(8192, (50, 50), t, special_bits=60)
    tile = default_slot_tile(linear_shape(layer), 8192)
    return LayerPolicy("slots", 8192, he_set.limbs, t, tile, bits, bits, he_set.special)


def in_coefficients(layer, bits, least_bits):
    tile = default_tile(linear_shape(layer), 2048)
    return LayerPolicy("coefficients", 2048, (ntt_prime(2048, 53),), 1 << least_bits, tile, bits, bits)


def deploy_graph(made, bits=5, seed=3, privacy="uniform", slots=()):
    rng = np.random.default_rng(seed)
    trained = untrained(made, rng)
    images = rng.normal(size=(40, *made.input_shape)).astype(np.float32)
    if made.name != "sum":
        images = np.abs(images)
    widths = Widths(tuple(LayerWidths(layer.name, bits, bits) for layer in made.linear_layers))
    network = Quantiser(trained, images).quantise(widths)
    least = least_modulus_bits(network)
    layers = {
        layer.name: (in_slots if layer.name in slots else in_coefficients)(layer, bits, least[layer.name])
        for layer in network.linear_layers
    }
    made_by = Provenance("0", "by hand", ("none",), "total", None, None)
    policy = Policy(1, network.name, network.trained_hash, privacy, "he2024", layers, made_by)
    return Deployed(network, policy, agree(network, policy)), images


def check_traffic(deployed, inference, schedule):
    planned = plan_network(deployed.network, deployed.agreement, schedule)
    assert inference.online.traffic == planned.online_traffic
    assert len(inference.online.layers) == len(planned.layers) == len(deployed.agreement.layers)
    if schedule == "online":
        assert inference.offline is None
        assert planned.offline_traffic == Traffic()
    else:
        assert inference.offline.traffic == planned.offline_traffic
        assert len(inference.offline.layers) == len(planned.offline)


@pytest.mark.parametrize("schedule", ["online", "preprocessed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_private_logits_are_those_of_the_integer_reference(name, schedule, serving, key):
    deployed, images = deploy_graph(NETWORKS[name]())
    with Client(serving(deployed).address, key, expected=deployed.agreement, schedule=schedule) as client:
        found = [client.infer(image) for image in images[:3]]
    assert np.array_equal(np.stack([inference.logits for inference in found]), deployed.logits(images[:3]))
    for inference in found:
        check_traffic(deployed, inference, schedule)


@pytest.mark.parametrize(
    ("name", "slots"),
    [
        ("residual", ("conv1", "a1", "a3", "b1", "b3", "bs", "fc")),
        # An activation that is read modulo a power of two and modulo a prime.
        ("residual", ("b1", "fc")),
        ("maximal", ("conv1", "depthwise", "fc")),
        ("ends in a sum", ("a",)),
    ],
)
@pytest.mark.parametrize("schedule", ["online", "preprocessed"])
def test_layers_in_slots_give_the_same_logits(name, slots, schedule, serving, key):
    deployed, images = deploy_graph(NETWORKS[name](), privacy="rerandomise", slots=slots)
    with Client(serving(deployed).address, key, expected=deployed.agreement, schedule=schedule) as client:
        found = client.infer(images[0])
    assert np.array_equal(found.logits, deployed.logits(images[:1])[0])
    check_traffic(deployed, found, schedule)
    assert found.setup_s > 0


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("schedule", ["online", "preprocessed"])
def test_both_shares_open_to_the_accumulators_of_the_reference(name, schedule, serving, key):
    deployed, images = deploy_graph(NETWORKS[name]())
    with Client(serving(deployed, reveal=True).address, key, schedule=schedule) as client:
        inference, revealed = client.infer_revealed(images[0])
    assert len(revealed.server) == len(inference.online.layers)
    assert len(revealed.server_offline) == (0 if inference.offline is None else len(inference.offline.layers))
    t = {layer.name: layer.policy.t for layer in deployed.agreement.layers}
    trace = reference.run(deployed.network, deployed.network.quantise_input(images[:1]), moduli=t)
    for layer, opened in revealed.accumulators.items():
        wanted = (trace.accumulators[layer].ravel() + t[layer] // 2) % t[layer] - t[layer] // 2
        assert np.array_equal(opened, wanted)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_agreement_survives_its_json(name):
    deployed, _ = deploy_graph(NETWORKS[name]())
    message = to_json(deployed.agreement, indent=None)
    assert parse(Agreement, message, source="agreement") == deployed.agreement


@pytest.mark.parametrize("privacy", ["none", "rerandomise", "flood:40"])
def test_every_circuit_privacy_opens_the_same_logits(privacy, serving, key):
    deployed, images = deploy_graph(residual())
    he_set = he_set_for(4096, (53, 52), 1 << 20)
    layers = {
        name: replace(chosen, n=4096, limbs=he_set.limbs, tile=replace(chosen.tile, out_channels=1))
        for name, chosen in deployed.policy.layers.items()
    }
    policy = replace(deployed.policy, circuit_privacy=privacy, layers=layers)
    deployed = Deployed(deployed.network, policy, agree(deployed.network, policy))
    with Client(serving(deployed).address, key, expected=deployed.agreement) as client:
        assert np.array_equal(client.infer(images[0]).logits, deployed.logits(images[:1])[0])


def test_flooding_without_room_is_refused():
    deployed, _ = deploy_graph(residual())
    with pytest.raises(InvalidPolicy, match=r"layer conv1: .*flood:40.*more limbs"):
        agree(deployed.network, replace(deployed.policy, circuit_privacy="flood:40"))


def test_a_client_takes_sets_below_128_bits_only_where_it_expects_them(serving, key):
    deployed, images = deploy_graph(ends_in_a_sum())
    policy = replace(deployed.policy, security="below")
    deployed = Deployed(deployed.network, policy, agree(deployed.network, policy))
    server = serving(deployed)
    with pytest.raises(InsecureParameters, match="below 128 bits"):
        Client(server.address, key)
    server.join()
    with Client(serving(deployed).address, key, expected=deployed.agreement) as client:
        assert np.array_equal(client.infer(images[0]).logits, deployed.logits(images[:1])[0])


def test_layers_that_meet_must_have_one_modulus():
    deployed, _ = deploy_graph(residual())
    together = next(meeting.layers for meeting in meetings(deployed.network) if len(meeting.layers) == 2)
    assert set(together) == {"b3", "bs"}
    layers = deployed.policy.layers
    wider = replace(layers["bs"], t=2 * layers["bs"].t)
    with pytest.raises(InvalidPolicy, match=r"b3, bs meet.*one t"):
        agree(deployed.network, replace(deployed.policy, layers=layers | {"bs": wider}))
    # A client that is told so by a server refuses as well.
    steps = tuple(replace(step, policy=wider) if step.name == "bs" else step for step in deployed.agreement.steps)
    with pytest.raises(InvalidPolicy, match="one t"):
        replace(deployed.agreement, steps=steps)


def test_shares_are_taken_modulo_the_largest_that_a_reader_needs():
    deployed, _ = deploy_graph(residual())
    found = moduli(deployed.agreement)
    layers = deployed.policy.layers
    # relu1 enters a1, and the sum in which a3 ends.
    assert found["relu1"] == (max(layers["a1"].t, layers["a3"].t),)
    assert found["b"] == (layers["b3"].t,) == (layers["bs"].t,)
    assert found["input"] == (layers["conv1"].t,)


def test_an_agreement_that_does_not_fit_together_is_refused():
    deployed, _ = deploy_graph(residual())
    steps = deployed.agreement.steps
    first = steps[0]
    for wrong in (
        steps[1:],
        (*steps, first),
        (replace(first, source="nothing"), *steps[1:]),
        (replace(first, shape=replace(first.shape, height=9)), *steps[1:]),
        (),
        *(
            tuple(replace(step, **change) if step.kind == kind else step for step in steps)
            for kind, change in (
                ("nonlinear", {"bits": 0}),
                ("nonlinear", {"shifts": (1,)}),
                ("nonlinear", {"modulus_in": 6}),
                ("nonlinear", {"moduli_out": (2,)}),
                ("nonlinear", {"moduli_out": ()}),
                ("nonlinear", {"moduli_out": (1 << 63,)}),
                ("nonlinear", {"windows": Windows((2, 2), (1, 1), (1 << 40, 0, 0, 0))}),
                ("view", {"shape": (1, 1, 1)}),
                ("sum", {"terms": ()}),
            )
        ),
    ):
        with pytest.raises(InvalidPolicy):
            replace(deployed.agreement, steps=wrong)
