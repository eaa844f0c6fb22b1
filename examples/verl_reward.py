"""A judge as verl's reward: the score 1..10 of each solution.

    custom_reward_function.path=examples/verl_reward.py custom_reward_function.name=compute_score

The judge is opened once in each process of verl that computes rewards: name a server, or a small judge, in SPCT_JUDGE (and the
served model in SPCT_JUDGE_MODEL). The query is `extra_info["question"]` of the data set.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import spct


@cache
def judge() -> spct.Judge:
    """Returns the judge of this process."""
    return spct.Judge(os.environ["SPCT_JUDGE"], model=os.environ.get("SPCT_JUDGE_MODEL", ""))


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **more: Any
) -> float:
    """Returns the score of a solution; arguments and errors as of `spct.Judge.compute_score`."""
    return judge().compute_score(data_source, solution_str, ground_truth, extra_info, **more)
