"""One real server for the session; for each test a fresh run on it, and what is left of it removed."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from buffer import streams
from buffer.server import EmbeddedServer
from buffer.streams import Address
from tests.buffer.run_by_hand import Run, repeat_writes

settings.register_profile("same examples, any speed", deadline=None, derandomize=True)
settings.load_profile("same examples, any speed")
_number = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    with tempfile.TemporaryDirectory(prefix="spct-test-") as folder, EmbeddedServer(Path(folder)) as running:
        yield running


@pytest.fixture
def address(server: EmbeddedServer) -> Address:
    return Address(server.url, f"test-{os.getpid()}-{next(_number)}")


@pytest.fixture
def client(address: Address) -> Iterator[redis.Redis]:
    """A connection to a run that is set up with a meta-RM."""
    connection = streams.connect(address)
    streams.setup(connection, address.run_id, meta_rm=True)
    yield connection
    streams.remove(connection, address.run_id)
    connection.close()


@pytest.fixture(params=["answered", "asked twice"])
def run(request: pytest.FixtureRequest, client: redis.Redis, address: Address) -> Run:
    """The run through a good connection, and through one on which every command runs twice."""
    return Run(client if request.param == "answered" else repeat_writes(client), address.run_id)


@pytest.fixture
def steady_run(client: redis.Redis, address: Address) -> Run:
    return Run(client, address.run_id)
