"""Groups of random token ids, as large as is asked for: for what measures, where the ids do not matter."""

import random
from collections.abc import Sequence

from buffer.messages import ExperienceGroup


def random_group(
    number: int, *, prompts: Sequence[int], samples: Sequence[int], completion: int, vocabulary: int, logprob: float
) -> ExperienceGroup:
    """Return a group, the same for the same number; half of its completions are right.

    Args:
        number: of the group.
        prompts: tokens of each prompt.
        samples: completions of each prompt; an even number of all together.
        completion: tokens of each completion.
        vocabulary: all ids are below it.
        logprob: of every token.
    """
    rng, count = random.Random(number), sum(samples)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(4, vocabulary) for _ in range(length))

    return ExperienceGroup(
        group=number,
        preference=f"p{number}",
        issued_at=0,
        responses=2,
        prompt_ids=tuple(map(ids, prompts)),
        samples=tuple(samples),
        completion_ids=tuple(ids(completion) for _ in range(count)),
        logprobs=((logprob,) * completion,) * count,
        versions=((0,) * completion,) * count,
        rewards=(1.0, -1.0) * (count // 2),
        failures=("",) * count,
        truncated=(False,) * count,
        picks=(None,) * count,
        places=(None,) * count,
    )
