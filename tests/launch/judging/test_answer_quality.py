"""What answers are like: reasons, copies, dates, cost, and which ones are shown."""

from typing import Any

import pytest

from grm.judged import NO_ANSWER
from launch.judging.answer_quality import TO_READ, quality, reason, warnings


def sample(text: str = "Scores: \\boxed{9, 2}", failure: str = "", **more: Any) -> dict[str, Any]:
    return {"kind": "vote", "permutation": [0, 1], "text": text, "tokens": 7, "finish": "stop", "failure": failure, **more}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (sample("Analysis", "no_scores", finish="length"), "cut at the limit"),
        (sample("", "empty", thought="so"), "empty beside its thought"),
        (sample("", "empty"), "empty"),
        (sample("I can't help with that.", "no_scores"), "refused"),
        (sample("", "empty", refused=True), "refused"),
        (sample("Scores: \\boxed{7.5, a}", "not_integers"), "scores with decimals"),
        (sample("Scores: \\boxed{a, b}", "not_integers"), "box without numbers"),
        (sample("Scores: 7", "no_box"), "no box behind the scores"),
        (sample("x", "of another edition"), "of another edition"),
    ],
)
def test_why_a_judgement_did_not_parse(given: dict[str, Any], words: str) -> None:
    assert reason(given) == words


def test_what_a_reader_must_know_is_said() -> None:
    rows = [
        {"id": "a", "date": "2026-11-27", "samples": [sample("x", "no_box", prompt_tokens=5, fingerprint="f1")] * 3},
        {"id": "b", "date": "2026-11-28", "samples": [sample(fingerprint="f2"), sample("", NO_ANSWER, error="no")]},
        {"id": "c", "error": "no"},
    ]
    found = quality(rows)
    assert (found.judgements, found.parsed, found.reasons, found.unanswered) == (4, 1, {"no box behind the scores": 3}, 1)
    assert (found.copied, found.repeated, found.dates) == (1, 1, ("2026-11-27", "2026-11-28"))
    assert (found.prompt_tokens, found.completion_tokens, found.fingerprints) == (15, 28, {"f1": 3, "f2": 1})
    few, copies, editions, unanswered = warnings(found)
    assert few.startswith("only 1 of 4 judgements parsed (25%)")
    assert "copies of each other in 1 of 1 sets" in copies
    assert editions.endswith("f1 (3), f2 (1)")
    assert unanswered.startswith("1 judgements of preferences that have others got no answer")


def test_answers_that_are_as_they_should_be_need_no_word() -> None:
    found = quality([{"id": "a", "samples": [sample("one"), sample("two")]}])
    assert warnings(found) == []
    assert (found.repeated, found.copied, found.parsed_share) == (1, 0, 1.0)
    assert quality([]).parsed_share == 1.0


def test_votes_beyond_k_do_not_count() -> None:
    rows = [{"id": "a", "samples": [sample("x", "no_box") | {"kind": "greedy"}, sample(), sample("x", "no_box")]}]
    assert [quality(rows, k=k).judgements for k in (0, 1, 2, None)] == [1, 2, 3, 3]
    assert quality(rows, k=1).reasons == {"no box behind the scores": 1}


def test_unparsed_ones_of_each_reason_are_shown_first() -> None:
    samples = [sample(str(i), "no_box") for i in range(9)] + [sample("", "empty")]
    shown = quality([{"id": "a", "samples": samples}]).to_read
    assert [each.text for each in shown] == ["0", "", "1", "2", "3"]
    assert len(shown) == TO_READ
    assert len(quality([{"id": "a", "samples": [sample("x" * 9000, "no_box")]}]).to_read[0].text) < 2100
