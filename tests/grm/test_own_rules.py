"""Reward rules of the user's own: loaded from a file, tried before a run, checked at each reward."""

import sys
from pathlib import Path

import pytest

from grm.own_functions import RuleError
from grm.own_rules import SAMPLE, load_rule, try_rule
from grm.rewards import JudgedCompletion, paper_rule

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "length_penalty.py"


def rule(folder: Path, body: str, *, head: str = "def reward(judged):") -> str:
    (folder / "rules.py").write_text(f"{head}\n    {body}\n")
    return f"{folder / 'rules.py'}:reward"


def test_the_papers_rule_is_the_default() -> None:
    assert load_rule("") is paper_rule
    assert [paper_rule(judged) for judged in SAMPLE] == [1, -1, -1, 1, -1]


def test_the_example_takes_half_of_a_long_judgement() -> None:
    reward = load_rule(f"{EXAMPLE}:reward")
    right = {"scores": (9, 2), "label": 0, "n": 2}
    assert [reward(JudgedCompletion(**right, completion="x" * length)) for length in (0, 1000, 2000, 9000)] == [
        1,
        0.75,
        0.5,
        0.5,
    ]
    assert reward(JudgedCompletion(scores=(2, 9), label=0, n=2, completion="x")) == -1
    assert try_rule(f"{EXAMPLE}:reward") == []


def test_a_rule_may_use_what_looks_its_module_up(tmp_path: Path) -> None:
    """A dataclass with annotations as text does. Two files of one name are two modules."""
    head = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n"
        "@dataclass\nclass Mine:\n    value: float\n\n\n"
        "def reward(judged):"
    )
    named = []
    for value in (1.0, -1.0):
        folder = tmp_path / str(value)
        folder.mkdir()
        named.append(rule(folder, f"return Mine({value}).value", head=head))
    rewards = [load_rule(each) for each in named]
    assert [reward(SAMPLE[0]) for reward in rewards] == [1, -1]
    modules = {module.__file__ for name, module in sys.modules.items() if name.startswith("own_rule_rules_")}
    assert {each.rpartition(":")[0] for each in named} <= modules


@pytest.mark.parametrize(
    ("body", "head", "why"),
    [
        (
            "return '1'",
            "def reward(judged):",
            r"it returned '1', which is no finite number; for JudgedCompletion\(scores=\(9, 2\)",
        ),
        ("return float('nan')", "def reward(judged):", "it returned nan, which is no finite number"),
        ("return judged.scores[0] > 3", "def reward(judged):", "it returned True, which is no finite number"),
        (
            "return float(judged.scores[0])",
            "def reward(judged):",
            "it raised TypeError: 'NoneType' object is not subscriptable",
        ),
        ("return 1.0", "def reward(scores, label):", "it must take one argument, a JudgedCompletion"),
        ("return 1.0", "def other(judged):", "has no function reward; name one of it"),
        ("return 1.0", "import nothing_of_that_name\ndef reward(judged):", "cannot be imported"),
    ],
)
def test_a_rule_that_cannot_be_used_is_named(tmp_path: Path, body: str, head: str, why: str) -> None:
    with pytest.raises(RuleError, match=why):
        try_rule(rule(tmp_path, body, head=head))


@pytest.mark.parametrize("named", ["rules.py", "rules:reward", "rules.txt:reward", "rules.py:"])
def test_a_name_of_another_form_is_refused(named: str) -> None:
    with pytest.raises(RuleError, match=r"write FILE\.py:FUNCTION, as rules\.py:reward"):
        load_rule(named)
    with pytest.raises(RuleError, match="no such file"):
        load_rule("/nowhere/rules.py:reward")


def test_what_may_be_meant_is_noted(tmp_path: Path) -> None:
    same = try_rule(rule(tmp_path, "return 1.0"))
    assert "returns 1.0 for every one of 5 different completions: nothing would be learnt" in same[0]
    (tmp_path / "other").mkdir()
    turned = try_rule(rule(tmp_path / "other", "return 1.0 if judged.failure else -1.0"))
    assert "for scores (9, 2) with label 0, which are right: above 0 counts as right" in turned[0]
    assert "for scores None with label 0, which are wrong" in turned[-1]
