"""Several deployments at once: the best policy of each, and what it costs to take one to another.

With the method `ddpg` the agent that learned on the first deployment is what the agents of the others begin as.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from autoprivacy.agent.choosing import Found, run
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.searching import Search
from autoprivacy.common.records import record
from autoprivacy.models.comparison import Comparison, compare_predictions
from autoprivacy.models.deployments import NamedDeployment
from autoprivacy.models.prediction import Deployment, predict
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.plan import plan_network


@record
class Swapped:
    """What was found on every deployment, in the order in which they were given, and their policies on the others."""

    deployments: tuple[str, ...]
    found: tuple[Found, ...]
    comparison: Comparison


def profiles_of(deployment: Deployment) -> tuple[str, ...]:
    """Ids of a deployment's profiles."""
    parts = (deployment.server, deployment.client, *(() if deployment.link is None else (deployment.link,)))
    return tuple(part.profile_id for part in parts)


def on(search: Search, deployment: Deployment, folder: Path | None, agents: Path | None = None) -> Search:
    """The same search on another deployment; sensitivities, and what was simulated, are shared."""
    pricing = DeploymentPricing(deployment, search.settings.objective)
    other = search.under(search.settings.circuit_privacy, pricing)
    return replace(other, folder=folder, agents=agents, profiles=profiles_of(deployment))


def folder_of(folder: Path, number: int) -> Path:
    """Where the search on the deployment of that number, from 0, keeps what took long."""
    return folder / f"deployment-{number + 1}"


def swap(search: Search, deployments: Sequence[NamedDeployment]) -> Swapped:
    """Search on every deployment, then predict every policy on all of them; needs a run folder.

    Raises:
        Refused: if no policy keeps the limit on one of them.
    """
    folder = search.folder
    assert folder is not None  # noqa: S101 - as said
    names = tuple(each.facts.name for each in deployments)
    found = []
    for number, each in enumerate(deployments):
        agents = folder_of(folder, 0) if number else None
        found.append(run(on(search, each.deployment, folder_of(folder, number), agents)))
    rows = []
    for one in found:
        quantised = search.quantiser.quantise(one.policy.widths())
        plan = plan_network(quantised, agree(quantised, one.policy), search.schedule)
        rows.append(tuple(predict(plan, each.deployment) for each in deployments))
    policies = tuple(f"best for {name}" for name in names)
    return Swapped(names, tuple(found), compare_predictions(policies, names, tuple(rows), search.settings.objective))
