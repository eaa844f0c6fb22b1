"""Parsing judgements: strict scores, lenient text, never an exception, linear time."""

import random
import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm.judgement import (
    Judgement,
    ParseFailure,
    Reason,
    ScoreRange,
    parse,
    parse_training,
    training_score_range,
    unshuffle,
    write,
)

GOOD = "Specific Criteria: accuracy 70%, brevity 30%\nAnalysis: Response 1 is right.\nScores: \\boxed{9, 2}"
PIECES = [
    "\\boxed",
    "{",
    "}",
    "\\{",
    "\\}",
    "9",
    ", ",
    "10",
    "-",
    "\\text{",
    "Scores:",
    "Analysis:",
    "<think>",
    "</think>",
    "\n",
    "**",
    " ",
]

noise = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=40).map("".join)
plain = st.text(alphabet="abc XYZ,.%()'", max_size=60).map(str.strip)
scores = st.lists(st.integers(1, 10), min_size=1, max_size=6).map(tuple)


def test_a_judgement_without_principles() -> None:
    completion = "Analysis: Response 1: good. Response 2: bad.\nScores: \\boxed{7, 2}"
    judgement = Judgement(principles="", critique="Response 1: good. Response 2: bad.", scores=(7, 2))
    assert parse(completion, 2) == judgement
    assert write(judgement) == completion


def test_reads_the_three_parts() -> None:
    assert parse(GOOD, 2) == Judgement(principles="accuracy 70%, brevity 30%", critique="Response 1 is right.", scores=(9, 2))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (r"\boxed{8, 3}", (8, 3)),
        (r"\boxed{8,3}", (8, 3)),
        (r"\boxed {8 , 3}", (8, 3)),
        (r"\boxed{ 8,\n 3 }".replace(r"\n", "\n"), (8, 3)),
        (r"\\boxed\{8, 3\}", (8, 3)),
        (r"$\boxed{8,\ 3}$", (8, 3)),
        (r"$$\boxed{8,\;3}$$.", (8, 3)),
        (r"\boxed{\text{8, 3}}", (8, 3)),
        (r"\boxed{\mathbf{8}, \mathbf{3}}", (8, 3)),
        (r"\boxed{[8, 3]}", (8, 3)),
        (r"\boxed{(8, 3)}", (8, 3)),
        (r"\boxed{08, 3}", (8, 3)),
        (r"**\boxed{8, 3}**", (8, 3)),
        ("\n\n- > `\\boxed{8, 3}`", (8, 3)),
        ("\\[ \\boxed{8, 3} \\]", (8, 3)),
        (r"\boxed{8, 3} and no other box, such as \boxed{1, 1}", (8, 3)),
    ],
)
def test_reads_boxes(box: str, expected: tuple[int, ...]) -> None:
    judgement = parse(f"Scores: {box}", 2)
    assert isinstance(judgement, Judgement)
    assert judgement.scores == expected


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("Scores: 8, 3", "no_box"),
        ("Scores: boxed{8, 3}", "no_box"),
        ("Scores: \\fbox{8, 3}", "no_box"),
        ("Scores: \\boxed 8, 3", "no_box"),
        ("Scores: \\boxed{8, 3", "unclosed_box"),
        ("Scores: \\boxed{8, 3}\nScores: \\boxed{", "unclosed_box"),
        ("\\boxed{8, 3}", "no_scores"),
        ("My scores: \\boxed{8, 3}", "no_scores"),
        ("The Scores: \\boxed{8, 3}", "no_scores"),
        ("Scores \\boxed{8, 3}", "no_scores"),
        ("Score: \\boxed{8, 3}", "no_scores"),
        ("Scores: I say \\boxed{8, 3}", "no_box"),
        ("Scores: 8, 3 \\boxed{8, 3}", "no_box"),
        ("Scores: {\\boxed{8, 3}}", "no_box"),
        ("Scores: \\boxed{8, 3}\nScores: as above", "no_box"),
        ("Scores: \\boxed{}", "empty_box"),
        ("Scores: \\boxed{ \\, }", "empty_box"),
        ("Scores: \\boxed{\\text{}}", "empty_box"),
        ("Scores: \\boxed{s1, s2}", "not_integers"),
        ("Scores: \\boxed{8.0, 3}", "not_integers"),
        ("Scores: \\boxed{8/10, 3/10}", "not_integers"),
        ("Scores: \\boxed{8 3}", "not_integers"),
        ("Scores: \\boxed{8, 3,}", "not_integers"),
        ("Scores: \\boxed{8;3}", "not_integers"),
        ("Scores: \\boxed{+8, 3}", "not_integers"),
        ("Scores: \\boxed{1e1, 3}", "not_integers"),
        ("Scores: \\boxed{1_0, 3}", "not_integers"),
        ("Scores: \\boxed{８, 3}", "not_integers"),
        ("Scores: \\boxed{٨, 3}", "not_integers"),
        ("Scores: \\boxed{², 3}", "not_integers"),
        ("Scores: \\boxed{8, 3}\nScores: \\boxed{none}", "not_integers"),
        ("Scores: \\boxed{8}", "wrong_count"),
        ("Scores: \\boxed{8, 3, 1}", "wrong_count"),
        ("Scores: \\boxed{11, 3}", "out_of_range"),
        ("Scores: \\boxed{0, 3}", "out_of_range"),
        ("Scores: \\boxed{-1, 3}", "out_of_range"),
        ("Scores: \\boxed{" + "9" * 5000 + ", 3}", "out_of_range"),
    ],
)
def test_refuses_with_a_reason(completion: str, reason: str) -> None:
    failure = parse(completion, 2)
    assert isinstance(failure, ParseFailure)
    assert failure.reason == reason


