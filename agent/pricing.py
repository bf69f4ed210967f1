"""Seconds of work on a deployment: the only door between the search and the latency models.

A network's latency is the sum of its layers'; a layer's is that of its works, each scaled by the correction of its part
and kernel, a constant for every such part, and what garbling and evaluation hide of each other. So a layer's HE, a
circuit, and every message can be priced apart, and added. What a profile did not measure has no price, and cannot be
chosen.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

import numpy as np

from autoprivacy.agent.problem import Floats
from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.models.comparison import Objective
from autoprivacy.models.layer_model import Where, part_of
from autoprivacy.models.machine_model import LINK
from autoprivacy.models.prediction import Deployment, predict, tables_s
from autoprivacy.protocol.plan import Plan, Work, table_pieces

CIRCUIT_PARTS: Final[Mapping[Objective, tuple[str, ...]]] = MappingProxyType(
    {
        "total": ("client_ot_s", "server_ot_s", "garble_s", "evaluate_s"),
        "online": ("garble_s", "client_spill_s", "evaluate_s"),
    }
)
"""The parts that garbled layers add to a layer, each with what it takes once."""


class CircuitSeconds(NamedTuple):
    """A garbled layer: all its seconds; alone those of garbling, evaluating, and the link for tables; their pieces."""

    seconds: float
    garble_s: float
    evaluate_s: float
    pieces: float
    tables_s: float = 0.0


class Pricing(Protocol):
    """Prices work."""

    @property
    def objective(self) -> Objective:
        """What is priced: `total`, schedule `online` as a whole, or `online`, that part of schedule `preprocessed`."""
        ...

    @property
    def layer_s(self) -> float:
        """Seconds that a layer takes beside its work."""
        ...

    def seconds(self, work: Iterable[Work]) -> float:
        """Seconds of some work, without what its parts take once a layer.

        Raises:
            UnmodelledOperation: if some of it has no price.
        """
        ...

    def once(self, work: Iterable[Work]) -> float:
        """Seconds that the parts of some work take once a layer, however much of it there is; the link's apart."""
        ...

    def circuit(self, work: Iterable[Work]) -> CircuitSeconds:
        """Seconds of one garbled layer, without what its parts take once a layer."""
        ...

    def turn(self, circuits: Floats) -> Floats:
        """Seconds of all garbled layers of a turn, from the sums of their `CircuitSeconds` (fields, ...)."""
        ...

    def behind(self, message: Work) -> float:
        """Seconds of a message that follows another one of its direction: it is not waited for.

        Raises:
            UnmodelledOperation: if it has no price.
        """
        ...

    def inference(self, plan: Plan) -> float:
        """Seconds of a whole inference.

        Raises:
            UnmodelledOperation: if some of it has no price.
        """
        ...


class DeploymentPricing:
    """Prices as `predict` does: typical seconds from image to logits."""

    def __init__(self, deployment: Deployment, objective: Objective = "total") -> None:
        self._deployment, self._objective = deployment, objective
        self._known: dict[Work, float | UnmodelledOperation] = {}

    @property
    def objective(self) -> Objective:
        """What is priced."""
        return self._objective

    @property
    def layer_s(self) -> float:
        """Nothing: a layer's messages carry their own."""
        return 0.0

    def seconds(self, work: Iterable[Work]) -> float:
        """Seconds of some work, without what its parts take once a layer."""
        return sum(map(self._price, work))

    def once(self, work: Iterable[Work]) -> float:
        """Seconds that the parts of some work take once a layer; the link's apart."""
        parts = dict.fromkeys((part_of(each), each.kernel) for each in work)
        return sum(self._constant(where) for where in parts if where != LINK)

    def circuit(self, work: Iterable[Work]) -> CircuitSeconds:
        """Seconds of one garbled layer, without what its parts take once a layer."""
        works = tuple(work)
        garble, evaluate = ([each for each in works if each.operation == name] for name in ("garble", "evaluate"))
        return CircuitSeconds(
            self.seconds(works),
            self.seconds(garble),
            self.seconds(evaluate),
            table_pieces(garble),
            tables_s(garble, self._deployment).typical_s,
        )

    def turn(self, circuits: Floats) -> Floats:
        """Seconds of all garbled layers of a turn: all but one piece of what is not the longest is hidden."""
        parts = {part: self._constant((part, "")) for part in CIRCUIT_PARTS[self._objective]}
        seconds, garble, evaluate, pieces, tables = circuits
        stages = np.stack([garble + parts["garble_s"], evaluate + parts["evaluate_s"], tables])
        hidden = (1 - 1 / np.maximum(1.0, pieces)) * (stages.sum(axis=0) - stages.max(axis=0))
        found: Floats = seconds + sum(parts.values()) - hidden
        return found

    def behind(self, message: Work) -> float:
        """Seconds of a message that follows another one of its direction: it is not waited for."""
        link = self._deployment.link
        if link is None or self._is_loopback:
            return self._price(message)
        return link.message(message.bytes, up=message.state == "up", waited_for=False).typical_s

    def inference(self, plan: Plan) -> float:
        """Seconds of a whole inference."""
        return predict(plan, self._deployment).latency_s

    @property
    def _is_loopback(self) -> bool:
        return self._deployment.link is None or self._deployment.link.loopback

    def _constant(self, where: Where) -> float:
        predictor = self._deployment.predictor(where[0])
        return self._deployment.slowdown_median * predictor.correction(where).typical_per_layer_s

    def _price(self, work: Work) -> float:
        known = self._known.get(work)
        if known is None:
            try:
                known = self._made(work)
            except UnmodelledOperation as error:
                known = error
            self._known[work] = known
        if isinstance(known, UnmodelledOperation):
            raise known
        return known

    def _made(self, work: Work) -> float:
        if work.operation == "transfer" and self._deployment.link is not None and not self._is_loopback:
            return self._deployment.link.message(work.bytes, up=work.state == "up").typical_s
        where = part_of(work), work.kernel
        predictor = self._deployment.predictor(where[0])
        scale = predictor.correction(where).typical_scale
        seconds = self._deployment.slowdown_median * scale * predictor.seconds(work).typical_s
        return seconds + self._constant(LINK) if where == LINK else seconds
