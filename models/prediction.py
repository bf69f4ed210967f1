"""Seconds of a network's inference, from its plan on a deployment: the sum of its parts, with an interval.

Within a layer of schedule `online` nothing overlaps: each party waits for the other's message.
"""

from dataclasses import dataclass

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import record
from autoprivacy.models.machine_model import SERVER_COMPONENTS, MachineModel, component_of
from autoprivacy.protocol.plan import LayerPlan, Plan, Work


@dataclass(frozen=True, slots=True)
class Deployment:
    """A server machine, a client machine, and the link between them (today: the client's loopback)."""

    server: MachineModel
    client: MachineModel

    def machine(self, component: str) -> MachineModel:
        """The model of the machine that decides `component`."""
        return self.server if component in SERVER_COMPONENTS else self.client


@record
class Components:
    """Typical seconds by component."""

    client_he_s: float
    server_he_s: float
    ot_s: float
    garble_s: float
    evaluate_s: float
    link_s: float

    @property
    def total_s(self) -> float:
        """Their sum."""
        return self.client_he_s + self.server_he_s + self.ot_s + self.garble_s + self.evaluate_s + self.link_s


@record
class LayerPrediction:
    """One layer: typical seconds by component, and the quiet total."""

    name: str
    components: Components
    quiet_s: float


@record
class Prediction:
    """One inference. `latency_s` is typical; [`low_s`, `high_s`] should hold a measured median in 80 % of runs.

    `extrapolated` names the operations that were asked for beyond what was measured.
    """

    latency_s: float
    low_s: float
    high_s: float
    quiet_s: float
    layers: tuple[LayerPrediction, ...]
    bytes_up: int
    bytes_down: int
    extrapolated: tuple[str, ...]


def predict_layer(layer: LayerPlan, deployment: Deployment) -> LayerPrediction:
    """The time of one layer: its components, each corrected.

    Raises:
        UnmodelledOperation: if the deployment's profiles lack an operation.
    """
    for work in layer.work:
        if work.limbs > 1:
            raise UnmodelledOperation(
                f"layer {layer.name}: {work.operation} on {work.limbs} limbs; profiles measure one-limb sets so far"
            )
    seconds = {
        name: deployment.machine(name).component(name, layer.work, 1) for name in Components.__dataclass_fields__
    }
    components = Components(**{name: typical for name, (_, typical) in seconds.items()})
    return LayerPrediction(layer.name, components, sum(quiet for quiet, _ in seconds.values()))


def predict(plan: Plan, deployment: Deployment) -> Prediction:
    """The latency of one inference.

    The interval is the error that the model makes on whole inferences that it has not seen, doubled where a layer lies
    beyond what was measured, around quiet and typical; its upper end also takes the slow-down of the worst 5 %.
    """
    layers = tuple(predict_layer(layer, deployment) for layer in plan.layers)
    quiet = sum(layer.quiet_s for layer in layers)
    typical = sum(layer.components.total_s for layer in layers)
    extrapolated = {w.operation for layer in plan.layers for w in layer.work if _extrapolates(w, deployment)}
    doubt = max(deployment.server.relative_doubt, deployment.client.relative_doubt) * (2.0 if extrapolated else 1.0)
    slowdown = max(deployment.server.slowdown_p95, deployment.client.slowdown_p95)
    return Prediction(
        latency_s=typical,
        low_s=quiet * max(0.0, 1 - doubt),
        high_s=max(typical, quiet * slowdown) * (1 + doubt),
        quiet_s=quiet,
        layers=layers,
        bytes_up=plan.bytes_up,
        bytes_down=plan.bytes_down,
        extrapolated=tuple(sorted(extrapolated)),
    )


def _extrapolates(work: Work, deployment: Deployment) -> bool:
    model = deployment.machine(component_of(work.operation)).operation(work.operation)
    per_call = work.items / max(1, work.calls)
    (n_low, n_high), (items_low, items_high) = model.n_range, model.items_range
    return not (n_low <= work.n <= n_high and items_low <= per_call <= items_high)
