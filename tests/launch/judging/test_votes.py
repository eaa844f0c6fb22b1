"""The votes of a judge: what is on disk, what is asked again, and what the benchmarks get of it."""

import json
import re
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError
from grm.expected_scores import TokenChoice
from grm.item_figures import Plan, measure
from grm.judged import NO_ANSWER
from grm.vote_estimates import are_balanced
from launch.cluster.failures import RunFailed
from launch.judging import votes
from launch.judging.protocol import Answer, Answered, JudgeGone, JudgeRequest, NotJudged
from launch.judging.vote_items import items
from tests.launch.judging.fake_judge import (
    PREFERENCES,
    SETTINGS,
    FakeJudge,
    collect,
    digest,
    preference,
    stored,
    vote_plan_of,
)

# ---- what is on disk ------------------------------------------------------------------------------------------------


def test_scores_are_mapped_back_to_the_own_order(tmp_path: Path) -> None:
    rows = collect(tmp_path, FakeJudge())
    assert [row["id"] for row in rows] == list("abcde")
    for row, n in zip(rows, (2, 3, 1, 4, 2), strict=True):
        count = 3 + min(n, 2)
        assert [list(sample["scores"]) for sample in row["samples"]] == [list(range(1, n + 1))] * count
        assert [sample["failure"] for sample in row["samples"]] == [""] * count
    assert len({tuple(sample["permutation"]) for sample in rows[3]["samples"]}) > 1


def test_votes_stand_in_the_order_in_which_they_were_asked_for(tmp_path: Path) -> None:
    """Though those of one order are asked for together."""
    for row in collect(tmp_path, FakeJudge(), k=16):
        assert [sample["kind"] for sample in row["samples"][-17:]] == ["greedy"] + ["vote"] * 16
        assert are_balanced([tuple(sample["permutation"]) for sample in votes.judgements(row, "vote")])


def test_waves_hold_so_many_preferences_each_and_are_written_in_turn(tmp_path: Path) -> None:
    judge, notes = FakeJudge(), list[str]()
    collect(tmp_path, judge, note=notes.append)
    per_preference = [len(vote_plan_of().requests(p.question)) for p in PREFERENCES]
    assert judge.sizes == [sum(per_preference[:2]), sum(per_preference[2:4]), per_preference[4]]
    head, *rows = stored(tmp_path)
    assert head == {"settings": SETTINGS}
    assert [row["id"] for row in rows] == list("abcde")
    assert notes == [f"judged {done} of 5 preferences, 3 votes each" for done in (2, 4, 5)]


def test_few_lines_are_noted_about_many_waves(tmp_path: Path) -> None:
    notes: list[str] = []
    collect(tmp_path, FakeJudge(), [preference(f"p{i}") for i in range(100)], note=notes.append)
    assert notes == [f"judged {done} of 100 preferences, 3 votes each" for done in (20, 40, 60, 80, 100)]


def test_special_tokens_in_foreign_text_are_escaped_before_it_is_asked(tmp_path: Path) -> None:
    judge = FakeJudge()
    collect(tmp_path, judge, [preference("a", query="x END y")])
    assert all("x E-N-D y" in request.message for request in judge.asked)


def test_what_cannot_be_parsed_is_kept_with_its_reason(tmp_path: Path) -> None:
    (row,) = collect(tmp_path, FakeJudge(broken="riddle"), [preference("a", query="a riddle")])
    assert {(sample["scores"], sample["failure"]) for sample in row["samples"]} == {(None, "no_box")}
    assert all("no scores" in sample["text"] for sample in row["samples"])
    again = FakeJudge()
    collect(tmp_path, again, [preference("a", query="a riddle")])
    assert again.asked == [], "it is an answer, and counts"


