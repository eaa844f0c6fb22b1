"""A small message of each type, for the tests of what holds within one and of how it travels."""

import dataclasses

from buffer.messages import Completion, ExperienceGroup, Prompt, RolloutGroup, View

VIEW = View(permutation=(1, 0), token_ids=(7, 8), samples=1)
OTHER = View(permutation=(0, 1), token_ids=(8, 7), samples=1)
PROMPT = Prompt(group=5, preference="p/1", views=(VIEW, OTHER), issued_at=3)
COMPLETION = Completion(token_ids=(1, 2, 3), logprobs=(-0.5, -1.0, 0.0), versions=(3, 3, 4), text="x", finish="stop")
ROLLOUTS = RolloutGroup(prompt=PROMPT, completions=(COMPLETION, COMPLETION))
EXPERIENCE = ExperienceGroup(
    group=5,
    preference="p/1",
    issued_at=3,
    responses=2,
    prompt_ids=((7, 8), (8, 7)),
    samples=(1, 1),
    completion_ids=((1, 2, 3), (4,)),
    logprobs=((-0.5, -1.0, 0.0), (-2.0,)),
    versions=((3, 3, 4), (4,)),
    rewards=(1.0, -1.0),
    failures=("", "no box"),
    truncated=(False, True),
    picks=(1, None),
    places=(0, None),
)


def sampled(samples: int) -> Prompt:
    """A prompt of one view."""
    return dataclasses.replace(PROMPT, views=(dataclasses.replace(VIEW, samples=samples),))
