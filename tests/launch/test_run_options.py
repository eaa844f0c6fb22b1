"""The command line of a run: options and overrides mix, and the configuration is explained."""

from pathlib import Path

import pytest

from configs.load import dump, load
from configs.reference import explain, leaves, sections
from launch import cold_start, run


def test_options_and_overrides_may_stand_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for arguments in (
        ["--config", "tiny", "run.seed=3", "--dry-run", "grpo.steps=5"],
        ["run.seed=3", "grpo.steps=5", "--dry-run", "--config", "tiny"],
        ["--dry-run", "run.seed=3", "--config", "tiny", "grpo.steps=5"],
    ):
        assert run.main(arguments) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0].startswith(dump(load("tiny", ["run.seed=3", "grpo.steps=5", f"run.dir={Path.cwd() / 'runs'}"])))
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_plan_of_data_that_a_run_would_refuse_ends_as_the_run_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--config", "tiny", "--dry-run", "data.heldout=none.jsonl"]) == 2
    output = capsys.readouterr().out
    assert "rows       cannot be used as they are: " in output
    assert "none.jsonl: no such file" in output
    assert "memory     " in output


def test_the_cold_start_takes_overrides_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(cold_start, "cold_start", lambda config, preset: started.append((config, preset)) or 0)
    assert cold_start.main(["run.seed=3", "--config", "tiny", "grpo.steps=5"]) == 0
    (config, preset) = started[0]
    assert (config.run.seed, config.grpo.steps, config.cold_start.enabled, preset) == (3, 5, True, "tiny")


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        run.main(["--config", "tiny", "grpo.steps=5", "--dryrun"])
    assert refused.value.code == 2
    assert "unrecognized arguments: --dryrun" in capsys.readouterr().err


def test_a_run_is_started_or_resumed_or_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["grpo.steps=5"], ["--config", "tiny", "--resume", "x"]):
        with pytest.raises(SystemExit) as refused:
            run.main(arguments)
        assert refused.value.code == 2
    assert "one of the arguments --config --resume --explain is required" in capsys.readouterr().err


def test_sections_and_leaves_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--explain"]) == 0
    assert capsys.readouterr().out == explain() + "\n"
    assert run.main(["--explain", "grpo"]) == 0
    output = capsys.readouterr().out
    assert all(f"grpo.{leaf.name} " in output for leaf in leaves(sections()["grpo"]))
    assert run.main(["--explain", "gropo"]) == 2
    assert "did you mean grpo" in capsys.readouterr().err


def test_the_help_names_the_way_to_the_explanations(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--help"])
    assert "--explain grpo" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--config", "nope"], ["--config", "tiny", "grpo.lrr=1"]])
def test_a_config_that_cannot_be_used_is_one_sentence(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "evaluate" not in line
