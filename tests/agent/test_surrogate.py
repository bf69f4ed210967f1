"""Tables against `predict`, policy by policy, on real and on analytic prices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from autoprivacy.agent.coupling import Coupling, couple
from autoprivacy.agent.he_choices import set_choices
from autoprivacy.agent.methods import exact
from autoprivacy.agent.options import Choices, Option
from autoprivacy.agent.pricing import DeploymentPricing, Pricing
from autoprivacy.agent.pruning import worth_trying
from autoprivacy.agent.surrogate import Surrogate, surrogate
from autoprivacy.agent.terms import turns
from autoprivacy.common.errors import Refused
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.machine_profile import WorkDone
from autoprivacy.models.comparison import Objective
from autoprivacy.models.layer_model import BEGIN_PARTS, COLD_PARTS, Correction
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.operation_model import fit_operations
from autoprivacy.models.prediction import Deployment, predict
from autoprivacy.networks import data, load
from autoprivacy.networks.checkpoint import TrainedNetwork, untrained
from autoprivacy.networks.graph import Add, AvgPool, Conv2d, Flatten, Linear, MaxPool, Network, ReLU
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.protocol import plan as plan_module
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.conversation import Schedule
from autoprivacy.protocol.error_model import decryption_errors
from autoprivacy.protocol.plan import Plan, plan_network
from autoprivacy.protocol.policy import Policy, Provenance
from tests import synthetic
from tests.agent.pricing import AnalyticPricing

BITS = (4, 6, 8)


def branching() -> Network:
    """A shortcut with a convolution of its own, one without, both kinds of pooling."""
    return Network(
        "branching",
        (1, 8, 8),
        (
            Conv2d("conv1", ("input",), 4, (3, 3), (1, 1), (1, 1, 1, 1)),
            ReLU("relu1", ("conv1",)),
            MaxPool("max", ("relu1",), (2, 2), (2, 2)),
            Conv2d("conv2", ("max",), 6, (3, 3), (1, 1), (1, 1, 1, 1)),
            ReLU("relu2", ("conv2",)),
            Conv2d("conv3", ("relu2",), 6, (3, 3), (1, 1), (1, 1, 1, 1)),
            Conv2d("shortcut", ("max",), 6, (1, 1), (1, 1), (0, 0, 0, 0)),
            Add("add1", ("conv3", "shortcut")),
            ReLU("relu3", ("add1",)),
            Conv2d("conv4", ("relu3",), 6, (3, 3), (1, 1), (1, 1, 1, 1)),
            Add("add2", ("conv4", "relu3")),
            ReLU("relu4", ("add2",)),
            AvgPool("mean", ("relu4",), (2, 2), (2, 2)),
            Flatten("flatten", ("mean",)),
            Linear("fc", ("flatten",), 10),
        ),
    )


def side_by_side() -> Network:
    """Two garbled layers follow one linear layer: of two branches, and of one output that two layers round."""
    return Network(
        "side-by-side",
        (1, 8, 8),
        (
            Conv2d("conv1", ("input",), 4, (3, 3), (1, 1), (1, 1, 1, 1)),
            ReLU("relu1", ("conv1",)),
            Conv2d("left1", ("relu1",), 4, (3, 3), (1, 1), (1, 1, 1, 1)),
            Conv2d("right1", ("conv1",), 6, (1, 1), (1, 1), (0, 0, 0, 0)),
            ReLU("left2", ("left1",)),
            ReLU("right2", ("right1",)),
            MaxPool("right3", ("right2",), (2, 2), (2, 2)),
            Conv2d("left4", ("left2",), 4, (2, 2), (2, 2), (0, 0, 0, 0)),
            Conv2d("right4", ("right3",), 4, (1, 1), (1, 1), (0, 0, 0, 0)),
            Add("add", ("left4", "right4")),
            ReLU("relu", ("add",)),
            Flatten("flatten", ("relu",)),
            Linear("fc", ("flatten",), 10),
        ),
    )


NETWORKS = {"branching": branching, "side-by-side": side_by_side}


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    trained: TrainedNetwork
    quantiser: Quantiser
    coupling: Coupling

    def plan(self, tables: Surrogate, chosen: np.ndarray, privacy: str, schedule: Schedule = "online") -> Plan:
        network = self.quantiser.quantise(tables.widths(chosen))
        return plan_network(network, agree(network, self.policy(tables, chosen, privacy)), schedule)

    def policy(self, tables: Surrogate, chosen: np.ndarray, privacy: str) -> Policy:
        return Policy(
            1, self.trained.network.name, self.trained.hash, privacy, "he2024", tables.policy(chosen),
            Provenance("0", "by hand", (), "total", None, None),
        )  # fmt: skip


@pytest.fixture(scope="module", params=["digits-cnn", "branching", "side-by-side"])
def case(request: pytest.FixtureRequest) -> Case:
    made = NETWORKS.get(request.param)
    trained = load("digits-cnn") if made is None else untrained(made(), np.random.default_rng(3))
    quantiser = Quantiser(trained, data.splits("digits-cnn").calibrate.x)
    return Case(trained, quantiser, couple(quantiser, BITS, BITS, 1.0))


def everything(coupling: Coupling, options: Sequence[tuple[Option, ...]]) -> tuple[tuple[Option, ...], ...]:  # noqa: ARG001
    return tuple(options)


def tables_of(case: Case, pricing: Pricing, privacy: str, packings: tuple[str, ...]) -> Surrogate:
    sets = set_choices(packings, "he2024")  # type: ignore[arg-type]
    if case.trained.network.name == "side-by-side":
        assert max(map(len, turns(case.coupling))) == 2
    return surrogate(
        case.coupling, Choices(sets, BITS, BITS, CircuitPrivacy.parse(privacy), "he2024"), pricing, prune=everything
    )


def allowed(tables: Surrogate, count: int) -> np.ndarray:
    """Random policies that terms allow: drawn, then moved layer by layer to where they are allowed."""
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.integers(0, layer.size, 200_000) for layer in tables.problem.layers], axis=1)
    found = drawn[np.isfinite(tables.problem.latency(drawn))]
    assert len(found) >= count
    return found[:count]


@pytest.mark.parametrize(
    ("objective", "link"), [("total", None), ("total", "wan-100mbps"), ("online", None), ("online", "wan-100mbps")]
)
def test_tables_say_what_predict_says(
    case: Case, objective: Objective, link: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "PIECE_BYTES", 4096)  # several pieces, so that parties overlap
    model = prepared(synthetic.model(scale=1.3, per_layer_s=2e-3))
    corrected = {each.part for each in model.corrections if each.typical_scale != 1 and each.typical_per_layer_s > 0}
    assert corrected >= {"client_he_s", "garble_s", "evaluate_s", "link_s"}
    made = None if link is None else fit_link(machine_profile.find_link(link))
    deployment = Deployment(model, prepared(synthetic.model(slower=2)), made)
    sets = set_choices(("coefficients",), "he2024")[::4]
    choices = Choices(sets, (4, 8), (4, 8), CircuitPrivacy.parse("uniform"), "he2024")
    tables = surrogate(case.coupling, choices, DeploymentPricing(deployment, objective))
    policies = allowed(tables, 8)
    schedule: Schedule = "online" if objective == "total" else "preprocessed"
    for chosen, latency in zip(policies, tables.problem.latency(policies).tolist(), strict=True):
        plan = case.plan(tables, chosen, "uniform", schedule)
        predicted = predict(plan, deployment)
        assert latency == pytest.approx(predicted.latency_s, rel=1e-9)
        assert max(layer.components.overlapped_s for layer in predicted.layers) > 0


@pytest.mark.parametrize("privacy", ["uniform", "flood:40"])
def test_tables_say_what_plans_do_in_both_packings(case: Case, privacy: str) -> None:
    pricing = AnalyticPricing()
    tables = tables_of(case, pricing, privacy, ("coefficients", "slots"))
    assert {option.chosen.packing for options in tables.options for option in options} == {"coefficients", "slots"}
    policies = allowed(tables, 12)
    for chosen, latency in zip(policies, tables.problem.latency(policies).tolist(), strict=True):
        plan = case.plan(tables, chosen, privacy)
        assert latency == pytest.approx(pricing.inference(plan), rel=1e-9)


def test_stated_errors_are_those_of_the_error_model(case: Case) -> None:
    tables = tables_of(case, AnalyticPricing(), "uniform", ("coefficients",))
    rng = np.random.default_rng(1)
    for chosen in allowed(tables, 5):
        network = case.quantiser.quantise(tables.widths(chosen))
        policy = case.policy(tables, chosen, "uniform")
        errors = decryption_errors(network, agree(network, policy))
        for name, options, number in zip(case.coupling.layers, tables.options, chosen.tolist(), strict=True):
            option = options[number]
            unit = case.coupling.units[name, option.chosen.weight_bits, option.chosen.activation_bits]
            drawn = errors[name].sample(rng, 200).astype(float)
            stated = float(np.sqrt(((errors[name].standard_deviation * unit) ** 2).mean()))
            seen = float(np.sqrt(((drawn.transpose(0, 2, 3, 1) * unit) ** 2).mean()))
            if seen > 0.1:
                assert seen == pytest.approx(stated, rel=0.15)
            if option.error > 0.01:
                assert option.error == pytest.approx(stated, rel=0.6)


def prepared(model: MachineModel) -> MachineModel:
    """The model with what schedule `preprocessed` does, and corrections of it; its parties begin and wake up slowly."""
    measured = (
        WorkDone("clear_linear", 0, 0, 1, 10_000, 100),
        WorkDone("choose_labels", 0, 0, 1, 1000, 100),
        WorkDone("spill_read", 0, 0, 1, 1 << 16),
        WorkDone("spill_write", 0, 0, 1, 1 << 16),
    )
    more = [synthetic.sample(replace(work, items=k * work.items), k * 1e-5) for work in measured for k in (1, 2, 4)]
    parts = ("server_clear_s", "server_spill_s", "client_spill_s")
    corrections = [
        Correction(part, "", 0.0, 1.1, 0.0, 1e-4, 0.0, 0.0, 1.2, 0.0, 2e-4 * k, 0.0, 0.0, 9, 0.1, 0.1)
        for k, part in enumerate(parts, 1)
    ]
    cold = [
        replace(
            each,
            cold_s=1e-3 * (each.part in COLD_PARTS),
            typical_cold=0.7 * (each.part in COLD_PARTS),
            typical_start_s=3e-4 * (each.part in BEGIN_PARTS),
            quiet_sleep_s=1e-2 * (each.part == "link_s"),
            typical_sleep_s=2e-2 * (each.part == "link_s"),
        )
        for each in model.corrections
    ]
    return replace(model, operations=(*model.operations, *fit_operations(more)), corrections=(*cold, *corrections))


def test_only_the_fastest_of_equal_penalties_is_left(case: Case) -> None:
    tables = tables_of(case, AnalyticPricing(), "uniform", ("coefficients",))
    priced = tables.with_penalties(lambda layer, option: 1e-3 * option.error)  # noqa: ARG005 - one signature
    for before, after, layer in zip(tables.options, priced.options, priced.problem.layers, strict=True):
        assert len(after) < len(before)
        assert len(after) == layer.size
        assert [option.seconds for option in after] != []


def test_a_space_without_room_is_refused(case: Case) -> None:
    small = tuple(one for one in set_choices(("coefficients",), "he2024") if one.n == 1024)
    choices = Choices(small, BITS, BITS, CircuitPrivacy.parse("flood:40"), "he2024")
    with pytest.raises(Refused, match="no HE set of the space can run it"):
        surrogate(case.coupling, choices, AnalyticPricing())


@pytest.mark.parametrize("privacy", ["uniform", "flood:40"])
def test_what_is_pruned_is_in_no_optimum(case: Case, privacy: str) -> None:
    sets = set_choices(("coefficients", "slots"), "he2024")
    choices = Choices(sets, (8,), (8,), CircuitPrivacy.parse(privacy), "he2024")
    rng = np.random.default_rng(0)
    found = []
    for prune in (everything, worth_trying):
        tables = surrogate(case.coupling, choices, AnalyticPricing(), prune=prune)
        tables = tables.with_penalties(lambda layer, option: 1e-3 * option.error)  # noqa: ARG005 - one signature
        found.append(exact.solve(tables.problem, 50, rng, 0).latency_s)
        slots = {option.chosen.packing == "slots" for options in tables.options for option in options}
        assert slots == {True, False} if prune is everything else slots == {False}
    assert found[0] == pytest.approx(found[1], rel=1e-12)
