"""Seconds of work on a deployment: the only door between the search and the latency models.

The network latency is the sum of its layers, and a layer's that of its work and a constant; so work can be priced
piece by piece. What a deployment's profiles did not measure has no price, and cannot be chosen.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Protocol

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.models.prediction import Deployment, predict_layer
from autoprivacy.protocol.plan import LayerPlan, Work


class Pricing(Protocol):
    """Prices work."""

    @property
    def layer_s(self) -> float:
        """Seconds that a layer takes beside its work."""
        ...

    def seconds(self, work: Iterable[Work]) -> float:
        """Seconds of some work.

        Raises:
            UnmodelledOperation: if some of it has no price.
        """
        ...


class DeploymentPricing:
    """Prices as `predict` does: typical seconds, offline and online together."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._known: dict[Work, float | UnmodelledOperation] = {}

    @cached_property
    def layer_s(self) -> float:
        """Seconds that a layer takes beside its work."""
        return self._total(())

    def seconds(self, work: Iterable[Work]) -> float:
        """Seconds of some work."""
        return sum(map(self._price, work))

    def _price(self, work: Work) -> float:
        known = self._known.get(work)
        if known is None:
            try:
                known = self._total((work,)) - self.layer_s
            except UnmodelledOperation as error:
                known = error
            self._known[work] = known
        if isinstance(known, UnmodelledOperation):
            raise known
        return known

    def _total(self, work: tuple[Work, ...]) -> float:
        return predict_layer(LayerPlan("layer", work, (), 0, 0, 0, 0, 0), self._deployment).components.total_s
