"""Policies against deployments: which policy suits which, and what it costs to take one deployment's choice to another.

>>> found = compare_table(("p", "q"), ("lan", "wan"), ((1.0, 9.0), (2.0, 6.0)), objective="total")
>>> [(best.deployment, best.policy) for best in found.best]
[('lan', 'p'), ('wan', 'q')]
>>> [(each.chosen_for, each.used_on, each.regret) for each in found.regrets if each.regret]
[('lan', 'wan', 0.5), ('wan', 'lan', 1.0)]
"""

from functools import partial
from typing import Literal, TypeAlias

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record
from autoprivacy.models.prediction import Prediction

Objective: TypeAlias = Literal["total", "online"]


@record
class Best:
    """The policy of least predicted latency on one deployment.

    `runner_up` is the next one; `clear` says that its interval does not reach the winner's (None with one policy).
    """

    deployment: str
    policy: str
    latency_s: float
    runner_up: str | None
    clear: bool | None


@record
class Regret:
    """What it costs to use on one deployment the policy that is best for another.

    `regret_s` is seconds an image beyond the best there, `regret` the same relative to the best.
    """

    chosen_for: str
    used_on: str
    policy: str
    latency_s: float
    regret_s: float
    regret: float


@record
class Comparison:
    """A matrix of predicted latencies: `latency_s[policy][deployment]`, an image, typical.

    `objective`: total is offline and online, online is from image to logits.
    """

    objective: Objective
    policies: tuple[str, ...]
    deployments: tuple[str, ...]
    latency_s: tuple[tuple[float, ...], ...]
    best: tuple[Best, ...]
    regrets: tuple[Regret, ...]


def objective_s(prediction: Prediction, objective: Objective) -> float:
    """Typical seconds an image that an objective counts."""
    return prediction.latency_s + (prediction.offline_s if objective == "total" else 0.0)


def compare_predictions(
    policies: tuple[str, ...],
    deployments: tuple[str, ...],
    predictions: tuple[tuple[Prediction, ...], ...],
    objective: Objective = "total",
) -> Comparison:
    """Compare predictions, a row a policy and a column a deployment.

    Raises:
        BadInput: if there is nothing to compare.
    """
    ahead = tuple(tuple(each.offline_s if objective == "total" else 0.0 for each in row) for row in predictions)

    def plus(name: str) -> tuple[tuple[float, ...], ...]:
        return tuple(
            tuple(getattr(each, name) + add for each, add in zip(row, adds, strict=True))
            for row, adds in zip(predictions, ahead, strict=True)
        )

    return compare_table(
        policies, deployments, plus("latency_s"), objective=objective, low_s=plus("low_s"), high_s=plus("high_s")
    )


def compare_table(
    policies: tuple[str, ...],
    deployments: tuple[str, ...],
    latency_s: tuple[tuple[float, ...], ...],
    *,
    objective: Objective,
    low_s: tuple[tuple[float, ...], ...] | None = None,
    high_s: tuple[tuple[float, ...], ...] | None = None,
) -> Comparison:
    """Compare seconds `latency_s[policy][deployment]`; ties go to the policy that was named first.

    Raises:
        BadInput: if there is nothing to compare.
    """
    if not policies or not deployments:
        raise BadInput("a comparison needs at least one policy and one deployment; name them")
    low, high = low_s or latency_s, high_s or latency_s
    rows = range(len(policies))
    orders = [sorted(rows, key=partial(_at, latency_s, column)) for column in range(len(deployments))]
    winners = [order[0] for order in orders]
    best = []
    for column, (winner, *others) in enumerate(orders):
        best.append(
            Best(
                deployment=deployments[column],
                policy=policies[winner],
                latency_s=latency_s[winner][column],
                runner_up=policies[others[0]] if others else None,
                clear=all(low[row][column] > high[winner][column] for row in others) if others else None,
            )
        )
    regrets = tuple(
        Regret(
            chosen_for=deployments[origin],
            used_on=deployments[column],
            policy=policies[winner],
            latency_s=latency_s[winner][column],
            regret_s=latency_s[winner][column] - latency_s[winners[column]][column],
            regret=latency_s[winner][column] / latency_s[winners[column]][column] - 1,
        )
        for origin, winner in enumerate(winners)
        for column in range(len(deployments))
        if column != origin
    )
    return Comparison(objective, policies, deployments, latency_s, tuple(best), regrets)


def _at(table: tuple[tuple[float, ...], ...], column: int, row: int) -> float:
    return table[row][column]
