"""What the meta-RM reads of a group: parsed completions, each read at one and the same end."""

from dataclasses import replace

from learner.parsed import count_parsed, parsed_completions
from tests.learner.run_by_hand import experience

END, OTHER = 7, 1


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
