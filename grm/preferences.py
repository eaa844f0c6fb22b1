"""Preferences: a query, n responses and a label; and what every reader of them needs.

Where they come from is `grm.sources`. A malformed row is a `DataError` that names place, field and remedy. A well-formed
row without a usable label (two best ratings, a single response with a 1..5 rating) is skipped and counted by reason.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

TWO_BEST = "two best labels"
NOT_VERIFIABLE = "single response without a 0/1 score"
EMPTY_RESPONSE = "empty response"

_SURROGATES = re.compile("[\ud800-\udfff]")


class DataError(ValueError):
    """Preference data that cannot be used: says where, which field, what was wrong and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What may be shown to the policy. It has no label, so none can leak (I6)."""

    id: str
    query: str
    responses: tuple[str, ...]  # n >= 1, in the preference's own order

    def __post_init__(self) -> None:
        if not self.responses:
            raise DataError(f"question {self.id!r}: no responses; give at least one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A question and its label. n >= 2: index of the single best response; n = 1: 1 right, 0 wrong."""

    question: Question
    label: int
    subset: str = ""

    def __post_init__(self) -> None:
        labels = max(2, len(self.question.responses))
        if not 0 <= self.label < labels:
            raise DataError(f"preference {self.question.id!r}: label {self.label} is not in 0..{labels - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A well-formed row without a usable label."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a source gave: its preferences in order, and the rows that were skipped, counted by reason."""

    preferences: tuple[Preference, ...]
    skipped: Mapping[str, int]


def gather(found: Iterable[tuple[str, Preference | Skipped]], *, limit: int | None = None) -> Loaded:
    """Collect (where, preference or skip) pairs up to `limit` preferences.

    An id used twice is an error, as rewards are joined by id.
    """
    seen: dict[str, str] = {}
    kept: list[Preference] = []
    skipped: Counter[str] = Counter()
    for where, item in found:
        if limit is not None and len(kept) >= limit:
            break
        if isinstance(item, Skipped):
            skipped[item.reason] += 1
            continue
        if item.question.id in seen:
            raise DataError(
                f"{where}: field 'id': {item.question.id!r} was used at {seen[item.question.id]}; "
                "make ids unique, or leave the field out and line numbers serve as ids"
            )
        seen[item.question.id] = where
        kept.append(item)
    return Loaded(preferences=tuple(kept), skipped=dict(skipped))


def clean(text: str) -> str:
    """`text` with lone surrogates replaced by U+FFFD, so that it can be written as UTF-8."""
    return _SURROGATES.sub("\ufffd", text)


def conversation(messages: Iterable[tuple[str, str]]) -> str:
    """A conversation of (role, content) as one query: a lone message is its content, more are named turns."""
    turns = list(messages)
    if len(turns) == 1:
        return turns[0][1]
    return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in turns)
