from collections.abc import Iterable
from dataclasses import asdict, replace

import pytest

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles.link_profile import LinkHeader, LinkProfile, LinkSummary
from autoprivacy.hwprofiles.machine_profile import Seconds, WorkDone
from autoprivacy.models.link_model import LinkModel, fit_link
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.operation_model import EXTRAPOLATION, fit_operations
from autoprivacy.models.prediction import Components, Deployment, Prediction, predict, predict_layer
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.plan import LayerPlan, Plan, Work, plan
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


def hidden(layer: LayerPlan) -> float:
    """What garbling and evaluation of a layer do at once."""
    seconds = {
        what: sum(synthetic.seconds(work) for work in layer.work if work.operation == what)
        for what in ("garble", "evaluate")
    }
    return layer.hidden_share * min(seconds.values())


def seconds(works: Iterable[Work]) -> list[tuple[Work, float]]:
    """Each work with its own; of a message right behind another of its direction, what its bytes take."""
    found, before = [], ""
    for work in works:
        behind = work.operation == "transfer" and work.state == before
        found.append((work, synthetic.seconds(replace(work, calls=0) if behind else work)))
        before = work.state if work.operation == "transfer" else before
    return found


def test_an_inference_takes_what_its_operations_take(model: MachineModel, planned: Plan) -> None:
    assert sum(own != synthetic.seconds(work) for layer in planned.layers for work, own in seconds(layer.work)) == 1
    expected = sum(own for layer in planned.layers for _, own in seconds(layer.work))
    expected -= sum(hidden(layer) for layer in planned.layers)
    found = predict(planned, Deployment(model, model))
    assert found.quiet_s == pytest.approx(expected, rel=1e-3)
    assert found.latency_s == pytest.approx(model.slowdown_median * synthetic.SLOWER * expected, rel=1e-3)


def test_components_are_those_of_their_operations(model: MachineModel, planned: Plan) -> None:
    for layer in planned.layers:
        expected = dict.fromkeys(Components.__dataclass_fields__, 0.0)
        for work, own in seconds(layer.work):
            part = synthetic.COMPONENT[work.operation]
            component = "ot_s" if part in {"client_ot_s", "server_ot_s"} else part
            expected[component] += model.slowdown_median * synthetic.SLOWER * own
        found = predict_layer(layer, Deployment(model, model)).components
        for name, value in expected.items():
            if name == "overlapped_s":
                continue
            assert getattr(found, name) == pytest.approx(value, rel=1e-3, abs=2 * synthetic.LEAST_S)
        expected["overlapped_s"] = model.slowdown_median * synthetic.SLOWER * hidden(layer)
        assert found.overlapped_s == pytest.approx(expected["overlapped_s"], rel=1e-3)
        assert found.total_s == pytest.approx(sum(expected.values()) - 2 * expected["overlapped_s"], rel=1e-3)


def test_layers_add_up(corrected: MachineModel, planned: Plan) -> None:
    deployment = Deployment(corrected, corrected)
    whole = predict(planned, deployment)
    alone = [predict(replace(planned, layers=(layer,)), deployment) for layer in planned.layers]
    again = len(alone) - 1  # each of these begins an inference of its own
    slowdown, starts = corrected.slowdown_median, [each.start for each in corrected.corrections]
    start = Seconds(sum(each.quiet_s for each in starts), sum(each.typical_s for each in starts))
    assert whole.latency_s == pytest.approx(sum(one.latency_s for one in alone) - again * slowdown * start.typical_s)
    assert whole.quiet_s == pytest.approx(sum(one.quiet_s for one in alone) - again * start.quiet_s)
    assert start.quiet_s > 0
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
        assert 0 < found.quiet_s <= found.latency_s <= found.busy_s
        assert found.low_s <= found.latency_s <= found.high_s
        for layer in found.layers:
            assert layer.low_s <= layer.components.total_s <= layer.high_s


def test_a_machine_that_slows_down_more_is_slower_when_busy(model: MachineModel, planned: Plan) -> None:
    restless = replace(model, slowdown_p95=4.0)
    calm, worse = predict(planned, Deployment(model, model)), predict(planned, Deployment(model, restless))
    assert worse.busy_s > calm.busy_s
    assert (worse.latency_s, worse.quiet_s) == (calm.latency_s, calm.quiet_s)


def test_a_model_that_errs_more_widens_the_interval(model: MachineModel, planned: Plan) -> None:
    vague = replace(model, run_errors=(-0.3, 0.3, 0.3))
    sure, unsure = predict(planned, Deployment(model, model)), predict(planned, Deployment(vague, model))
    assert unsure.low_s < sure.low_s
    assert unsure.high_s > sure.high_s
    assert unsure.latency_s == sure.latency_s


def link(*, round_trip_s: float, rate: float) -> LinkModel:
    """A declared link."""
    summary = LinkSummary(round_trip_s, rate, rate / 2, rate, 0.0, 0.0)
    header = LinkHeader(1, "id", "wan", "declared", "", "test", "", "", False, False, "", summary, None, None, True)  # noqa: FBT003
    return fit_link(LinkProfile(header, ()))


