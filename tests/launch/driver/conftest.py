"""Fixtures of the tests of a run's beginning and its end."""

from functools import partial
from pathlib import Path

import pytest

from buffer.server import EmbeddedServer
from launch.driver import pipeline
from tests.launch.driver.small_pipeline import Begin, FakeCluster, pipeline_of


@pytest.fixture
def cluster(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster(server.url)
    monkeypatch.setattr(pipeline, "Cluster", fake)
    return fake


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Makes the pipeline of a small run, or of one that is resumed."""
    return partial(pipeline_of, tmp_path)
