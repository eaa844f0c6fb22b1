"""What the meta-RM reads of a group: its parsed judgements, since no other votes (pure, standard library).

    scored group ─▶ (prompt, its parsed completions, their rewards)      nothing where no completion was parsed

At the vote the meta-RM is asked about parsed judgements only. Those that cannot be parsed, or were cut short, are all wrong by
the rule and are told by their form: trained on, they would teach it the form, and its AUC would be that of a parser.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buffer.messages import ExperienceGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedCompletions:
    """The parsed completions of one prompt, at least one."""

    preference: str
    """Id of the preference."""
    prompt_ids: tuple[int, ...]
    """Token ids of the prompt, without a hint."""
    completion_ids: tuple[tuple[int, ...], ...]
    """Token ids of each completion."""
    rewards: tuple[float, ...]
    """Reward of each completion."""


def parsed_completions(groups: Sequence[ExperienceGroup], other_ends: Mapping[int, int]) -> list[ParsedCompletions]:
    """Return the parsed part of each group that has any.

    Args:
        groups: Of the stream.
        other_ends: {a token at which the engine stops: the one that ends a turn in the chat template}. A judgement's score is
            read at its last token, and that must be the same one here and at the vote, where a judgement is text.
    """
    return [_parsed(group, other_ends) for group in groups if count_parsed(group)]


def count_parsed(group: ExperienceGroup) -> int:
    """Return how many completions of a group were parsed."""
    return group.failures.count("")


def _parsed(group: ExperienceGroup, other_ends: Mapping[int, int]) -> ParsedCompletions:
    kept = [i for i, failure in enumerate(group.failures) if not failure]
    return ParsedCompletions(
        preference=group.preference,
        prompt_ids=group.prompt_ids,
        completion_ids=tuple((*ids[:-1], other_ends.get(ids[-1], ids[-1])) for ids in (group.completion_ids[i] for i in kept)),
        rewards=tuple(group.rewards[i] for i in kept),
    )
