"""What the meta-RM reads of a group: the parsed completions beside the prompts that they answer, each read at one end."""

from dataclasses import replace

import pytest

from learner.parsed import count_parsed, parsed_completions
from learner.prompt_groups import by_prompt
from tests.learner.run_by_hand import experience

END, OTHER = 7, 1


@pytest.mark.parametrize(
    ("failures", "kept"),
    [
        (("", "", "", ""), [0, 1, 2, 3]),
        (("", "cut_short", "", "no_box"), [0, 2]),
        (("no_box", "", "no_box", ""), [1, 3]),  # the first order of the responses has none
        (("", "no_box", "cut_short", "no_box"), [0]),  # the second has none
        (("no_box",) * 4, []),
    ],
)
def test_a_parsed_completion_stays_behind_its_own_prompt_and_no_other_is_left(
    failures: tuple[str, ...], kept: list[int]
) -> None:
    group = experience(3, 0, failures=failures)
    rows = [(prompt, ids) for prompt, completions in by_prompt([group]) for ids in completions]
    parsed = parsed_completions([group], {})
    assert [(prompt, ids) for prompt, completions in by_prompt(parsed) for ids in completions] == [rows[i] for i in kept]
    assert [reward for part in parsed for reward in part.rewards] == [group.rewards[i] for i in kept]
    assert all(completions for _, completions in by_prompt(parsed)), "a prompt without a completion would be an empty row"
    assert (count_parsed(group), len(parsed)) == (len(kept), bool(kept))


def test_completions_that_end_in_another_token_are_read_at_the_end_of_a_turn() -> None:
    """At the vote a judgement is text, and its end is the chat template's."""
    completions = ((OTHER, 5, OTHER), (5, END), (5, 6), (OTHER,))
    group = replace(
        experience(0, 0, rewards=(1.0, -1.0, 1.0, -1.0)),
        completion_ids=completions,
        logprobs=tuple((-1.0,) * len(ids) for ids in completions),
        versions=tuple((0,) * len(ids) for ids in completions),
        failures=("", "", "", "no_box"),
    )
    (read,) = parsed_completions([group], {OTHER: END})
    assert read.completion_ids == ((OTHER, 5, END), (5, END), (5, 6))
    assert read.rewards == (1.0, -1.0, 1.0)
    assert count_parsed(group) == 3
    assert parsed_completions([replace(group, failures=("cut_short",) * 4)], {}) == []
