import json
from collections.abc import Callable

import pytest

from autoprivacy.models.machine_model import COMPONENTS
from autoprivacy.models.operation_model import FEATURES
from autoprivacy.models.prediction import Components
from autoprivacy.profiler.harness import Workload
from autoprivacy.profiler.workloads import workloads
from autoprivacy.protocol.plan import Plan

PREPARED: list[Callable[[], object]] = []
"""Some calls own a socket and a process until this process ends."""


def name(workload: Workload) -> str:
    return f"{workload.operation}-{workload.n}-{workload.q_bits}-{workload.items}-{workload.values}"


@pytest.mark.parametrize("workload", workloads(), ids=name)
def test_a_workload_runs_again_and_again(workload: Workload) -> None:
    PREPARED.append(workload.prepare())
    for _ in range(2):
        PREPARED[-1]()


def test_settings_are_distinct_and_come_back_from_their_keys() -> None:
    keys = [workload.key for workload in workloads()]
    assert len(set(keys)) == len(keys)
    for workload, key in zip(workloads(), keys, strict=True):
        fields = (workload.operation, workload.n, workload.q_bits, workload.calls, workload.items, workload.values)
        assert tuple(json.loads(key)) == fields


def test_every_operation_of_an_inference_is_measured_and_modelled(planned: Plan) -> None:
    run = {work.operation for layer in planned.layers for work in layer.work}
    measured = {workload.operation for workload in workloads()}
    assert len(run) > 10
    assert run <= measured
    assert measured <= set(FEATURES)
    assert set(FEATURES) == set(COMPONENTS)
    assert set(COMPONENTS.values()) == set(Components.__dataclass_fields__)


def test_every_degree_and_modulus_that_can_be_chosen_is_measured(planned: Plan) -> None:
    measured = {(workload.operation, workload.n, workload.q_bits) for workload in workloads()}
    assert {(work.operation, work.n, work.q_bits) for layer in planned.layers for work in layer.work} <= measured