def test_a_declared_link_takes_half_a_round_trip_a_message_and_its_bytes(model: MachineModel, planned: Plan) -> None:
    near, far = predict(planned, Deployment(model, model)), link(round_trip_s=0.08, rate=1e6)
    found = predict(planned, Deployment(model, model, far))
    # The logits come right behind the last response.
    messages = sum(layer.frames_up + layer.frames_down for layer in planned.layers) - 1
    up = sum(layer.bytes_up for layer in planned.layers)
    down = sum(layer.bytes_down for layer in planned.layers)
    expected = messages * 0.04 + up / 1e6 + down / 0.5e6
    assert sum(layer.components.link_s for layer in found.layers) == pytest.approx(expected, rel=1e-9)
    for one, other in zip(near.layers, found.layers, strict=True):
        alike = [replace(each.components, link_s=0.0, overlapped_s=0.0) for each in (one, other)]
        assert alike[0] == alike[1]


@pytest.mark.parametrize("rate", [1e5, 1e12])
def test_tables_take_as_long_as_the_slowest_of_making_sending_and_using_them(
    model: MachineModel, agreement: Agreement, rate: float
) -> None:
    deployment = Deployment(model, model, link(round_trip_s=0.0, rate=rate))
    layer = max(plan(agreement).layers, key=lambda layer: layer.hidden_share)
    found = predict_layer(layer, deployment).components
    tables = sum(work.bytes for work in layer.work if work.operation == "garble") / (rate / 2)
    stages = [found.garble_s, found.evaluate_s, tables]
    assert found.overlapped_s == pytest.approx(layer.hidden_share * (sum(stages) - max(stages)))
    assert (max(stages) == tables) == (rate < 1e6)


def test_a_spell_of_slow_down_leaves_a_link_as_it_is(model: MachineModel, planned: Plan) -> None:
    slow = replace(model, slowdown_p95=3.0)
    found = predict(planned, Deployment(slow, slow, link(round_trip_s=10.0, rate=1e12)))
    assert found.latency_s <= found.busy_s < 1.1 * found.latency_s
    assert predict(planned, Deployment(slow, slow)).busy_s > 2 * predict(planned, Deployment(slow, slow)).quiet_s


def test_what_was_measured_is_not_called_extrapolated(model: MachineModel, planned: Plan) -> None:
    assert not any(name.startswith("encrypt") for name in predict(planned, Deployment(model, model)).extrapolated)


@pytest.mark.parametrize(
    "work",
    [
        Work(**asdict(synthetic.he("encrypt", 32768, 26))),
        Work(**asdict(synthetic.he("weighted_sum", 512, 26, 2))),
        Work(**asdict(synthetic.he("weighted_sum", 2048, 26, 1000))),
        Work("transfer", 0, 0, calls=1, items=1 << 30, bytes=1 << 30),
    ],
)
def test_what_lies_beyond_the_measurements_is_named_and_doubted(planned: Plan, model: MachineModel, work: Work) -> None:
    vague = replace(model, run_errors=(-0.1, 0.1, 0.1))
    deployment = Deployment(vague, vague)
    found = predict(changed(planned, name="far", work=work), deployment)
    assert any(name.startswith(work.operation) for name in found.extrapolated)
    assert found.high_s / found.latency_s == pytest.approx(1 + EXTRAPOLATION * vague.predictor().network_doubt)


def test_an_unknown_operation_never_costs_nothing(model: MachineModel, planned: Plan) -> None:
    strange = changed(planned, name="strange", work=Work("bootstrap", 1024, 26, calls=1, items=1))
    with pytest.raises(UnmodelledOperation, match="bootstrap"):
        predict(strange, Deployment(model, model))


def test_an_operation_that_one_machine_never_measured_is_refused(model: MachineModel, planned: Plan) -> None:
    lacking = replace(model, operations=tuple(each for each in model.operations if each.operation != "garble"))
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


def test_what_is_done_once_or_ahead_is_told_apart(model: MachineModel, agreement: Agreement) -> None:
    deployment = Deployment(model, model)
    online = predict(plan(agreement), deployment)
    assert online.offline_s == 0
    assert online.offline == ()
    once = sum(own for _, own in seconds(plan(agreement).setup))
    assert online.setup_s == pytest.approx(model.slowdown_median * synthetic.SLOWER * once, rel=1e-3)
    with pytest.raises(UnmodelledOperation, match=r"spill_write|spill_read|clear_linear"):
        predict(plan(agreement, schedule="preprocessed"), deployment)


def test_of_a_prepared_inference_only_the_rest_is_latency(model: MachineModel, agreement: Agreement) -> None:
    measured = (
        WorkDone("clear_linear", 0, 0, 1, 10_000, 100),
        WorkDone("choose_labels", 0, 0, 1, 1000, 100),
        WorkDone("spill_write", 0, 0, 1, 1 << 16),
        WorkDone("spill_read", 0, 0, 1, 1 << 16),
    )
    more = [synthetic.sample(replace(work, items=k * work.items), k * 1e-6) for work in measured for k in (1, 2, 4)]
    able = replace(model, operations=(*model.operations, *fit_operations(more)))
    planned = plan(agreement, schedule="preprocessed")
    found = predict(planned, Deployment(able, able))
    assert found.offline_s > 0
    assert found.offline_s == pytest.approx(sum(layer.components.total_s for layer in found.offline))
    assert all(layer.components.clear_s > 0 and not layer.components.client_he_s for layer in found.layers)
    assert all(layer.components.client_he_s > 0 for layer in found.offline)
    assert (found.spill_client_bytes, found.spill_server_bytes) == (
        planned.client_spill_bytes,
        planned.server_spill_bytes,
    )
    ahead = planned.offline_traffic
    assert (found.offline_bytes_up, found.offline_bytes_down) == (ahead.bytes_sent, ahead.bytes_received)
