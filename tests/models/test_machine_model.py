from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import nnls

from autoprivacy.common.errors import AutoPrivacyError, UnmodelledOperation
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles.machine_profile import MachineProfile, ParallelSample, Seconds, WorkDone
from autoprivacy.models.features import Handled
from autoprivacy.models.layer_model import (
    LINK,
    PARTS,
    SLEEP_S,
    Observation,
    fit_correction,
    nonnegative_minimum,
    observations,
    waited_s,
)
from autoprivacy.models.machine_model import LOOPBACK_ROUND_TRIP_S, MachineModel, corrected, fit
from tests import synthetic


@pytest.mark.parametrize(("scale", "per_layer_s"), [(1.0, 0.0), (1.5, 0.0), (1.0, 2e-3), (1.3, 1e-3)])
def test_what_layers_cost_beyond_their_operations_is_given_back(scale: float, per_layer_s: float) -> None:
    predictor = synthetic.model(scale=scale, per_layer_s=per_layer_s).predictor()
    measured = synthetic.layers(scale, per_layer_s)
    for layer in measured:
        for (part, _), found in predictor.layer(layer.work, first=False).items():
            assert found.quiet_s == pytest.approx(layer.components[part].quiet_s, rel=1e-2)
            assert found.typical_s == pytest.approx(layer.components[part].typical_s, rel=1e-2)


def test_what_runs_cold_at_first_is_told_from_what_is_always_slower() -> None:
    composed = [1e-4 * 1.3**k for k in range(30)]
    seen = [
        Observation(f"run{k % 10}", (Seconds(c, c),), Seconds(slow, slow))
        for k, c in enumerate(composed)
        for slow in [1.1 * c + 0.6 * min(c, 2e-3) + 5e-5]
    ]
    found = fit_correction(("garble_s", ""), seen)
    for each in seen:
        assert found(each.composed[0]).typical_s == pytest.approx(each.measured.typical_s, rel=0.03)
    # Far beyond what was seen only the scale is left, which a line through all of it overstates.
    assert found(Seconds(10.0, 10.0)).typical_s == pytest.approx(11.0, rel=0.01)
    line = fit_correction(("client_he_s", "ring"), seen)
    assert line.typical_cold == 0
    assert line.typical_scale > found.typical_scale


def test_the_least_of_what_is_not_negative_is_scipy_s() -> None:
    rng = np.random.default_rng(0)
    rows, wanted = rng.normal(size=(200, 8, 3)), rng.normal(size=(200, 8))
    found = nonnegative_minimum(rows.transpose(0, 2, 1) @ rows, (rows * wanted[..., None]).sum(axis=1))
    assert (found == 0).any(axis=1).sum() > 100
    for each, matrix, values in zip(found, rows, wanted, strict=True):
        np.testing.assert_allclose(each, nnls(matrix, values)[0], atol=1e-9)


def test_runs_that_follow_the_model_leave_no_doubt() -> None:
    model = synthetic.model(scale=1.3, per_layer_s=1e-3)
    assert len(model.run_errors) == 6
    assert len(model.layer_errors) == 12
    assert np.abs([*model.run_errors, *model.layer_errors]).max() < 1e-2
    assert model.predictor().network_doubt < 2e-2


def slowed(profile: MachineProfile, run: str, factor: float) -> MachineProfile:
    """The profile with all that one run took, `factor` times as long."""
    layers = tuple(
        replace(
            layer,
            components={
                part: replace(each, quiet_s=factor * each.quiet_s, typical_s=factor * each.typical_s)
                for part, each in layer.components.items()
            },
        )
        if layer.run == run
        else layer
        for layer in profile.layers
    )
    runs = tuple(
        replace(
            each,
            latency=replace(
                each.latency, quiet_s=factor * each.latency.quiet_s, typical_s=factor * each.latency.typical_s
            ),
        )
        if each.name == run
        else each
        for each in profile.runs
    )
    return replace(profile, layers=layers, runs=runs)


def test_a_run_that_does_not_follow_the_model_shows() -> None:
    model = fit(slowed(synthetic.profile(), "run2", 3.0))
    # The other five follow the model exactly, so a third of the odd one's time is what they predict.
    assert model.run_errors[2] == pytest.approx(1 / 3 - 1, rel=1e-2)
    assert model.predictor().network_doubt > 0.5