@pytest.mark.parametrize("waves", [0, 1, 2])
def test_an_interrupted_collection_goes_on_to_the_same_end(tmp_path: Path, waves: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "halves").mkdir()
    whole, first, second, third = FakeJudge(), FakeJudge(waves=waves), FakeJudge(), FakeJudge()
    rows = collect(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        collect(tmp_path / "halves", first)
    with (tmp_path / "halves" / "judgements.jsonl").open("a") as file:
        file.write('{"id": "cut o')
    notes: list[str] = []
    went_on = collect(tmp_path / "halves", second, note=notes.append)
    assert json.dumps(went_on) == json.dumps(rows)
    assert stored(tmp_path / "halves") == stored(tmp_path / "whole")
    assert [*first.asked, *second.asked] == whole.asked, "each request once"
    assert notes[0] == (
        f"{2 * waves} of 5 preferences are in judgements.jsonl already" if waves else "judged 2 of 5 preferences, 3 votes each"
    )
    assert json.dumps(collect(tmp_path / "halves", third, note=notes.append)) == json.dumps(rows)
    assert third.asked == []


def test_rows_come_in_the_order_of_the_preferences_whatever_stands(tmp_path: Path) -> None:
    collect(tmp_path, FakeJudge(), PREFERENCES[3:])
    judge = FakeJudge()
    assert [row["id"] for row in collect(tmp_path, judge)] == list("abcde")
    assert len(judge.asked) == sum(len(vote_plan_of().requests(p.question)) for p in PREFERENCES[:3])


def test_a_failed_item_is_kept_with_its_error_and_is_asked_again(tmp_path: Path) -> None:
    preferences = [preference("a"), preference("b", query="a riddle"), preference("c")]
    rows = collect(tmp_path, FakeJudge(failing="riddle"), preferences)
    assert [row.get("error", "") for row in rows] == ["", "the server said no; ask again", ""]
    assert "samples" not in rows[1]
    assert [row["id"] for row in stored(tmp_path)[1:]] == list("abc")
    judge = FakeJudge()
    rows = collect(tmp_path, judge, preferences)
    assert {request.message.count("riddle") for request in judge.asked} == {1}, "only the failed one is asked for"
    assert [len(row["samples"]) for row in rows] == [5, 5, 5]
    collect(tmp_path, judge, preferences)
    assert len(judge.asked) == len(vote_plan_of().requests(preferences[1].question)), "and is not asked again"


class OneFails(FakeJudge):
    """Answers all but the last request."""

    def judge(self, requests: Sequence[JudgeRequest]) -> Sequence[Answered]:
        first, *others = super().judge(requests)[::-1]
        assert isinstance(first, tuple)
        return [*others[::-1], (NotJudged("the last one"), *first[1:])]


def test_one_failed_vote_costs_that_vote_and_is_asked_again(tmp_path: Path) -> None:
    (row,) = collect(tmp_path, OneFails(), PREFERENCES[:1])
    lost = [sample["failure"] == NO_ANSWER for sample in row["samples"]]
    assert sum(lost) == 1
    assert [sample["error"] for sample in row["samples"] if "error" in sample] == ["the last one"]
    (item,) = items(PREFERENCES[:1], [row], {})
    assert [vote.scores is None for vote in item.votes] == lost[2:]
    figures = measure(item, Plan(ks=(3,), guided=False, expected=False, seed=0, draws=1, resamples=1))
    assert (figures["vote@3"], figures["vote_parse_rate"]) == (1.0, 1.0), "what nobody wrote did not fail to parse"
    judge = FakeJudge()
    (whole,) = collect(tmp_path, judge, PREFERENCES[:1])
    assert [request.samples for request in judge.asked] == [1]
    (tmp_path / "alone").mkdir()
    (alone,) = collect(tmp_path / "alone", FakeJudge(), PREFERENCES[:1])
    assert [json.dumps(sample["scores"]) for sample in whole["samples"]] == [
        json.dumps(sample["scores"]) for sample in alone["samples"]
    ]


def test_k_can_grow_and_asks_for_the_new_votes_alone(tmp_path: Path) -> None:
    (tmp_path / "grown").mkdir()
    (tmp_path / "alone").mkdir()
    first_judge, judge = FakeJudge(), FakeJudge()
    collect(tmp_path / "grown", first_judge, k=2)
    grown = collect(tmp_path / "grown", judge, k=6)
    alone = collect(tmp_path / "alone", FakeJudge(), k=6)
    assert sum(request.samples for request in judge.asked) == 4 * len(PREFERENCES)
    first = [[json.dumps(votes.judgements(row, "vote")[0]) for row in rows] for rows in (grown, alone)]
    assert first[0] == first[1]
    voted = [request for request in (*first_judge.asked, *judge.asked) if request.temperature > 0]
    seeds = {(request.message, request.seed + i) for request in voted for i in range(request.samples)}
    assert len(seeds) == 6 * len(PREFERENCES), "no vote is a copy of an older one"
    fewer = collect(tmp_path / "grown", judge, k=2)
    assert [len(item.votes) for item in items(PREFERENCES, fewer, {}, k=2)] == [2] * len(PREFERENCES)


def test_a_judge_that_is_gone_ends_the_work_and_what_it_answered_is_kept(tmp_path: Path) -> None:
    class Goes(FakeJudge):
        def judge(self, requests: Sequence[JudgeRequest]) -> Sequence[Answered]:
            answers = super().judge(requests)
            return answers if len(self.sizes) == 1 else [JudgeGone("the key was revoked")] * len(answers)

    judge = Goes()
    with pytest.raises(
        RunFailed, match="judged 2 of 5 preferences, which are kept; then the judge was gone: the key was revoked"
    ):
        collect(tmp_path, judge)
    assert len(judge.sizes) == 2, "no third wave"
    again = FakeJudge()
    collect(tmp_path, again)
    assert len(again.asked) == sum(len(vote_plan_of().requests(p.question)) for p in PREFERENCES[2:])


def test_what_got_no_answer_is_not_counted_as_judged(tmp_path: Path) -> None:
    notes: list[str] = []
    collect(tmp_path, FakeJudge(failing="riddle"), [preference("a"), preference("b", query="a riddle")], note=notes.append)
    assert notes == ["judged 1 of 2 preferences, 3 votes each; 1 got no answer"]


def test_a_changed_question_of_an_old_id_is_judged_anew(tmp_path: Path) -> None:
    """Ids may be numbers, and a file of the same name is another file elsewhere."""
    collect(tmp_path, FakeJudge())
    judge, changed = FakeJudge(), [preference("a", query="another"), *PREFERENCES[1:]]
    rows = collect(tmp_path, judge, changed)
    assert all("another" in request.message for request in judge.asked)
    assert str(digest(judge.asked[0].message)) in rows[0]["samples"][0]["text"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({**SETTINGS, "model": "n"}, "model"),
        ({**SETTINGS, "temperature": 1.0, "k": 4}, "temperature"),
        ({**SETTINGS, "seed": 1}, "seed"),
        ({"k": 3, "temperature": 0.5}, "model"),
    ],
)
def test_judgements_of_other_settings_are_not_mixed(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    collect(tmp_path, FakeJudge())
    judge, before = FakeJudge(), stored(tmp_path)
    with pytest.raises(ConfigError) as caught:
        collect(tmp_path, judge, settings=settings)
    path = tmp_path / "judgements.jsonl"
    assert str(caught.value) == f"{path} was begun with another {named}: use another folder, or remove the file"
    assert judge.asked == []
    assert stored(tmp_path) == before


def test_votes_are_asked_beside_the_greedy_judgements_that_are_there(tmp_path: Path) -> None:
    """An evaluation is a vote with k = 0: a later vote asks nothing twice, and leaves the rows of one that came alone."""
    (tmp_path / "both").mkdir()
    (tmp_path / "alone").mkdir()
    evaluating, voting, alone = FakeJudge(), FakeJudge(), FakeJudge()
    greedy = collect(tmp_path / "both", evaluating, k=0)
    assert [request.temperature for request in evaluating.asked] == [0.0] * (5 * 2 - 1), "a single response has one order"
    rows = collect(tmp_path / "both", voting)
    assert all(request.temperature > 0 for request in voting.asked)
    assert json.dumps([votes.judgements(row, "greedy") for row in rows]) == json.dumps([row["samples"] for row in greedy])
    assert json.dumps(rows) == json.dumps(collect(tmp_path / "alone", alone))
    evaluating = FakeJudge()
    assert len(collect(tmp_path / "both", evaluating, k=0)[0]["samples"]) == 2 + 3
    assert evaluating.asked == []


def test_settings_can_be_checked_before_a_judge_is_there(tmp_path: Path) -> None:
    path = tmp_path / "judgements.jsonl"
    votes.require_same_settings(path, SETTINGS)
    assert not path.exists()
    collect(tmp_path, FakeJudge())
    votes.require_same_settings(path, SETTINGS)
    with pytest.raises(ConfigError, match="was begun with another model"):
        votes.require_same_settings(path, {**SETTINGS, "model": "n"})


# ---- how answers are read -------------------------------------------------------------------------------------------


class Writes(FakeJudge):
    """Ends every answer with the same words, in shown order, and knows the alternatives of its tokens."""

    def __init__(self, words: str, *, finish: str = "stop", top: dict[str, dict[str, float]] | None = None) -> None:
        super().__init__()
        self.words, self.finish, self.top = words, finish, top or {}

    def _answer(self, request: JudgeRequest) -> tuple[Answer, ...]:
        choices = [
            TokenChoice(text=text, top=tuple((name, log(share)) for name, share in self.top.get(text, {text: 1.0}).items()))
            for text in re.findall(r"\d+|\D+", self.words)
        ]
        told = tuple(choices) if request.alternatives else ()
        finish: Any = self.finish
        return (Answer(text=self.words, tokens=5, finish=finish, choices=told),) * request.samples


def test_what_other_judges_write_is_read_and_told_apart(tmp_path: Path) -> None:
    (row,) = collect(tmp_path, Writes("**Final scores**: Response 1: 7.5, Response 2: 8"), PREFERENCES[:1])
    assert {(sample["failure"], sample["strict"]) for sample in row["samples"]} == {("", False)}
    assert {tuple(sample["scores"][own] for own in sample["permutation"]) for sample in row["samples"]} == {(7.5, 8)}
    (item,) = items(PREFERENCES[:1], [row], {})
    assert item.greedy is not None
    assert item.greedy.strict is False
    (cut,) = collect(tmp_path, Writes("Final scores: Response 1: 7, Response 2: 8", finish="length"), [preference("z")])
    assert {sample["scores"] for sample in cut["samples"]} == {None}, "nobody knows what would have followed"


def test_scores_out_of_range_are_clipped_where_that_is_asked(tmp_path: Path) -> None:
    judge = Writes("Scores: \\boxed{11, 8}")
    (row,) = collect(tmp_path, judge, [preference("a")])
    assert {sample["failure"] for sample in row["samples"]} == {"out_of_range"}
    (row,) = collect(tmp_path, judge, [preference("b")], clip_scores=True)
    assert {tuple(sorted(sample["scores"])) for sample in row["samples"]} == {(8, 10)}


def test_greedy_judgements_are_asked_for_the_alternatives_of_their_scores(tmp_path: Path) -> None:
    judge = Writes("Scores: \\boxed{7, 4}", top={"7": {"7": 0.5, "9": 0.5}})
    rows = collect(tmp_path, judge, PREFERENCES[:1], expected_scores=True)
    assert [(request.temperature > 0, request.alternatives) for request in judge.asked] == [
        (False, 20),
        (False, 20),
        (True, 0),
        (True, 0),
    ]
    (first, second), voted = votes.judgements(rows[0], "greedy"), votes.judgements(rows[0], "vote")
    assert [first["expected"][own] for own in first["permutation"]] == pytest.approx([8.0, 4.0]), "in the own order, on disk"
    assert second["permutation"] == first["permutation"][::-1]
    assert second["expected"] == first["expected"][::-1]
    assert not any("expected" in sample for sample in voted)
    (item,) = items(PREFERENCES[:1], collect(tmp_path, FakeJudge(), PREFERENCES[:1], expected_scores=True), {})
    assert item.greedy is not None
    assert item.greedy.expected == pytest.approx(tuple(first["expected"]))
    (none,) = collect(tmp_path, Writes("no idea"), [preference("z")], expected_scores=True)
    assert not any("expected" in sample for sample in none["samples"])
    decimals = collect(tmp_path, Writes("Scores: 7.5, 8"), [preference("y")], expected_scores=True)[0]["samples"][0]
    assert decimals["expected"] == decimals["scores"], "what is not written as asked stands for itself"


# ---- items -----------------------------------------------------------------------------------------------------------


def test_items_join_labels_judgements_and_meta_scores(tmp_path: Path) -> None:
    rows = collect(tmp_path, FakeJudge(broken="riddle"), [PREFERENCES[1], preference("r", query="a riddle"), PREFERENCES[0]])
    rows[2] = {"id": "a", "error": "the server said no"}
    judged = [PREFERENCES[1], preference("r", query="a riddle"), PREFERENCES[0]]
    first, second = items(judged, rows, {"b": [0.5, 1.0, 1.5, 2.5, 3.5]})
    assert (first.id, first.subset, first.label, first.lengths) == ("b", "s", 2, (8, 8, 8))
    assert first.greedy is not None
    assert (first.greedy.scores, first.greedy.tokens, first.greedy.meta) == ((1, 2, 3), 5, 0.5)
    assert [vote.meta for vote in first.votes] == [1.5, 2.5, 3.5]
    assert first.greedy.permutation == tuple(rows[0]["samples"][0]["permutation"])
    assert first.opposite is not None
    assert (first.opposite.permutation, first.opposite.meta) == (first.greedy.permutation[::-1], 1.0)
    assert second.greedy is not None
    assert (second.greedy.scores, second.greedy.failure, second.greedy.meta) == (None, "no_box", None)
    assert [vote.scores for vote in second.votes] == [None] * 3


def test_items_are_the_same_from_disk_as_from_memory(tmp_path: Path) -> None:
    fresh, read = collect(tmp_path, FakeJudge()), collect(tmp_path, FakeJudge())
    assert items(PREFERENCES, fresh, {}) == items(PREFERENCES, read, {})
