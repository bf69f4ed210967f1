"""What latency models are judged against: the same operations simply added up, and one formula for every operation."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from math import exp, log, log2

import numpy as np

from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.models.features import Handled
from autoprivacy.models.operation_model import is_modelled
from autoprivacy.models.prediction import Deployment, predict_layer
from autoprivacy.protocol.plan import LayerPlan, Work


def uncorrected(deployment: Deployment) -> Deployment:
    """The additive model: operations summed, without what layers really run say of them."""
    return replace(
        deployment,
        server=replace(deployment.server, corrections=(), over_links=()),
        client=replace(deployment.client, corrections=(), over_links=()),
    )


def formula_of(profile: MachineProfile) -> Callable[[Handled], float]:
    """Seconds of an HE operation as one constant of its own times n x limbs x log n, for each call or product."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for sample in profile.samples:
        if sample.n and is_modelled(sample, profile.header.machine):
            ratios[sample.operation].append(log(sample.quiet_s / _size(sample)))
    constants = {operation: exp(float(np.mean(found))) for operation, found in ratios.items()}
    return lambda handled: constants[handled.operation] * _size(handled)


def _size(handled: Handled) -> float:
    count = handled.items if handled.operation == "weighted_sum" else handled.calls
    return count * handled.n * handled.limbs * log2(handled.n)


def formula_deployment(deployment: Deployment, profile: MachineProfile) -> Callable[[LayerPlan], float]:
    """Seconds of a layer whose HE operations follow the formula, and all else the additive model."""
    formula, plain = formula_of(profile), uncorrected(deployment)

    def is_he(work: Work) -> bool:
        return work.n > 0

    def seconds(layer: LayerPlan) -> float:
        he_s = sum(formula(work) for work in layer.work if is_he(work))
        rest = replace(layer, work=tuple(work for work in layer.work if not is_he(work)))
        return he_s + predict_layer(rest, plain).components.total_s

    return seconds
