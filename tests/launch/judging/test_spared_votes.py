"""Early stopping where votes are asked for: in rounds, up to the votes that are needed; and the others when they are wanted."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from grm.judged import NO_ANSWER
from grm.voting import best, vote, votes_needed
from launch.cluster.failures import RunFailed
from launch.judging import votes
from launch.judging.answer_quality import describe_spared, quality
from launch.judging.protocol import Answer, Answered, JudgeGone, JudgeRequest, NotJudged
from launch.judging.vote_items import items
from tests.launch.judging.fake_judge import PREFERENCES, SHOWN, FakeJudge, collect, preference, stored

K = 8
CLEAR = ("clear 3?", "clear 7?")
UNEVEN = [preference(f"p{i}", query=f"{'clear' if i in (3, 7) else 'which'} {i}?") for i in range(12)]


class Wavers(FakeJudge):
    """Votes for the label, clearly where the query says so, else by the seed; one of those votes in seven cannot be read."""

    def _answer(self, request: JudgeRequest) -> tuple[Answer, ...] | NotJudged:
        return tuple(self._vote(request, (request.seed + i) % 2**31) for i in range(request.samples))

    def _vote(self, request: JudgeRequest, seed: int) -> Answer:
        shown = SHOWN.findall(request.message)
        high, low = [(10, 1), (9, 2), (6, 5), (5, 5), (2, 9), (8, 3), (0, 0)][seed % 7]
        if any(query in request.message for query in CLEAR):
            high, low = 10, 1
        scores = [high if text == f"answer {len(shown) - 1}" else low for text in shown]
        return Answer(text=f"{seed}\nScores: \\boxed{{{', '.join(map(str, scores))}}}", tokens=5, finish="stop")


def voted(row: votes.Row) -> list[Any]:
    return [None if each["scores"] is None else tuple(each["scores"]) for each in votes.judgements(row, "vote")]


def sampled(judge: FakeJudge) -> int:
    return sum(request.samples for request in judge.asked if request.temperature > 0)


def folders(tmp_path: Path, *names: str) -> list[Path]:
    for name in names:
        (tmp_path / name).mkdir()
    return [tmp_path / name for name in names]


def test_the_best_is_that_of_all_votes_and_no_vote_is_asked_for_in_vain(tmp_path: Path) -> None:
    one, other = folders(tmp_path, "all", "early")
    everything, early = Wavers(), Wavers()
    whole = collect(one, everything, UNEVEN, k=K)
    spared = collect(other, early, UNEVEN, k=K, early_stop=True)
    for row, few in zip(whole, spared, strict=True):
        assert voted(few) == voted(row)[: len(voted(few))], "the first votes are the same"
        assert len(voted(few)) == votes_needed(voted(row))
        assert best(vote(voted(few)) or ()) == best(vote(voted(row)) or ())
        assert votes.judgements(few, "greedy") == votes.judgements(row, "greedy")
    assert sampled(everything) == K * len(UNEVEN)
    assert sampled(early) == sum(map(len, map(voted, spared))) < sampled(everything)
    assert {len(voted(row)) for row in spared} >= {5, 8}, "some are sure at once, some never"
    found = quality(spared, k=K)
    assert (found.votes, found.spared) == (sampled(early), K * len(UNEVEN) - sampled(early))
    assert describe_spared(found).startswith(f"{found.spared} of {K * len(UNEVEN)} votes ")
    assert quality(whole, k=K).spared == 0
    counted = items(UNEVEN, spared, {}, k=K, early_stop=True)
    assert [each.spared + len(each.votes) for each in counted] == [K] * len(UNEVEN)


def test_what_was_not_asked_for_was_spared_only_where_votes_stop_early(tmp_path: Path) -> None:
    """A run that goes on with more votes has policies that were asked for fewer."""
    rows = collect(tmp_path, Wavers(), UNEVEN, k=4)
    assert [(each.spared, len(each.votes)) for each in items(UNEVEN, rows, {}, k=K)] == [(0, 4)] * len(UNEVEN)


def test_a_round_asks_what_is_due_of_as_many_preferences_as_a_wave_holds(tmp_path: Path) -> None:
    judge, notes = Wavers(), list[str]()
    collect(tmp_path, judge, UNEVEN, k=K, early_stop=True, wave=4, note=notes.append)
    ids = [row["id"] for row in stored(tmp_path)[1:]]
    assert ids[:4] == ["p0", "p1", "p2", "p3"]
    assert len(ids) > len(UNEVEN), "a preference that was open stands again behind its last round"
    assert {*ids} == {p.question.id for p in UNEVEN}
    assert notes[-1] == "judged 12 of 12 preferences, up to 8 votes each"
    open_after_one = [row["id"] for row in stored(tmp_path)[1:5] if votes_needed([*voted(row), None, None, None]) > 5]
    assert ids[4 : 4 + len(open_after_one)] == open_after_one, "those come first in the next round, with new ones beside them"
    assert len(ids[4:8]) == 4


def test_single_responses_get_all_votes(tmp_path: Path) -> None:
    rows = collect(tmp_path, FakeJudge(), PREFERENCES, k=K, early_stop=True)
    counts = {row["id"]: len(voted(row)) for row in rows}
    assert counts["c"] == K, "each one moves its score"
    assert min(counts.values()) > K // 2


def test_nothing_is_asked_again_and_the_rest_only_where_it_is_wanted(tmp_path: Path) -> None:
    one, other = folders(tmp_path, "all", "early")
    whole = collect(one, Wavers(), UNEVEN, k=K)
    early = collect(other, Wavers(), UNEVEN, k=K, early_stop=True)
    again = Wavers()
    assert json.dumps(collect(other, again, UNEVEN, k=K, early_stop=True)) == json.dumps(early)
    assert again.asked == []
    fewer = Wavers()
    collect(other, fewer, UNEVEN, k=4)
    assert fewer.asked == [], "the first five are there"
    rest = Wavers()
    assert json.dumps(collect(other, rest, UNEVEN, k=K)) == json.dumps(whole)
    assert sampled(rest) == sum(K - len(voted(row)) for row in early)


@pytest.mark.parametrize("waves", [1, 2, 4])
def test_an_interrupted_one_goes_on_to_the_same_end(tmp_path: Path, waves: int) -> None:
    one, other = folders(tmp_path, "whole", "halves")
    options: dict[str, Any] = {"k": K, "early_stop": True, "wave": 4}
    whole, first, second = Wavers(), Wavers(waves=waves), Wavers()
    rows = collect(one, whole, UNEVEN, **options)
    with pytest.raises(KeyboardInterrupt):
        collect(other, first, UNEVEN, **options)
    assert json.dumps(collect(other, second, UNEVEN, **options)) == json.dumps(rows)
    assert sampled(first) + sampled(second) == sampled(whole), "no vote was asked for twice"


class Sure(FakeJudge):
    """Gives the label 10 and the others 1."""

    def _answer(self, request: JudgeRequest) -> tuple[Answer, ...]:
        shown = SHOWN.findall(request.message)
        scores = ", ".join("10" if text == f"answer {len(shown) - 1}" else "1" for text in shown)
        return tuple(
            Answer(text=f"{request.seed + i}\nScores: \\boxed{{{scores}}}", tokens=5, finish="stop")
            for i in range(request.samples)
        )


class SureButOne(Sure):
    """Gives no answer to the first vote."""

    lost = False

    def judge(self, requests: Sequence[JudgeRequest]) -> Sequence[Answered]:
        answers = list[Answered](super().judge(requests))
        first = next(i for i, request in enumerate(requests) if request.temperature > 0)
        given = answers[first]
        if not self.lost and isinstance(given, tuple):
            self.lost = True
            answers[first] = (NotJudged("lost"), *given[1:])
        return answers


def test_a_vote_without_an_answer_may_still_say_anything(tmp_path: Path) -> None:
    """So others are asked for in its place before the best is sure, and it is asked for by the next start if it is due."""
    one, other = folders(tmp_path, "all", "early")
    (whole,) = collect(one, Sure(), UNEVEN[:1], k=K)
    losing = SureButOne()
    (row,) = collect(other, losing, UNEVEN[:1], k=K, early_stop=True)
    failures = [each["failure"] for each in votes.judgements(row, "vote")]
    assert failures.count(NO_ANSWER) == 1
    assert len(failures) == 6, "five answers of eight make sure of the best, and one of six was lost"
    assert [each for each in voted(row) if each] == [(1, 10)] * 5
    again = Sure()
    collect(other, again, UNEVEN[:1], k=K, early_stop=True)
    assert again.asked == [], "it could not change the best"
    (filled,) = collect(other, again, UNEVEN[:1], k=K)
    assert voted(filled) == voted(whole)
    assert sampled(again) == 3


def test_a_preference_without_any_answer_is_not_asked_for_more(tmp_path: Path) -> None:
    judge = FakeJudge(failing="riddle")
    (row,) = collect(tmp_path, judge, [preference("r", query="a riddle")], k=K, early_stop=True)
    assert row["error"] == "the server said no; ask again"
    assert len(judge.sizes) == 1
    (row,) = collect(tmp_path, FakeJudge(), [preference("r", query="a riddle")], k=K, early_stop=True)
    assert len(voted(row)) > K // 2


def test_a_judge_that_is_gone_in_a_later_round_ends_the_work(tmp_path: Path) -> None:
    class Goes(Wavers):
        def judge(self, requests: Sequence[JudgeRequest]) -> Sequence[Answered]:
            answers = super().judge(requests)
            return answers if len(self.sizes) == 1 else [JudgeGone("the key was revoked")] * len(answers)

    one, other = folders(tmp_path, "whole", "cut")
    options: dict[str, Any] = {"k": K, "early_stop": True, "wave": len(UNEVEN)}
    rows = collect(one, Wavers(), UNEVEN, **options)
    done = sum(len(voted(row)) == 5 for row in rows)
    with pytest.raises(RunFailed, match=f"judged {done} of 12 preferences, which are kept; then the judge was gone"):
        collect(other, Goes(), UNEVEN, **options)
    again = collect(other, Wavers(), UNEVEN, **options)
    assert [voted(row) for row in again] == [voted(row) for row in rows]
