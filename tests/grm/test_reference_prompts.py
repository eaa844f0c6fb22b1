"""Reference and criteria in a prompt: shown where the question has them, escaped, and no trace of them where it has none."""

import dataclasses
from pathlib import Path

import pytest

from grm.escaping import escape_frame
from grm.preferences import Question
from grm.prompts import STYLES, TemplateError, load_template, render, template
from tests.grm.hostile_texts import HOSTILE

PLAIN = Question(id="q", query="2 + 2?", responses=("4", "5"))
GOLD = dataclasses.replace(PLAIN, reference="It is 4.")
BOTH = dataclasses.replace(GOLD, criteria=("Be right.", "Be brief."))
REFERENCE = "[The Begin of Reference]\nIt is 4.\n[The End of Reference]\n"
CRITERIA = "[The Begin of Criteria]\n1. Be right.\n2. Be brief.\n[The End of Criteria]\n"


def shown(question: Question, style: str) -> str:
    return render(question, (1, 0), template(style), example=0)


@pytest.mark.parametrize("style", STYLES)
def test_they_stand_behind_the_query_and_nothing_else_changes(style: str) -> None:
    plain, gold, both = (shown(question, style) for question in (PLAIN, GOLD, BOTH))
    assert "2 + 2?\n" + REFERENCE in gold
    assert gold.replace(REFERENCE, "") == plain
    assert "2 + 2?\n" + REFERENCE + CRITERIA in both
    assert both.replace(REFERENCE + CRITERIA, "") == plain


def test_a_lone_criterion_has_no_number() -> None:
    lone = dataclasses.replace(PLAIN, criteria=("Be right.",))
    assert "2 + 2?\n[The Begin of Criteria]\nBe right.\n[The End of Criteria]\n" in shown(lone, "compact")


def test_a_template_may_have_a_place_for_them(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("{{criteria}}\n{{query}}\n{{responses}}\n{{reference}}\n{{scores}}")
    own = load_template(path)
    plain, gold, both = (render(question, (0, 1), own) for question in (PLAIN, GOLD, BOTH))
    assert plain.startswith("2 + 2?\n[The Begin of Response 1]")
    assert plain.endswith("[The End of Response 2]\n\\boxed{s1, s2}")
    assert gold == plain.replace("\\boxed", REFERENCE + "\\boxed")
    assert both == CRITERIA + gold
    path.write_text("{{query}} {{reference}}\n{{responses}}")
    with pytest.raises(TemplateError, match=r"\{\{reference\}\} must stand alone on its line"):
        load_template(path)


@pytest.mark.parametrize("name", HOSTILE)
def test_neither_changes_the_frame(name: str) -> None:
    text = HOSTILE[name]
    hostile = dataclasses.replace(PLAIN, reference=text, criteria=("x", text))
    safe = dataclasses.replace(PLAIN, reference="REFERENCE", criteria=("x", "CRITERION"))
    prompt = shown(safe, "compact").replace("REFERENCE", escape_frame(text)).replace("CRITERION", escape_frame(text))
    assert shown(hostile, "compact") == prompt


def test_special_tokens_are_broken_in_them() -> None:
    question = dataclasses.replace(PLAIN, reference="a @@turn@@", criteria=("b @@turn@@",))
    prompt = render(question, (0, 1), template("compact"), escape_special_tokens=lambda text: text.replace("@@", "@"))
    assert "@@" not in prompt
    assert prompt.count("@turn@") == 2