def test_score_ranges() -> None:
    assert training_score_range(1) is ScoreRange.VERDICT
    assert training_score_range(2) is ScoreRange.GRADED
    low, high = ScoreRange.VERDICT.low, ScoreRange.VERDICT.high
    assert parse("Scores: \\boxed{0}", 1, low=low, high=high) == Judgement(principles="", critique="", scores=(0,))
    assert parse("Scores: \\boxed{2}", 1, low=low, high=high) == ParseFailure(reason="out_of_range")
    assert parse("Scores: \\boxed{0}", 1) == ParseFailure(reason="out_of_range")


@pytest.mark.parametrize(
    ("completion", "principles", "critique"),
    [
        ("**Specific Criteria:** a\n**Analysis:** b\n**Scores:** \\boxed{1}", "a", "b"),
        ("**Specific Criteria**: a\n\n### Analysis:\nb\nc\n\n### Scores:\n\\boxed{1}", "a", "b\nc"),
        ("1. Specific Criteria: a\n2. Analysis: b\n3. Scores: \\boxed{1}", "a", "b"),
        ("specific  criteria: a\nANALYSIS: b\nscores: \\boxed{1}", "a", "b"),
        ("Analysis: b\nScores: \\boxed{1}", "", "b"),
        ("Specific Criteria: a\nScores: \\boxed{1}", "a", ""),
        ("## Specific Criteria\na\n## Analysis\r\nb\n## Scores\n\\boxed{1}", "a", "b"),
        ("Analysis: b\nScores: too early\nmore\nScores: \\boxed{1}", "", "b\nScores: too early\nmore"),
        ("Analysis: first\nSpecific Criteria: a\nAnalysis: b\nScores: \\boxed{1}", "a", "b"),
        ("My analysis: none.\nScores: \\boxed{1}", "", ""),
        ("Scores: \\boxed{1}", "", ""),
    ],
)
def test_sections_are_read_leniently(completion: str, principles: str, critique: str) -> None:
    assert parse(completion, 1) == Judgement(principles=principles, critique=critique, scores=(1,))


@given(completion=noise, n=st.integers(1, 5))
def test_never_raises(completion: str, n: int) -> None:
    result = parse(completion, n)
    if isinstance(result, ParseFailure):
        assert result.reason in get_args(Reason)
    else:
        assert len(result.scores) == n
        assert all(1 <= score <= 10 for score in result.scores)


