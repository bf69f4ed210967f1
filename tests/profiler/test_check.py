from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from autoprivacy.common.errors import ProfileMismatch
from autoprivacy.common.progress import silent
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.profiler import check as checking
from autoprivacy.profiler import workloads as settings
from autoprivacy.profiler.check import check
from autoprivacy.profiler.machine import describe_machine, describe_software
from autoprivacy.profiler.processes import Blocks
from autoprivacy.profiler.profile import sample_of
from tests import synthetic

listed = cache(settings.workloads)
machine = cache(describe_machine)
OPERATIONS = ("ot_send", "choose_labels", "spill_read")
"""Quick to prepare."""


@pytest.fixture(autouse=True)
def listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing all settings and asking what the processor is take a moment."""
    monkeypatch.setattr(settings, "workloads", listed)
    monkeypatch.setattr(checking, "describe_machine", machine)


@cache
def keys() -> list[str]:
    first: dict[str, str] = {}
    for workload in listed("quick"):
        first.setdefault(workload.work.operation, workload.key)
    return [first[operation] for operation in OPERATIONS]


def made(blocks: Blocks) -> MachineProfile:
    """A profile of this machine with these samples."""
    rng = np.random.default_rng(0)
    header = replace(synthetic.header(), software=describe_software(), machine=machine())
    samples = tuple(sample_of(key, found, 1e-4, rng) for key, found in blocks.by_key.items())
    return replace(synthetic.profile(), header=header, samples=samples)


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> MachineProfile:
    """A machine on which every setting takes 1 ms, today and when it was profiled."""

    def measure(asked, after_round):
        for _ in range(asked["rounds"]):
            after_round([(key, 1e-3, 1e-4) for key in asked["keys"]])

    monkeypatch.setattr(checking, "measure_in_fresh_process", measure)
    blocks = Blocks()
    measure({"rounds": 42, "keys": keys()}, blocks.add)
    return made(blocks)


def test_a_profile_of_this_machine_holds(steady: MachineProfile) -> None:
    found = check(steady, silent)
    assert found.holds
    assert found.same_machine
    assert found.differing == ()
    assert {each.operation for each in found.settings} == set(OPERATIONS)
    assert [each.ratio for each in found.settings] == pytest.approx([1.0] * 3)
    assert found.median_ratio == pytest.approx(1.0)


@pytest.mark.parametrize(("factor", "drifted"), [(0.85, True), (0.95, False), (1.08, False), (1.2, True)])
def test_what_drifted_is_said(steady: MachineProfile, factor: float, drifted: bool) -> None:  # noqa: FBT001
    changed = replace(steady.samples[1], quiet_s=steady.samples[1].quiet_s / factor)
    found = check(replace(steady, samples=(steady.samples[0], changed, steady.samples[2])), silent)
    assert [each.drifted for each in found.settings].count(True) == int(drifted)
    assert found.holds == (not drifted)


@pytest.mark.parametrize(
    ("field", "value", "holds"),
    [("cpu", "another", False), ("cores", 96, False), ("ring_path", "neon", False), ("kernel", "Linux 7", True)],
)
def test_another_machine_is_told_from_another_kernel(
    steady: MachineProfile,
    field: str,
    value: Any,
    holds: bool,  # noqa: FBT001
) -> None:
    machine = replace(steady.header.machine, **{field: value})
    found = check(replace(steady, header=replace(steady.header, machine=machine)), silent)
    assert found.differing == (field,)
    assert found.same_machine == found.holds == holds


def test_a_stale_profile_is_not_checked(steady: MachineProfile) -> None:
    software = replace(steady.header.software, kernels_version=10**6)
    with pytest.raises(ProfileMismatch, match="measure again"):
        check(replace(steady, header=replace(steady.header, software=software)), silent)


def test_a_profile_of_nothing_that_is_measured_here_is_refused(steady: MachineProfile) -> None:
    with pytest.raises(ProfileMismatch, match="no setting"):
        check(replace(steady, samples=(replace(steady.samples[0], operation="older"),)), silent)


def test_a_real_sample_is_measured_again_in_fresh_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "ROUNDS", 3)
    blocks = Blocks()
    blocks.add((key, 1e3, 1e-4) for key in keys())
    found = check(made(blocks), silent)
    assert {each.operation for each in found.settings} == set(OPERATIONS)
    assert all(0 < each.quiet_s < 1e3 and each.drifted for each in found.settings), "nothing takes 1000 s"
    assert not found.holds
