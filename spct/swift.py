"""A reward server as a reward of ms-swift's GRPO. In the file that `--external_plugins` names:

    from spct.swift import JudgeReward
    from swift.rewards import orms
    orms["spct_judge"] = JudgeReward            # then --reward_funcs spct_judge; the server in SPCT_REWARD_URL

ms-swift wants a number for each completion and ends its run on an exception, which is right where nothing was judged: it would
count a NaN in a sum as 0.
"""

from collections.abc import Sequence
from typing import Any

from spct.reward_client import NoVerdict
from spct.trl import judge_reward


class JudgeReward:
    """Mean scores 1..10 of completions; those of one conversation are judged beside each other."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        """Takes ms-swift's arguments, which are not read."""
        self._reward = judge_reward()

    def __call__(
        self, completions: Sequence[Any], *, messages: Sequence[Sequence[Any]] | None = None, **columns: Any
    ) -> list[float]:
        """Returns a score for each completion.

        Args:
            completions: The completions.
            messages: The conversations, with or without the completion at their end.
            columns: Other columns of the data set: not read.

        Raises:
            NoVerdict: One of them was not judged.
            ValueError: There are no messages.
        """
        if messages is None:
            raise ValueError(f"no column `messages`, which holds the prompts; the columns are {', '.join(sorted(columns))}")
        prompts = [_before_answer(each) for each in messages]
        rewards = self._reward(prompts=prompts, completions=completions)
        if None in rewards:
            raise NoVerdict(f"{rewards.count(None)} of {len(rewards)} completions were not judged: see the server's log")
        return [each for each in rewards if each is not None]


def _before_answer(messages: Sequence[Any]) -> list[Any]:
    return list(messages[:-1] if messages[-1]["role"] == "assistant" else messages)
