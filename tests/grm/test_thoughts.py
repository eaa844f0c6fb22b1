"""What of a completion is no judgement: thoughts before it or in it, and whatever goes on behind it."""

import pytest

from grm.judgement import Judgement, parse, without_thoughts

GOOD = "Specific Criteria: accuracy 70%, brevity 30%\nAnalysis: Response 1 is right.\nScores: \\boxed{9, 2}"


@pytest.mark.parametrize(
    ("completion", "rest"),
    [
        (GOOD, ""),
        (GOOD + " \n", ""),
        ("Scores: $**\\boxed{9, 2}**$.\n```\n", ""),
        ("Scores: \\[\\boxed{9, 2}\\]", ""),
        (GOOD + "\n\nUser: more", "User: more"),
        (GOOD + " 1", "1"),
        (GOOD + "<think>was it", "<think>was it"),
        ("Scores: \\boxed{4, 4}\n" + GOOD, GOOD.removesuffix("}")),
        ("Scores: \\boxed{4, 4\nScores: \\boxed{9, 2}", "4, 4\nScores: \\boxed{9, 2"),
        ("Scores: none yet\n" + GOOD, ""),
        ("<think>Scores: \\boxed{4, 4}</think>\n" + GOOD, ""),
    ],
)
def test_a_judgement_that_goes_on_behind_its_first_verdict_rambles(completion: str, rest: str) -> None:
    judgement = parse(completion, 2)
    assert isinstance(judgement, Judgement)
    assert (judgement.scores, judgement.rest, judgement.rambles) == ((9, 2), rest, bool(rest))


@pytest.mark.parametrize(
    ("completion", "spoken"),
    [
        ("<think>a</think>b", "b"),
        ("<THINKING>a</thinking>b", "b"),
        ("a</think>b", "b"),
        ("a</think>b</think>c", "c"),
        ("<think>a<think>b</think>c", "c"),
        ("<think>a<think>b</think>c</think>d", "d"),
        ("a<think>b</think>c<think>d</think>e", "a c e"),
        ("a<think>b", "a"),
        ("a<think>b</think>c<think>d", "a c"),
        ("a</think>b<think>c", "b"),
        ("a < think > b", "a < think > b"),
        ("<thinker>a</thinker>", "<thinker>a</thinker>"),
        ("<think></think>", ""),
    ],
)
def test_thoughts_are_blanked_and_all_else_keeps_its_place(completion: str, spoken: str) -> None:
    blanked = without_thoughts(completion)
    assert blanked.split() == spoken.split()
    assert len(blanked) == len(completion)
    assert all(new in (old, " ") for old, new in zip(completion, blanked, strict=True))
