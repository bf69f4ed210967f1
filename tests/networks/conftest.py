"""What several tests of this folder look at: the shipped network and its data."""

import pytest

from autoprivacy.networks import data, load
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Splits


@pytest.fixture(scope="session")
def trained() -> TrainedNetwork:
    return load("digits-cnn")


@pytest.fixture(scope="session")
def digits() -> Splits:
    return data.splits("digits-cnn")
