"""What an evaluation prints while our own engines judge, and how it asks a meta-RM."""

import inspect
from pathlib import Path
from typing import Any, Self

import pytest

from configs.load import ConfigError, load
from grm.preferences import Question
from grm.prompts import TemplateError
from launch.cluster import stage_actors
from launch.cluster.stage_actors import StageActors
from launch.cluster.training_actors import SamplingActors, TrainingActors
from launch.judging import evaluation_judging, meta_scores
from launch.judging.evaluation_target import EvaluationTarget
from launch.judging.vote_plan import VotePlan, vote_plan
from launch.monitoring.console import show_nothing
from launch.monitoring.plain_text import clean
from launch.setup.prompt_source import prompt_template


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
    quiet: Any = {"show": show_nothing, "answered": lambda answers, asked: None}
    with evaluation_judging.judge_for(load("tiny"), None, target, tokenizer, note=lambda text: print(clean(text)), **quiet):
        printed = capsys.readouterr().out
    assert printed == "a rollout actor died (�]0;title�a�b c): replaced\n"


@pytest.mark.parametrize("stage", [StageActors, SamplingActors, TrainingActors])
def test_a_stage_prints_nothing_by_itself(stage: type) -> None:
    assert inspect.signature(stage).parameters["note"].default is inspect.Parameter.empty


class FakeScores:
    """In place of `meta_scores`: keeps what it was asked with."""

    def __init__(self) -> None:
        self.plans, self.files = list[VotePlan](), list[str]()

    def __call__(self, scorer: Any, tokenizer: Any, plan: VotePlan, *_: Any, path: Path, **__: Any) -> dict[str, list[float]]:
        self.plans.append(plan)
        self.files.append(path.name)
        return {}


def test_a_meta_rm_with_a_template_of_its_own_is_asked_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Query and responses as its user's message; scores by another template are not used again."""
    scores, question = FakeScores(), Question(id="a", query="Why?", responses=("so", "because"))
    monkeypatch.setattr(meta_scores, "meta_scores", scores)
    monkeypatch.setattr(meta_scores, "start_scorers", lambda *_: ([], None))
    monkeypatch.setattr(evaluation_judging, "fingerprint", lambda folder: "0123456789abcdef")
    (tmp_path / "meta.txt").write_text("Score.\n#### Context ####\n{{query}}\n\n{{responses}}\n")
    for overrides in ([], [f"meta_rm.template_path={tmp_path / 'meta.txt'}"]):
        config = load("tiny", overrides)
        plan = evaluation_judging.meta_plan_of(config, vote_plan(config, prompt_template(config), 4), "meta")
        rows = [{"id": "a", "question": "q", "samples": []}]
        evaluation_judging.score(config, None, "meta", plan, [], rows, tmp_path, show_nothing)
    judges, own = (plan.message(question, (1, 0)) for plan in scores.plans)
    shown = (
        "[The Begin of Response 1]\nbecause\n[The End of Response 1]\n[The Begin of Response 2]\nso\n[The End of Response 2]"
    )
    assert own == f"Score.\n#### Context ####\nWhy?\n\n{shown}"
    assert "\\boxed" in judges
    assert scores.files[0] == "meta-meta-01234567.jsonl"
    assert scores.files[1] != scores.files[0]


def test_a_template_that_no_meta_rm_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta.txt").write_text("{{query}}\n{{responses}}\n{{scores}}\n")
    config = load("tiny", [f"meta_rm.template_path={tmp_path / 'meta.txt'}"])
    with pytest.raises(TemplateError, match=r"meta\.txt: \{\{scores\}\} is for a judge.* remove it"):
        evaluation_judging.meta_plan_of(config, vote_plan(config, prompt_template(config), 4), "meta")
    with pytest.raises(ConfigError, match=r"there is no meta-RM to read it; name one with --meta-rm"):
        evaluation_judging.meta_plan_of(config, vote_plan(config, prompt_template(config), 4), "")
