"""The exact optimum: every policy of the space in order of predicted latency, the first that is accurate enough.

Accuracy is simulated jointly, so no additivity is assumed; stopping at the first feasible policy is exact, because
every one before it was faster and failed.
"""

from dataclasses import dataclass, replace
from math import ceil

from autoprivacy.agent.accuracy import AccuracyDrop, accuracy_drop
from autoprivacy.agent.space import Choice, Space
from autoprivacy.common.errors import Refused
from autoprivacy.common.progress import Progress
from autoprivacy.models.prediction import Deployment, Prediction, predict
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import Policy


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy with its predicted latency."""

    choices: tuple[Choice, ...]
    policy: Policy
    agreement: Agreement
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Judged(Candidate):
    """A candidate whose accuracy was simulated as well; its policy states both promises."""

    drop: AccuracyDrop


@dataclass(frozen=True, slots=True)
class Found:
    """The optimum, how many policies exist, and how many had to be simulated."""

    best: Judged
    policies: int
    simulated: int


def candidate(space: Space, choices: tuple[Choice, ...], policy: Policy, deployment: Deployment) -> Candidate:
    """A policy, checked and predicted."""
    network = space.network(choices)
    agreement = agree(network, policy)
    return Candidate(choices, policy, agreement, predict(plan_network(network, agreement), deployment))


def with_accuracy(space: Space, found: Candidate, seed: int) -> Judged:
    """The same candidate with its accuracy simulated on the search split, and its promises written into the policy."""
    drop = accuracy_drop(space.network(found.choices), found.agreement, space.baseline, space.data.search, seed)
    made_by = replace(
        found.policy.made_by, predicted_latency_s=found.prediction.latency_s, accuracy_drop_upper=drop.upper
    )
    policy = replace(found.policy, made_by=made_by)
    return Judged(found.choices, policy, found.agreement, found.prediction, drop)


def search_exact(
    space: Space, deployment: Deployment, *, max_accuracy_drop: float, seed: int, progress: Progress
) -> Found:
    """The policy of least predicted latency whose bounded accuracy drop is at most `max_accuracy_drop` (a share).

    Raises:
        Refused: if no policy of the space is accurate enough; says how close the best came.
    """
    candidates = []
    with progress("predicting policies", space.size) as advance:
        for choices, policy in space.policies(method="exact enumeration"):
            candidates.append(candidate(space, choices, policy, deployment))
            advance()
    candidates.sort(key=lambda found: (found.prediction.latency_s, found.choices))
    closest = 1.0
    with progress("judging accuracy", len(candidates)) as advance:
        for index, found in enumerate(candidates, start=1):
            judged = with_accuracy(space, found, seed)
            advance()
            if judged.drop.upper <= max_accuracy_drop:
                return Found(judged, len(candidates), index)
            closest = min(closest, judged.drop.upper)
    raise Refused(
        f"no policy keeps the accuracy drop below {max_accuracy_drop:.2%} with confidence; "
        f"the best bound is {ceil(closest * 1e4) / 1e4:.2%}: allow that much with --max-accuracy-drop"
    )
