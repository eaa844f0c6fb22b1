"""Whether the files of a model folder are whole and of a kind that can be trained; milliseconds, before anything is loaded.

LFS pointers, missing and cut weight files, weights that the index names and no file holds, adapters, quantised weights
"""

from pathlib import Path

from buffer.json_text import read_object
from configs.load import ConfigError
from launch.setup.model_files import architecture, refuse_adapters, refuse_lfs_pointer

TEXT_FILES = {".json", ".jinja", ".model", ".txt"}  # of the tokenizer and the configs
INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
OLD_INDEX, OLD_WEIGHTS = "pytorch_model.bin.index.json", "pytorch_model.bin"
QUANTISED = ("quantization_config", "compression_config")  # fields of config.json
QUANTISED_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")  # of GPTQ, AWQ, ModelOpt


def check_model_folder(model: str, *, trained: bool) -> None:
    """ConfigError when a model cannot be loaded as its folder stands. A hub name is passed over (`preflight.check_hub_model`).

    Args:
        model: Folder or hub name.
        trained: Whether it is to be trained, which quantised weights cannot be.
    """
    folder = Path(model)
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir()):
        if file.suffix in TEXT_FILES:
            refuse_lfs_pointer(file)
    if trained:
        refuse_quantised(folder, model)
    files = _weight_files(folder)
    for file in files:
        if not file.is_file():
            raise ConfigError(f"model.path: {folder} lacks {file.name}, which its index names; download it again")
        refuse_lfs_pointer(file)
    held = {name for file in files if file.suffix == ".safetensors" for name in _tensors(file)}
    missing = sorted({*_index(folder / INDEX)} - held) if held else []
    if missing:
        raise ConfigError(
            f"model.path: {INDEX} of {folder} names {missing[0]}, which no file of it holds ({len(missing)} such);"
            " download the folder again"
        )


def _weight_files(folder: Path) -> list[Path]:
    """Returns the files that transformers and vLLM read. ConfigError when there are none."""
    for index in (INDEX, OLD_INDEX):
        if index == OLD_INDEX and (folder / WEIGHTS).is_file():
            return sorted(folder.glob("*.safetensors"))  # without an index vLLM reads them all
        if (folder / index).is_file():
            return [folder / name for name in sorted({*_index(folder / index).values()})]
    if (folder / OLD_WEIGHTS).is_file():
        return [folder / OLD_WEIGHTS]
    refuse_adapters(folder)
    there = ", ".join(sorted(file.name for file in folder.iterdir())[:8])
    raise ConfigError(f"model.path: {folder} has no weights: neither {WEIGHTS} nor {INDEX} nor {OLD_WEIGHTS}, but {there}")


def _index(file: Path) -> dict[str, str]:
    """Returns {tensor: file} of an index; empty when there is none."""
    if not file.is_file():
        return {}
    refuse_lfs_pointer(file)
    try:
        named = read_object(file)["weight_map"]
        if all(Path(name).name == name for name in named.values()):  # a name and no path
            return dict(named)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # as below
    raise ConfigError(f"model.path: {file} is no index of weights (weight_map: tensor to file); download it again")


def _tensors(file: Path) -> list[str]:
    """Returns the names of a file's tensors. ConfigError when it is not whole: the header says how long it is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"model.path: {file} is not whole ({error}); download it again") from None


def refuse_quantised(folder: Path, name: str) -> None:
    """ConfigError when the weights are quantised. `name` is the model's, for the message."""
    arch = architecture(str(folder)) or {}
    places = [arch, *(part for part in arch.values() if isinstance(part, dict))]
    settings = next((part[field] for part in places for field in QUANTISED if part.get(field)), None)
    beside = next((name for name in QUANTISED_FILES if (folder / name).is_file()), None)
    if settings is None and beside is None:
        return
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    raise ConfigError(
        f"model.path: the weights of {name} are quantised ({method or beside or 'config.json says so'}) and cannot be"
        " trained; give the model that they were made from, in bfloat16, float16 or float32"
    )
