"""Fixtures over small_policy.py."""

import pytest
from small_policy import make_contract, make_policy, small


@pytest.fixture
def contract():
    return make_contract()


@pytest.fixture
def config():
    return small()


@pytest.fixture
def policy(config):
    return make_policy(config)
