"""Shared by all tests: repeatable property tests, and one real Redis server for the session."""

import gc
import itertools
import os
import sys
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

# The files that take longest, in that order: each worker of xdist takes the next file when it has done one, and what is short
# fills the gaps at the end. tests/test_model_matrix.py says why it is before the others that start engines in this process.
LONGEST = (
    "launch/test_run.py",
    "launch/driver/test_synchronous.py",
    "learner/test_ranks.py",
    "test_model_matrix.py",
    "learner/test_deepspeed_engine.py",
    "launch/test_evaluate_engine.py",
    "actors/test_vllm_engine.py",
    "actors/test_vllm_adapters.py",
    "gpu/test_small_checks.py",
    "launch/cluster/test_gpu_nodes.py",
    "launch/cluster/test_weight_board.py",
    "launch/cluster/test_ray_session.py",
    "launch/dev/test_tiny_base.py",
    "docs/test_pages.py",
    "launch/cluster/test_shared_gpu.py",
    "actors/test_rollout.py",
    "launch/serving/test_hostile_bodies.py",
    "learner/test_sft.py",
    "learner/test_grpo.py",
    "launch/cluster/test_served_app.py",
    "learner/test_lora.py",
    "actors/test_fair_claims.py",
    "actors/test_vllm_pause.py",
    "actors/test_engine_ends.py",
    "launch/setup/test_preflight.py",
    "launch/monitoring/test_stacks.py",
    "launch/serving/test_http_callers.py",
    "launch/serving/test_core.py",
    "gpu/test_engine_checks.py",
)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest files to the front, and mark what is `full` or `chaos` as `slow`."""
    for item in items:
        if item.get_closest_marker("full") or item.get_closest_marker("chaos"):
            item.add_marker(pytest.mark.slow)
    rank = {str(Path(__file__).parent / file): number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(str(item.path), len(LONGEST)))


def pytest_collection() -> None:
    """Look for no garbage while all is imported: it stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Nor look through it later. DeepSpeed collects by hand several times for each engine that it makes, and with all tests in
    memory each time took half a second."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def no_process_group_is_left() -> Iterator[None]:
    """An engine that ends leaves vLLM's process group, and the ranks of a learner, in the next file, make their own."""
    yield
    if "vllm.distributed.parallel_state" in sys.modules:
        from vllm.distributed.parallel_state import destroy_distributed_environment, destroy_model_parallel

        destroy_model_parallel()
        destroy_distributed_environment()


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
