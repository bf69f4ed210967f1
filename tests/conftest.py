"""What tests of several folders look at: the shipped network under one policy, without decryption errors."""

import os

import pytest
from hypothesis import settings

from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.plan import Plan, plan
from autoprivacy.protocol.policy import Policy
from tests import by_hand

# Everywhere the same examples; `HYPOTHESIS_PROFILE=default pytest` draws others.
settings.register_profile("same", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def digits() -> QuantisedNetwork:
    """digits-cnn at the widths of `policy`."""
    return by_hand.network(8)


@pytest.fixture(scope="session")
def policy() -> Policy:
    return by_hand.policy(2048, 53, 8)


@pytest.fixture(scope="session")
def agreement(digits: QuantisedNetwork, policy: Policy) -> Agreement:
    return agree(digits, policy)


@pytest.fixture(scope="session")
def planned(agreement: Agreement) -> Plan:
    return plan(agreement)
