"""The shapes of other trainers, with scores that the test chooses."""

import pytest

from grm.preferences import Question
from grm.scored import Scored, not_judged
from spct.rewards import parts, query_of, reward_function, same_prompt, text_of


def scored(*scores: float) -> Scored:
    return Scored(scores=scores, totals=scores, shares=None, judgements=())


def test_parts_are_of_about_the_same_size() -> None:
    assert parts([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3], [4]]
    assert parts([4, 7, 9], 0) == [[4, 7, 9]]
    assert parts([0, 1, 2, 3], 3) == [[0, 1], [2, 3]]


def test_completions_of_one_prompt_are_judged_together_and_rewards_keep_their_places() -> None:
    asked: list[Question] = []

    def score_many(questions: list[Question], *, votes: int, meta: bool) -> list[Scored]:
        assert (votes, meta) == (2, True)
        asked.extend(questions)
        return [not_judged("?") if each.query == "q two" else scored(*map(len, each.responses)) for each in questions]

    reward = reward_function(score_many, votes=2, meta=True, together=2)
    assert reward.__name__ == "spct_judge", "TRL logs a reward function by its name"
    prompts = ["q one", "q two", "q one", "q one"]
    assert reward(prompts=prompts, completions=["a", "bb", "ccc", "dddd"], completion_ids=[[1]] * 4) == [1, None, 3, 4]
    assert [(each.query, each.responses) for each in asked] == [
        ("q one", ("a", "ccc")),
        ("q one", ("dddd",)),
        ("q two", ("bb",)),
    ]


def test_messages_are_read_as_conversations() -> None:
    asked: list[Question] = []
    reward = reward_function(lambda questions, **_: asked.extend(questions) or [scored(7)], votes=1, meta=False, together=0)
    prompt = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "q"}]
    assert reward([prompt], [[{"role": "assistant", "content": "a"}]]) == [7]
    assert (asked[0].query, asked[0].responses) == ("System: be brief\n\nUser: q", ("a",))


def test_what_is_no_text_is_refused() -> None:
    assert same_prompt(["a", "b", "a"]) == [[0, 2], [1]]
    with pytest.raises(ValueError, match="a completion holds list; a judge reads text"):
        text_of([{"role": "assistant", "content": [{"type": "image"}]}])
    assert query_of({"prompt": "p"}) == "p"
    with pytest.raises(KeyError, match="add the query to the data set's extra_info"):
        query_of({"answer": 1})
