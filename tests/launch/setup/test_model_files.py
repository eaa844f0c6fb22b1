"""Model folders: which are none, and which model they hold."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from buffer import json_text
from configs.load import ConfigError
from launch.setup import model_files
from launch.setup.model_files import PIECE_BYTES, TINY, architecture, fingerprint, resolve
from launch.setup.tokenizer import Tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def test_a_copy_is_the_same_model_and_another_in_its_place_is_not(folder: Path) -> None:
    first = fingerprint(str(TINY))
    assert fingerprint(str(folder)) == first == fingerprint(str(folder))
    weights = folder / "model.safetensors"
    bits = bytearray(weights.read_bytes())
    for place in (0, PIECE_BYTES - 1, len(bits) * 15 // 16):
        changed = bits.copy()
        changed[place] ^= 1
        weights.write_bytes(changed)
        assert fingerprint(str(folder)) != first
    weights.write_bytes(bits)
    (folder / "tokenizer_config.json").write_text("{}")
    assert fingerprint(str(folder)) != first


LOADED = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "quantize_config.json",
    "adapter_config.json",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model-00001-of-00002.bin",
]
BESIDE = [
    "README.md",
    "model.Q4_K_M.gguf",
    "LICENSE.txt",
    "notes.txt",
    "trainer_state.json",
    "training_args.bin",
    ".gitattributes",
]


@pytest.mark.parametrize("name", [*LOADED, *BESIDE])
def test_a_file_is_part_of_the_model_when_it_is_loaded(name: str, folder: Path) -> None:
    first = fingerprint(str(folder))
    (folder / name).write_text("x")
    assert (fingerprint(str(folder)) != first) == (name in LOADED)


def test_a_file_that_cannot_be_read_is_named_when_it_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions do not stop root, whom these tests may run as."""
    plain, forbidden = Path.open, {"README.md"}

    def refusing(self: Path, *arguments: Any, **named: Any) -> Any:
        if self.name in forbidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return plain(self, *arguments, **named)

    (folder / "README.md").touch()
    monkeypatch.setattr(Path, "open", refusing)
    fingerprint(str(folder))
    forbidden.add("tokenizer.json")
    with pytest.raises(ConfigError, match=rf"model.path: {folder}/tokenizer.json cannot be read \(Permission denied\); make"):
        fingerprint(str(folder))


def test_of_a_model_that_is_elsewhere_the_name_counts() -> None:
    assert fingerprint("Qwen/Qwen3-8B") == fingerprint("Qwen/Qwen3-8B") != fingerprint("Qwen/Qwen3-4B")


@pytest.mark.parametrize(("text", "why"), [("{", "not JSON"), ("[1]", "expected a JSON object"), ("\xff", "not JSON")])
def test_a_config_that_is_none_is_named(folder: Path, text: str, why: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=rf"model.path: {folder}/config.json: {why}.*give a Hugging Face model folder"):
        architecture(resolve(str(folder)))


def test_a_config_without_end_is_read_up_to_the_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "LARGEST_FILE", 16)
    with pytest.raises(ConfigError, match=rf"model.path: {folder}/config.json: larger than"):
        architecture(str(folder))


def test_a_folder_without_a_tokenizer_is_named(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(ConfigError, match=f"model.path: no tokenizer can be loaded from {folder}"):
        Tokenizer(str(folder))


def test_the_judge_of_a_run_that_has_not_ended_is_told_so(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"its run has not written it yet; give the run, .*runs/mine, or go on with it"):
        resolve(str(run / "judge"))


def test_of_two_processes_that_convert_a_model_at_a_time_the_first_makes_the_folder(folder: Path, tmp_path: Path) -> None:
    """As two that start on a machine where nothing is converted yet."""
    draft, place = Path(shutil.copytree(folder, tmp_path / "converting-2")), tmp_path / "converted"
    model_files._put_in_place(folder, place)
    first = fingerprint(str(place))
    model_files._put_in_place(draft, place)
    assert fingerprint(str(place)) == first
    assert [path.name for path in tmp_path.iterdir()] == ["converted"], "nothing is left of a draft"


def test_a_folder_that_is_there_and_is_no_model_is_not_taken_for_one(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "converted"
    place.mkdir()
    (place / "notes.txt").touch()
    with pytest.raises(OSError, match="not empty"):
        model_files._put_in_place(folder, place)
    assert folder.is_dir()
