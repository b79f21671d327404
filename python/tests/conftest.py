"""Stores to test on, each test in a place of its own."""

import os
import shutil
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

import leaselock

#: The stores that `localstack/up` starts, by the variables that `localstack/env` prints.
EMULATORS = ["ministack", "azurite", "gcs"]

#: Generous: machines are slow and busy.
PATIENCE = 60


def url_on(name, tmp_path):
    if name == "file":
        return f"file://{tmp_path}/locks"
    url = os.environ.get(f"LEASELOCK_TEST_{name.upper()}")
    if not url:
        assert os.environ.get("CI") != "true", f"{name} is not running: localstack/up"
        pytest.skip(f"{name} is not running")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/t-{uuid.uuid4().hex}"))


@pytest.fixture(params=["file", *EMULATORS])
def url(request, tmp_path):
    """A fresh place on every store."""
    return url_on(request.param, tmp_path)


@pytest.fixture
def store(tmp_path):
    """A fresh directory, where the store does not matter."""
    return leaselock.open(url_on("file", tmp_path))


@pytest.fixture
def command():
    """The command `leaselock`."""
    tool = os.environ.get("LEASELOCK_COMMAND") or shutil.which("leaselock")
    if not tool:
        assert os.environ.get("CI") != "true", "LEASELOCK_COMMAND does not name the command"
        pytest.skip("the command is not installed")
    return str(Path(tool).resolve())


def eventually(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"waited in vain: {what}")
