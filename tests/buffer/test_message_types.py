"""What holds within a message from the start."""

import dataclasses

import pytest

from buffer.messages import CodecError, first_completions, view_numbers
from tests.buffer.small_messages import COMPLETION, EXPERIENCE, OTHER, PROMPT, ROLLOUTS, VIEW, sampled


def test_completions_stand_in_the_order_of_their_views() -> None:
    assert (view_numbers([2, 1, 3]), first_completions([2, 1, 3])) == ([0, 0, 1, 2, 2, 2], [0, 2, 3])
    assert (view_numbers([4]), first_completions([4])) == ([0, 0, 0, 0], [0])


def test_informative_groups_have_rewards_that_differ() -> None:
    assert EXPERIENCE.informative
    assert not dataclasses.replace(EXPERIENCE, rewards=(1.0, 1.0)).informative


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: dataclasses.replace(VIEW, permutation=(0, 2)), "permutation"),
        (lambda: dataclasses.replace(VIEW, permutation=()), "permutation"),
        (lambda: dataclasses.replace(VIEW, token_ids=()), "token_ids"),
        (lambda: dataclasses.replace(VIEW, samples=0), "samples"),
        (lambda: dataclasses.replace(PROMPT, views=()), "1..4096 views, not 0"),
        (lambda: dataclasses.replace(PROMPT, views=(VIEW, VIEW)), "another order in each"),
        (lambda: dataclasses.replace(PROMPT, views=(VIEW, dataclasses.replace(VIEW, permutation=(0,)))), "the same responses"),
        (lambda: sampled(4097), "samples"),
        (
            lambda: dataclasses.replace(PROMPT, views=(dataclasses.replace(VIEW, samples=4096), OTHER)),
            "4096 completions in all",
        ),
        (lambda: dataclasses.replace(COMPLETION, logprobs=(0.0,)), "logprobs"),
        (lambda: dataclasses.replace(COMPLETION, versions=()), "versions"),
        (lambda: dataclasses.replace(ROLLOUTS, completions=(COMPLETION,)), "completions"),
        (lambda: dataclasses.replace(EXPERIENCE, rewards=(1.0,)), "rewards"),
        (lambda: dataclasses.replace(EXPERIENCE, versions=((3, 3, 4), (4, 4))), r"versions\[1\]"),
    ],
)
def test_a_message_is_consistent_from_the_start(make: object, named: str) -> None:
    with pytest.raises(CodecError, match=named):
        make()  # type: ignore[operator]
