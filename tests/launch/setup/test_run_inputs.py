"""What a run starts from: which prompts the preflight renders, and what it counts as skipped."""

from pathlib import Path

import pytest

from buffer.ledger import Cursor
from configs.load import ConfigError, load
from launch.setup.preflight import SAMPLE, prepare_run
from launch.setup.tokenizer import Tokenizer
from tests.launch.setup.test_preflight import GOOD, rows


def test_long_prompts_and_unusable_rows_are_counted_and_passed_over(tmp_path: Path) -> None:
    long = {**GOOD, "id": "long", "responses": ["x " * 3000, "y"]}
    tie = {"id": "tie", "prompt": "q", "responses": ["x", "y"], "scores": [4, 4]}
    file = rows(tmp_path / "mixed.jsonl", GOOD, long, tie)
    config = load("tiny", [f"data.train={file}", "data.heldout=tinyheld:1:5:2", f"run.dir={tmp_path / 'runs'}", "run.id=x"])
    inputs = prepare_run(config, preset="tiny")
    reason = "training prompt longer than the context"
    assert inputs.skipped == {"two best labels": 1, f"{reason} (of the first 2)": 1}
    assert len(inputs.drafts) == 5
    taken = inputs.prompts.take(Cursor(), 6)
    assert [draft.preference for draft, _ in taken] == ["a"] * 6
    assert inputs.skipped == {"two best labels": 1, reason: taken[-1][1].skipped}
    assert taken[-1][1].skipped in {5, 6}  # once an epoch, before or behind the one that fits


def test_the_preflight_tokenizes_a_sample_of_the_training_prompts_and_each_held_out_prompt_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rendering all of a real data set would take minutes of silence."""
    encoded: list[str] = []
    encode = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, message: encoded.append(message) or encode(self, message))
    config = load("tiny", ["data.train=tiny:1:5000", "data.heldout=tinyheld:2:40:2", f"run.dir={tmp_path}", "run.id=x"])
    assert config.cold_start.enabled
    assert config.cold_start.hinted
    inputs = prepare_run(config, preset="tiny")
    assert len(inputs.train) == 5000
    assert len(inputs.drafts) == 40
    assert len(encoded) <= 40 + 2 * SAMPLE + 2 * 2 + 1, (
        "two orders each; the hints take one preference for each scale, the tokenizer's check one"
    )
    assert inputs.skipped == {}


def test_a_template_that_asks_for_no_scores_is_noted(tmp_path: Path) -> None:
    template = tmp_path / "own.txt"
    template.write_text("{{query}}\n{{responses}}\n{{hint}}\nWhich is better?")
    (tmp_path / "own_single.txt").write_text("{{query}}\n{{responses}}\n{{hint}}\nRight? {{scores}}")
    config = load("tiny", [f"prompts.template_path={template}", f"run.dir={tmp_path / 'runs'}", "run.id=x"])
    (note, *_) = prepare_run(config, preset="tiny").notes
    assert "own.txt: the template asks for no \\boxed{...}" in note


def test_a_run_whose_meta_rm_would_vote_on_other_prompts_than_it_learns_from_is_refused(tmp_path: Path) -> None:
    template = tmp_path / "meta.txt"
    template.write_text("{{query}}\n{{responses}}\n")
    config = load("tiny", [f"meta_rm.template_path={template}", f"run.dir={tmp_path / 'runs'}", "run.id=x"])
    with pytest.raises(ConfigError, match=r"meta_rm\.template_path is for evaluate\.py --meta-rm: .* leave it out"):
        prepare_run(config, preset="tiny")
    assert not (tmp_path / "runs").exists()


def test_a_reward_rule_is_tried_before_a_run_and_is_one_of_its_inputs(tmp_path: Path) -> None:
    rules = tmp_path / "rules.py"
    small = ["data.train=tiny:1:20", "data.heldout=tinyheld:1:5:2", f"run.dir={tmp_path / 'runs'}", "run.id=x"]
    config = load("tiny", [*small, f"grpo.reward={rules}:reward"])
    with pytest.raises(ConfigError, match=r"grpo\.reward: .*rules\.py:reward: no such file; check the path"):
        prepare_run(config, preset="tiny")
    assert not (tmp_path / "runs").exists(), "nothing was made"
    rules.write_text("def reward(judged):\n    return 1\n")
    inputs = prepare_run(config, preset="tiny")
    assert any("nothing would be learnt" in note for note in inputs.notes)
    assert [found.name for found in inputs.fingerprints if found.leaf == "grpo.reward"] == [f"{rules}:reward"]
