"""What the meta-RM reads of a group: its parsed judgements, since no other votes (pure, standard library).

    scored group ─▶ (prompts, their parsed completions, their rewards)      nothing where no completion was parsed

At the vote the meta-RM is asked about parsed judgements only. Those that cannot be parsed, or were cut short, are all wrong by
the rule and are told by their form: trained on, they would teach it the form, and its AUC would be that of a parser.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buffer.messages import ExperienceGroup, view_numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedCompletions:
    """The parsed completions of one preference, at least one."""

    preference: str
    """Id of the preference."""
    prompt_ids: tuple[tuple[int, ...], ...]
    """Token ids, without a hint, of each prompt that was answered by one of them."""
    samples: tuple[int, ...]
    """Completions of each of these prompts."""
    completion_ids: tuple[tuple[int, ...], ...]
    """Token ids of each completion, those of a prompt together."""
    rewards: tuple[float, ...]
    """Reward of each completion."""


def parsed_completions(groups: Sequence[ExperienceGroup], other_ends: Mapping[int, int]) -> list[ParsedCompletions]:
    """Return the parsed part of each group that has any.

    Args:
        groups: Of the stream.
        other_ends: {a token at which the engine stops: the one that ends a turn in the chat template}. A judgement's score is
            read at its last token, and that must be the same one here and at the vote, where a judgement is text.
    """
    return [_of_group(group, other_ends) for group in groups if count_parsed(group)]


def count_parsed(group: ExperienceGroup) -> int:
    """Return how many completions of a group were parsed."""
    return group.failures.count("")


def parsed(
    preference: str, prompt_ids: Sequence[Sequence[int]], completions: Sequence[tuple[int, Sequence[int], float]]
) -> ParsedCompletions:
    """Return parsed completions beside the prompts that they answer; a prompt without one is left out.

    Args:
        preference: id of the preference.
        prompt_ids: token ids of each prompt.
        completions: index of the prompt, token ids and reward of each, those of a prompt together.
    """
    counts = Counter(view for view, _, _ in completions)
    return ParsedCompletions(
        preference=preference,
        prompt_ids=tuple(tuple(prompt_ids[view]) for view in counts),
        samples=tuple(counts.values()),
        completion_ids=tuple(tuple(ids) for _, ids, _ in completions),
        rewards=tuple(reward for _, _, reward in completions),
    )


def _of_group(group: ExperienceGroup, other_ends: Mapping[int, int]) -> ParsedCompletions:
    ended = [(*ids[:-1], other_ends.get(ids[-1], ids[-1])) for ids in group.completion_ids]
    each = zip(view_numbers(group.samples), ended, group.rewards, group.failures, strict=True)
    return parsed(
        group.preference, group.prompt_ids, [(view, ids, reward) for view, ids, reward, failure in each if not failure]
    )
