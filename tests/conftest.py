"""Shared by all tests: repeatable property tests, and one real Redis server for the session."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from buffer import streams
from buffer.server import EmbeddedServer
from buffer.streams import Address

# the same examples each time, and no time limit on a busy machine
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")

_number = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """One server for the session."""
    with tempfile.TemporaryDirectory(prefix="spct-test-") as folder, EmbeddedServer(Path(folder)) as running:
        yield running


@pytest.fixture
def address(server: EmbeddedServer) -> Address:
    """A run of its own for each test."""
    return Address(server.url, f"test-{os.getpid()}-{next(_number)}")


@pytest.fixture
def client(address: Address) -> Iterator[redis.Redis]:
    """A connection to a run that is set up with a meta-RM; the run is removed afterwards."""
    connection = streams.connect(address)
    streams.setup(connection, address.run_id, meta_rm=True)
    yield connection
    streams.remove(connection, address.run_id)
    connection.close()
