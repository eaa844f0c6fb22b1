"""Models by their name on a hub, in a cache that is laid out as the hub's library does, and without a network."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelInfo, constants

from configs.load import ConfigError, dump, load
from launch.judging.evaluation_checks import checked, what_judgements_depend_on
from launch.judging.evaluation_target import EvaluationTarget
from launch.judging.vote_plan import vote_plan
from launch.setup import fingerprints
from launch.setup.model_files import TINY
from launch.setup.preflight import prepare_run
from launch.setup.prompt_source import prompt_template
from launch.setup.run_config import load_resumed_config
from tests.launch.setup.test_preflight import SMALL

NAME, COMMIT, LATER = "owner/name", "a" * 40, "b" * 40
FILES = {"config.json": "1", "tokenizer.json": "2", "model.safetensors": "3", "README.md": "4", "onnx/config.json": "5"}
NAMED = (f"model.path={NAME}", "model.billions=0.001", "run.dir=runs", "run.id=x")


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


def begin() -> Any:
    return prepare_run(load("tiny", [*SMALL, *NAMED]), preset="tiny")


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
    checked(config, EvaluationTarget(model=NAME, endpoint="", meta_rm="", out=out))


def test_an_evaluation_asks_for_the_context_alone(cache: Cache, tmp_path: Path) -> None:
    cache.add(COMMIT, quantization_config={"quant_method": "gptq"})
    evaluate(tmp_path)
    cache.add(LATER, max_position_embeddings=64)
    with pytest.raises(ConfigError, match=UNFIT["a context over the model's own"][1]):
        evaluate(tmp_path)


def hub(monkeypatch: pytest.MonkeyPatch, commits: dict[str, dict[str, str | None]]) -> None:
    """Answer for the hub: {commit: {file: its hash}}."""

    def model_info(self: HfApi, repo_id: str, *, revision: str, **_: Any) -> ModelInfo:
        assert repo_id == NAME
        if revision not in commits:
            raise OSError("404 Not Found\nfor that URL")
        files = [{"rfilename": file, "blobId": blob} for file, blob in commits[revision].items()]
        return ModelInfo(id=NAME, siblings=files)

    monkeypatch.setattr(HfApi, "model_info", model_info)


def resume(cache: Cache) -> bool:
    """Begin a run, let the hub have a later commit, and go on. Returns whether the inputs are known to be the same."""
    cache.add(COMMIT)
    inputs = begin()
    fingerprints.write(inputs.folder, inputs.fingerprints)
    (inputs.folder / "checkpoints").mkdir()
    (inputs.folder / "config.yaml").write_text(dump(load("tiny", [*SMALL, *NAMED])))
    cache.add(LATER)
    return prepare_run(load_resumed_config("runs/x"), preset="x", resume=True).known


SAME: dict[str, dict[str, str | None]] = {
    "nothing": {},
    "the README": {"README.md": "9", "LICENSE.txt": "10"},
    "files that nothing loads": {"onnx/config.json": "9", "model.gguf": "10", "notes.txt": "11"},
}
OTHER: dict[str, dict[str, str | None]] = {
    "the weights": {"model.safetensors": "9"},
    "the tokenizer": {"tokenizer.json": "9"},
    "a file more": {"generation_config.json": "9"},
}


@pytest.mark.parametrize("change", SAME)
def test_a_run_goes_on_with_a_later_commit_of_the_same_model(
    change: str, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(monkeypatch, {COMMIT: {**FILES}, LATER: FILES | SAME[change]})
    assert resume(cache)


@pytest.mark.parametrize("change", OTHER)
def test_a_later_commit_with_another_model_is_refused(change: str, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {COMMIT: {**FILES}, LATER: FILES | OTHER[change]})
    with pytest.raises(ConfigError, match=rf"model.path: {NAME} has other content .* \({COMMIT}, now {LATER}\)"):
        resume(cache)


@pytest.mark.parametrize(
    ("commits", "why"),
    [({LATER: {**FILES}}, "404 Not Found"), ({c: dict.fromkeys(FILES) for c in (COMMIT, LATER)}, "it gives no hashes")],
)
def test_a_later_commit_of_which_the_hub_says_nothing_is_refused_with_the_reason(
    commits: dict[str, dict[str, str | None]], why: str, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(monkeypatch, commits)
    with pytest.raises(
        ConfigError, match=rf"may be another model .* does not say if the two differ \({why}.*remove .*inputs.json"
    ):
        resume(cache)


def test_without_a_network_too_the_reason_is_given(cache: Cache) -> None:
    with pytest.raises(ConfigError, match=r"does not say if the two differ \(.*offline"):
        resume(cache)


def test_judgements_of_an_earlier_commit_of_the_same_model_are_used_again(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.add(LATER)
    config, target = load("tiny", [*SMALL, *NAMED]), EvaluationTarget(model=NAME, endpoint="", meta_rm="", out=Path())
    plan = vote_plan(config, prompt_template(config), 1)

    def recorded(begun: str) -> str:
        return str(what_judgements_depend_on(config, target, plan, begun=begun)["fingerprint"])

    hub(monkeypatch, {COMMIT: {**FILES}, LATER: FILES | SAME["the README"]})
    assert [recorded(begun) for begun in (COMMIT, LATER, "", "c" * 40)] == [COMMIT, LATER, LATER, LATER]
    hub(monkeypatch, {COMMIT: {**FILES}, LATER: FILES | OTHER["the weights"]})
    assert recorded(COMMIT) == LATER
