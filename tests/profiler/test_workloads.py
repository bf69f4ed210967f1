from collections.abc import Callable

import pytest

from autoprivacy.hwprofiles.samples import WorkDone
from autoprivacy.models.features import FEATURES
from autoprivacy.models.layer_model import PARTS
from autoprivacy.profiler.harness import Workload, setting_of
from autoprivacy.profiler.workloads import workloads
from autoprivacy.protocol.plan import Plan, Work

PREPARED: list[Callable[[], object]] = []
"""Some calls own a socket and a process until this process ends."""


def name(workload: Workload) -> str:
    work = workload.work
    return f"{work.operation}-{work.kernel}-{work.n}-{work.q_bits}-{work.limbs}-{work.items}-{work.values}"


@pytest.mark.parametrize("workload", workloads("quick"), ids=name)
def test_a_workload_runs_again_and_again(workload: Workload) -> None:
    PREPARED.append(workload.prepare())
    for _ in range(2):
        PREPARED[-1]()


def test_settings_are_distinct_and_come_back_from_their_keys() -> None:
    keys = [workload.key for workload in workloads("quick")]
    assert len(set(keys)) == len(keys)
    assert [setting_of(key)[0] for key in keys] == [workload.work for workload in workloads("quick")]


def test_every_operation_of_an_inference_is_measured_and_modelled(planned: Plan) -> None:
    run = {work.operation for layer in planned.layers for work in layer.work}
    measured = {workload.work.operation for workload in workloads("quick")}
    assert len(run) > 10
    assert run <= measured
    assert run <= set(FEATURES)
    assert run <= set(PARTS) <= set(FEATURES)


def test_every_degree_and_modulus_that_can_be_chosen_is_measured(planned: Plan) -> None:
    measured = {(each.work.operation, each.work.n, each.work.q_bits) for each in workloads("quick")}
    assert {(work.operation, work.n, work.q_bits) for layer in planned.layers for work in layer.work} <= measured


def test_a_setting_says_all_that_a_plan_says() -> None:
    assert list(WorkDone.__dataclass_fields__) == list(Work.__dataclass_fields__)