def test_a_correction_that_does_not_help_runs_left_out_is_not_made() -> None:
    rng = np.random.default_rng(3)
    profile = synthetic.profile()
    for run in {layer.run for layer in profile.layers}:
        profile = slowed(profile, run, float(rng.choice([0.5, 2.0])))
    for correction in fit(profile).corrections:
        assert correction.error_after <= correction.error_before


def test_an_operation_that_was_not_measured_never_costs_nothing() -> None:
    profile = synthetic.profile()
    samples = tuple(sample for sample in profile.samples if sample.operation != "garble")
    with pytest.raises(UnmodelledOperation, match="garble"):
        fit(replace(profile, samples=samples))


@pytest.mark.parametrize("bad", [WorkDone("bootstrap", 1024, 26, 1, 1, 1), WorkDone("to_ntt", 1024, 26, 1, 0)])
def test_unknown_work_is_refused(bad: WorkDone) -> None:
    with pytest.raises(UnmodelledOperation, match=bad.operation):
        synthetic.model().predictor().layer([bad], first=True)


def test_too_few_runs_are_refused() -> None:
    profile = synthetic.profile()
    for count in range(3):
        with pytest.raises(UnmodelledOperation, match=f"{count} measured runs"):
            fit(replace(profile, runs=profile.runs[:count]))


@pytest.mark.parametrize("part", ["link_s", "other_s"])
def test_a_layer_without_a_link_is_refused(part: str) -> None:
    profile = synthetic.profile()
    parts = {name: seconds for name, seconds in profile.layers[3].components.items() if name != part}
    lacking = replace(profile.layers[3], components=parts)
    with pytest.raises(AutoPrivacyError, match="lacks link_s or other_s; profile again"):
        fit(replace(profile, layers=(*profile.layers[:3], lacking, *profile.layers[4:])))


def test_what_an_inference_takes_to_begin_is_told_from_what_every_message_takes() -> None:
    model = synthetic.model(scale=1.3, per_layer_s=1e-3)
    link = model.predictor().correction(LINK)
    assert link.typical_per_layer_s == pytest.approx(synthetic.SLOWER * 1e-3, rel=0.1)
    assert link.typical_start_s == pytest.approx(synthetic.SLOWER * synthetic.START * 1e-3, rel=0.15)
    assert model.predictor().other(first=False).typical_s == pytest.approx(synthetic.SLOWER * 1e-3, rel=0.01)


