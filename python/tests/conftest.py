"""Stores to test on."""

import os
import uuid

import pytest

import leaselock

#: Where emulators listen, by the variable that `localstack/env` sets, and what a URL for them is made of.
EMULATORS = {}


@pytest.fixture
def store(tmp_path):
    return leaselock.open(f"file://{tmp_path}/locks")