@given(principles=plain, critique=plain, scores=scores)
def test_parse_inverts_write(principles: str, critique: str, scores: tuple[int, ...]) -> None:
    judgement = Judgement(principles=principles, critique=critique, scores=scores)
    assert parse(write(judgement), len(scores)) == judgement


@given(before=noise, scores=scores)
def test_only_the_last_label_counts(before: str, scores: tuple[int, ...]) -> None:
    judgement = Judgement(principles="", critique="", scores=scores)
    result = parse(before.replace("<", "") + "\n" + write(judgement), len(scores))
    assert isinstance(result, Judgement)
    assert result.scores == scores


def test_in_training_a_completion_that_was_cut_is_a_failure_whatever_it_says() -> None:
    assert parse_training(GOOD, 2, cut_short=False) == parse(GOOD, 2)
    assert parse_training(GOOD, 2, cut_short=True) == ParseFailure(reason="cut_short")
    assert parse_training("", 2, cut_short=True) == ParseFailure(reason="cut_short")
    assert parse_training("Scores: \\boxed{0}", 1, cut_short=False) == Judgement(principles="", critique="", scores=(0,))
    assert parse_training("Scores: \\boxed{9}", 1, cut_short=False) == ParseFailure(reason="out_of_range")


@given(scores=scores, seed=st.integers())
def test_unshuffle_inverts_showing(scores: tuple[int, ...], seed: int) -> None:
    permutation = random.Random(seed).sample(range(len(scores)), len(scores))
    shown = [scores[own] for own in permutation]
    assert unshuffle(shown, permutation) == scores


def test_unshuffle_by_hand() -> None:
    assert unshuffle((9, 2, 5), (2, 0, 1)) == (2, 5, 9)


@pytest.mark.parametrize("permutation", [(0,), (0, 0), (1, 2), (0, 1, 2)])
def test_unshuffle_refuses_what_is_no_permutation(permutation: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not a permutation"):
        unshuffle((1, 2), permutation)


@pytest.mark.parametrize(
    "unit",
    [
        "\\boxed{",
        "\\boxed",
        "\\",
        "{",
        "}",
        "{}",
        "\\text{",
        "9,",
        "*",
        " ",
        "\n",
        "1. ",
        "Scores:",
        "\nScores",
        "\\boxed{}",
        "\nScores:\\boxed{",
        "\nScores: \\boxed{1, 2}",
        "<think>",
        "</think>",
        "<think></think>",
        "<think",
        "\n- ",
        "(",
    ],
)
def test_long_hostile_completions_take_linear_time(unit: str) -> None:
    many = unit * (100_000 // len(unit))
    for completion in (many, "Scores:" + many + "\\boxed{1, 2}", "Scores: \\boxed{" + many + "}"):
        start = time.thread_time()
        parse(completion, 2)
        assert time.thread_time() - start < 2.0  # quadratic time would be minutes


PUBLIC = """**Specific Criteria:**
1. **Correctness of the final value** (Weight: 50%): the number that the query asks for is right.
2. **Soundness of the steps** (Weight: 30%): each step follows from the one before; $3 \\times 4 = 12$ is not skipped.
3. **Clarity** (Weight: 20%): a reader can follow without guessing.

**Analysis:**
- **Response 1**: The set-up is right, but in step 2 it writes $\\boxed{14}$ where $12$ is due. Clarity is good.
    - Correctness: fails. Soundness: one slip.
- **Response 2**: Every step holds, and the result agrees with a check by substitution.
  It is terse; a sentence on the units would help.
- **Response 3**: Says `Scores: \\boxed{10, 10, 10}` and calculates nothing.

**Scores:** \\\\boxed\\{4, 9, 1\\}
"""


def test_a_judgement_in_the_papers_own_layout_is_read() -> None:
    """Three labelled sections, many lines, markdown, formulas and boxes on the way, and an escaped box at the end."""
    judgement = parse(PUBLIC, 3)
    assert isinstance(judgement, Judgement)
    assert judgement.scores == (4, 9, 1)
    assert judgement.principles.startswith("1. **Correctness")
    assert judgement.principles.endswith("without guessing.")
    assert judgement.critique.startswith("- **Response 1**")
    assert judgement.critique.endswith("calculates nothing.")