@pytest.mark.parametrize("where", [LINK, ("server_he_s", "ring")])
def test_beginning_and_sleeping_are_told_from_what_there_is(where: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    seen = []
    for number in range(60):
        composed = tuple(Seconds(s, s) for s in rng.uniform(5e-5, 2e-3, 4).tolist())
        behind, first, waited = 1e-3 * rng.random(), number % 3 == 0, 1.5 * SLEEP_S * float(rng.random())
        took = 1.2 * (sum(each.typical_s for each in composed) + behind) + 4 * 3e-5 + 5e-4 * first
        took += 8e-4 * min(1.0, waited / SLEEP_S)
        both, taken = Seconds(behind, behind), Seconds(took, took)
        seen.append(Observation(f"run{number // 3}", composed, taken, first, both, waited))
    found = fit_correction(where, seen)
    assert found.typical_scale == pytest.approx(1.2, rel=0.02)
    assert found.typical_per_layer_s == pytest.approx(3e-5, rel=0.2)
    assert found.start.typical_s == pytest.approx(5e-4, rel=0.05)
    assert found.asleep(0.5 * SLEEP_S).typical_s == pytest.approx(4e-4, rel=0.05)
    assert found.error_after < 1e-2


def test_a_client_sleeps_while_the_server_computes() -> None:
    layer = synthetic.layers(1.0, 0.0)[0]
    taken = {part: each.quiet_s for part, each in layer.components.items()}
    factor = 0.7 * SLEEP_S / taken["server_he_s"]

    def compose(work: Handled) -> Seconds:
        return Seconds(factor * synthetic.seconds(work), factor * synthetic.seconds(work))

    (seen,) = observations([layer], compose)[LINK]
    assert seen.waited_s == waited_s(layer.work, compose) == pytest.approx(0.7 * SLEEP_S)


def test_a_message_right_behind_another_is_not_waited_for() -> None:
    predictor = synthetic.model(scale=1.3, per_layer_s=1e-3).predictor()
    up, down = (WorkDone("transfer", 0, 0, 1, 50_000, bytes=50_000, state=state) for state in ("up", "down"))
    alternating = predictor.messages([up, down, up], first=False, waited_s=0.0).typical_s
    behind = predictor.messages([up, down, down], first=False, waited_s=0.0).typical_s
    alone_s = 2e-5  # the synthetic machine's seconds of an empty message
    assert alternating - behind == pytest.approx(synthetic.SLOWER * (1.3 * alone_s + 1e-3), rel=0.1)
    bytes_s = predictor.correction(LINK).typical_scale * synthetic.SLOWER * 50_000 * 4e-10
    assert predictor.behind(down).typical_s == pytest.approx(bytes_s, rel=1e-3)


def test_every_operation_of_a_plan_has_a_part_and_the_link_its_own() -> None:
    assert set(PARTS) >= set(synthetic.COMPONENT)
    assert {part for operation, part in PARTS.items() if operation == "transfer"} == {LINK[0]}


def test_workers_slow_one_another_as_measured() -> None:
    parallel = tuple(
        ParallelSample("weighted_sum", "ring", 1024, 1, 26, 8, workers, 40, slow, slow, slow, slow)
        for workers, slow in ((2, 1.2), (2, 1.6), (4, 2.0))
    )
    model = fit(replace(synthetic.profile(), parallel=parallel))
    assert dict(model.worker_slowdown) == pytest.approx({1: 1.0, 2: 1.4, 4: 2.0})


def test_a_model_comes_back_from_its_json() -> None:
    model = synthetic.model(scale=1.3, per_layer_s=1e-3)
    assert parse(MachineModel, to_json(model), source="model.json") == model


def test_the_profile_is_named_in_the_model() -> None:
    model, header = synthetic.model(), synthetic.header()
    assert (model.profile_id, model.profile_name) == (header.id, header.name)
    assert model.slowdown_p95 == header.conditions.reference_slowdown_p95
    assert model.slowdown_median == header.conditions.reference_slowdown_median


FAR_S = 0.02


def over_link(scale: float, per_layer_s: float, runs: int = 6) -> MachineProfile:
    """Layers over loopback that take what operations add up to; some of them also over a link, where they do not."""
    profile = synthetic.profile()
    there = [
        replace(layer, run=f"{layer.run} far", round_trip_s=FAR_S)
        for layer in synthetic.layers(scale, per_layer_s)
        if layer.run in {f"run{number}" for number in range(runs)}
    ]
    far = [
        replace(run, name=f"{run.name} far", round_trip_s=FAR_S) for run in synthetic.runs(scale, per_layer_s)[:runs]
    ]
    return replace(profile, layers=(*profile.layers, *there), runs=(*profile.runs, *far))


def test_layers_over_a_link_take_what_they_took_over_one() -> None:
    model = corrected(synthetic.model(), over_link(1.5, 1e-3))
    assert model.corrections == synthetic.model().corrections
    assert len(model.run_errors) == 6
    here, there = model.predictor(), model.over(FAR_S).predictor()
    for layer in synthetic.layers(1.5, 1e-3):
        for (part, _), found in there.layer(layer.work, first=False).items():
            assert found.typical_s == pytest.approx(layer.components[part].typical_s, rel=2e-2)
    for layer in synthetic.layers(1.0, 0.0):
        for (part, _), found in here.layer(layer.work, first=False).items():
            assert found.typical_s == pytest.approx(layer.components[part].typical_s, rel=1e-2)


def test_between_two_round_trips_work_takes_between_what_it_takes_at_either() -> None:
    model = corrected(synthetic.model(), over_link(1.5, 1e-3))
    work = synthetic.layers(1.0, 0.0)[0].work
    trips = [0.0, LOOPBACK_ROUND_TRIP_S, (LOOPBACK_ROUND_TRIP_S * FAR_S) ** 0.5, FAR_S, 10 * FAR_S]
    predicted = [model.over(trip).predictor().layer(work, first=True) for trip in trips]
    found = [sum(each.typical_s for each in parts.values()) for parts in predicted]
    assert found[0] == found[1] < found[2] < found[3] == found[4]
    assert found[2] == pytest.approx((found[1] + found[3]) / 2)


@pytest.mark.parametrize("runs", [0, 2])
def test_where_few_or_no_layers_ran_over_a_link_those_over_loopback_count(runs: int) -> None:
    model = corrected(synthetic.model(), over_link(1.5, 1e-3, runs))
    work = synthetic.layers(1.0, 0.0)[0].work
    assert model.over(FAR_S).predictor().layer(work, first=True) == model.predictor().layer(work, first=True)
    assert parse(MachineModel, to_json(model), source="model") == model
