"""A reward server as the reward of TRL's GRPO, RLOO and AsyncGRPO: `reward_funcs=[judge_reward("http://host:8000")]`.

The completions of one prompt are judged beside each other. One that was not judged is None, which TRL leaves out; TRL has no
time-out, and an exception would end its run.
"""

from spct.reward_client import RewardClient
from spct.rewards import RewardFunction, reward_function
from spct.served import ServedJudge


def judge_reward(
    url: str = "",
    *,
    key: str = "",
    votes: int | None = None,
    meta: bool | None = None,
    together: int = 0,
    wait_s: float = 600.0,
) -> RewardFunction:
    """Returns a reward function: mean scores 1..10, None where nothing was judged, with a RuntimeWarning where that is all.

    Args:
        url: As of `spct.reward_client.RewardClient`.
        key: Likewise.
        votes: Judgements of each prompt's completions; None: as the server was started.
        meta: Whether the meta-RM chooses which of them vote; None: where the server has one.
        together: Completions of one prompt that are judged in one prompt at most; 0: all of them.
        wait_s: How long a call may take before its rewards are None, in seconds.
    """
    judge = ServedJudge(client=RewardClient(url=url, key=key, wait_s=wait_s))
    return reward_function(judge.score_many, votes=votes, meta=meta, together=together)
