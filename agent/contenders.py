"""What runs in a confirmation: the best policies by prediction, and rungs of the ladder to compare them with."""

from collections.abc import Sequence
from typing import Final

from autoprivacy.agent.choosing import Found
from autoprivacy.agent.confirmation import Contender
from autoprivacy.agent.ladder import Rung
from autoprivacy.agent.runners_up import runners_up
from autoprivacy.agent.searching import Search
from autoprivacy.models.prediction import Deployment, predict
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import Policy

CHOSEN: Final = "chosen"
COMPARED: Final = ("best uniform set at 2^-40", "Cheetah's set", "DELPHI's set")
"""Rungs of the ladder that the choice is measured against, if they have a price."""

MOST_TIMES: Final = 100.0
"""A rung that is predicted to take so many times as long as the choice is left out: its prediction says enough."""

LEAST_IMAGES: Final = 6
MOST_IMAGES: Final = 30
CONFIRM_S: Final = 60.0
"""Unless it is asked for otherwise, as many images run as take about so long."""


def contenders_of(
    search: Search, found: Found, deployment: Deployment, candidates: int
) -> tuple[list[Contender], tuple[str, ...]]:
    """The best policies by prediction, then rungs of the ladder to compare with; and why others are left out."""
    policies, left_out = candidates_of(search, found, candidates), []
    for rung in found.ladder:
        if rung.name not in COMPARED or (rung.policy and rung.policy.layers == found.policy.layers):
            continue
        reason = _why_not(rung, found)
        if reason is None and rung.policy is not None:
            policies.append((rung.name, rung.policy))
        else:
            left_out.append(f"{rung.name}: {reason}")
    return [contender(search, label, policy, deployment) for label, policy in policies], tuple(left_out)


def candidates_of(search: Search, found: Found, count: int) -> list[tuple[str, Policy]]:
    """The best `count` policies by prediction that differ, labelled; fewer where there are none."""
    others = runners_up(search, found.policy, count - 1)
    return list(zip(labels_of(1 + len(others)), (found.policy, *others), strict=True))


def labels_of(count: int) -> list[str]:
    """Labels of the best policies by prediction.

    >>> labels_of(3)
    ['chosen', 'runner-up 1', 'runner-up 2']
    """
    return [CHOSEN, *(f"runner-up {number}" for number in range(1, count))]


def _why_not(rung: Rung, found: Found) -> str | None:
    """Why a rung does not run; None where it does."""
    if rung.policy is None or rung.latency_s is None:
        return rung.note or "it has no price on this deployment"
    times = rung.latency_s / found.latency_s
    if times > MOST_TIMES:
        return f"predicted to take {times:.0f} times as long"
    return None


def contender(search: Search, label: str, policy: Policy, deployment: Deployment) -> Contender:
    """A policy, ready to be run for real."""
    network = search.quantiser.quantise(policy.widths())
    agreement = agree(network, policy)
    prediction = predict(plan_network(network, agreement, search.schedule), deployment)
    return Contender(label, policy, agreement, network, prediction, search.schedule)


def suitable_images(contenders: Sequence[Contender], most: int) -> int:
    """How many images all contenders run in about `CONFIRM_S`, by prediction."""
    each_s = sum(each.prediction.latency_s + each.prediction.offline_s for each in contenders)
    return min(most, max(LEAST_IMAGES, min(MOST_IMAGES, int(CONFIRM_S / each_s))))


def file_name(label: str) -> str:
    """A label as the name of a file.

    >>> file_name("Cheetah's set"), file_name("best uniform set at 2^-40")
    ('cheetahs-set', 'best-uniform-set-at-2-40')
    """
    words = "".join(c if c.isalnum() else " " if c != "'" else "" for c in label.lower()).split()
    return "-".join(words)
