"""Each completion stands behind the prompt that it has read."""

from dataclasses import replace

import pytest

from buffer.messages import CodecError
from learner.batching import pack_rows
from learner.cold_start_batches import SampledGroup
from learner.experience import GroupLimits
from learner.prompt_groups import by_prompt
from tests.learner.run_by_hand import experience

TWO = SampledGroup(prompt_ids=((1, 2), (3,)), samples=(2, 1), completion_ids=((10,), (11, 12), (13,)), rewards=(1.0, -1.0, 1.0))
ONE = SampledGroup(prompt_ids=((4,),), samples=(1,), completion_ids=((14,),), rewards=(1.0,))


def test_each_prompt_comes_with_its_completions_in_the_order_of_the_batch() -> None:
    assert [*by_prompt([TWO, ONE])] == [((1, 2), ((10,), (11, 12))), ((3,), ((13,),)), ((4,), ((14,),))]


def test_rows_share_the_prompt_of_an_order_and_number_completions_through_the_batch() -> None:
    rows = pack_rows(by_prompt([TWO, ONE]), 100, share=True)
    assert [(row.prompt, row.completions, row.length) for row in rows] == [
        ((1, 2), (0, 1), 5),
        ((3,), (2,), 2),
        ((4,), (3,), 2),
    ]


def test_the_limit_on_a_sequence_is_that_of_each_prompt_with_its_own_completions() -> None:
    group = replace(
        experience(0, 0),
        prompt_ids=((1,) * 9, (1,)),
        samples=(1, 3),
        completion_ids=((2,), *((3,) * 5,) * 3),
        logprobs=((-1.0,), *((-1.0,) * 5,) * 3),
        versions=((0,), *((0,) * 5,) * 3),
    )
    limits = GroupLimits(max_bytes=10**6, vocabulary=250, tokens=10)
    limits.check(group)
    with pytest.raises(CodecError, match="a sequence of 10 tokens, the limit is 9"):
        replace(limits, tokens=9).check(group)
    with pytest.raises(CodecError, match="token id 9 is not in the vocabulary of 9"):
        replace(limits, vocabulary=9).check(replace(group, prompt_ids=((1,), (9,))))
