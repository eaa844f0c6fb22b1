"""Where a judge lies, by the names that people have for it."""

from pathlib import Path

import pytest

from configs.load import ConfigError
from launch.setup.judge_source import JudgeSource, find_judge, model_named
from launch.setup.model_files import TINY
from learner import checkpoint


def saved(folder: Path, version: int, kind: str = "model") -> Path:
    """A checkpoint with the files by which a model, or adapters, are known."""
    inside = checkpoint.begin(folder, version) / kind
    inside.mkdir()
    (inside / ("config.json" if kind == "model" else "adapter_config.json")).write_text("{}")
    return checkpoint.commit(folder, checkpoint.Record(version=version, entries=(), ranks=1, zero_stage=1), keep=9)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("")
    return folder


def test_a_run_is_its_newest_policy_and_a_meta_rm_that_took_a_step(run: Path) -> None:
    with pytest.raises(ConfigError, match="mine: it has no trained judge yet"):
        find_judge("mine")
    (run / "cold_start" / "model").mkdir(parents=True)
    (run / "cold_start" / "model" / "config.json").write_text("{}")
    assert find_judge("mine") == JudgeSource(model=str(run / "cold_start" / "model"), run=run)
    saved(run / "checkpoints" / "meta-rm", 0)
    for version in (7, 40):
        newest = saved(run / "checkpoints" / "policy", version) / "model"
    assert find_judge("runs/mine") == JudgeSource(model=str(newest), version=40, run=run)
    meta_rm = saved(run / "checkpoints" / "meta-rm", 3) / "model"
    assert find_judge(str(run)).meta_rm == str(meta_rm)


def test_a_checkpoint_and_a_model_are_themselves(run: Path) -> None:
    folder = saved(run / "checkpoints" / "policy", 7)
    assert find_judge(str(folder)) == JudgeSource(model=str(folder / "model"), version=7)
    assert find_judge(str(folder / "model")) == JudgeSource(model=str(folder / "model"))
    assert find_judge("tiny") == JudgeSource(model=str(TINY))
    assert find_judge("owner/name") == JudgeSource(model="owner/name")
    assert find_judge("https://host/v1") == JudgeSource(model="", endpoint="https://host/v1")


def test_links_to_checkpoints_are_followed_once(run: Path) -> None:
    """What a link names may change while the judge is loaded."""
    folder, link = saved(run / "checkpoints" / "policy", 7), run / "checkpoints" / "latest"
    link.symlink_to("policy/version-000007")
    assert find_judge(str(link)).model == str(folder / "model")
    assert model_named(str(link)) == model_named(str(run)) == str(folder / "model")
    others = ["tiny", "owner/name", str(folder / "model")]
    assert [model_named(name) for name in others] == others


def test_adapters_alone_are_refused_with_the_remedy(run: Path) -> None:
    folder = saved(run / "checkpoints" / "policy", 7, "adapter")
    for name in ("mine", str(folder)):
        with pytest.raises(ConfigError, match=rf"python launch/merge\.py {folder / 'adapter'} OUT writes a whole one"):
            find_judge(name)
