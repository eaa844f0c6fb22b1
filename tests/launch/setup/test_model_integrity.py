"""Model folders that are not whole, or that cannot be trained: one sentence before anything is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.load import ConfigError
from launch.setup.model_files import TINY, architecture
from launch.setup.model_integrity import INDEX, WEIGHTS, check_model_folder
from tests.launch.setup.test_preflight import SMALL, refused

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 98\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def shard(folder: Path) -> dict[str, str]:
    """Split the weights in two files with an index; returns its map."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(weights)
    placed = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in {*placed.values()}:
        save_file({name: weights[name] for name in names if placed[name] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return placed


def edit(folder: Path, **fields: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def cut(file: Path, by: int) -> None:
    file.write_bytes(file.read_bytes()[:-by])


def test_whole_folders_pass_and_so_does_a_name_on_the_hub(folder: Path) -> None:
    check_model_folder(str(folder), trained=True)
    check_model_folder("owner/name", trained=True)
    shard(folder)
    check_model_folder(str(folder), trained=True)
    shutil.copy(TINY / WEIGHTS, folder / "pytorch_model.bin")
    check_model_folder(str(folder), trained=True)


def one_shard_less(folder: Path) -> None:
    (folder / sorted({*shard(folder).values()})[1]).unlink()


def one_tensor_less(folder: Path) -> None:
    placed = shard(folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": placed | {"lm_head.weight": next(iter(placed.values()))}}))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "pointer, weights": (lambda f: (f / WEIGHTS).write_text(POINTER), r"model.safetensors is the pointer.*git lfs pull"),
    "pointer, a shard": (
        lambda f: (f / next(iter(shard(f).values()))).write_text(POINTER),
        r"model-0000.-of-00002.safetensors is the pointer",
    ),
    "pointer, tokenizer": (lambda f: (f / "tokenizer.json").write_text(POINTER), r"tokenizer.json is the pointer"),
    "pointer, config": (lambda f: (f / "config.json").write_text(POINTER), r"config.json is the pointer"),
    "pointer, index": (lambda f: (shard(f), (f / INDEX).write_text(POINTER)), r"index.json is the pointer"),
    "cut": (lambda f: cut(f / WEIGHTS, 1), r"model.safetensors is not whole \(.*\); download it again"),
    "cut in its header": (lambda f: (f / WEIGHTS).write_bytes((TINY / WEIGHTS).read_bytes()[:40]), r"is not whole"),
    "empty": (lambda f: (f / WEIGHTS).write_bytes(b""), r"is not whole"),
    "cut shard": (lambda f: cut(f / next(iter(shard(f).values())), 4), r"model-0000.-of-00002.safetensors is not whole"),
    "missing shard": (one_shard_less, r"lacks model-00002-of-00002.safetensors, which its index names"),
    "missing tensor": (one_tensor_less, r"names lm_head.weight, which no file of it holds \(1 such\)"),
    "an index that is none": (lambda f: (shard(f), (f / INDEX).write_text("[]")), r"is no index of weights"),
    "an index that leads elsewhere": (
        lambda f: (f / INDEX).write_text('{"weight_map": {"x": "../model.safetensors"}}'),
        r"is no index of weights",
    ),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), r"has no weights: neither model.safetensors nor"),
    "adapter": (
        lambda f: ((f / WEIGHTS).rename(f / "adapter_model.safetensors"), (f / "adapter_config.json").write_text("{}")),
        r"holds adapters without their model: python launch/merge.py",
    ),
    "quantised": (lambda f: edit(f, quantization_config={"quant_method": "gptq"}), r"are quantised \(gptq\)"),
    "quantised, nested": (
        lambda f: edit(f, text_config={"quantization_config": {"quant_method": "awq"}}),
        r"quantised \(awq\)",
    ),
    "quantised, older": (lambda f: edit(f, compression_config={"format": "int8"}), r"are quantised"),
    "quantised, a file beside": (
        lambda f: (f / "quantize_config.json").write_text("{}"),
        r"quantised \(quantize_config.json\)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_is_not_whole_is_refused_with_its_reason(name: str, folder: Path) -> None:
    break_it, why = BROKEN[name]
    break_it(folder)
    with pytest.raises(ConfigError, match=why) as error:
        check_model_folder(str(folder), trained=True)
    assert "\n" not in str(error.value)


def test_a_quantised_model_may_judge(folder: Path) -> None:
    edit(folder, quantization_config={"quant_method": "gptq"})
    check_model_folder(str(folder), trained=False)


def test_a_config_that_is_a_pointer_is_named_wherever_it_is_read(folder: Path) -> None:
    (folder / "config.json").write_text(POINTER)
    with pytest.raises(ConfigError, match=f"{folder}/config.json is the pointer .*; run `git lfs pull` in {folder}$"):
        architecture(str(folder))


@pytest.mark.parametrize("name", ["pointer, weights", "quantised", "cut"])
def test_a_run_is_refused_before_anything_starts(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it, _ = BROKEN[name]
    break_it(folder)
    assert "model.path: " in refused(capsys, tmp_path, *SMALL, f"model.path={folder}")
