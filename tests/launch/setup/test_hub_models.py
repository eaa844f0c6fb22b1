"""Models by their name on a hub, in a cache that is laid out as the hub's library does, and without a network."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from configs.load import ConfigError, load
from launch.judging.evaluation_run import EvaluationTarget, _checked
from launch.setup.model_files import TINY
from launch.setup.preflight import prepare_run
from tests.launch.setup.test_preflight import SMALL

NAME, COMMIT = "owner/name", "a" * 40


class Cache:
    """The cache of one model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / f"models--{NAME.replace('/', '--')}"

    def add(self, commit: str, **fields: Any) -> None:
        """Put the tiny model's small files in as those of `commit`, the newest, with other `fields` in its config.json."""
        snapshot = self.folder / "snapshots" / commit
        for place in (snapshot, self.folder / "refs", self.folder / "blobs"):
            place.mkdir(parents=True, exist_ok=True)
        for file in (file for file in TINY.iterdir() if file.suffix in (".json", ".jinja") and file.name != "base.json"):
            content = file.read_bytes()
            if file.name == "config.json":
                content = json.dumps(json.loads(content) | fields).encode()
            blob = self.folder / "blobs" / hashlib.sha256(content).hexdigest()
            blob.write_bytes(content)
            (snapshot / file.name).symlink_to(blob)
        (self.folder / "refs" / "main").write_text(commit)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return Cache(tmp_path / "hub")


def begin(*overrides: str) -> Any:
    named = (f"model.path={NAME}", "model.billions=0.001", "run.dir=runs", "run.id=x")
    return prepare_run(load("tiny", [*SMALL, *named, *overrides]), preset="tiny")


def test_a_model_of_the_cache_begins_a_run(cache: Cache) -> None:
    cache.add(COMMIT)
    inputs = begin()
    assert inputs.model == NAME
    assert inputs.fingerprints[-1].digest == COMMIT


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "quantised": (
        {"quantization_config": {"quant_method": "gptq"}},
        rf"model.path: the weights of {NAME} are quantised \(gptq\) and cannot be trained",
    ),
    "a context over the model's own": (
        {"max_position_embeddings": 64},
        r"model.context = \d+ is over the model's own limit of 64 tokens",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_model_of_the_hub_that_cannot_be_used_is_refused_as_a_folder_is(name: str, cache: Cache) -> None:
    fields, message = UNFIT[name]
    cache.add(COMMIT, **fields)
    with pytest.raises(ConfigError, match=message):
        begin()
    assert not Path("runs").exists()


def evaluate(out: Path) -> None:
    config = load("tiny", [*SMALL, f"model.path={NAME}", "tracking.mode=disabled"])
    _checked(config, EvaluationTarget(model=NAME, endpoint="", meta_rm="", out=out))


def test_an_evaluation_asks_for_the_context_alone(cache: Cache, tmp_path: Path) -> None:
    cache.add(COMMIT, quantization_config={"quant_method": "gptq"})
    evaluate(tmp_path)
    cache.add("b" * 40, max_position_embeddings=64)
    with pytest.raises(ConfigError, match=UNFIT["a context over the model's own"][1]):
        evaluate(tmp_path)
