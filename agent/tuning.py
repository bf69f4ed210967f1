"""`tune`: measure, model, choose, prove, with everything kept in a run folder.

| file in the run folder | holds |
|---|---|
| run.json | versions, seed, settings, and which policies were compared |
| profile/, model.json | the machine profile, and the latency model that was fitted to it |
| search/, search.json | what a search goes on from, and what it found |
| policies/ | the policies that ran, and policy.json, the answer |
| predictions.json, confirmation.json | what was predicted of them, and what was measured |
| lesson.json, profile-confirmed/, model-confirmed.json | what was learnt from that; the next run begins there |
| report.html | the story |
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from autoprivacy.agent.choosing import Found
from autoprivacy.agent.choosing import run as run_search
from autoprivacy.agent.confirmation import Contender, Runs, confirmed, run_privately
from autoprivacy.agent.confirmed import Confirmation
from autoprivacy.agent.feedback import Lesson, learn
from autoprivacy.agent.ladder import Rung
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.runners_up import runners_up, winner
from autoprivacy.agent.searching import Search, Settings
from autoprivacy.agent.servers import LocalServers, Servers
from autoprivacy.common.errors import BadInput, ProfileMismatch
from autoprivacy.common.progress import Progress
from autoprivacy.common.records import record, save
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.models.deployments import LOOPBACK, MachineFacts, machine_facts
from autoprivacy.models.machine_model import MachineModel, fit
from autoprivacy.models.prediction import Deployment, Prediction, predict
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Splits
from autoprivacy.profiler.check import check
from autoprivacy.profiler.profile import profile_machine
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import Policy

_LOG: Final = logging.getLogger(__name__)

CHOSEN: Final = "chosen"
COMPARED: Final = ("best uniform set at 2^-40", "Cheetah's set", "DELPHI's set")
"""Rungs of the ladder that the choice is measured against, if they have a price."""

MOST_TIMES: Final = 100.0
"""A rung that is predicted to take so many times as long as the choice is left out: its prediction says enough."""

LEAST_IMAGES: Final = 6
MOST_IMAGES: Final = 30
CONFIRM_S: Final = 60.0
"""Unless it is asked for otherwise, as many images run as take about so long."""


@record
class Run:
    """A run of `tune`: the same settings and seed give the same policy from the same profile."""

    schema_version: Literal[2]
    version: str
    network: str
    network_hash: str
    source: str
    data: str
    images: int
    candidates: int
    settings: Settings
    machine: MachineFacts
    profile_id: str
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
    fresh: bool = False
    data_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """What `tune` did."""

    run: Run
    profile: MachineProfile
    model: MachineModel
    found: Found
    predictions: Predictions
    confirmation: Confirmation
    lesson: Lesson


def tune(asked: Asked, progress: Progress) -> Tuned:
    """The whole chain; writes the run folder.

    Raises:
        Refused: if no policy is accurate enough.
        ProfileMismatch: if the profile that is given is not of this machine any more.
        ProtocolError: if a private run fails.
    """
    out = asked.out
    profile = measured_profile(asked, progress)
    _LOG.info("profile %s (%s), measured on %s", profile.header.id, profile.header.depth, profile.header.measured_on)
    model = fit(profile)
    _LOG.info("latency models of %d operations fitted", len(model.operations))
    save(model, out / "model.json")
    deployment = Deployment(model, model)
    search = Search(
        asked.trained,
        asked.data,
        DeploymentPricing(deployment),
        asked.settings,
        progress,
        asked.version,
        (profile.header.id,),
        out / "search",
    )
    found = run_search(search)
    save(found, out / "search.json")
    _LOG.info("found %.6f s, drop at most %.4f, %d simulated", found.latency_s, found.drop.upper, found.simulated)
    contenders, left_out = contenders_of(search, found, deployment, asked.candidates)
    for each in contenders:
        save(each.policy, out / "policies" / f"{file_name(each.label)}.json")
    predictions = Predictions(tuple(Predicted(each.label, each.policy, each.prediction) for each in contenders))
    save(predictions, out / "predictions.json")
    images = asked.images or suitable_images(contenders, len(asked.data.confirm.y))
    confirmation, runs = prove(
        contenders,
        asked.candidates,
        LocalServers(asked.source, asked.data_file),
        asked.data,
        images=images,
        model=model,
        version=asked.version,
        seed=asked.settings.seed,
        progress=progress,
    )
    save(confirmation, out / "confirmation.json")
    save(runs[0].contender.policy, out / "policies" / "policy.json")
    taught, refitted, lesson = learn(profile, model, runs)
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
        machine=machine_facts(profile),
        profile_id=profile.header.id,
        winner=runs[0].contender.label,
        left_out=left_out,
    )
    save(run, out / "run.json")
    return Tuned(run, profile, model, found, predictions, confirmation, lesson)


def measured_profile(asked: Asked, progress: Progress) -> MachineProfile:
    """The profile that is given, or kept in the run folder, if it still holds; else a fresh one, stored there.

    Raises:
        ProfileMismatch: if the one that is given does not hold.
    """
    if asked.fresh and (asked.out / "run.json").exists():
        shutil.rmtree(asked.out)
    folder = asked.out / "profile"
    if asked.profile is not None:
        must_hold(asked.profile, progress)
        machine_profile.write(asked.profile, folder)
        return asked.profile
    taught = asked.out / "profile-confirmed"
    if (taught / "profile.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        taught.rename(folder)
    if (folder / "profile.json").exists():
        kept = machine_profile.read(folder)
        try:
            must_hold(kept, progress)
        except ProfileMismatch:
            shutil.rmtree(folder)
        else:
            return kept
    return profile_machine("this-machine", folder, asked.depth, progress)


def must_hold(profile: MachineProfile, progress: Progress) -> None:
    """Refuse a profile that is not of this machine as it is now.

    Raises:
        ProfileMismatch: saying what differs.
    """
    found = check(profile, progress)
    if not found.holds:
        drifted = sum(setting.drifted for setting in found.settings)
        what = f"other {', '.join(found.differing)}" if not found.same_machine else ""
        raise ProfileMismatch(
            f"profile {profile.header.name} is not of this machine as it is now "
            f"({what or f'{drifted} of {len(found.settings)} settings drifted'}); measure again"
        )


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
    return Contender(label, policy, agreement, network, predict(plan_network(network, agreement), deployment))


def suitable_images(contenders: Sequence[Contender], most: int) -> int:
    """How many images all contenders run in about `CONFIRM_S`, by prediction."""
    each_s = sum(each.prediction.latency_s + each.prediction.offline_s for each in contenders)
    return min(most, max(LEAST_IMAGES, min(MOST_IMAGES, int(CONFIRM_S / each_s))))


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


def file_name(label: str) -> str:
    """A label as the name of a file.

    >>> file_name("Cheetah's set"), file_name("best uniform set at 2^-40")
    ('cheetahs-set', 'best-uniform-set-at-2-40')
    """
    words = "".join(c if c.isalnum() else " " if c != "'" else "" for c in label.lower()).split()
    return "-".join(words)
