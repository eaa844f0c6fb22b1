"""A reward server as AReaL's reward: `RLVRWorkflow(reward_fn=spct.areal.judge_reward, ...)`, the server in SPCT_REWARD_URL.

AReaL calls it in a pool of few processes and waits 15 s, four times; a time-out gives a reward of 0 then, an exception ends the
rollout. So the server is asked to answer within 10 s from the votes that it has, and after 12 s an exception is raised. Nothing
of AReaL knows a group, so each completion is judged by itself.
"""

import asyncio
from functools import cache
from typing import Any

from grm.templated import turns_of, without_end
from spct.reward_client import RewardClient
from spct.served import ServedJudge

DEADLINE_S, WAIT_S = 10.0, 12.0


def judge_reward(prompt: str, completions: str, prompt_ids: Any = None, completion_ids: Any = None, **row: Any) -> float:
    """Returns the mean score 1..10 of a completion.

    Args:
        prompt: The templated prompt; read where the row has no `messages`.
        completions: The completion, with the special tokens behind its end.
        prompt_ids: Not read.
        completion_ids: Not read.
        row: The data row.

    Raises:
        NoVerdict: It was not judged within 12 s.
    """
    query = row.get("messages") or _query(prompt)
    return asyncio.run(_judge().member(query, without_end(completions), size=1)).score


def _query(prompt: str) -> Any:
    turns = turns_of(prompt)
    return [{"role": role, "content": content} for role, content in turns] if turns else prompt


@cache
def _judge() -> ServedJudge:
    return ServedJudge(client=RewardClient(wait_s=WAIT_S), deadline_s=DEADLINE_S)
