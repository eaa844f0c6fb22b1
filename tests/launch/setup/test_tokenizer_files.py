"""Tokenizer files that are damaged, of another version, or of another library: one sentence before anything starts."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError
from launch.setup.tokenizer import Tokenizer
from tests.launch.whole_run import ROOT
from tests.small_tokenizers import make


def loaded(folder: Path, **how: Any) -> Tokenizer:
    return Tokenizer(str(make(folder, **how)))


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("tokenizer.json", '{"version": "1.0", "model": {"type": "of the future"}}', "tokenizers 0"),
        ("tokenizer.json", "{", "tokenizers 0"),
        ("tokenizer.json", "", "tokenizers 0"),
        ("tokenizer_config.json", "[]", "no tokenizer can be loaded"),
        ("config.json", '{"model_type": "of the future"}', "of the future"),
        ("config.json", "{}", "no config.json can be loaded"),
        ("generation_config.json", "[1]", "generation_config.json of .* cannot be read"),
        ("generation_config.json", '{"eos_token_id": ["</s>"]}', "holds '</s>', which is no token id"),
        ("generation_config.json", '{"eos_token_id": "1"}', "holds '1', which is no token id"),
    ],
)
def test_files_that_this_version_does_not_read_are_named(file: str, text: str, why: str, tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / file).write_text(text)
    with pytest.raises(ConfigError, match=why) as refused:
        Tokenizer(str(folder))
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma2", "mistral", "gpt2"])
def test_a_folder_without_a_vocabulary_is_refused(model_type: str, tmp_path: Path) -> None:
    """transformers makes an empty tokenizer of some of them."""
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}", "vocab_size": 300}}')
    with pytest.raises(ConfigError, match=r"model\.path: "):
        Tokenizer(str(tmp_path))


def test_a_torchvision_that_is_not_for_this_torch_is_named(tmp_path: Path) -> None:
    """With `pip install` of the extra cpu alone it is PyPI's, beside torch's CPU build; transformers hides the reason."""
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    script = "import sys; from launch.setup.tokenizer import Tokenizer; Tokenizer(sys.argv[1])"
    path = os.pathsep.join([str(package.parent), str(ROOT)])
    command = [sys.executable, "-c", script, str(ROOT / "grm" / "tiny_base")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, text=True, capture_output=True, check=False)
    said = done.stderr.strip().splitlines()[-1]
    assert "torchvision::nms does not exist: torchvision is not for this torch; no judge needs it: pip uninstall" in said


def mistral(folder: Path) -> Path:
    """Make it a folder of Mistral's, with a tokenizer of theirs, of single bytes, beside what is there."""
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "mistral"}))
    words = [{"rank": i, "token_bytes": base64.b64encode(bytes([i])).decode(), "token_str": None} for i in range(256)]
    sizes = {"num_vocab_tokens": 256, "default_vocab_size": 1256, "default_num_special_tokens": 1000, "version": "v3"}
    (folder / "tekken.json").write_text(json.dumps({"config": {"pattern": r"\w+|\W", **sizes}, "vocab": words}))
    return folder


def test_beside_a_tokenizer_json_mistrals_own_file_is_not_read(tmp_path: Path) -> None:
    tokenizer = loaded(tmp_path)
    again = Tokenizer(str(mistral(tmp_path)))
    assert again.encode("Judge.") == tokenizer.encode("Judge.")


def test_mistrals_own_file_alone_is_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = mistral(make(tmp_path))
    for file in (*folder.glob("token*"), *folder.glob("*.jinja")):
        file.unlink()
    with pytest.raises(ConfigError, match=f"{folder} has a tekken.json and no tokenizer.json, and so no chat format; give"):
        Tokenizer(str(folder))
