"""`tune`: measure, model, choose, prove, with everything kept in a run folder.

| file in the run folder | holds |
|---|---|
| profile/ | the machine profile |
| model.json | the fitted latency model |
| policies/chosen.json, policies/one-set-for-all.json | the policies that are compared |
| predictions.json | what was predicted of them |
| confirmation.json | what was measured |
| run.json | versions, seed and settings |
"""

import shutil
from pathlib import Path
from typing import Literal

import numpy as np

from autoprivacy.agent.confirmation import Confirmation, Contender, confirm
from autoprivacy.agent.search import Candidate, Found, Judged, candidate, search_exact, with_accuracy
from autoprivacy.agent.space import Space
from autoprivacy.common.progress import Progress
from autoprivacy.common.records import record, save
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.models.machine_model import fit
from autoprivacy.models.prediction import Deployment, Prediction
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Splits
from autoprivacy.profiler.machine import describe_machine, describe_software
from autoprivacy.profiler.profile import profile_machine


@record
class Run:
    """Settings of a run: the same ones give the same policy from the same profile."""

    schema_version: Literal[1]
    version: str
    network: str
    network_hash: str
    seed: int
    images: int
    max_accuracy_drop: float
    policies_in_space: int
    policies_simulated: int


@record
class Predictions:
    """Predictions by label."""

    chosen: Prediction
    one_set_for_all: Prediction


def measured_profile(name: str, folder: Path, progress: Progress) -> MachineProfile:
    """The profile kept in `folder`, if it is of this machine and this software; else a fresh one, stored there."""
    if (folder / "profile.json").exists():
        kept = machine_profile.read(folder)
        if kept.header.software == describe_software() and kept.header.machine == describe_machine():
            return kept
    return profile_machine(name, folder, "quick", progress)


def choose(
    space: Space, deployment: Deployment, *, max_accuracy_drop: float, seed: int, progress: Progress
) -> tuple[Found, Judged]:
    """The exact optimum, and one set for all layers to compare it with, both with accuracy bounds."""
    found = search_exact(space, deployment, max_accuracy_drop=max_accuracy_drop, seed=seed, progress=progress)
    choices = space.one_set_for_all()
    plain = candidate(space, choices, space.policy(choices, method="one set for all"), deployment)
    return found, with_accuracy(space, plain, seed)


def contender(space: Space, label: str, found: Candidate) -> Contender:
    """A searched candidate, ready to be confirmed."""
    return Contender(label, found.policy, found.agreement, space.network(found.choices), found.prediction)


def tune(
    trained: TrainedNetwork,
    source: str,
    data: Splits,
    out: Path,
    *,
    version: str,
    images: int,
    max_accuracy_drop: float,
    seed: int,
    fresh: bool,
    progress: Progress,
    data_file: Path | None = None,
) -> tuple[MachineProfile, Found, Candidate, Confirmation]:
    """The whole chain for the network loaded from `source` (a name or a file); writes the run folder `out`.

    Raises:
        Refused: if no policy is accurate enough.
        ProtocolError: if a private run fails.
    """
    if fresh and (out / "run.json").exists():
        shutil.rmtree(out)
    profile = measured_profile("this-machine", out / "profile", progress)
    model = fit(profile)
    save(model, out / "model.json")
    space = Space(trained, data, version, (profile.header.id,))
    found, plain = choose(
        space, Deployment(model, model), max_accuracy_drop=max_accuracy_drop, seed=seed, progress=progress
    )
    save(found.best.policy, out / "policies" / "chosen.json")
    save(plain.policy, out / "policies" / "one-set-for-all.json")
    save(Predictions(found.best.prediction, plain.prediction), out / "predictions.json")
    contenders = [contender(space, "chosen", found.best), contender(space, "one set for all", plain)]
    split = data.confirm
    with progress("running privately", images * len(contenders)) as advance:
        confirmation = confirm(
            contenders,
            source,
            split.x[:images],
            split.y[:images],
            reference_typical_s=model.reference_typical_s,
            rng=np.random.default_rng(seed),
            progress=advance,
            data_file=data_file,
        )
    save(confirmation, out / "confirmation.json")
    settings = Run(
        schema_version=1,
        version=version,
        network=trained.network.name,
        network_hash=trained.hash,
        seed=seed,
        images=images,
        max_accuracy_drop=max_accuracy_drop,
        policies_in_space=found.policies,
        policies_simulated=found.simulated,
    )
    save(settings, out / "run.json")
    return profile, found, plain, confirmation
