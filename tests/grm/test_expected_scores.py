"""Expected scores by worked numbers: one token, a ten of two tokens, tokens with blanks, and what has no expectation."""

from math import log

import pytest

from grm.expected_scores import TokenChoice, expected_scores, trimmed
from grm.judgement import Judgement, parse


def token(text: str, **shares: float) -> TokenChoice:
    """A token; probabilities by text, in which _ stands for a blank and n in front of a digit for nothing."""
    named = {name.removeprefix("n").replace("_", " "): share for name, share in shares.items()}
    return TokenChoice(text=text, top=tuple((name, log(share)) for name, share in named.items()))


def choice(text: str, top: dict[str, float]) -> TokenChoice:
    return TokenChoice(text=text, top=tuple((name, log(share)) for name, share in top.items()))


BEGIN = [token("Scores:"), token(" \\"), token("boxed"), token("{")]
END = choice("}", {"}": 1.0})
COMMA = choice(", ", {", ": 1.0})


def test_the_mean_over_the_tokens_of_each_score() -> None:
    seven, eight = choice("7", {"7": 0.6, "8": 0.3, "6": 0.1}), choice("8", {"8": 0.5, "10": 0.5})
    assert expected_scores([*BEGIN, seven, COMMA, eight, END], (7, 8)) == pytest.approx((7.2, 9.0))


def test_what_is_no_score_is_left_out() -> None:
    mixed = choice("7", {"7": 0.4, "9": 0.2, "x": 0.2, "0": 0.1, "77": 0.1})
    assert expected_scores([*BEGIN, mixed, END], (7,)) == pytest.approx(((7 * 0.4 + 9 * 0.2) / 0.6,))
    assert expected_scores([*BEGIN, choice("1", {"1": 0.5, "0": 0.5}), END], (1,), low=0, high=1) == pytest.approx((0.5,))


def test_a_ten_of_two_tokens_shares_the_first_with_the_one() -> None:
    first = choice("1", {"1": 0.5, "9": 0.5})
    # P(1) = 0.5 * (1 - 0.75 - 0.05), P(10) = 0.5 * 0.75, P(9) = 0.5; 15 is no score
    for second, written in (("0", (10,)), ("}", (1,))):
        following = choice(second, {"0": 0.75, "}": 0.2, "5": 0.05})
        tail = [END] if second == "0" else []
        expected = (1 * 0.1 + 10 * 0.375 + 9 * 0.5) / 0.975
        assert expected_scores([*BEGIN, first, following, *tail], written) == pytest.approx((expected,))


def test_a_one_that_was_not_taken_is_a_one_only_where_ten_is_a_token() -> None:
    unknown = choice("9", {"9": 0.5, "1": 0.5})
    assert expected_scores([*BEGIN, unknown, END], (9,)) == (9.0,), "it may have been the half of a ten"
    known = choice("9", {"9": 0.5, "1": 0.25, "10": 0.25})
    assert expected_scores([*BEGIN, known, END], (9,)) == pytest.approx((4.5 + 0.25 + 2.5,))
    # the first score shows that this tokenizer writes ten as one token, so the second's one is a one
    assert expected_scores([*BEGIN, known, COMMA, unknown, END], (9, 9)) == pytest.approx((7.25, 5.0))


def test_blanks_and_brackets_within_a_token() -> None:
    blank = choice(" 7", {" 7": 0.5, " 8": 0.25, "9": 0.25})  # a blank or none
    assert expected_scores([*BEGIN, blank, END], (7,)) == pytest.approx((3.5 + 2.0 + 2.25,))
    joined = choice("{7", {"{7": 0.5, "{9": 0.5, "9": 0.9})  # what does not begin alike is something else
    assert expected_scores([*BEGIN[:3], joined, END], (7,)) == pytest.approx((8.0,))
    closed = choice("1}", {"1}": 0.5, "10}": 0.5})
    assert expected_scores([*BEGIN, closed], (1,)) == pytest.approx((5.5,))
    both = choice("7, 8", {"7, 8": 0.5, "7, 9": 0.5})
    assert expected_scores([*BEGIN, both, END], (7, 8)) == pytest.approx((7.0, 8.5))


def test_the_last_box_that_holds_the_scores_counts() -> None:
    guess = [*BEGIN, choice("7", {"7": 0.5, "9": 0.5}), END]
    again = [token("\nScores:"), *BEGIN[1:]]
    assert expected_scores([*guess, *again, choice("7", {"7": 1.0}), END], (7,)) == (7.0,)
    assert expected_scores([*guess, *BEGIN, choice("3", {"3": 1.0}), END], (7,)) == pytest.approx((8.0,))


def test_the_scores_are_those_of_the_box_that_the_strict_parser_reads() -> None:
    verdict = [*BEGIN, choice("7", {"7": 0.5, "9": 0.5}), END]
    sure = [*BEGIN[1:], choice("7", {"7": 1.0}), END]
    for behind in ([token("\nSo it is"), *sure], [token("\nScores given: "), *sure], [token("\n<think>"), *BEGIN, *sure]):
        tokens = [*verdict, *behind]
        text = "".join(each.text for each in tokens)
        assert isinstance(parse(text, 1), Judgement)
        assert expected_scores(tokens, (7,)) == pytest.approx((8.0,)), text
    thought = [token("<think>"), *sure, token("</think>\n"), token("{"), choice("7", {"7": 1.0}), END]
    assert expected_scores(thought, (7,)) is None, "nobody reads a box in a thought"


def test_what_has_no_expectation() -> None:
    seven = choice("7", {"7": 1.0})
    assert expected_scores([*BEGIN, seven, END], (8,)) is None
    assert expected_scores([*BEGIN, seven, END], (7, 8)) is None
    assert expected_scores([*BEGIN, seven, END], (7.5,)) is None
    assert expected_scores([token("7")], (7,)) is None
    assert expected_scores([*BEGIN, token("7"), END], (7,)) is None, "nobody asked for its alternatives"
    assert expected_scores([], (7,)) is None


def test_alternatives_are_kept_at_digits_and_behind_them() -> None:
    words = [choice(text, {text: 1.0}) for text in ("Response ", "2", " is", " best", "{", "10", "}")]
    assert [bool(kept.top) for kept in trimmed(words)] == [False, True, True, False, False, True, True]
    assert [kept.text for kept in trimmed(words)] == [word.text for word in words]
