"""Preferences: a query, n responses and a label, and the functions that every reader of them needs.

`grm.sources` loads them. A malformed row raises a `DataError` that names place, field and remedy. A well-formed row without a
usable label (two best ratings, a single response with a 1..5 rating) is skipped and counted by reason, the first ones by place.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from grm.escaping import escape_turn

TWO_BEST = "two best labels"
NOT_VERIFIABLE = "single response without a 0/1 score"
HALF_RIGHT = "single response with a score between 0 and 1"
EMPTY_RESPONSE = "empty response"
CONTEXTS_DIFFER = "chosen and rejected answer different conversations"

MOST_NAMED = 5  # skipped rows of a reason that are named
LONGEST_ROLE = 32  # characters
_TURN = re.compile(r"(?:\A|\n\n)(User|Assistant|System|Developer|Tool|Function|Human): ")
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
    reference: str = ""
    """A right answer that the judge is shown; "": none. It is no label, but where it is one of the responses it names it."""
    criteria: tuple[str, ...] = ()
    """What to judge by, one or more texts that the judge is shown; (): the judge chooses."""

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
    line: str = field(default="", compare=False)
    """File and line, as `train:7`, by which a teacher's file may name it, too; "": it has an id of its own."""

    def __post_init__(self) -> None:
        labels = max(2, len(self.question.responses))
        if not 0 <= self.label < labels:
            raise DataError(f"preference {self.question.id!r}: label {self.label} is not in 0..{labels - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A well-formed row without a usable label."""

    reason: str
    """Why it has none, by which skipped rows are counted."""
    detail: str = field(default="", compare=False)
    """Which row it is, and what is the matter with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The preferences of a source."""

    preferences: tuple[Preference, ...]
    """The preferences, in order."""
    skipped: Mapping[str, int]
    """Number of skipped rows by reason."""
    named: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False)
    """The first MOST_NAMED of them by reason, each by its place."""


def question_id(query: str, responses: Sequence[str], *, reference: str = "", criteria: Sequence[str] = ()) -> str:
    """Return an id for a question that was given none: equal questions have equal ids."""
    return sha256(json.dumps([query, *responses, reference, *criteria]).encode()).hexdigest()[:16]


def collect(placed: Iterable[tuple[str, Preference | Skipped]]) -> Loaded:
    """Collect (place, preference or skip) pairs.

    Raises:
        DataError: An id is used twice, though labels are looked up by id.
    """
    places: dict[str, str] = {}
    kept: list[Preference] = []
    skipped: Counter[str] = Counter()
    named: dict[str, list[str]] = {}
    for where, item in placed:
        if isinstance(item, Skipped):
            skipped[item.reason] += 1
            if len(first := named.setdefault(item.reason, [])) < MOST_NAMED:
                first.append(item.detail or where)
            continue
        if item.question.id in places:
            raise DataError(
                f"{where}: field 'id': {item.question.id!r} was used at {places[item.question.id]}; "
                "make ids unique, or leave the field out: the content then gives the ids"
            )
        places[item.question.id] = where
        kept.append(item)
    return Loaded(preferences=tuple(kept), skipped=dict(skipped), named=named)


def merged_names(parts: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Return the first places of skipped rows by reason, of several sources in order."""
    named: dict[str, list[str]] = {}
    for part in parts:
        for reason, first in part.items():
            named[reason] = [*named.get(reason, []), *first][:MOST_NAMED]
    return named


def clean(text: str) -> str:
    """Return `text` with lone surrogates replaced by U+FFFD, so that it can be written as UTF-8."""
    return _SURROGATES.sub("\ufffd", text)


def conversation(messages: Iterable[tuple[str, str]]) -> str:
    """Return a conversation of (role, content) as one query: a lone message is its content, more are named turns.

    No content can pretend to be a further turn: a line that begins like one is escaped (`escape_turn`).
    """
    turns = [(_label(role), content) for role, content in messages]
    if len(turns) == 1:
        return turns[0][1]
    roles = {role for role, _ in turns}
    return "\n\n".join(f"{role}: {escape_turn(content, roles)}" for role, content in turns)


def turns_of(query: str) -> list[tuple[str, str]]:
    """Return the turns of a conversation between user and assistant that `conversation` joined, as (role, content).

    Any other query (a lone message, one with a system's or a tool's turn) is one message of the user, as a judge reads it.

    >>> turns_of("User: Hi.\\n\\nAssistant: Yes?\\n\\nUser: Why?")
    [('user', 'Hi.'), ('assistant', 'Yes?'), ('user', 'Why?')]
    """
    heads = list(_TURN.finditer(query))
    if len(heads) % 2 == 0 or len(heads) == 1 or heads[0].start():
        return [("user", query)]
    ends = [*(head.start() for head in heads[1:]), len(query)]
    turns = [(head[1].lower(), query[head.end() : end]) for head, end in zip(heads, ends, strict=True)]
    if all(role == ("assistant" if place % 2 else "user") for place, (role, _) in enumerate(turns)):
        return turns
    return [("user", query)]


def _label(role: str) -> str:
    """Return a role as the name of its turns: words alone, since a role is text of others, too."""
    return " ".join(re.findall(r"\w+", role))[:LONGEST_ROLE].capitalize() or "Unnamed"
