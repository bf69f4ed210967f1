from dataclasses import replace

import numpy as np
import pytest

from autoprivacy.common.errors import AutoPrivacyError, UnmodelledOperation
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles.machine_profile import MachineProfile, WorkDone
from autoprivacy.models.machine_model import COMPONENTS, MachineModel, fit
from tests import synthetic


@pytest.mark.parametrize(("scale", "per_layer_s"), [(1.0, 0.0), (1.5, 0.0), (1.0, 2e-3), (1.3, 1e-3)])
def test_what_inferences_cost_beyond_their_operations_is_given_back(scale: float, per_layer_s: float) -> None:
    model = synthetic.model(scale=scale, per_layer_s=per_layer_s)
    for component in set(COMPONENTS.values()):
        work = [done for done in synthetic.settings() if COMPONENTS[done.operation] == component]
        expected = scale * sum(map(synthetic.seconds, work)) + 4 * per_layer_s
        quiet, typical = model.component(component, work, 4)
        assert quiet == pytest.approx(expected, rel=1e-4)
        assert typical == pytest.approx(synthetic.SLOWER * expected, rel=1e-4)


def test_runs_that_follow_the_model_leave_no_doubt() -> None:
    model = synthetic.model(scale=1.3, per_layer_s=1e-3)
    assert len(model.run_errors) == 6
    assert np.abs(model.run_errors).max() < 1e-3
    assert model.relative_doubt < 1e-3


def test_a_run_that_does_not_follow_the_model_shows() -> None:
    profile = synthetic.profile()
    odd = profile.runs[2]
    slow = {
        name: replace(seconds, quiet_s=3 * seconds.quiet_s, typical_s=3 * seconds.typical_s)
        for name, seconds in odd.components.items()
    }
    latency = replace(odd.latency, quiet_s=3 * odd.latency.quiet_s, typical_s=3 * odd.latency.typical_s)
    odd = replace(odd, components=slow, latency=latency)
    model = fit(MachineProfile(profile.header, profile.samples, (*profile.runs[:2], odd, *profile.runs[3:])))
    # The other five follow the model exactly, so a third of the odd one's time is what they predict.
    assert model.run_errors[2] == pytest.approx(1 / 3 - 1, rel=1e-3)
    assert model.relative_doubt > 0.1


def test_a_component_without_work_is_its_constant() -> None:
    quiet, typical = synthetic.model(per_layer_s=1e-3).component("ot_s", [], 2)
    assert quiet == pytest.approx(2e-3, rel=1e-3)
    assert typical == pytest.approx(synthetic.SLOWER * 2e-3, rel=1e-3)


def test_quiet_is_never_above_typical() -> None:
    model = synthetic.model(scale=1.3, per_layer_s=1e-3)
    for component in set(COMPONENTS.values()):
        quiet, typical = model.component(component, synthetic.settings(), 1)
        assert 0 < quiet <= typical


def test_an_operation_that_was_not_measured_never_costs_nothing() -> None:
    profile = synthetic.profile()
    samples = tuple(sample for sample in profile.samples if sample.operation != "garble")
    with pytest.raises(UnmodelledOperation, match="garble"):
        fit(MachineProfile(profile.header, samples, profile.runs))
    without = tuple(
        replace(run, work=tuple(work for work in run.work if work.operation != "garble")) for run in profile.runs
    )
    model = fit(MachineProfile(profile.header, samples, without))
    with pytest.raises(UnmodelledOperation, match="garble"):
        model.operation("garble")
    with pytest.raises(UnmodelledOperation, match="garble"):
        model.component("garble_s", [WorkDone("garble", 0, 0, 1, 100, 10)], 1)


def test_an_unknown_operation_in_a_run_is_refused() -> None:
    profile = synthetic.profile()
    strange = replace(profile.runs[0], work=(WorkDone("bootstrap", 1024, 26, 1, 1, 1),))
    with pytest.raises(UnmodelledOperation, match="bootstrap"):
        fit(MachineProfile(profile.header, profile.samples, (strange, *profile.runs[1:])))


def test_an_unknown_operation_in_a_plan_is_refused() -> None:
    with pytest.raises(UnmodelledOperation, match="bootstrap"):
        synthetic.model().component("server_he_s", [WorkDone("bootstrap", 1024, 26, 1, 1, 1)], 1)


def test_too_few_runs_are_refused() -> None:
    profile = synthetic.profile()
    for count in range(3):
        with pytest.raises(UnmodelledOperation, match=f"{count} measured runs"):
            fit(MachineProfile(profile.header, profile.samples, profile.runs[:count]))


def test_a_run_without_one_component_is_refused() -> None:
    profile = synthetic.profile()
    parts = {name: seconds for name, seconds in profile.runs[0].components.items() if name != "ot_s"}
    lacking = replace(profile.runs[0], components=parts)
    with pytest.raises(AutoPrivacyError, match="ot_s"):
        fit(MachineProfile(profile.header, profile.samples, (lacking, *profile.runs[1:])))


def test_a_model_comes_back_from_its_json() -> None:
    model = synthetic.model(scale=1.3, per_layer_s=1e-3)
    assert parse(MachineModel, to_json(model), source="model.json") == model


def test_the_profile_is_named_in_the_model() -> None:
    model = synthetic.model()
    header = synthetic.header()
    assert (model.profile_id, model.profile_name) == (header.id, header.name)
    assert model.slowdown_p95 == header.conditions.reference_slowdown_p95
