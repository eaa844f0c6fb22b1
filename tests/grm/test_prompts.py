"""Prompts: the frame, its variants, own templates, and no label anywhere."""

import dataclasses
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.judgement import ScoreRange
from grm.orders import shuffled
from grm.preferences import Preference, Question
from grm.prompts import STYLES, render, template

THREE = Question(id="q", query="Why?", responses=("zero", "one", "two"))
SINGLE = Question(id="s", query="2 + 2?", responses=("4",))
BOTH = pytest.mark.parametrize("principles", [True, False], ids=["principled", "unprincipled"])


def test_compact_to_the_letter() -> None:
    assert render(THREE, (2, 0, 1), template("compact")) == (
        "Judge each response to the query.\n"
        "Score each from 1 to 10: 10 is best, 1 is worst.\n"
        "Analyse step by step and be strict: only one response is best.\n"
        "Criteria: 1. accuracy 2. brevity 3. politeness 4. format\n"
        "Query:\nWhy?\n"
        "[The Begin of Response 1]\ntwo\n[The End of Response 1]\n"
        "[The Begin of Response 2]\nzero\n[The End of Response 2]\n"
        "[The Begin of Response 3]\none\n[The End of Response 3]\n"
        "Answer in three parts:\n"
        "Specific Criteria: the principles that count here, with weights\n"
        "Analysis: each response by these principles\n"
        "Scores: \\boxed{s1, s2, s3}"
    )


def test_compact_without_principles_to_the_letter() -> None:
    assert render(THREE, (2, 0, 1), template("compact", principles=False)) == (
        "Judge each response to the query.\n"
        "Score each from 1 to 10: 10 is best, 1 is worst.\n"
        "Analyse step by step and be strict: only one response is best.\n"
        "Query:\nWhy?\n"
        "[The Begin of Response 1]\ntwo\n[The End of Response 1]\n"
        "[The Begin of Response 2]\nzero\n[The End of Response 2]\n"
        "[The Begin of Response 3]\none\n[The End of Response 3]\n"
        "Answer in two parts:\n"
        "Analysis: each response\n"
        "Scores: \\boxed{s1, s2, s3}"
    )


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("question", [THREE, SINGLE])
def test_a_prompt_without_principles_mentions_none(style: str, question: Question) -> None:
    order = range(len(question.responses))
    prompt = render(question, order, template(style, principles=False), example=0)
    assert not re.search("criteri|principle", prompt, re.IGNORECASE)
    assert re.findall(r"^(Specific Criteria|Analysis|Scores):", prompt, re.MULTILINE) == ["Analysis", "Scores"]
    assert len(prompt) < len(render(question, order, template(style), example=0))


@BOTH
@pytest.mark.parametrize("style", STYLES)
def test_sections_stand_in_the_agreed_order(style: str, principles: bool) -> None:
    prompt = render(THREE, (0, 1, 2), template(style, principles=principles), hint=1)
    sections = [
        "from 1 to 10",
        "e strict",
        *(["riteria"] if principles else []),
        "Why?",
        "[The Begin of Response 1]\nzero\n[The End of Response 1]",
        "[The Begin of Response 3]\ntwo\n[The End of Response 3]",
        "Hint: Response 2 is the best.",
        *(["\nSpecific Criteria:"] if principles else []),
        "\nAnalysis:",
        "\nScores: \\boxed{",
    ]
    positions = [prompt.index(section) for section in sections]
    assert positions == sorted(positions)
    assert "\\boxed{s1, s2, s3}" in prompt
    assert "{{" not in prompt


@BOTH
@pytest.mark.parametrize("style", STYLES)
def test_single_responses_are_scored_0_or_1_in_training_and_1_to_10_in_evaluation(style: str, principles: bool) -> None:
    chosen = template(style, principles=principles)
    training = render(SINGLE, (0,), chosen, example=0)
    evaluation = render(SINGLE, (0,), chosen, example=0, score_range=ScoreRange.GRADED)
    assert "0 if it is wrong" in training
    assert "1 to 10" not in training
    assert "from 1 to 10" in evaluation
    assert "\\boxed{s1}" in training
    assert "\\boxed{s1}" in evaluation


def test_the_0_1_scale_is_for_single_responses() -> None:
    with pytest.raises(ValueError, match="single response"):
        render(THREE, (0, 1, 2), template("compact"), score_range=ScoreRange.VERDICT)


@BOTH
@pytest.mark.parametrize("style", STYLES)
def test_a_hint_adds_one_line_and_changes_nothing_else(style: str, principles: bool) -> None:
    chosen = template(style, principles=principles)
    plain = render(THREE, (1, 2, 0), chosen, example=0).split("\n")
    hinted = render(THREE, (1, 2, 0), chosen, hint=0).split("\n")
    hinted.remove("Hint: Response 1 is the best.")
    assert hinted == plain


def test_hints_for_a_single_response_give_the_verdict() -> None:
    assert "Hint: the response is right." in render(SINGLE, (0,), template("compact"), hint=1)
    assert "Hint: the response is wrong." in render(SINGLE, (0,), template("compact"), hint=0)


@pytest.mark.parametrize(("question", "hint"), [(THREE, 3), (THREE, -1), (SINGLE, 2)])
def test_a_hint_out_of_range_is_refused(question: Question, hint: int) -> None:
    with pytest.raises(ValueError, match="hint"):
        render(question, range(len(question.responses)), template("compact"), hint=hint)


@pytest.mark.parametrize("permutation", [(0, 1), (0, 1, 1), (1, 2, 3), ()])
def test_an_order_that_is_none_is_refused(permutation: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not an order of 3 responses"):
        render(THREE, permutation, template("compact"))


@given(seed=st.integers(), n=st.integers(1, 6))
def test_permuting_responses_permutes_the_blocks(seed: int, n: int) -> None:
    responses = tuple(f"answer {i}." for i in range(n))
    permutation = shuffled(n, random.Random(seed))
    prompt = render(Question(id="q", query="q", responses=responses), permutation, template("compact"))
    for shown, own in enumerate(permutation, start=1):
        assert f"[The Begin of Response {shown}]\nanswer {own}.\n[The End of Response {shown}]" in prompt


def test_no_label_can_reach_a_prompt() -> None:
    assert {field.name for field in dataclasses.fields(Question)} == {"id", "query", "responses", "reference", "criteria"}
    first, second = (Preference(question=THREE, label=label, subset="math") for label in (0, 2))
    assert render(first.question, (1, 0, 2), template("full")) == render(second.question, (1, 0, 2), template("full"))
    renamed = dataclasses.replace(THREE, id="label-2")
    assert render(renamed, (0, 1, 2), template("full")) == render(THREE, (0, 1, 2), template("full"))
