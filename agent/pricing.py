"""Seconds of work on a deployment: the only door between the search and the latency models.

A network's latency is the sum of its layers'; a layer's is that of its works, each scaled by the correction of its part
and kernel, and a constant for every such part. So a layer's HE and every message can be priced apart, and added.
Circuits and transfers are corrected all together, and hide behind one another, so those of a turn are summed first.
What a profile did not measure has no price, and cannot be chosen.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

import numpy as np

from autoprivacy.agent.problem import Floats
from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.hwprofiles.machine_profile import Seconds
from autoprivacy.models.comparison import Objective
from autoprivacy.models.layer_model import CIRCUIT_PARTS, LINK, Where, part_of, waited_s
from autoprivacy.models.prediction import Deployment, predict, tables_s
from autoprivacy.protocol.plan import Plan, Work, table_pieces

PARTS_OF: Final[Mapping[Objective, tuple[str, ...]]] = MappingProxyType(
    {"total": CIRCUIT_PARTS, "online": ("garble_s", "client_spill_s", "evaluate_s")}
)
"""The parts that garbled layers add to a layer."""


class CircuitSeconds(NamedTuple):
    """A garbled layer: its messages, its parts uncorrected, the link for its tables; and how many pieces it has."""

    messages_s: float
    client_ot_s: float = 0.0
    server_ot_s: float = 0.0
    garble_s: float = 0.0
    evaluate_s: float = 0.0
    client_spill_s: float = 0.0
    tables_s: float = 0.0
    pieces: float = 0.0


class Pricing(Protocol):
    """Prices work."""

    @property
    def objective(self) -> Objective:
        """What is priced: `total`, schedule `online` as a whole, or `online`, that part of schedule `preprocessed`."""
        ...

    def beside_s(self, layers: int) -> float:
        """Seconds that an inference of so many layers takes beside their work."""
        ...

    def seconds(self, work: Iterable[Work]) -> float:
        """Seconds of some work, without what its parts take once a layer.

        Raises:
            UnmodelledOperation: if some of it has no price.
        """
        ...

    def once(self, work: Iterable[Work], *, first: bool) -> float:
        """Seconds that the parts of some work take once a layer, however much of it there is; the link's apart.

        Of the `first` layer also what they take to begin.
        """
        ...

    def waited_s(self, work: Iterable[Work]) -> float:
        """Seconds for which a client waits for the HE of some work; `asleep_s` prices that."""
        ...

    def asleep_s(self, waited_s: float) -> float:
        """Seconds that a layer takes more because its client waited so long for the server's HE."""
        ...

    def circuit(self, work: Iterable[Work]) -> CircuitSeconds:
        """One garbled layer."""
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
        self._composed: dict[Work, Seconds] = {}

    @property
    def objective(self) -> Objective:
        """What is priced."""
        return self._objective

    def beside_s(self, layers: int) -> float:
        """What the client does between operations, and over loopback what the link takes to begin."""
        client, slowdown = self._deployment.client_predictor, self._deployment.slowdown_median
        begun_s = client.correction(LINK).start.typical_s if self._deployment.far_link is None else 0.0
        first_s, other_s = (client.other(first=first).typical_s for first in (True, False))
        return slowdown * (begun_s + first_s + (layers - 1) * other_s)

    def seconds(self, work: Iterable[Work]) -> float:
        """Seconds of some work, without what its parts take once a layer."""
        return sum(map(self._price, work))

    def once(self, work: Iterable[Work], *, first: bool) -> float:
        """Seconds that the parts of some work take once a layer, and the `first` to begin; the link's apart."""
        parts = dict.fromkeys((part_of(each), each.kernel) for each in work)
        return sum(self._constant(where, first=first) for where in parts if where != LINK)

    def waited_s(self, work: Iterable[Work]) -> float:
        """Seconds for which a client waits for the HE of some work."""
        return waited_s(work, lambda each: self._seconds(each, "server_he_s"))

    def asleep_s(self, waited_s: float) -> float:
        """Seconds that loopback takes more because the client waited so long; another link is priced as it is."""
        if self._deployment.far_link is not None:
            return 0.0
        correction = self._deployment.client_predictor.correction(LINK)
        return self._deployment.slowdown_median * correction.asleep(waited_s).typical_s

    def circuit(self, work: Iterable[Work]) -> CircuitSeconds:
        """One garbled layer.

        Raises:
            UnmodelledOperation: if some of it has no price.
        """
        works = tuple(work)
        parts = dict.fromkeys(PARTS_OF[self._objective], 0.0)
        for each in works:
            if (part := part_of(each)) in parts:
                parts[part] += self._deployment.predictor(part).seconds(each).typical_s
        return CircuitSeconds(
            messages_s=self.seconds(each for each in works if part_of(each) not in parts),
            tables_s=tables_s(works, self._deployment).typical_s,
            pieces=table_pieces(works),
            **parts,
        )

    def turn(self, circuits: Floats) -> Floats:
        """Seconds of all garbled layers of a turn: all but one piece of what is not the longest is hidden."""
        summed = CircuitSeconds(*circuits)
        parts = {part: self._corrected(part, getattr(summed, part)) for part in PARTS_OF[self._objective]}
        kept_s = parts.get("client_spill_s", 0.0)
        stages = np.stack([parts["garble_s"], parts["evaluate_s"] + kept_s, summed.tables_s])
        hidden = (1 - 1 / np.maximum(1.0, summed.pieces)) * (stages.sum(axis=0) - stages.max(axis=0))
        found: Floats = summed.messages_s + sum(parts.values()) - hidden
        return found

    def _corrected(self, part: str, composed_s: Floats) -> Floats:
        correction = self._deployment.predictor(part).correction((part, ""))
        return self._deployment.slowdown_median * correction.typical_s(composed_s)

    def behind(self, message: Work) -> float:
        """Seconds of a message that follows another one of its direction: it is not waited for."""
        link = self._deployment.far_link
        if link is None:
            return self._deployment.slowdown_median * self._deployment.client_predictor.behind(message).typical_s
        return link.message(message.bytes, up=message.state == "up", waited_for=False).typical_s

    def inference(self, plan: Plan) -> float:
        """Seconds of a whole inference."""
        return predict(plan, self._deployment).latency_s

    def _constant(self, where: Where, *, first: bool) -> float:
        correction = self._deployment.predictor(where[0]).correction(where)
        once_s = correction.typical_per_layer_s + (correction.typical_start_s if first else 0.0)
        return self._deployment.slowdown_median * once_s

    def _seconds(self, work: Work, part: str) -> Seconds:
        """By itself, in a loop."""
        known = self._composed.get(work)
        if known is None:
            known = self._composed[work] = self._deployment.predictor(part).seconds(work)
        return known

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
        link = self._deployment.far_link
        if work.operation == "transfer" and link is not None:
            return link.message(work.bytes, up=work.state == "up").typical_s
        where = part_of(work), work.kernel
        correction = self._deployment.predictor(where[0]).correction(where)
        seconds = self._seconds(work, where[0]).typical_s
        corrected = correction.typical_s(seconds) if where == LINK else correction.typical_scale * seconds
        return self._deployment.slowdown_median * corrected
