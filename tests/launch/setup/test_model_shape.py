"""The shape of a model, from its own config.json wherever that is, or guessed."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from transformers import AutoModelForCausalLM

from configs.load import ConfigError, load
from launch.setup import hub
from launch.setup.model_files import TINY, architecture
from launch.setup.model_shape import found_shape, guessed_shape, model_config, parameters, parameters_of, shape_of
from launch.setup.published_models import PUBLISHED
from tests.random_models import make

UNKNOWN = "owner/unknown"  # on no disk, and no published shape


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


@pytest.mark.parametrize(
    "arch", [{}, {"model_type": "nonsense"}, {"model_type": "t5"}, {"model_type": "llama", "hidden_size": "x"}]
)
def test_what_transformers_does_not_know_is_refused_with_its_type(arch: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"model_type {arch.get('model_type')!r}\) makes no causal language model: "):
        parameters_of(arch)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.hub_config.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("name", "billions", "token"),
    [  # parameters as the models' cards have them; numbers that the cache holds of a token: layers x 2 x kv heads x head dim
        ("Qwen/Qwen3-0.6B", 0.596, 28 * 2 * 8 * 128),
        ("Qwen/Qwen3-1.7B", 1.721, 28 * 2 * 8 * 128),
        ("Qwen/Qwen3-8B", 8.191, 36 * 2 * 8 * 128),
        ("google/gemma-2-27b-it", 27.227, 46 * 2 * 16 * 128),
        ("meta-llama/Llama-3.3-70B-Instruct", 70.554, 80 * 2 * 8 * 128),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_a_published_model_has_its_shape_without_a_network(name: str, billions: float, token: int) -> None:
    shape = found_shape(load("qwen3-8b"), name)
    assert shape.parameters / 1e9 == pytest.approx(billions, abs=0.001)
    assert shape.layers * shape.cached == token
    assert shape.capped == ("gemma" in name)
    assert not shape.guessed_from


def test_a_scalar_head_takes_the_place_of_the_language_models() -> None:
    arch = PUBLISHED["Qwen/Qwen3-8B"]
    assert shape_of(arch).parameters - shape_of(arch, scalar_head=True).parameters == 151936 * 4096 - 4096


@pytest.mark.parametrize(
    ("arch", "active", "cached", "intermediate"),
    [
        (QWEN3_30B_A3B, 3.35, 2 * 4 * 128, 8 * 768),  # 3.3 of 30.5 billion
        ({"model_type": "mixtral"}, 12.88, 2 * 8 * 128, 2 * 14336),
        ({"model_type": "deepseek_v3"}, 37.55, 512 + 64, 18432),  # latent attention caches one vector and its positions
        ({"model_type": "gpt2"}, 0.1244, 2 * 12 * 64, 4 * 768),
    ],
)
def test_of_a_mixture_a_token_passes_through_its_experts_alone(
    arch: dict[str, Any], active: float, cached: int, intermediate: int
) -> None:
    shape = shape_of(arch)
    assert shape.active / 1e9 == pytest.approx(active, rel=0.01)
    assert (shape.cached, shape.intermediate) == (cached, intermediate)


@pytest.mark.usefixtures("no_network")
def test_an_unknown_model_is_planned_by_its_billions_or_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"config\.json is not on this disk, and the hub gave none \(.*offline.*give model\.billions"
    ):
        found_shape(load("qwen3-8b", [f"model.path={UNKNOWN}"]), UNKNOWN)
    shape = found_shape(load("qwen3-8b", [f"model.path={UNKNOWN}", "model.billions=3.2"]), UNKNOWN)
    assert (shape.parameters, shape.guessed_from) == (3.2e9, "Qwen/Qwen3-4B")
    near = shape_of(PUBLISHED["Qwen/Qwen3-4B"])
    assert shape.layers == near.layers
    assert shape.hidden == round(near.hidden * (3.2e9 / near.parameters) ** 0.5)


def test_a_guess_of_a_published_size_is_that_model() -> None:
    own = shape_of(PUBLISHED["google/gemma-2-27b-it"])
    guess = guessed_shape(own.parameters)
    assert (guess.hidden, guess.intermediate, guess.vocabulary, guess.cached) == (
        own.hidden,
        own.intermediate,
        own.vocabulary,
        own.cached,
    )


def test_the_hub_is_asked_for_the_config_of_a_model_that_nobody_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It answers for real; only the request is a double. A model of the cache, or a published one, is not asked for."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    hub.hub_config.cache_clear()
    asked = []

    def get(url: str, **_: Any) -> Any:
        asked.append(url)
        text = json.dumps({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 3})
        return SimpleNamespace(text=text, raise_for_status=lambda: None, status_code=200, headers={})

    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(get=get))
    config = load("qwen3-8b", [f"model.path={UNKNOWN}", "model.billions=99"])
    assert found_shape(config, UNKNOWN).layers == 3
    assert parameters(config, UNKNOWN) == found_shape(config, UNKNOWN).parameters < 1e9
    assert [url.partition("owner/")[2] for url in asked] == ["unknown/resolve/main/config.json"], "once"
    assert model_config("Qwen/Qwen3-8B") == PUBLISHED["Qwen/Qwen3-8B"]
    assert model_config(str(TINY)) == architecture(str(TINY))
    assert len(asked) == 1
    hub.hub_config.cache_clear()
