"""The closed-form plan against what a session really does and really sends."""

from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest

from autoprivacy.networks.integer_network import chain_operations
from autoprivacy.protocol import garbling, linear_layer, transport
from autoprivacy.protocol import plan as plan_module
from autoprivacy.protocol import server as server_module
from autoprivacy.protocol import serving as serving_module
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.circuits import Operation
from autoprivacy.protocol.counting import CountingHe
from autoprivacy.protocol.parties import AnyServer, server_of
from autoprivacy.protocol.plan import key_sets, nonzero_products, plan, table_pieces
from autoprivacy.protocol.session import Client, Inference
from autoprivacy.protocol.transport import Channel, Kind

SMALL, LARGE = (1024, 26), (2048, 53)
FEW_CHANNELS = ((1, 3, 9, 9), (3, 5, 6, 9), (50, 3, 1, 1))
WINDOWS = ((1, 8, 4, 5), (2, 3, 5, 4), (128, 1, 1, 1))
DEPLOYMENTS = {
    "large": (((LARGE,) * 3), 8, None),
    "small": (((SMALL,) * 3), 4, None),
    "mixed": ((SMALL, LARGE, SMALL), 4, FEW_CHANNELS),
    "windows": ((LARGE, SMALL, LARGE), 4, WINDOWS),
}
INFERENCES = 2
SCHEDULES = ("online", "preprocessed")


@pytest.fixture(params=DEPLOYMENTS)
def deployed(request, deploy):
    return deploy(*DEPLOYMENTS[request.param])


def executed_calls(layer_plan):
    """The calls of a plan's HE operations, and its products, under the names that interpreters count by."""
    calls = {work.operation: work.calls for work in layer_plan.work if work.n}
    items = {work.operation: work.items for work in layer_plan.work if work.n}
    assert calls.pop("weighted_sum") == calls["from_ntt"] <= calls["respond"]
    return +Counter(calls | {"multiply_accumulate": items["weighted_sum"]})


