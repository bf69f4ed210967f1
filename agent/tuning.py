"""`tune`: measure, model, choose, prove, with everything kept in a run folder.

| file in the run folder | holds |
|---|---|
| run.json | versions, seed, settings, and which policies were compared |
| profile/, model.json | this machine's profile, and the latency model that was fitted to it |
| server-profile/, link/ | with a peer: its profile, and the link to it |
| search/, search.json | what a search goes on from, and what it found |
| policies/ | the policies that ran, and policy.json, the answer |
| predictions.json, confirmation.json | what was predicted of them, and what was measured |
| lesson.json, profile-confirmed/, model-confirmed.json | what was learnt from that; the next run begins there |
| report.html | the story |
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from autoprivacy.agent.choosing import Found
from autoprivacy.agent.choosing import run as run_search
from autoprivacy.agent.confirmation import Contender, Runs, confirmed, run_privately
from autoprivacy.agent.confirmed import Confirmation
from autoprivacy.agent.contenders import contenders_of, file_name, labels_of, suitable_images
from autoprivacy.agent.feedback import Lesson, learn
from autoprivacy.agent.machines import Machines, Peer, measured_profile, with_peer
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.runners_up import winner
from autoprivacy.agent.searching import Search, Settings
from autoprivacy.agent.servers import LocalServers, RemoteServers, Servers
from autoprivacy.common.errors import BadInput
from autoprivacy.common.progress import Progress
from autoprivacy.common.records import record, save
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.models.deployments import LOOPBACK, LinkFacts, MachineFacts, link_facts, machine_facts
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.prediction import Deployment, Prediction
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Splits
from autoprivacy.protocol.policy import Policy

_LOG: Final = logging.getLogger(__name__)


@record
class Run:
    """A run of `tune`: the same settings and seed give the same policy from the same profiles.

    Without a peer, `server` is `client`, and `link` its loopback.
    """

    schema_version: Literal[2]
    version: str
    network: str
    network_hash: str
    source: str
    data: str
    images: int
    candidates: int
    settings: Settings
    client: MachineFacts
    server: MachineFacts
    link: LinkFacts
    winner: str
    left_out: tuple[str, ...]


@record
class Predicted:
    """The prediction of one policy, by the label that it runs under."""

    label: str
    policy: Policy
    prediction: Prediction


@record
class Predictions:
    """Of all policies that run, the choice first."""

    policies: tuple[Predicted, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What `tune` is asked for; `source` is the network's name or file, `images` None takes what suits.

    `candidates` are the best policies by prediction that run; `profile` one that is measured already.
    """

    trained: TrainedNetwork
    source: str
    data: Splits
    out: Path
    version: str
    settings: Settings
    images: int | None = None
    candidates: int = 2
    depth: str = "quick"
    profile: MachineProfile | None = None
    peer: Peer | None = None
    fresh: bool = False
    data_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was found for which machines, and what is to run."""

    machines: Machines
    deployment: Deployment
    found: Found
    contenders: tuple[Contender, ...]
    left_out: tuple[str, ...]
    predictions: Predictions


@dataclass(frozen=True, slots=True)
class Tuned:
    """What `tune` did; what was learnt is of this machine as both parties, else None."""

    run: Run
    chosen: Chosen
    confirmation: Confirmation
    lesson: Lesson | None


def tune(asked: Asked, progress: Progress) -> Tuned:
    """The whole chain; writes the run folder.

    Raises:
        Refused: if no policy is accurate enough.
        ProfileMismatch: if the profile that is given is not of this machine any more.
        ProtocolError: if a private run fails.
    """
    return prove_choice(asked, choose(asked, progress), progress)


def choose(asked: Asked, progress: Progress) -> Chosen:
    """Measure, model, choose.

    Raises:
        Refused: if no policy is accurate enough.
        ProfileMismatch: if the profile that is given is not of this machine any more.
        ProtocolError: if the peer cannot be reached.
    """
    out = asked.out
    client = measured_profile(out, asked.profile, asked.depth, progress, fresh=asked.fresh)
    machines = Machines(client, client, None)
    if asked.peer is not None:
        machines = with_peer(out, client, asked.peer, progress)
    _LOG.info("profiles %s", ", ".join(machines.ids))
    deployment = machines.deployment()
    _LOG.info("latency models of %d operations fitted", len(deployment.client.operations))
    save(deployment.client, out / "model.json")
    pricing = DeploymentPricing(deployment)
    search = Search(
        asked.trained, asked.data, pricing, asked.settings, progress, asked.version, machines.ids, out / "search"
    )
    found = run_search(search)
    save(found, out / "search.json")
    _LOG.info("found %.6f s, drop at most %.4f, %d simulated", found.latency_s, found.drop.upper, found.simulated)
    contenders, left_out = contenders_of(search, found, deployment, asked.candidates)
    for each in contenders:
        save(each.policy, policy_file(out, each.label))
    predictions = Predictions(tuple(Predicted(each.label, each.policy, each.prediction) for each in contenders))
    save(predictions, out / "predictions.json")
    return Chosen(machines, deployment, found, tuple(contenders), left_out, predictions)


def policy_file(out: Path, label: str) -> Path:
    """Where a run folder keeps a policy."""
    return out / "policies" / f"{file_name(label)}.json"


def prove_choice(asked: Asked, chosen: Chosen, progress: Progress) -> Tuned:
    """Run what was chosen, keep the measured winner, and what it teaches.

    Raises:
        BadInput: if the confirm split has fewer images than asked for.
        ProtocolError: if a private run fails.
    """
    out, machines, contenders = asked.out, chosen.machines, chosen.contenders
    servers: Servers = LocalServers(asked.source, asked.data_file)
    if asked.peer is not None:
        contenders = contenders[: len(asked.peer.serving)]
        addresses = dict(zip((each.label for each in contenders), asked.peer.serving, strict=False))
        servers = RemoteServers(addresses, asked.peer.key, asked.peer.route)
    images = asked.images or suitable_images(contenders, len(asked.data.confirm.y))
    confirmation, runs = prove(
        contenders,
        asked.candidates,
        servers,
        asked.data,
        images=images,
        model=chosen.deployment.client,
        version=asked.version,
        seed=asked.settings.seed,
        progress=progress,
        link=LOOPBACK if machines.link is None else machines.link.header.name,
    )
    save(confirmation, out / "confirmation.json")
    save(runs[0].contender.policy, policy_file(out, "policy"))
    lesson = None
    if asked.peer is None:
        taught, refitted, lesson = learn(machines.client, chosen.deployment.client, runs)
        machine_profile.write(taught, out / "profile-confirmed")
        save(refitted, out / "model-confirmed.json")
        save(lesson, out / "lesson.json")
    run = Run(
        schema_version=2,
        version=asked.version,
        network=asked.trained.network.name,
        network_hash=asked.trained.hash,
        source=asked.source,
        data="" if asked.data_file is None else asked.data_file.name,
        images=images,
        candidates=asked.candidates,
        settings=asked.settings,
        client=machine_facts(machines.client),
        server=machine_facts(machines.server),
        link=link_facts(machines.link or machines.client.loopback, machines.client, own=machines.link is None),
        winner=runs[0].contender.label,
        left_out=chosen.left_out,
    )
    save(run, out / "run.json")
    return Tuned(run, chosen, confirmation, lesson)


def prove(
    contenders: Sequence[Contender],
    candidates: int,
    servers: Servers,
    data: Splits,
    *,
    images: int,
    model: MachineModel,
    version: str,
    seed: int,
    progress: Progress,
    link: str = LOOPBACK,
) -> tuple[Confirmation, tuple[Runs, ...]]:
    """Run all, the measured winner of the first `candidates` first.

    Raises:
        BadInput: if the confirm split has fewer images.
        ProtocolError: if a private run fails.
    """
    split = data.confirm
    check_images(images, data)
    with progress("running privately", images * len(contenders)) as advance:
        runs = run_privately(contenders, servers, split.x[:images], rng=np.random.default_rng(seed), progress=advance)
    among = [own for own in runs if own.contender.label in labels_of(candidates)]
    best = winner(among)
    ordered = (best, *(own for own in runs if own is not best))
    confirmation = confirmed(
        ordered,
        split.x[:images],
        split.y[:images],
        version=version,
        link=link,
        seed=seed,
        reference_typical_s=model.reference_typical_s,
        candidates=[own.contender.label for own in among],
    )
    return confirmation, ordered


def check_images(images: int, data: Splits) -> None:
    """Refuse more images than the confirm split holds.

    Raises:
        BadInput: with both numbers.
    """
    if images > len(data.confirm.y):
        raise BadInput(f"--images {images}: the confirm split has {len(data.confirm.y)} images; ask for fewer")
