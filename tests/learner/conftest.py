"""One random model for the session; a fresh run for each test."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer.server import EmbeddedServer
from buffer.streams import Address
from tests import random_models
from tests.learner.run_by_hand import Run

_number = itertools.count()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with tied embeddings."""
    return random_models.make(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture
def run(server: EmbeddedServer, tmp_path: Path) -> Iterator[Run]:
    made = Run(Address(server.url, f"learner-{os.getpid()}-{next(_number)}"), tmp_path)
    yield made
    made.close()
