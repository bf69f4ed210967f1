"""Machine profiles that come with the package are of this software, whole, and enough to fit models on."""

import getpass
import re
import socket
from pathlib import Path

import pytest

from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.exchange import export
from autoprivacy.hwprofiles.machine_profile import SHIPPED, MachineProfile, check_fresh
from autoprivacy.hwprofiles.samples import END_TO_END
from autoprivacy.models.machine_model import fit
from autoprivacy.profiler.end_to_end import end_to_end
from autoprivacy.profiler.machine import describe_software
from autoprivacy.profiler.workloads import workloads

NAMES = sorted(path.parent.name for path in SHIPPED.glob("*/profile.json"))
MOST_BYTES = 1 << 20
"""Of one as a file; it is part of every installation."""


def test_the_machine_this_was_developed_on_is_shipped() -> None:
    assert "epyc-zen4-2c" in NAMES


@pytest.fixture(params=NAMES)
def profile(request: pytest.FixtureRequest) -> MachineProfile:
    return machine_profile.find(request.param)


def test_it_is_found_by_name_and_not_stale(profile: MachineProfile) -> None:
    check_fresh(profile, describe_software())
    assert profile.header.depth == "full"
    assert profile.loopback is not None
    assert profile.loopback.header.loopback
    assert len(export(profile)) < MOST_BYTES


def test_it_holds_the_core_grid_and_circuits_end_to_end(profile: MachineProfile) -> None:
    measured = {sample.work for sample in profile.samples}
    assert {workload.work for workload in workloads("quick")} <= measured
    assert all(sample.blocks >= 40 for sample in profile.samples)
    assert all(each.share > 0 for each in end_to_end(profile))
    assert len(end_to_end(profile)) > 20


@pytest.mark.slow
def test_models_are_fitted_to_it(profile: MachineProfile) -> None:
    fitted = fit(profile)
    assert {model.operation for model in fitted.operations} == {
        sample.operation for sample in profile.samples if sample.operation not in END_TO_END
    }


@pytest.mark.parametrize("name", NAMES)
def test_it_names_nobody(name: str) -> None:
    for path in Path(SHIPPED / name).rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert f'"{socket.gethostname()}"' not in text
        assert f'"{getpass.getuser()}"' not in text
        assert not re.search(r"\d+\.\d+\.\d+\.\d+|/home|/root|/tmp", text)