def sparse(deployed):
    """The same with most weights of the second half of each layer's output and input channels set to zero."""
    stages = []
    for stage in deployed.network.stages:
        weight = stage.weight.copy()
        weight[len(weight) // 2 :, weight.shape[1] // 2 :] = 0
        weight[0] = 0
        stages.append(replace(stage, weight=weight))
    network = replace(deployed.network, operations=chain_operations(stages))
    return replace(deployed, network=network, agreement=agree(network, deployed.policy))


@pytest.mark.parametrize("thin", [False, True], ids=["dense", "sparse"])
def test_the_closed_form_equals_the_counting_interpreter(deployed, thin):
    deployed = sparse(deployed) if thin else deployed
    planned = plan(deployed.agreement, nonzero_products(deployed.network, deployed.agreement))
    for index, (layer, stage) in enumerate(zip(deployed.agreement.layers, deployed.network.stages, strict=True)):
        he = CountingHe(layer.policy.he_set("he2024"))
        weights = linear_layer.encode_layer(he, layer.layout, stage.weight)
        del he.operations["encode"]
        shape = layer.shape
        share = np.zeros((shape.in_channels, shape.height, shape.width), np.int64)
        requests = linear_layer.request(he, layer.layout, share)
        responses, _ = linear_layer.answer(he, layer.layout, weights, requests, share if index else None)
        linear_layer.finish(he, layer.layout, responses)
        assert he.operations == executed_calls(planned.layers[index])


def test_only_skipped_tiles_make_a_plan_cheaper_and_never_its_bytes(deploy):
    dense = deploy(*DEPLOYMENTS["mixed"])
    thin = sparse(dense)
    assert all(mask.all() for mask in nonzero_products(dense.network, dense.agreement).values())
    assert not nonzero_products(thin.network, thin.agreement)["fc"].all()
    before, after = plan(dense.agreement), plan(thin.agreement, nonzero_products(thin.network, thin.agreement))
    assert (before.bytes_up, before.bytes_down) == (after.bytes_up, after.bytes_down)
    for full, less in zip(before.layers, after.layers, strict=True):
        for one, other in zip(full.work, less.work, strict=True):
            assert one == other or one.operation in {"weighted_sum", "from_ntt"}
            assert (other.calls, other.items) <= (one.calls, one.items)


@dataclass
class Recorded:
    """A real session: the frames of each direction as (kind, bytes), circuits as garbled, operations by layer."""

    up: list[tuple[Kind, int]] = field(default_factory=list)
    down: list[tuple[Kind, int]] = field(default_factory=list)
    garbled: list[tuple[int, int, int]] = field(default_factory=list)  # AND gates, client bits, instances
    servers: list[AnyServer] = field(default_factory=list)
    inferences: list[Inference] = field(default_factory=list)
    operations: list[Counter[str]] = field(default_factory=list)

    def phase_frames(self):
        """The frames up of each phase, which a command starts, and all frames down after set-up."""
        starts = [i for i, (kind, _) in enumerate(self.up) if kind == Kind.COMMAND]
        first = next(i for i, (kind, _) in enumerate(self.down) if kind == Kind.RESPONSES)
        return [iter(self.up[start + 1 : end]) for start, end in pairwise(starts)], iter(self.down[first:])

    def setup_bytes(self, frames):
        return sum(size for kind, size in frames if kind in (Kind.PUBLIC_KEY, Kind.BASE_OT))


def recording_channel(frames):
    class RecordingChannel(Channel):
        def send(self, kind, *parts):
            with self._recorded(kind):
                super().send(kind, *parts)

        def send_parts(self, kind, length, parts):
            with self._recorded(kind):
                super().send_parts(kind, length, parts)

        @contextmanager
        def _recorded(self, kind):
            before = self.bytes_sent
            yield
            frames.append((kind, self.bytes_sent - before))

    return RecordingChannel


@pytest.fixture
def record_session(monkeypatch, serving, key, digits):
    def record(deployed, schedule):
        seen = Recorded()
        garble = garbling.garble_pieces

        def recorded_server(*args):
            seen.servers.append(server_of(*args))
            return seen.servers[-1]

        def recording_garble(circuit, labels, bits, *rest):
            gates = int(np.count_nonzero(circuit.gates[:, 0] == Operation.AND))
            seen.garbled.append((gates, int((~circuit.server_inputs).sum()), bits.shape[1]))
            return garble(circuit, labels, bits, *rest)

        monkeypatch.setattr(transport, "Channel", recording_channel(seen.up))
        monkeypatch.setattr(serving_module, "Channel", recording_channel(seen.down))
        monkeypatch.setattr(server_module, "server_of", recorded_server)
        monkeypatch.setattr(garbling, "garble_pieces", recording_garble)
        server = serving(deployed)
        with Client(server.address, key, expected=deployed.agreement, schedule=schedule) as client:
            seen.inferences += [client.infer(image) for image in digits.confirm.x[:INFERENCES]]
        server.join()
        assert server.failure is None
        seen.operations += [
            mine.operations + theirs.operations
            for mine, theirs in zip(client._steps.parties, seen.servers, strict=True)
        ]
        return seen

    return record


@pytest.fixture
def thin(deployed):
    return sparse(deployed)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_session_does_and_sends_what_is_planned(thin, schedule, record_session):
    seen = record_session(thin, schedule)
    planned = plan(thin.agreement, nonzero_products(thin.network, thin.agreement), schedule)
    encrypted = planned.layers if schedule == "online" else planned.offline

    for inference in seen.inferences:
        assert inference.online.traffic == planned.online_traffic
        assert (inference.bytes_up, inference.bytes_down) == (planned.bytes_up, planned.bytes_down)
        assert (inference.offline is not None) == bool(planned.offline)
        assert inference.offline is None or inference.offline.traffic == planned.offline_traffic
    assert seen.setup_bytes(seen.up) == planned.setup_bytes_up
    assert seen.setup_bytes(seen.down) == planned.setup_bytes_down
    assert sum(kind == Kind.PUBLIC_KEY for kind, _ in seen.up) == len(key_sets(thin.agreement))

    ups_of_phases, downs = seen.phase_frames()
    phases = [phase for _ in range(INFERENCES) for phase in (planned.offline, planned.layers) if phase]
    for phase, ups in zip(phases, ups_of_phases, strict=True):
        for layer in phase:
            sent = [next(ups) for _ in range(layer.frames_up)]
            answered = [next(downs) for _ in range(layer.frames_down)]
            assert sum(size for _, size in sent) == layer.bytes_up
            assert sum(size for _, size in answered) == layer.bytes_down
            if phase is encrypted:
                assert sent[0][0] == Kind.CIPHERTEXTS
                assert answered[0][0] == Kind.RESPONSES
        assert not [*ups]
    assert not [*downs]

    for executed, layer in zip(seen.operations, encrypted, strict=True):
        per_inference = executed_calls(layer)
        assert executed == Counter({name: INFERENCES * count for name, count in per_inference.items()})

    circuits = [circuit for layer in encrypted for circuit in layer.circuits]
    shifts = [set(step.shifts) for step in thin.agreement.nonlinears]
    assert len(circuits) == sum(map(len, shifts)) > len(shifts) == 2
    expected = [(circuit.and_gates, circuit.client_bits, circuit.instances) for circuit in circuits]
    assert seen.garbled == expected * INFERENCES


def test_work_in_circuits_is_that_of_the_batch(deployed):
    for layer in plan(deployed.agreement).layers:
        work = defaultdict(list)
        for each in layer.work:
            work[each.operation].append(each)
        if not layer.circuits:
            assert not {"garble", "evaluate", "ot_send", "ot_receive"} & set(work)
            continue
        batches = [(circuit.instances * circuit.and_gates, circuit.instances) for circuit in layer.circuits]
        for operation in ("garble", "evaluate"):
            assert [(each.items, each.values) for each in work[operation]] == batches
        transfers = sum(circuit.instances * circuit.client_bits for circuit in layer.circuits)
        for operation in ("ot_send", "ot_receive"):
            assert [each.items for each in work[operation]] == [transfers]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_byte_of_a_layer_is_work_of_the_link(deployed, schedule):
    planned = plan(deployed.agreement, schedule=schedule)
    for layer in planned.layers + planned.offline:
        transfers = [work for work in layer.work if work.operation == "transfer"]
        assert sum(work.items for work in transfers) == layer.bytes_up + layer.bytes_down
        assert sum(work.calls for work in transfers) == layer.frames_up + layer.frames_down


def test_what_was_garbled_ahead_is_used_in_as_many_pieces_as_it_was_kept(deployed, monkeypatch):
    monkeypatch.setattr(plan_module, "PIECE_BYTES", 1000)
    planned = plan(deployed.agreement, schedule="preprocessed")
    for layer in planned.layers:
        kept = [work.items for work in layer.work if (work.operation, work.state) == ("spill_read", "client")]
        assert table_pieces(layer.work) == sum(-(-size // 1000) for size in kept)
        assert (layer.hidden_share > 0) == bool(layer.circuits)


def test_what_is_spilled_is_read_once(deployed):
    planned = plan(deployed.agreement, schedule="preprocessed")
    written, read = (
        sum(work.items for layer in layers for work in layer.work if work.operation == operation)
        for layers, operation in ((planned.offline, "spill_write"), (planned.layers, "spill_read"))
    )
    assert written == read == planned.client_spill_bytes + planned.server_spill_bytes
    usual = plan(deployed.agreement)
    assert (usual.offline, usual.client_spill_bytes, usual.server_spill_bytes) == ((), 0, 0)


def test_both_schedules_have_the_same_gates(deployed):
    usual, ahead = plan(deployed.agreement), plan(deployed.agreement, schedule="preprocessed")
    gates = [
        [circuit.total_and_gates for layer in layers for circuit in layer.circuits]
        for layers in (usual.layers, ahead.layers, ahead.offline)
    ]
    assert gates[0] == gates[1] == gates[2]
