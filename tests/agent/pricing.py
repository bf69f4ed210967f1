"""A deployment for tests: analytic seconds for all operations, limbs and packings. NOT measured; not in the product."""

from collections.abc import Iterable
from math import log2

from autoprivacy.agent.pricing import CircuitSeconds
from autoprivacy.agent.problem import Floats
from autoprivacy.models.comparison import Objective
from autoprivacy.protocol.plan import Plan, Work

HE_US = {  # microseconds at n = 4096 and one limb, of the order of docs/protocol.md's single operations
    "encrypt": 300.0,
    "receive": 20.0,
    "receive_add_share": 30.0,
    "to_ntt": 80.0,
    "from_ntt": 80.0,
    "weighted_sum": 2.0,
    "respond": 350.0,
    "decrypt": 150.0,
    "rotate": 330.0,
    "swap_rows": 330.0,
    "add": 8.0,
}
PRODUCT_US = 30.0
PER_ITEM_S = {
    "garble": 8e-9,
    "evaluate": 6e-9,
    "ot_send": 2e-8,
    "ot_receive": 3e-8,
    "clear_linear": 1e-10,
    "choose_labels": 4e-9,
    "spill_read": 3e-10,
    "spill_write": 5e-10,
}


class AnalyticPricing:
    """Seconds per operation in proportion to n log n and limbs; a link of some rate and delay."""

    def __init__(self, objective: Objective = "total", *, bytes_per_s: float = 1e9, frame_s: float = 2e-5) -> None:
        self.objective, self._byte_s, self._frame_s = objective, 1 / bytes_per_s, frame_s

    def seconds(self, work: Iterable[Work]) -> float:
        return sum(self._one(each) for each in work)

    def beside_s(self, layers: int) -> float:
        return 1e-4 * layers + 3e-4

    def once(self, work: Iterable[Work], *, first: bool) -> float:
        """Of each party, for its HE."""
        parties = len({each.operation in {"encrypt", "decrypt"} for each in work if each.n})
        return (2e-5 if first else 1e-5) * parties

    def waited_s(self, work: Iterable[Work]) -> float:
        return sum(self._one(each) for each in work if each.operation == "weighted_sum")

    def asleep_s(self, waited_s: float) -> float:
        return min(1e-4, waited_s)

    def circuit(self, work: Iterable[Work]) -> CircuitSeconds:
        return CircuitSeconds(self.seconds(work))

    def turn(self, circuits: Floats) -> Floats:
        found: Floats = circuits[0]
        return found

    def behind(self, message: Work) -> float:
        return self._one(message)

    def inference(self, plan: Plan) -> float:
        """Every operation, what layers take beside it, and what their HE takes once."""
        found = self.beside_s(len(plan.layers))
        for layer in plan.layers:
            found += self.seconds(layer.work) + self.once(layer.work, first=layer is plan.layers[0])
            found += self.asleep_s(self.waited_s(layer.work))
        return found

    def _one(self, work: Work) -> float:
        if work.operation in HE_US:
            size = work.n * log2(work.n) / (4096 * 12) * work.limbs
            if work.operation == "rotate":
                size *= work.limbs + 1
            return (
                1e-6
                * size
                * (work.calls * HE_US[work.operation] + work.items * PRODUCT_US * (work.operation == "weighted_sum"))
            )
        if work.operation == "transfer":
            return work.calls * self._frame_s + work.items * self._byte_s
        return 1e-5 * work.calls + PER_ITEM_S[work.operation] * work.items + 1e-8 * work.values
