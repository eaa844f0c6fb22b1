"""The folder `judge` of a run: the last model with its card, whatever becomes of the checkpoint."""

import shutil
from pathlib import Path

import pytest

from launch.driver.trained_judge import last_lines, write_judge
from launch.setup.judge_source import find_judge
from tests.launch.setup.test_judge_source import saved


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("")
    return tmp_path


def test_it_is_made_of_the_newest_model_and_replaced_as_a_whole(run: Path) -> None:
    assert write_judge(run, {}) is None
    assert last_lines(run, None) == ""
    policy = run / "checkpoints" / "policy"
    model = saved(policy, 40) / "model"
    (model / "README.md").write_text("as of the checkpoint")
    (model / "judge_template_single.txt").write_text("of the checkpoint")
    (model / "weights").write_text("40")
    judge = write_judge(run, {"README.md": "with all figures", "judge.json": "{}"})
    assert judge == run / "judge"
    assert sorted(file.name for file in judge.iterdir()) == ["README.md", "config.json", "judge.json", "weights"]
    assert (judge / "README.md").read_text() == "with all figures"
    assert (model / "README.md").read_text() == "as of the checkpoint", "a checkpoint stays as it was sealed"
    assert (judge / "weights").samefile(model / "weights"), "no second copy on disk"
    (saved(policy, 80) / "model" / "weights").write_text("80")
    write_judge(run, {"README.md": "new"})
    assert (judge / "weights").read_text() == "80"
    assert not (judge / "judge.json").exists()
    assert sorted(each.name for each in run.iterdir()) == ["checkpoints", "config.yaml", "judge"]
    shutil.rmtree(policy)
    assert find_judge(str(run)).model == str(judge)
    assert write_judge(run, {"README.md": "?"}) == judge
    assert (judge / "weights").read_text() == "80"


def test_without_hard_links_it_is_a_copy(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = saved(run / "checkpoints" / "policy", 40) / "model"

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("buffer.files.os.link", refuse)
    judge = write_judge(run, {})
    assert (judge / "config.json").read_text() == "{}"
    assert not (judge / "config.json").samefile(model / "config.json")


def test_the_last_lines_say_where_it_lies_and_how_it_is_used(run: Path) -> None:
    lines = last_lines(run, run / "judge")
    assert f"judge      {run}/judge\n" in lines
    assert f'spct.Judge("{run}/judge").score(query, responses)' in lines
    assert f"evaluate   python launch/evaluate.py --model {run}/judge --data FILE...\n" in lines
    folder = saved(run / "checkpoints" / "policy", 40, "adapter")
    assert write_judge(run, {}) is None
    assert f"python launch/merge.py {folder} OUT makes a whole model" in last_lines(run, None)
