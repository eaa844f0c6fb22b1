"""What an evaluation prints while our own engines judge is clean, whatever a worker's error quotes."""

import inspect
from pathlib import Path
from typing import Any, Self

import pytest

from configs.load import load
from launch.cluster import stage_actors
from launch.cluster.stage_actors import StageActors
from launch.cluster.training_actors import SamplingActors, TrainingActors
from launch.judging import evaluation_run
from launch.judging.evaluation_run import EvaluationTarget


class Noisy:
    """A stage in which an actor dies; its error quotes a completion."""

    def __init__(self, cluster: Any, config: Any, *, note: Any, **named: Any) -> None:
        self._note = note

    def __enter__(self) -> Self:
        self._note("a rollout actor died (\x1b]0;title\x07a\u202eb\nc): replaced")
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is ended."""


def test_what_a_stage_notes_is_printed_without_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage_actors, "StageActors", Noisy)
    target = EvaluationTarget(model="tiny", endpoint="", meta_rm="", out=tmp_path)
    tokenizer: Any = object()
    with evaluation_run._judge(load("tiny"), None, target, tokenizer):
        printed = capsys.readouterr().out
    assert printed == "a rollout actor died (�]0;title�a�b c): replaced\n"


@pytest.mark.parametrize("stage", [StageActors, SamplingActors, TrainingActors])
def test_a_stage_prints_nothing_by_itself(stage: type) -> None:
    assert inspect.signature(stage).parameters["note"].default is inspect.Parameter.empty
