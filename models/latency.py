"""What `predict` and `compare` do, as functions.

from autoprivacy.models import predict

predict("digits-cnn", "policy.json", server="office", client="laptop", link="wan").latency_s
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from autoprivacy.common.records import load
from autoprivacy.models.comparison import Objective
from autoprivacy.models.deployments import LOOPBACK, Names, load_deployments
from autoprivacy.models.latency_report import LatencyReport, build_report
from autoprivacy.models.prediction import Prediction
from autoprivacy.protocol.conversation import Schedule
from autoprivacy.protocol.policy import Policy


def predict(
    network: str,
    policy: str | PathLike[str],
    *,
    server: str,
    client: str,
    link: str = LOOPBACK,
    schedule: Schedule = "online",
    workers: int = 1,
) -> Prediction:
    """The predicted latency of a policy file on a deployment, whose profiles are found by name or folder.

    Raises:
        BadInput: if a network, policy or profile cannot be used.
        ProfileMismatch: if a machine's profile is stale.
        UnmodelledOperation: if a profile lacks an operation.
    """
    made = report_on(network, [policy], [Names(server, client, link)], schedule=schedule, workers=workers)
    return made.estimates[0].prediction


def compare(
    network: str,
    policies: Sequence[str | PathLike[str]],
    deployments: Sequence[Names],
    *,
    schedule: Schedule = "online",
    objective: Objective = "total",
    workers: int = 1,
) -> LatencyReport:
    """Predict every policy on every deployment; `comparison` of the report has the matrix, the best and the regrets.

    Raises:
        As `predict`.
    """
    return report_on(network, policies, deployments, schedule=schedule, objective=objective, workers=workers)


def report_on(
    network: str,
    policies: Sequence[str | PathLike[str]],
    deployments: Sequence[Names],
    *,
    schedule: Schedule = "online",
    objective: Objective | None = None,
    workers: int = 1,
    data_file: Path | None = None,
) -> LatencyReport:
    """Predict every policy on every deployment; with an `objective` also compare them.

    Raises:
        As `predict`; policy files are read before machines are fitted, which takes longer.
    """
    paths = [Path(each) for each in policies]
    for path in paths:
        load(Policy, path)
    found = load_deployments(deployments, workers=workers)
    return build_report(network, paths, found, schedule=schedule, objective=objective, data_file=data_file)
