"""Preferences: a query, n responses and a label, and the functions that every reader of them needs.

`grm.sources` loads them. A malformed row raises a `DataError` that names place, field and remedy. A well-formed row without a
usable label (two best ratings, a single response with a 1..5 rating) is skipped and counted by reason.
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
    """Preference data cannot be used; names place, field, problem and remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The part of a preference that may be shown to the policy. It has no label, so none can leak (I6)."""

    id: str
    """Id of the preference."""
    query: str
    """The query, or a whole conversation."""
    responses: tuple[str, ...]
    """n >= 1 responses, in the preference's own order."""

    def __post_init__(self) -> None:
        if not self.responses:
            raise DataError(f"question {self.id!r}: no responses; give at least one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A question and its label."""

    question: Question
    """Query and responses."""
    label: int
    """n >= 2: index of the single best response; n = 1: 1 right, 0 wrong."""
    subset: str = ""
    """Name of the part of its data set, by which results are reported."""

    def __post_init__(self) -> None:
        labels = max(2, len(self.question.responses))
        if not 0 <= self.label < labels:
            raise DataError(f"preference {self.question.id!r}: label {self.label} is not in 0..{labels - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A well-formed row without a usable label."""

    reason: str
    """Why it has none, by which skipped rows are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The preferences of a source."""

    preferences: tuple[Preference, ...]
    """The preferences, in order."""
    skipped: Mapping[str, int]
    """Number of skipped rows by reason."""


def collect(placed: Iterable[tuple[str, Preference | Skipped]]) -> Loaded:
    """Collect (place, preference or skip) pairs.

    Raises:
        DataError: An id is used twice, though labels are looked up by id.
    """
    places: dict[str, str] = {}
    kept: list[Preference] = []
    skipped: Counter[str] = Counter()
    for where, item in placed:
        if isinstance(item, Skipped):
            skipped[item.reason] += 1
            continue
        if item.question.id in places:
            raise DataError(
                f"{where}: field 'id': {item.question.id!r} was used at {places[item.question.id]}; "
                "make ids unique, or leave the field out and line numbers serve as ids"
            )
        places[item.question.id] = where
        kept.append(item)
    return Loaded(preferences=tuple(kept), skipped=dict(skipped))


def clean(text: str) -> str:
    """Return `text` with lone surrogates replaced by U+FFFD, so that it can be written as UTF-8."""
    return _SURROGATES.sub("\ufffd", text)


def conversation(messages: Iterable[tuple[str, str]]) -> str:
    """Return a conversation of (role, content) as one query: a lone message is its content, more are named turns."""
    turns = list(messages)
    if len(turns) == 1:
        return turns[0][1]
    return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in turns)
