from dataclasses import replace

import pytest

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.models.machine_model import MachineModel, fit
from autoprivacy.models.prediction import Components, Deployment, Prediction, predict, predict_layer
from autoprivacy.protocol.plan import LayerPlan, Plan, Work
from tests import synthetic


@pytest.fixture(scope="module")
def model() -> MachineModel:
    return synthetic.model()


@pytest.fixture(scope="module")
def corrected() -> MachineModel:
    return synthetic.model(scale=1.3, per_layer_s=1e-3)


def changed(plan: Plan, *, name: str, work: Work) -> Plan:
    """`plan` with the work of the first layer called `name` replaced by one work."""
    first = replace(plan.layers[0], name=name, work=(work,))
    return replace(plan, layers=(first, *plan.layers[1:]))


def test_an_inference_takes_what_its_operations_take(model: MachineModel, planned: Plan) -> None:
    expected = sum(synthetic.seconds(work) for layer in planned.layers for work in layer.work)
    found = predict(planned, Deployment(model, model))
    assert found.quiet_s == pytest.approx(expected, rel=1e-4)
    assert found.latency_s == pytest.approx(synthetic.SLOWER * expected, rel=1e-4)


def test_components_are_those_of_their_operations(model: MachineModel, planned: Plan) -> None:
    for layer in planned.layers:
        expected = dict.fromkeys(Components.__dataclass_fields__, 0.0)
        for work in layer.work:
            expected[synthetic.COMPONENT[work.operation]] += synthetic.SLOWER * synthetic.seconds(work)
        found = predict_layer(layer, Deployment(model, model)).components
        for name, value in expected.items():
            assert getattr(found, name) == pytest.approx(value, rel=1e-4)
        assert found.total_s == pytest.approx(sum(expected.values()), rel=1e-4)


def test_layers_add_up(corrected: MachineModel, planned: Plan) -> None:
    deployment = Deployment(corrected, corrected)
    whole = predict(planned, deployment)
    alone = [predict(replace(planned, layers=(layer,)), deployment) for layer in planned.layers]
    assert whole.latency_s == pytest.approx(sum(one.latency_s for one in alone))
    assert whole.quiet_s == pytest.approx(sum(one.quiet_s for one in alone))
    assert whole.latency_s == pytest.approx(sum(layer.components.total_s for layer in whole.layers))
    assert [layer.name for layer in whole.layers] == [layer.name for layer in planned.layers]


def test_bytes_are_those_of_the_plan(model: MachineModel, planned: Plan) -> None:
    found = predict(planned, Deployment(model, model))
    assert (found.bytes_up, found.bytes_down) == (planned.bytes_up, planned.bytes_down)


def test_each_machine_does_its_own_part(model: MachineModel, planned: Plan) -> None:
    slow = synthetic.model(slower=3)
    same = predict(planned, Deployment(model, model))
    server, client = predict(planned, Deployment(slow, model)), predict(planned, Deployment(model, slow))
    for before, by_server, by_client in zip(same.layers, server.layers, client.layers, strict=True):
        for name in ("server_he_s", "garble_s"):
            assert getattr(by_server.components, name) == pytest.approx(3 * getattr(before.components, name))
            assert getattr(by_client.components, name) == getattr(before.components, name)
        for name in ("client_he_s", "evaluate_s"):
            assert getattr(by_client.components, name) == pytest.approx(3 * getattr(before.components, name))
            assert getattr(by_server.components, name) == getattr(before.components, name)


def test_the_interval_holds_the_point(model: MachineModel, corrected: MachineModel, planned: Plan) -> None:
    for deployment in (Deployment(model, model), Deployment(corrected, model)):
        found = predict(planned, deployment)
        assert 0 <= found.low_s <= found.quiet_s <= found.latency_s <= found.high_s


def test_a_machine_that_slows_down_more_widens_the_interval_upwards(model: MachineModel, planned: Plan) -> None:
    restless = replace(model, slowdown_p95=4.0)
    calm, worse = predict(planned, Deployment(model, model)), predict(planned, Deployment(model, restless))
    assert worse.high_s > calm.high_s
    assert (worse.latency_s, worse.low_s) == (calm.latency_s, calm.low_s)


def test_a_model_that_errs_more_widens_the_interval(model: MachineModel, planned: Plan) -> None:
    vague = replace(model, run_errors=(-0.3, 0.3, 0.3))
    sure, unsure = predict(planned, Deployment(model, model)), predict(planned, Deployment(vague, model))
    assert unsure.low_s < sure.low_s
    assert unsure.high_s > sure.high_s
    assert unsure.latency_s == sure.latency_s


def test_what_was_measured_is_not_called_extrapolated(model: MachineModel, planned: Plan) -> None:
    assert "encrypt" not in predict(planned, Deployment(model, model)).extrapolated


@pytest.mark.parametrize(
    "work",
    [
        Work("encrypt", 32768, 26, calls=1, items=0),
        Work("weighted_sum", 512, 26, calls=1, items=2),
        Work("weighted_sum", 2048, 26, calls=2, items=1000),
        Work("transfer", 0, 0, calls=1, items=1 << 30),
    ],
)
def test_what_lies_beyond_the_measurements_is_named_and_doubted(planned: Plan, model: MachineModel, work: Work) -> None:
    vague = replace(model, run_errors=(-0.1, 0.1, 0.1))
    deployment = Deployment(vague, vague)
    inside = replace(planned, layers=planned.layers[1:])
    outside = changed(planned, name="far", work=work)
    before, after = predict(inside, deployment), predict(outside, deployment)
    assert work.operation in after.extrapolated
    if before.extrapolated == ():
        assert after.high_s / after.latency_s > before.high_s / before.latency_s


def test_an_unknown_operation_never_costs_nothing(model: MachineModel, planned: Plan) -> None:
    strange = changed(planned, name="strange", work=Work("bootstrap", 1024, 26, calls=1, items=1))
    with pytest.raises(UnmodelledOperation, match="bootstrap"):
        predict(strange, Deployment(model, model))


def test_an_operation_that_one_machine_never_measured_is_refused(model: MachineModel, planned: Plan) -> None:
    profile = synthetic.profile()
    runs = tuple(
        replace(run, work=tuple(work for work in run.work if work.operation != "garble")) for run in profile.runs
    )
    samples = tuple(sample for sample in profile.samples if sample.operation != "garble")
    lacking = fit(MachineProfile(profile.header, samples, runs))
    predict(planned, Deployment(server=model, client=lacking))
    with pytest.raises(UnmodelledOperation, match=r"synthetic.*garble"):
        predict(planned, Deployment(server=lacking, client=model))


def test_a_prediction_comes_back_from_its_json(model: MachineModel, planned: Plan) -> None:
    found = predict(planned, Deployment(model, model))
    assert parse(Prediction, to_json(found), source="prediction.json") == found


def test_more_work_takes_longer(model: MachineModel, planned: Plan) -> None:
    layer: LayerPlan = planned.layers[0]
    doubled = replace(
        layer,
        work=tuple(
            replace(work, calls=2 * work.calls, items=2 * work.items, values=2 * work.values) for work in layer.work
        ),
    )
    deployment = Deployment(model, model)
    assert predict_layer(doubled, deployment).quiet_s > predict_layer(layer, deployment).quiet_s
