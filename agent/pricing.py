"""Seconds of work on a deployment: the only door between the search and the latency models.

A network's latency is the sum of its layers'; a layer's is that of its works, each scaled by the correction of its part
and kernel, a constant for every such part, and what garbling and evaluation hide of each other. So a layer's HE, a
circuit, and every message can be priced apart, and added. What a profile did not measure has no price, and cannot be
chosen.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Protocol

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.models.layer_model import Where, part_of
from autoprivacy.models.machine_model import LINK
from autoprivacy.models.prediction import Deployment, predict
from autoprivacy.protocol.plan import Plan, Work, hidden_share


class Pricing(Protocol):
    """Prices work."""

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

    def circuit(self, work: Iterable[Work]) -> float:
        """Seconds of a whole garbled layer, what both parties do at the same time counted once."""
        ...

    def inference(self, plan: Plan) -> float:
        """Seconds of a whole inference.

        Raises:
            UnmodelledOperation: if some of it has no price.
        """
        ...


class DeploymentPricing:
    """Prices as `predict` does: typical seconds from image to logits."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._known: dict[Work, float | UnmodelledOperation] = {}

    @cached_property
    def layer_s(self) -> float:
        """Seconds that a layer takes beside its work: what messages take once a layer, over loopback."""
        return self._constant(LINK) if self._is_loopback else 0.0

    def seconds(self, work: Iterable[Work]) -> float:
        """Seconds of some work, without what its parts take once a layer."""
        return sum(map(self._price, work))

    def once(self, work: Iterable[Work]) -> float:
        """Seconds that the parts of some work take once a layer; the link's apart."""
        parts = dict.fromkeys((part_of(each), each.kernel) for each in work)
        return sum(self._constant(where) for where in parts if where != LINK)

    def circuit(self, work: Iterable[Work]) -> float:
        """Seconds of a whole garbled layer."""
        works = tuple(work)

        def of(operation: str) -> float:
            own = [each for each in works if each.operation == operation]
            return self.seconds(own) + self.once(own)

        return self.seconds(works) + self.once(works) - hidden_share(works) * min(of("garble"), of("evaluate"))

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
        return self._deployment.slowdown_median * scale * predictor.seconds(work).typical_s
