"""A judge as the reward of another trainer.

TRL    prompts, completions ─▶ completions of one prompt, a few at a time ─▶ questions ─▶ mean scores, None where unjudged
verl   one solution; the query is in `extra_info`
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

from grm.preferences import Question
from grm.scored import Scored

RewardFunction = Callable[..., list[float | None]]
QUERIES = ("question", "prompt")  # where verl's data sets keep the query


def reward_function(
    score_many: Callable[..., list[Scored]], *, votes: int | None, meta: bool | None, together: int
) -> RewardFunction:
    """Returns a function for TRL's `reward_funcs`. Arguments as of `Judge.reward_fn`; `together` 0: all of a prompt."""

    def spct_judge(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float | None]:
        """Returns the mean score, 1..10, of each completion; None where nothing was judged, and a RuntimeWarning where that
        is all of them."""
        from spct.judge import question

        questions: list[Question] = []
        places = [part for group in same_prompt(prompts) for part in parts(group, together)]
        for part in places:
            questions.append(question(prompts[part[0]], [text_of(completions[place]) for place in part]))
        rewards: list[float | None] = [None] * len(completions)
        judged = score_many(questions, votes=votes, meta=meta)
        if judged and all(scored.scores is None for scored in judged):  # a trainer takes a step on nothing without a word
            warnings.warn(
                f"spct: none of {len(completions)} completions was judged, their rewards are None; the first error:"
                f" {judged[0].error}",
                RuntimeWarning,
                stacklevel=2,
            )
        for part, scored in zip(places, judged, strict=True):
            if scored.scores is not None:
                for place, score in zip(part, scored.scores, strict=True):
                    rewards[place] = score
        return rewards

    return spct_judge


def same_prompt(prompts: Sequence[Any]) -> list[list[int]]:
    """Returns the places of each prompt, in the order in which the prompts first stand."""
    groups: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault(json.dumps(prompt), []).append(place)
    return list(groups.values())


def parts(places: Sequence[int], most: int) -> list[list[int]]:
    """Returns places in parts of about the same size, of at most `most`; 0: in one. Five by two: [0, 1], [2, 3], [4]."""
    count = ceil(len(places) / most) if most else 1
    size, larger = divmod(len(places), count)
    sizes = [size + (number < larger) for number in range(count)]
    return [list(places[sum(sizes[:number]) : sum(sizes[: number + 1])]) for number in range(count)]


def text_of(completion: Any) -> str:
    """Returns a completion of TRL as text: one is text, or the messages of a turn, of which the last counts.

    Raises:
        ValueError: It is neither, as a picture.
    """
    text = completion if isinstance(completion, str) else completion[-1]["content"]
    if not isinstance(text, str):
        raise ValueError(f"a completion holds {type(text).__name__}; a judge reads text")
    return text


def query_of(extra_info: Mapping[str, Any]) -> Any:
    """Returns the query in verl's `extra_info`. KeyError where there is none."""
    for name in QUERIES:
        if name in extra_info:
            return extra_info[name]
    raise KeyError(f"extra_info has none of {', '.join(QUERIES)}: add the query to the data set's extra_info")
