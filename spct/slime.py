"""A reward server that sees slime's groups: `--group-rm --custom-rm-path spct.slime.group_rewards --rm-url http://HOST:PORT`.

Without it, `--rm-type remote_rm --rm-url http://HOST:PORT/slime` asks for one sample at a time (docs/serving.md).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from spct.judge import question
from spct.reward_client import NoVerdict, RewardClient, in_thread
from spct.served import ServedJudge


async def group_rewards(args: Any, samples: Sequence[Any], **_: Any) -> list[float]:
    """Returns the mean score 1..10 of each sample; all of them answer one prompt.

    Args:
        args: slime's; `rm_url` names the server, else SPCT_REWARD_URL.
        samples: Each with `prompt`, a text or messages, and `response`.

    Raises:
        NoVerdict: They were not judged; slime ends the rollout.
    """
    judge = ServedJudge(client=RewardClient(url=getattr(args, "rm_url", None) or ""))
    asked = question(samples[0].prompt, [each.response for each in samples])
    (scored,) = await asyncio.wrap_future(in_thread(lambda: judge.score_many([asked])))
    if scored.scores is None:
        raise NoVerdict(scored.error)
    return list(scored.scores)
