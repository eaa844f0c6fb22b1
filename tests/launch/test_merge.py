"""launch/merge.py: from a checkpoint of adapters to a whole model, or one sentence."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from configs.load import ConfigError
from launch.merge import main
from launch.setup.model_files import resolve
from launch.setup.model_integrity import check_model_folder
from learner import adapters, models
from tests import random_models


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """A model, and a checkpoint of adapters of it."""
    folder, checkpoint = random_models.make(tmp_path / "base", "llama"), tmp_path / "version-000007"
    model = adapters.adapted(models.load_policy(str(folder), "float32", "cpu"), rank=2, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
    checkpoint.mkdir()
    adapters.save(model, {name: p.detach() for name, p in model.named_parameters()}, str(folder), checkpoint / "adapter")
    return folder, checkpoint


@pytest.mark.parametrize("inside", ["", "adapter"])
def test_it_writes_a_whole_model(trained: tuple[Path, Path], tmp_path: Path, inside: str) -> None:
    base, checkpoint = trained
    assert main([str(checkpoint / inside), str(tmp_path / "new" / "whole")]) == 0
    check_model_folder(str(tmp_path / "new" / "whole"), trained=True)
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in (base, tmp_path / "new" / "whole"))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before.get_parameter(name), after.get_parameter(name))
    assert torch.equal(before.get_input_embeddings().weight, after.get_input_embeddings().weight)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["whole"], "nothing half written"


def test_the_files_beside_the_adapters_go_with_the_whole_model(trained: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, whole = trained[1], tmp_path / "whole"
    (checkpoint / "adapter" / "judge.json").write_text("how it is asked")
    (checkpoint / "adapter" / "README.md").write_text("the card")
    assert main([str(checkpoint), str(whole)]) == 0
    assert (whole / "judge.json").read_text() == "how it is asked"
    assert (whole / "README.md").read_text() == "the card"


@pytest.mark.parametrize("name", ["", "adapter", "model"])
def test_elsewhere_a_checkpoint_of_adapters_is_refused_with_this_command(trained: tuple[Path, Path], name: str) -> None:
    folder = trained[1] / "adapter"
    with pytest.raises(ConfigError, match=rf"python launch/merge\.py {folder} OUT writes a whole one"):
        resolve(str(trained[1] / name))


def test_a_base_that_has_moved_is_named(trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, checkpoint = trained
    base.rename(tmp_path / "moved")
    assert main([str(checkpoint), str(tmp_path / "whole")]) == 2
    assert str(base) in capsys.readouterr().err
    assert main([str(checkpoint), str(tmp_path / "whole"), "--base", str(tmp_path / "moved")]) == 0


def test_what_cannot_be_merged_is_one_sentence(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, checkpoint = trained
    other = random_models.make(tmp_path / "other", "llama", num_hidden_layers=1)
    whole = tmp_path / "version-000008"
    (whole / "model").mkdir(parents=True)
    for arguments, why in (
        ([str(checkpoint), str(base)], "is there already"),
        ([str(base), str(tmp_path / "new")], "holds no adapters: give checkpoints/policy/version-*"),
        ([str(whole), str(tmp_path / "new")], "holds a whole model already"),
        ([str(checkpoint), str(tmp_path / "new"), "--base", str(other)], "are the adapters those of this model?"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert why in error
        assert error.count("\n") == 1
    weights = checkpoint / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert main([str(checkpoint), str(tmp_path / "new")]) == 2
    assert "is not whole" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
