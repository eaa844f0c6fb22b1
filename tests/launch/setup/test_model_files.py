"""Model folders: which are none, and which model they hold."""

import shutil
from pathlib import Path

import pytest

from buffer import json_text
from configs.load import ConfigError
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
