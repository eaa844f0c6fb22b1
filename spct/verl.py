"""A reward server as verl's reward: a function, or a reward manager. Nothing of verl is imported.

    reward.custom_reward_function: {path: pkg://spct.verl, name: compute_score, reward_kwargs: {url: …, group_size: 8}}
    reward.reward_manager: {source: importlib, name: JudgeRewardManager, module: {path: pkg://spct.verl}}

verl scores one sample at a time. The function gets no prompt, so the data set must bring it (`with_prompt`); the manager sees
the prompt, the group's uid and its size by itself. Use verl's manager `naive` or ours: `rate_limited` makes 0.0 of a failure.

Each result has the same keys (verl looks those of the first one up in all), and a failure is no result: `NoVerdict` is raised.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from spct.judge import question
from spct.reward_client import RewardClient
from spct.rewards import query_of
from spct.served import ServedJudge

GROUP = "spct_group"  # in extra_info
WAIT_S = 600.0


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    url: str = "",
    key: str = "",
    group_size: int | None = None,
    votes: int | None = None,
    wait_s: float = WAIT_S,
    **_: Any,
) -> dict[str, float]:
    """Returns `score`, the mean 1..10, beside what stands behind it (`spct.served.Seen`).

    Args:
        data_source: Not read.
        solution_str: The response.
        ground_truth: Not read.
        extra_info: The data row's: its query as `question` or `prompt`, and the key of its group (`with_prompt`).
        url: As of `spct.reward_client.RewardClient`; like all below in `reward_kwargs`.
        key: Likewise.
        group_size: Samples of a prompt that are judged beside each other (`rollout.n`); None: as the server was started.
        votes: Judgements of a group; None: as the server was started.
        wait_s: How long a sample may take, in seconds.

    Raises:
        NoVerdict: It was not judged.
        KeyError: `extra_info` has no query.
    """
    info = extra_info or {}
    judge = _judge(url, key, wait_s)
    seen = await judge.member(query_of(info), solution_str, group=str(info.get(GROUP, "")), size=group_size, votes=votes)
    return asdict(seen)


def with_prompt(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a data row whose extra_info holds its prompt and the key of its group: `dataset.map(with_prompt)`.

    Args:
        row: A row of verl's data, with `prompt`: a text, or messages.
    """
    prompt = row["prompt"]
    if not isinstance(prompt, str):
        prompt = [{"role": str(each["role"]), "content": str(each["content"])} for each in prompt]
    query = question(prompt, [""]).query
    index = (row.get("extra_info") or {}).get("index", "")
    key = hashlib.sha256(json.dumps([str(index), query]).encode()).hexdigest()[:16]
    return {**row, "extra_info": {**(row.get("extra_info") or {}), "prompt": prompt, GROUP: key}}


class JudgeRewardManager:
    """verl's reward manager over a reward server: a group is what has one uid, and its size is `rollout.n`."""

    def __init__(self, config: Any, tokenizer: Any, *_: Any, **__: Any) -> None:
        """Takes verl's config, whose `reward.reward_kwargs` may hold url, key, votes and wait_s, and the policy's tokenizer."""
        options = dict(config["reward"].get("reward_kwargs") or {})
        rollout = config["actor_rollout_ref"]["rollout"]
        self._sizes = {False: int(rollout["n"]), True: int(rollout["val_kwargs"]["n"])}
        self._tokenizer, self._votes = tokenizer, options.get("votes")
        self._judge = _judge(options.get("url", ""), options.get("key", ""), float(options.get("wait_s", WAIT_S)))

    async def run_single(self, data: Any) -> dict[str, Any]:
        """Returns verl's `reward_score` and `reward_extra_info` of one sample. NoVerdict where it was not judged."""
        item = data[-1:][0]  # of several sequences of one sample, the last one
        responses, row = item.batch["responses"], item.non_tensor_batch
        length = int(item.batch["attention_mask"][-responses.shape[-1] :].sum())
        text = self._tokenizer.decode(responses[:length], skip_special_tokens=True)
        size = self._sizes[bool((getattr(data, "meta_info", None) or {}).get("validate"))]
        seen = await self._judge.member(list(row["raw_prompt"]), text, group=str(row["uid"]), size=size, votes=self._votes)
        return {"reward_score": seen.score, "reward_extra_info": asdict(seen)}


@cache
def _judge(url: str, key: str, wait_s: float) -> ServedJudge:
    return ServedJudge(client=RewardClient(url=url, key=key, wait_s=wait_s))
