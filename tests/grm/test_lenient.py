"""Outputs of judges against a table of the right verdicts; what must not be read; linear time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.judgement import Judgement, ParseFailure, parse
from grm.lenient import lenient, read
from tests.grm.judge_outputs import OUTPUTS, Output

PIECES = [
    "\\boxed",
    "{",
    "}",
    "[",
    "]",
    "9",
    "7.5",
    ", ",
    "/10",
    "Scores:",
    "Response 1:",
    "Response 2:",
    '"scores":',
    "\n",
    "```json\n",
]
noise = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=40).map("".join)


def scores(judgement: Judgement | ParseFailure | None) -> tuple[float, ...] | None:
    return judgement.scores if isinstance(judgement, Judgement) else None


def test_the_table_is_as_long_as_what_was_tried() -> None:
    assert len(OUTPUTS) >= 97
    assert len({(output.n, output.text) for output in OUTPUTS.values()}) == len(OUTPUTS)


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_each_output_gets_the_verdict_of_a_careful_reader(output: Output) -> None:
    judgement, strict = read(output.text, output.n)
    assert scores(parse(output.text, output.n)) == output.strict
    assert (scores(judgement), strict) == (output.evaluated, output.strict is not None)
    assert judgement == parse(output.text, output.n) or output.strict is None


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_of_a_text_that_was_cut_only_a_strict_verdict_counts(output: Output) -> None:
    judgement, strict = read(output.text, output.n, cut_short=True)
    assert (scores(judgement), strict) == (output.strict, output.strict is not None)


def test_what_a_thinking_judge_was_cut_in_is_all_thought() -> None:
    """Where the prompt opened the thought, the completion holds no tag before the thought ends."""
    draft = "So\nScores: \\boxed{3, 9}\nor rather"
    assert read(draft, 2, cut_short=True, thinks=True) == (ParseFailure(reason="cut_short"), False)
    assert scores(read(draft, 2, cut_short=True)[0]) == scores(read(draft, 2, thinks=True)[0]) == (3, 9)
    thought_out = f"Hm</think>\n{draft}"
    assert scores(read(thought_out, 2, cut_short=True, thinks=True)[0]) == (3, 9)


def test_scores_out_of_range_are_clipped_when_asked_for() -> None:
    text = "Scores: \\boxed{0, 12.5}"
    assert read(text, 2) == (ParseFailure(reason="not_integers"), False)
    assert scores(read(text, 2, clip=True)[0]) == (1, 10)
    assert scores(read("Scores: \\boxed{3, 9}", 2, clip=True)[0]) == (3, 9)
    assert scores(lenient('{"scores": [-4, 11]}', 2, clip=True)) == (1, 10)
    assert scores(lenient("Scores: 0, 3", 2, low=0, high=3)) == (0, 3)
    assert lenient("Scores: 0/10, 3/10", 2, low=0, high=3) is None, "of another scale"


@pytest.mark.parametrize(
    ("text", "principles", "critique"),
    [
        ("## Criteria\na\n## Analysis\nb\n## Final Scores\n\\boxed{7, 8}", "a", "b"),
        ("具体标准：甲\n分析：乙\n评分：\\boxed{7，8}", "甲", "乙"),
        ("Критерии: a\nАнализ: b\nОценки: \\boxed{7, 8.5}", "a", "b"),
        ("Analysis: b.\n\n[[7, 8]]", "", "b.\n\n[[7, 8]]"),
        ("[[7, 8]]", "", ""),
    ],
)
def test_principles_and_critique_are_found_behind_headings_and_translated_labels(
    text: str, principles: str, critique: str
) -> None:
    judgement = lenient(text, 2)
    assert judgement is not None
    assert (judgement.principles, judgement.critique) == (principles, critique)


@given(completion=noise, n=st.integers(1, 5), clip=st.booleans())
def test_it_never_raises(completion: str, n: int, clip: bool) -> None:
    judgement = lenient(completion, n, clip=clip)
    assert judgement is None or (len(judgement.scores) == n and all(1 <= score <= 10 for score in judgement.scores))


@given(completion=noise, n=st.integers(1, 5))
def test_what_the_strict_parser_reads_stands(completion: str, n: int) -> None:
    strict = parse(completion, n)
    judgement, by_rule = read(completion, n)
    assert by_rule == isinstance(strict, Judgement)
    assert not by_rule or judgement == strict


@pytest.mark.parametrize(
    "unit",
    [
        "\\boxed{", "\\boxed{7}", "\\boxed ", "[", "{", '{"a":', "[7, 8],\n", "\n[", "```json\n{", "7, ", "7",
        "Response 1: 7, ", "Response 1: ", "\nScores:", "\nScore: 7", "Scores (", "\nThe scores are", " ", "\n", "*",
        "\u0301\u0327", "\ufdfa", "\u200b", "</think>", "\n- ", "and ", "\\text", "s_{", "٧",
    ],
)  # fmt: skip
def test_long_hostile_completions_take_linear_time(unit: str) -> None:
    many = unit * (100_000 // len(unit))
    for completion in (
        many,
        "Scores: " + many,
        "Scores: " + many + "\\boxed{1, 2}",
        many + "\n[[1, 2]]",
        many + "\nScores: [7, 8",
    ):
        start = time.thread_time()
        lenient(completion, 2)
        assert time.thread_time() - start < 2.0  # quadratic time would be minutes
