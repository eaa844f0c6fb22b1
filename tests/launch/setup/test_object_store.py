"""Ray's object store: its size, and what is done where shared memory does not hold it."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from configs.load import ConfigError, load
from launch.setup import object_store
from launch.setup.model_files import TINY, architecture
from launch.setup.model_shape import parameters_of, shape_of
from launch.setup.object_store import GIB, STORE_MARGIN, check_object_store, object_store_bytes
from launch.setup.preflight import prepare_run
from launch.setup.published_models import PUBLISHED
from launch.setup.resource_plan import describe, planned

HUB = "Qwen/Qwen3-8B"


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE", raising=False)


@pytest.fixture
def shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MB, as Docker gives by default."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(64 << 20, 0, 64 << 20))


@pytest.mark.parametrize(
    ("preset", "overrides", "billions", "width"),
    [
        ("qwen3-8b", [], 8.19073536, 2),  # a version is 16.4 GB
        ("gemma2-27b", [], 27.22712832, 2),  # and 54.4 GB
        ("qwen3-8b", ["model.dtype=float32"], 8.19073536, 4),
    ],
)
def test_the_store_of_a_hub_model_holds_three_versions_of_its_weights(
    preset: str, overrides: list[str], billions: float, width: int
) -> None:
    config = load(preset, overrides)
    assert object_store_bytes(config, config.model.path) == STORE_MARGIN + int(3 * width * billions * 1e9)


def test_the_store_of_a_model_in_a_folder_goes_by_the_dtype_of_the_published_weights() -> None:
    count = parameters_of(architecture(str(TINY)) or {})
    assert count > 100_000
    for dtype, width in (("float32", 4), ("bfloat16", 2)):
        config = load("tiny", [f"model.dtype={dtype}"])
        assert object_store_bytes(config, str(TINY)) == STORE_MARGIN + int(3 * width * count)


def test_adapters_alone_are_published() -> None:
    config = load("qwen3-8b", ["learner.lora_rank=32", "learner.zero_stage=1", "meta_rm.zero_stage=1"])
    assert object_store_bytes(config, HUB) - STORE_MARGIN == 3 * 2 * 32 * shape_of(PUBLISHED[HUB]).linear < 10**9


def test_without_published_weights_the_store_is_small() -> None:
    assert object_store_bytes(load("evaluate"), "") == STORE_MARGIN


@pytest.mark.usefixtures("shared_memory")
def test_a_store_that_shared_memory_cannot_hold_is_refused_before_anything_starts(tmp_path: Path) -> None:
    config = load("qwen3-8b", [f"run.dir={tmp_path}"])
    for check in (lambda: check_object_store(config, HUB), lambda: prepare_run(config, preset="qwen3-8b")):
        with pytest.raises(
            ConfigError, match=r"46\.0 GiB of shared memory for 3 versions.*enlarge it \(docker run --shm-size=47g"
        ):
            check()
    assert not os.listdir(tmp_path)


@pytest.mark.usefixtures("shared_memory")
def test_a_small_store_goes_to_disk_instead_and_the_plan_says_so() -> None:
    config = load("tiny")
    check_object_store(config, str(TINY))
    (line,) = [line for line in describe(planned(config, str(TINY))).splitlines() if line.startswith("store")]
    assert "/dev/shm has 0.1 free, so Ray would keep them on disk, which is slow: enlarge it (docker run --shm-size=1g" in line


@pytest.mark.usefixtures("shared_memory")
def test_a_cluster_that_is_joined_has_a_store_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    check_object_store(load("qwen3-8b", ["cluster.address=10.0.0.1:6379"]), HUB)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    config = load("qwen3-8b")
    check_object_store(config, HUB)
    assert "/dev/shm" not in describe(planned(config, HUB))


@pytest.mark.usefixtures("shared_memory")
def test_who_allows_slow_storage_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE", "1")
    check_object_store(load("qwen3-8b"), HUB)


def test_the_limit_above_which_ray_refuses_a_slow_store_is_rays_own() -> None:
    from ray._private import ray_constants

    assert ray_constants.REQUIRE_SHM_SIZE_THRESHOLD == object_store.SLOW_STORE_BYTES < 10 * GIB
