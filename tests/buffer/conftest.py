"""Runs by hand on the session's server (tests/conftest.py), and folders for servers of their own."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from buffer.streams import Address
from tests.buffer.run_by_hand import Run, repeat_writes


@pytest.fixture(params=["answered", "repeated"])
def run(request: pytest.FixtureRequest, client: redis.Redis, address: Address) -> Run:
    """The run through a good connection, and through one on which every command runs twice."""
    return Run(client if request.param == "answered" else repeat_writes(client), address.run_id)


@pytest.fixture
def steady_run(client: redis.Redis, address: Address) -> Run:
    """The run through a good connection alone."""
    return Run(client, address.run_id)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for a socket."""
    short = Path("/tmp") / f"spct-{os.getpid()}-{time.monotonic_ns()}"
    yield short
    shutil.rmtree(short, ignore_errors=True)
