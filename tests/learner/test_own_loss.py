"""Advantages and corrections of the user's own: loaded from a file, tried before a run, checked at each call."""

import math
from pathlib import Path

import pytest
import torch

from configs.load import ConfigError, load
from examples.own_loss import leave_one_out
from grm.own_functions import RuleError
from launch.setup.own_functions import own_function_notes, own_functions
from launch.setup.run_config import load_run_config
from learner.advantages import normalised
from learner.corrections import truncated
from learner.own_loss import advantages_of, correction_of, tokens, try_advantages, try_correction
from learner.policy_batch import policy_batch
from tests.buffer.small_messages import EXPERIENCE
from tests.learner.run_by_hand import Run, config
from tests.learner.test_base import trained

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_loss.py"
INF = float("inf")


def own(folder: Path, text: str) -> str:
    (folder / "mine.py").write_text(text)
    return f"{folder / 'mine.py'}:mine"


def test_our_names_are_our_functions() -> None:
    assert advantages_of("normalised") is normalised
    assert correction_of("tis") is truncated


def test_the_examples_advantage_is_the_reward_minus_the_mean_of_the_others() -> None:
    named = f"{EXAMPLE}:leave_one_out"
    assert advantages_of(named)([1.0, -1.0, 1.0, 1.0]) == pytest.approx((2 / 3, -2.0, 2 / 3, 2 / 3))
    assert try_advantages(named) == []


def test_the_examples_correction_weighs_by_the_root_of_the_ratio() -> None:
    named = f"{EXAMPLE}:tempered"
    found = correction_of(named)(tokens(), 0.0, 2.0)
    ratios = [0.0, -1.0, 0.1, 20.0, 0.1]  # old - behaviour, nats
    assert found.weight.tolist() == pytest.approx([min(math.exp(each / 2), 2.0) for each in ratios])
    assert found.outside.tolist() == [False, False, False, True, False]
    try_correction(named, (0.0, 2.0))


def test_the_learner_uses_the_function_that_the_config_names() -> None:
    config = load("tiny", [f"grpo.advantages={EXAMPLE}:leave_one_out"])
    own = leave_one_out(EXPERIENCE.rewards)
    assert policy_batch([EXPERIENCE], config).advantages == pytest.approx(own)
    assert policy_batch([EXPERIENCE], load("tiny")).advantages != pytest.approx(own)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def mine(rewards):\n    return rewards[:1]", r"it returned \(1\.0,\) for .*: return 4 finite numbers"),
        ("def mine(rewards):\n    return [float('nan')] * len(rewards)", "return 4 finite numbers, one a reward"),
        ("def mine(rewards):\n    return 1 / 0", r"it raised ZeroDivisionError: .*; for rewards \[1\.0, -1\.0"),
        ("def mine(rewards, group):\n    return rewards", "it must take one argument, the rewards of a group"),
    ],
)
def test_an_advantage_that_cannot_be_used_is_named(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(RuleError, match=why):
        try_advantages(own(tmp_path, text))


HEAD = "import torch\nfrom learner.corrections import *\nfrom learner.corrections import weighted\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def mine(tokens, low, high):\n    return tokens.new", "it returned a Tensor: return learner.corrections.Corrected"),
        ("def mine(tokens):\n    return tokens", "it must take 3 arguments, SampledTokens, the lower bound, the upper bound"),
        (
            f"{HEAD}def mine(tokens, low, high):\n    return weighted(tokens, torch.ones(1), torch.zeros(2))",
            r"weight is no tensor of shape \[5\].*outside is no tensor of shape \[5\]",
        ),
        (
            f"{HEAD}def mine(tokens, low, high):\n    done = uncorrected(tokens, low, high)\n"
            "    return Corrected(objective=tokens.advantages, ratio=done.ratio, weight=done.weight, outside=done.outside)",
            "objective has no gradient: make it of tokens.new",
        ),
        (
            f"{HEAD}def mine(tokens, low, high):\n    return weighted(tokens, torch.full((5,), float('inf')), tokens.old > 1)",
            "the gradient of its objective by tokens.new is .*make it finite",
        ),
    ],
)
def test_a_correction_that_cannot_be_used_is_named(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(RuleError, match=why):
        try_correction(own(tmp_path, text), (0.0, INF))


def test_advantages_that_do_not_sum_to_zero_are_noted(tmp_path: Path) -> None:
    (note,) = try_advantages(own(tmp_path, "def mine(rewards):\n    return rewards"))
    assert "sums to 2 for rewards [1.0, -1.0, 1.0, 1.0]: ours sum to 0" in note


def test_a_run_tries_all_of_them_and_names_the_leaf(tmp_path: Path) -> None:
    good = load("tiny", [f"grpo.advantages={EXAMPLE}:leave_one_out", f"grpo.correction={EXAMPLE}:tempered"])
    assert own_function_notes(good) == []
    assert sorted(own_functions(good)) == ["grpo.advantages", "grpo.correction"]
    assert own_functions(load("tiny")) == {}
    wrong = own(tmp_path, "def mine(tokens, low, high):\n    return 1")
    with pytest.raises(ConfigError, match=r"^grpo\.correction: .*mine\.py:mine: it returned a int"):
        own_function_notes(load("tiny", [f"grpo.correction={wrong}"]))


def test_the_paths_of_a_run_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_run_config(
        "tiny", ["grpo.advantages=mine.py:a", "grpo.correction=mine.py:c", "data.train=[mine.py:d@x.jsonl]"]
    )
    assert config.grpo.advantages == f"{tmp_path}/mine.py:a"
    assert config.grpo.correction == f"{tmp_path}/mine.py:c"
    assert config.data.train == [f"{tmp_path}/mine.py:d@{tmp_path}/x.jsonl"]


def test_another_word_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"grpo\.advantages: give normalised, centred, or a function of your own as FILE"):
        load("tiny", ["grpo.advantages=normalized"])


def test_own_corrections_have_no_bounds_unless_they_are_given() -> None:
    named = f"grpo.correction={EXAMPLE}:tempered"
    assert load("tiny", [named]).grpo.ratio_bounds == (0.0, INF)
    assert load("tiny", [named, "grpo.ratio_high=2"]).grpo.ratio_bounds == (0.0, 2.0)


def test_without_a_gradient_none_is_asked_for() -> None:
    sample = tokens()
    with torch.no_grad():
        found = correction_of(f"{EXAMPLE}:tempered")(sample, 0.0, 2.0)
    assert found.objective.shape == (5,)


MARKING = """
from pathlib import Path
from learner.corrections import uncorrected

def advantages(rewards):
    mark("advantages", len(rewards))
    return [2.0 if reward > 0 else -2.0 for reward in rewards]

def correction(tokens, low, high):
    mark("correction", tokens.new.numel())
    return uncorrected(tokens, low, high)

def mark(name, count):
    (Path(__file__).parent / name).write_text(str(count))
"""


def test_a_step_of_the_learner_calls_both(run: Run, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "marking.py"
    file.write_text(MARKING)
    learner = run.grpo(config(model, grpo={"advantages": f"{file}:advantages", "correction": f"{file}:correction"}))
    try:
        run.feed(4)
        trained(learner.step(5.0))
    finally:
        learner.close()
    assert int((tmp_path / "advantages").read_text()) > 1
    assert int((tmp_path / "correction").read_text()) > 1
