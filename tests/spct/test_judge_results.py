"""Judgements become scores: by hand."""

from dataclasses import FrozenInstanceError

import pytest

from grm.scored import Judgement, Scored, counted, not_judged


def judgement(*scores: float, failure: str = "no_scores") -> Judgement:
    failure = "" if scores else failure
    return Judgement(scores=scores or None, principles="", critique="", text="?", order=(0, 1), failure=failure)


def test_all_judgements_that_were_read_vote() -> None:
    scored = counted([judgement(9, 2), judgement(), judgement(4, 6), judgement(5, 5)])
    assert scored.totals == (18, 13)
    assert scored.scores == (6, 13 / 3)
    assert scored.shares == (0.5, 0.5)  # a win each, and a tie in halves
    assert [each.voted for each in scored.judgements] == [True, False, True, True]
    assert (scored.best, scored.ranking, scored.error) == (0, (0, 1), "")


def test_with_a_meta_rm_the_better_half_votes() -> None:
    scored = counted([judgement(9, 2), judgement(4, 6), judgement(3, 8), judgement(2, 1)], [-1.0, 2.0, 0.0, -3.0])
    assert [each.voted for each in scored.judgements] == [False, True, True, False]
    assert scored.scores == (3.5, 7)
    assert scored.shares == (0, 1)
    assert [each.meta for each in scored.judgements] == pytest.approx([0.2689, 0.8808, 0.5, 0.0474], abs=1e-4)


def test_a_judgement_that_was_not_given_has_no_meta_score_and_no_vote() -> None:
    scored = counted([judgement(9, 2), judgement(failure="no answer: timed out"), judgement(4, 6)], [-1.0, None, 2.0])
    assert [each.voted for each in scored.judgements] == [False, False, True]
    assert [each.meta is None for each in scored.judgements] == [False, True, False]
    assert scored.scores == (4, 6)


def test_a_tie_has_no_best_and_ranks_by_place() -> None:
    scored = counted([judgement(5, 5)])
    assert (scored.best, scored.ranking) == (None, (0, 1))


def test_where_nothing_was_read_there_is_no_number() -> None:
    scored = counted([judgement(), judgement(failure="cut_short")])
    assert (scored.scores, scored.totals, scored.shares, scored.best, scored.ranking) == (None,) * 5
    assert scored.error == "none of 2 judgements could be read (cut_short, no_scores); the first begins: '?'"
    assert not_judged("no answer") == Scored(scores=None, totals=None, shares=None, judgements=(), error="no answer")


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        counted([judgement(5, 5)]).scores = (1, 1)
