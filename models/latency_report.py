"""What a latency report says: predictions of policies on deployments, and everything that they rest on.

The record is the report: `predict --json` prints it, and `models/report` draws it.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Final, Literal

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record
from autoprivacy.models.comparison import Comparison, Objective, compare_predictions
from autoprivacy.models.deployments import LOOPBACK, DeploymentFacts, LinkFacts, MachineFacts, NamedDeployment
from autoprivacy.models.prediction import Prediction
from autoprivacy.models.prediction import predict as predict_plan
from autoprivacy.protocol.conversation import Schedule
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import LayerPolicy, Policy
from autoprivacy.protocol.security import SecurityLabel, meets
from autoprivacy.protocol.serving import load_agreed

OLD_DAYS: Final = 90
"""A profile that is older is still used, with a warning."""

_LABELS: Final[tuple[SecurityLabel, ...]] = ("he2024", "he2018", "below")


@record
class PolicyFacts:
    """A policy under the name that the report gives it; `security` is what its weakest layer really has."""

    name: str
    policy: Policy
    security: SecurityLabel


@record
class Estimate:
    """One policy on one deployment; `warnings` say what speaks against the figures."""

    policy: str
    deployment: str
    prediction: Prediction
    warnings: tuple[str, ...]


@record
class LatencyReport:
    """Estimates, a policy at a time in the order of `deployments`; `comparison` is None where it has no matrix."""

    schema_version: Literal[1]
    version: str
    made_on: str
    network: str
    schedule: Schedule
    policies: tuple[PolicyFacts, ...]
    deployments: tuple[DeploymentFacts, ...]
    estimates: tuple[Estimate, ...]
    comparison: Comparison | None


def security_of(layer: LayerPolicy) -> SecurityLabel:
    """The strictest label that a layer's set earns, on all primes under which anything is published."""
    special = () if layer.special is None else (layer.special,)
    return meets(layer.n, modulus_bits=prod((*layer.limbs, *special)).bit_length())


def weakest(policy: Policy) -> SecurityLabel:
    """The label of a policy's weakest layer."""
    return max((security_of(layer) for layer in policy.layers.values()), key=_LABELS.index)


def build_report(
    network: str,
    policies: Sequence[Path],
    deployments: Sequence[NamedDeployment],
    *,
    schedule: Schedule = "online",
    objective: Objective | None = None,
    data_file: Path | None = None,
) -> LatencyReport:
    """Predict every policy on every deployment; with an `objective` also compare them.

    Raises:
        BadInput: if a file cannot be used, or nothing is asked for.
        InvalidPolicy: if a policy is not one of this network.
        UnmodelledOperation: if a profile lacks an operation.
    """
    if not policies or not deployments:
        raise BadInput("a report needs at least one policy and one deployment; name them")
    today = datetime.now(UTC).date()
    facts, rows, called = [], [], ""
    for name, path in zip(labels(policies), policies, strict=True):
        policy, quantised, agreement = load_agreed(network, path, data_file)
        planned = plan_network(quantised, agreement, schedule)
        facts.append(PolicyFacts(name, policy, weakest(policy)))
        rows.append(tuple(predict_plan(planned, each.deployment) for each in deployments))
        called = agreement.network
    estimates = tuple(
        Estimate(policy.name, each.facts.name, prediction, warnings_of(policy, each.facts, prediction, today))
        for policy, row in zip(facts, rows, strict=True)
        for each, prediction in zip(deployments, row, strict=True)
    )
    names = tuple(each.facts.name for each in deployments)
    compared = objective and compare_predictions(tuple(each.name for each in facts), names, tuple(rows), objective)
    return LatencyReport(
        schema_version=1,
        version=version("autoprivacy"),
        made_on=today.isoformat(),
        network=called,
        schedule=schedule,
        policies=tuple(facts),
        deployments=tuple(each.facts for each in deployments),
        estimates=estimates,
        comparison=compared or None,
    )


def labels(policies: Sequence[Path]) -> tuple[str, ...]:
    """Short names of policy files: their stems, or whole paths where stems are the same.

    >>> labels([Path("a/p.json"), Path("q.json")]), labels([Path("a/p.json"), Path("b/p.json")])
    (('p', 'q'), ('a/p.json', 'b/p.json'))
    """
    stems = [path.stem for path in policies]
    return tuple(str(path) if stems.count(path.stem) > 1 else path.stem for path in policies)


def warnings_of(policy: PolicyFacts, facts: DeploymentFacts, prediction: Prediction, today: date) -> tuple[str, ...]:
    """What speaks against a prediction, one sentence each."""
    found = [f"beyond what was measured, so the interval is twice as wide: {each}" for each in prediction.extrapolated]
    machines = dict.fromkeys((facts.server, facts.client))
    for machine in machines:
        found += _machine_warnings(machine, today)
    found += _link_warnings(facts, today)
    if policy.security == "below":
        found.append(f"policy {policy.name} has layers below 128 bits of security, by both published tables")
    if policy.policy.circuit_privacy == "none":
        found.append(f"policy {policy.name} has no circuit privacy: responses tell the client about the weights")
    return tuple(found)


def _machine_warnings(machine: MachineFacts, today: date) -> list[str]:
    found = []
    if machine.verdict == "noisy":
        found.append(f"profile {machine.name} is noisy: {'; '.join(machine.reasons) or 'no reason given'}")
    if machine.interrupted:
        found.append(f"profile {machine.name} was interrupted: some settings may be missing")
    return found + _age("profile", machine.name, machine.measured_on, today)


def _link_warnings(facts: DeploymentFacts, today: date) -> list[str]:
    link: LinkFacts = facts.link
    if link.name == LOOPBACK:
        if facts.server.profile_id == facts.client.profile_id:
            return []
        return ["two machines, yet the link is the client's loopback; name the link between them"]
    found = [] if link.kind == "measured" else [f"link {link.name} is {link.kind}, not measured: {link.source}"]
    if not link.converged:
        found.append(f"link {link.name} did not settle while it was measured")
    ends = ((link.server_profile, facts.server), (link.client_profile, facts.client))
    if any(known and known != machine.profile_id for known, machine in ends):
        found.append(f"link {link.name} was measured between other machines")
    return found if link.kind == "declared" else found + _age("link", link.name, link.measured_on, today)


def _age(what: str, name: str, measured_on: str, today: date) -> list[str]:
    try:
        days = (today - date.fromisoformat(measured_on[:10])).days
    except ValueError:
        return [f"{what} {name} does not say when it was measured"]
    return [f"{what} {name} is {days} days old; measure again"] if days > OLD_DAYS else []
