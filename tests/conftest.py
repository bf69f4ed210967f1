"""What tests of several folders look at: the shipped network in a search space, and one policy of it."""

import os

import pytest
from hypothesis import settings

from autoprivacy.agent.space import Choice, Space
from autoprivacy.networks import data, load
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.plan import Plan, plan
from autoprivacy.protocol.policy import Policy

# Everywhere the same examples; `HYPOTHESIS_PROFILE=default pytest` draws others.
settings.register_profile("same", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

PLAIN = (Choice(2048, 53, 8),) * 3
"""A choice for every layer of digits-cnn under which no decryption fails."""


@pytest.fixture(scope="session")
def space() -> Space:
    return Space(load("digits-cnn"), data.splits("digits-cnn"), "0", ("0123456789abcdef",))


@pytest.fixture(scope="session")
def policy(space: Space) -> Policy:
    return space.policy(PLAIN, method="by hand")


@pytest.fixture(scope="session")
def agreement(space: Space, policy: Policy) -> Agreement:
    return agree(space.network(PLAIN), policy)


@pytest.fixture(scope="session")
def planned(agreement: Agreement) -> Plan:
    return plan(agreement)
