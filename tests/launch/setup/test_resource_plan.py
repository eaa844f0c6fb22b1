"""The plan in figures: parameters, memory of a rank, and Ray's object store."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from configs.load import ConfigError, load
from launch.setup import resource_plan
from launch.setup.model_files import TINY, architecture
from launch.setup.preflight import prepare_run
from launch.setup.resource_plan import (
    GIB,
    STORE_MARGIN,
    check_object_store,
    describe,
    object_store_bytes,
    parameters,
    parameters_of,
    planned_processes,
)
from tests.random_models import make

HUB = "Qwen/Qwen3-8B"  # on no disk here


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE", raising=False)


@pytest.fixture
def shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MB, as Docker gives by default."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(64 << 20, 0, 64 << 20))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["llama", "gemma2", "glm4_moe", "gpt2"])  # tests/test_model_matrix.py has the others
def test_a_model_of_another_shape_is_planned_from_its_own_config(kind: str, tied: bool, tmp_path: Path) -> None:
    folder = make(tmp_path / kind, kind, tied=tied)
    real = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(folder).parameters())
    arch = architecture(str(folder))
    assert arch is not None
    assert parameters_of(arch) == real


QWEN3_30B_A3B = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}

GEMMA_3_4B = {  # nested, with a vision tower
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
    },
}


@pytest.mark.parametrize(
    ("arch", "billions"),
    [
        (QWEN3_30B_A3B, 30.5),
        ({"model_type": "mixtral"}, 46.7),  # transformers' defaults are those of the published models
        ({"model_type": "deepseek_v3"}, 671.0),  # latent attention, routed and shared experts
        (GEMMA_3_4B, 4.3),
    ],
)
def test_all_experts_and_nested_configs_are_counted(arch: dict[str, object], billions: float) -> None:
    assert parameters_of(arch) / 1e9 == pytest.approx(billions, rel=0.01)


def test_a_kind_that_makes_no_meta_rm_is_refused_where_there_is_to_be_one(tmp_path: Path) -> None:
    folder = make(tmp_path, "glm4_moe")
    planned_processes(load("tiny", ["meta_rm.enabled=false"]), str(folder))
    with pytest.raises(
        ConfigError, match=r"model_type 'glm4_moe'\) makes no model with a scalar head, .*meta_rm\.enabled=false"
    ):
        planned_processes(load("tiny", ["meta_rm.enabled=true"]), str(folder))


@pytest.mark.parametrize(
    "arch", [{}, {"model_type": "nonsense"}, {"model_type": "t5"}, {"model_type": "llama", "hidden_size": "x"}]
)
def test_what_transformers_does_not_know_is_refused_with_its_type(arch: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"model_type {arch.get('model_type')!r}\) makes no causal language model: "):
        parameters_of(arch)


def test_a_model_that_is_not_on_this_disk_has_the_parameters_that_the_config_says() -> None:
    assert parameters(load("qwen3-8b"), HUB) == pytest.approx(8.2e9)
    with pytest.raises(ConfigError, match=r"is not on this disk: give model\.billions for the plan"):
        parameters(load("qwen3-8b", ["model.billions=0.0"]), HUB)


# ---- Ray's object store ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "overrides", "billions", "width"),
    [
        ("qwen3-8b", [], 8.2, 2),  # a version is 16.4 GB
        ("gemma2-27b", [], 27.2, 2),  # and 54.4 GB
        ("qwen3-8b", ["model.dtype=float32"], 8.2, 4),
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


def test_without_published_weights_the_store_is_small() -> None:
    assert object_store_bytes(load("evaluate"), "") == STORE_MARGIN


@pytest.mark.usefixtures("shared_memory")
def test_a_store_that_shared_memory_cannot_hold_is_refused_before_anything_starts(tmp_path: Path) -> None:
    config = load("qwen3-8b", [f"run.dir={tmp_path}"])
    for check in (lambda: check_object_store(config, HUB), lambda: prepare_run(config, preset="qwen3-8b")):
        with pytest.raises(
            ConfigError, match=r"46\.1 GiB of shared memory for 3 versions.*enlarge it \(docker run --shm-size=47g"
        ):
            check()
    assert not os.listdir(tmp_path)


@pytest.mark.usefixtures("shared_memory")
def test_a_small_store_goes_to_disk_instead_and_the_plan_says_so() -> None:
    config = load("tiny")
    check_object_store(config, str(TINY))
    (line,) = [line for line in describe(config, planned_processes(config, str(TINY))).splitlines() if line.startswith("store")]
    assert "/dev/shm has 0.1 free, so Ray would keep them on disk, which is slow: enlarge it (docker run --shm-size=1g" in line


@pytest.mark.usefixtures("shared_memory")
def test_a_cluster_that_is_joined_has_a_store_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    check_object_store(load("qwen3-8b", ["cluster.address=10.0.0.1:6379"]), HUB)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    config = load("qwen3-8b")
    check_object_store(config, HUB)
    assert "/dev/shm" not in describe(config, planned_processes(config, HUB))


@pytest.mark.usefixtures("shared_memory")
def test_who_allows_slow_storage_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE", "1")
    check_object_store(load("qwen3-8b"), HUB)


def test_the_limit_above_which_ray_refuses_a_slow_store_is_rays_own() -> None:
    from ray._private import ray_constants

    assert ray_constants.REQUIRE_SHM_SIZE_THRESHOLD == resource_plan.SLOW_STORE_BYTES < 10 * GIB
