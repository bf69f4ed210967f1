"""The same two machines over two links: the best policy differs, and each is the better one on its own link."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoprivacy.agent.confirmation import Runs, confirmed, run_privately
from autoprivacy.agent.confirmed import Confirmation
from autoprivacy.agent.contenders import contender
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.searching import Search, Settings, solved
from autoprivacy.agent.servers import LocalServers, route_over
from autoprivacy.common.progress import silent
from autoprivacy.hwprofiles.link_profile import LinkProfile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.prediction import Deployment
from autoprivacy.networks import checkpoint
from autoprivacy.networks.checkpoint import untrained
from autoprivacy.networks.graph import Flatten, Linear, Network, ReLU
from autoprivacy.networks.user_data import splits_for
from tests import synthetic
from tests.models.deployed import declared_link

RATE_BYTES_PER_S = 2.5e6
ROUND_TRIP_S = 0.01
SETTINGS = Settings(packings=("coefficients",), weight_bits=(4,), activation_bits=(8,))


def thin_link() -> LinkProfile:
    """20 Mbit/s and 10 ms."""
    link = declared_link("thin")
    summary = replace(
        link.header.summary,
        round_trip_s=ROUND_TRIP_S,
        rate_up_bytes_per_s=RATE_BYTES_PER_S,
        rate_down_bytes_per_s=RATE_BYTES_PER_S,
    )
    return replace(link, header=replace(link.header, summary=summary))


@pytest.fixture(scope="module")
def deployments() -> dict[str, Deployment]:
    model = synthetic.model()
    return {"loopback": Deployment(model, model), "thin": Deployment(model, model, fit_link(thin_link()))}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network of the user's own whose ciphertexts count beside its few ReLUs, and images."""
    folder = tmp_path_factory.mktemp("wide")
    layers = (
        Flatten("flat", ("input",)),
        Linear("wide", ("flat",), 64),
        ReLU("relu", ("wide",)),
        Linear("narrow", ("relu",), 10),
    )
    rng = np.random.default_rng(0)
    checkpoint.save(untrained(Network("wide", (1, 32, 64), layers), rng), folder / "wide.json")
    np.savez(folder / "images.npz", x=rng.random((210, 1, 32, 64)).astype(np.float32))
    return folder / "wide.json", folder / "images.npz"


@pytest.fixture(scope="module")
def searches(files: tuple[Path, Path], deployments: dict[str, Deployment]) -> dict[str, Search]:
    trained = checkpoint.load(files[0])
    data = splits_for(trained, files[1])
    return {
        name: Search(trained, data, DeploymentPricing(deployment), SETTINGS, silent)
        for name, deployment in deployments.items()
    }


@pytest.fixture(scope="module")
def ran(
    files: tuple[Path, Path], searches: dict[str, Search], deployments: dict[str, Deployment]
) -> tuple[tuple[Runs, ...], Confirmation]:
    """The best policy of either link, predicted and run over the thin one."""
    contenders = []
    for name, search in searches.items():
        found = solved(search, search.surrogate(), 10**6)
        assert found is not None
        policy = search.policy(search.surrogate(), found.policy, method_name="exact")
        contenders.append(contender(search, name, policy, deployments["thin"]))
    split = searches["thin"].data.confirm
    servers = LocalServers(str(files[0]), files[1], route_over(thin_link()))
    rng = np.random.default_rng(0)
    runs = run_privately(contenders, servers, split.x[:2], rng=rng, progress=lambda: None)
    measured = confirmed(runs, split.x[:2], split.y[:2], version="0", link="thin", seed=0, reference_typical_s=6e-5)
    return runs, measured


def test_each_is_the_best_on_its_own_link(
    ran: tuple[tuple[Runs, ...], Confirmation], searches: dict[str, Search], deployments: dict[str, Deployment]
) -> None:
    by_link = {own.contender.label: own.contender.policy for own in ran[0]}
    assert by_link["loopback"].layers != by_link["thin"].layers
    for link, deployment in deployments.items():
        seconds = {
            label: contender(searches[link], label, policy, deployment).prediction.latency_s
            for label, policy in by_link.items()
        }
        assert min(seconds, key=lambda label: seconds[label]) == link


def test_the_thin_link_is_kept_to_and_fewer_bytes_pass_it(ran: tuple[tuple[Runs, ...], Confirmation]) -> None:
    found = {policy.label: policy for policy in ran[1].policies}
    passed = {label: policy.online.bytes_up + policy.online.bytes_down for label, policy in found.items()}
    assert passed["thin"] < passed["loopback"]
    for label, policy in found.items():
        assert policy.logits_explained == policy.images == 2
        assert policy.bytes_as_planned
        # What an emulated link cannot be faster than; how much slower is measured in benchmarks.
        assert min(policy.online.seconds) > passed[label] / RATE_BYTES_PER_S
        assert policy.online.measured.link_s > 0
