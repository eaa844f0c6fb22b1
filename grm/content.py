"""Preferences by what they say: ids, repeats, contradictions, overlap of two sets, queries that give the answer away (pure).

An id is a hash of query and responses, so it is the same in every file and folder, and nothing that hangs on ids (the place in
the mixture, the order in which responses are shown) hangs on a file's name.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from grm.preferences import Preference, Question, Skipped

IDENTICAL = "best response that equals another"
GIVEN_AWAY = "query that holds a response"
REPEATED = "repeated row"
CONTRADICTING = "rows with one question and two labels"

LONG = 20  # characters from which on a response in the query is no chance
MOST_GAINED = 0.02  # of all preferences, that a copying judge may gain over guessing
_SPACE = re.compile(r"\s+")


def content_id(question: Question) -> str:
    """Return 16 hex digits of a hash of what a question says. The label has no part in it."""
    said = [question.query, question.responses]
    more = [question.reference, question.criteria] if question.reference or question.criteria else []
    return _hash(json.dumps([*said, *more]))


def with_content_id(preference: Preference, line: str = "") -> Preference:
    """Return the preference with the id of its content, and the line where it stands."""
    return replace(preference, question=replace(preference.question, id=content_id(preference.question)), line=line)


def unusable(preference: Preference) -> str:
    """Return why nothing can be learnt or measured from a preference by itself: a reason; "" where there is none."""
    responses = [text.strip() for text in preference.question.responses]
    several = len(responses) > 1 and responses.count(responses[preference.label]) > 1
    return IDENTICAL if several else ""


Placed = tuple[str, Preference | Skipped]
"""(`file:line`, what stands there)."""


def without_leaks(placed: Sequence[Placed]) -> list[Placed]:
    """Return the same rows; where a judge that only copies would beat chance, those it lives on are skipped.

    The copying judge names the response that stands in the query (`held`), and guesses elsewhere. Of N preferences it gains
    sum(hit_i - chance_i) / N over guessing, i over those that hold a response. Queries that hold one by their nature, as texts
    to be improved, give it about nothing, and stay. Example: 3 of 100 pairs hold the better response, 1 the worse one: the gain
    is (3 * 0.5 - 1 * 0.5) / 100 = 0.01, below MOST_GAINED; with 8 and 1 it is 0.035, and all 9 are skipped.
    """
    found = [held(item.question) if isinstance(item, Preference) else None for _, item in placed]
    rows = sum(isinstance(item, Preference) for _, item in placed)
    gained = sum(_gain(item, place) for (_, item), place in zip(placed, found, strict=True) if isinstance(item, Preference))
    if gained <= MOST_GAINED * rows:
        return list(placed)
    return [
        (where, item if place is None else Skipped(reason=GIVEN_AWAY, detail=where))
        for (where, item), place in zip(placed, found, strict=True)
    ]


def held(question: Question) -> int | None:
    """Return the index of the one response that stands in the query: of LONG characters or more, or at its very end.

    None where there is none, or where the query holds others too, as it does when it offers a choice.
    """
    query = _spaced(question.query)
    places = [_holds(query, _spaced(text)) for text in question.responses]
    inside = [index for index, place in enumerate(places) if place]
    return inside[0] if len(inside) == 1 and places[inside[0]] == "told" else None


def _gain(preference: Preference, place: int | None) -> float:
    """Return what copying gains over guessing: of a single response it says that what it finds is right."""
    if place is None:
        return 0.0
    n = len(preference.question.responses)
    return float(preference.label == (place if n > 1 else 1)) - 1 / max(n, 2)


def _holds(query: str, response: str) -> str:
    """Return how a query holds a response: "told" (it is long, or the end), "named", or "" where it does not."""
    if not response or response not in query:
        return ""
    if len(response) >= LONG:
        return "told"
    if not re.search(rf"(?<!\w){re.escape(response)}(?!\w)", query):
        return ""
    return "told" if re.search(rf"(?<!\w){re.escape(response)}\W*\Z", query) else "named"


def without_conflicts(placed: Sequence[Placed]) -> list[Placed]:
    """Return the same rows, with those skipped that contradict another, and those without an id of their own that repeat one.

    Rows contradict where query and responses are equal, in any order, and another response is the best. All of them are
    skipped: nobody knows which is right.
    """
    labels: dict[str, str] = {}
    broken: dict[str, str] = {}
    for where, item in placed:
        if isinstance(item, Preference):
            key, best = _asked(item), _best(item)
            if labels.setdefault(key, best) != best:
                broken.setdefault(key, where)
    seen: set[str] = set()
    kept: list[Placed] = []
    for where, item in placed:
        if isinstance(item, Preference):
            name = item.question.id
            if (key := _asked(item)) in broken:
                item = Skipped(reason=CONTRADICTING, detail=f"{where}: contradicted at {broken[key]}")
            elif name in seen and name == content_id(item.question):
                item = Skipped(reason=REPEATED, detail=where)
            seen.add(name)
        kept.append((where, item))
    return kept


def _asked(preference: Preference) -> str:
    question = preference.question
    said = [question.query.strip(), sorted(text.strip() for text in question.responses), question.reference, question.criteria]
    return _hash(json.dumps(said))


def _best(preference: Preference) -> str:
    responses = preference.question.responses
    return _hash(responses[preference.label].strip()) if len(responses) > 1 else str(preference.label)


# ---- two sets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What of a second set stands in a first one, by normalised content, whatever the ids are."""

    rows: Sequence[tuple[str, str]]
    """Pairs of ids whose query and responses are the same: (of the first, of the second)."""
    queries: Sequence[tuple[str, str]]
    """Pairs of ids that share the query alone."""


def overlap(first: Iterable[Preference], second: Iterable[Preference]) -> Overlap:
    """Return, for each preference of the second set, one of the first that it equals or shares the query of."""
    rows: dict[str, str] = {}
    queries: dict[str, str] = {}
    for each in first:
        query, responses = _normal(each)
        rows.setdefault(query + responses, each.question.id)
        queries.setdefault(query, each.question.id)
    same, near = [], []
    for each in second:
        query, responses = _normal(each)
        if query + responses in rows:
            same.append((rows[query + responses], each.question.id))
        elif query in queries:
            near.append((queries[query], each.question.id))
    return Overlap(rows=same, queries=near)


def normalised(text: str) -> str:
    """Return a text without what copies of it differ in: case, spaces, forms of one character (NFKC)."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _spaced(plain.casefold())


def _normal(preference: Preference) -> tuple[str, str]:
    question = preference.question
    return _hash(normalised(question.query)), _hash(json.dumps(sorted(map(normalised, question.responses))))


def _spaced(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
