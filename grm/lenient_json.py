"""Scores in JSON, as other people's judges write them. Pure functions."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_SCORES = (
    "finalscores",
    "overallscores",
    "scores",
    "ratings",
    "finalscore",
    "overallscore",
    "score",
    "rating",
    "评分",
    "得分",
    "分数",
)
_RESPONSE = re.compile(
    r"(?:response|answer|assistant|model|candidate|reply|option|output|回答|回复|s|r|score)?(\d{1,3}|(?<=[a-z])[a-z]|^[a-z])(?:score|rating)?"
)
_IDS = ("response", "responseid", "id", "index", "answer", "assistant", "model")
# what may stand beside the score of a response; a name of a criterion may not
_REMARKS = {"reason", "reasoning", "critique", "analysis", "explanation", "comment", "justification", "rationale", "feedback"}
_FRACTION = re.compile(r"\s*([+-]?\d{1,9}(?:\.\d{1,6})?)\s*(?:/\s*10)?\s*")


def json_scores(text: str, n: int, *, whole: bool = False) -> list[float | None] | None:
    """Return the n scores in the JSON value that a text begins with; None if there is none, or it holds no such scores.

    Args:
        text: Begins with the value.
        n: Responses.
        whole: Nothing stands behind it.
    """
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if whole and text[end:].strip():
        return None
    wrapped = isinstance(value, list) and len(value) == 1 and isinstance(value[0], list)  # [[7, 8]]
    scores = _scores(value[0] if wrapped else value, n, named=wrapped or not whole)
    return None if scores is None else [_number(score) for score in scores]


def _scores(value: Any, n: int, *, named: bool) -> Sequence[Any] | None:
    """named: something said that these are scores, so that a lone number is one."""
    if isinstance(value, list):
        return _of_list(value, n, named=named)
    if isinstance(value, Mapping):
        return _of_object({_key(key): inner for key, inner in value.items()}, n)
    return [value] if named and n == 1 else None


def _of_list(items: Sequence[Any], n: int, *, named: bool) -> Sequence[Any] | None:
    if len(items) != n or (n == 1 and not named):
        return None
    if not all(isinstance(item, Mapping) for item in items):
        return items
    rows = [{_key(key): inner for key, inner in item.items()} for item in items]
    if any(set(row) - _REMARKS - set(_SCORES) - set(_IDS) for row in rows):
        return None
    ids = [next((row[key] for key in _IDS if key in row), None) for row in rows]
    if ids != [None] * n:
        numbers = [_response(str(mark)) for mark in ids]
        if sorted(number or 0 for number in numbers) != list(range(1, n + 1)):
            return None
        rows = [rows[numbers.index(i + 1)] for i in range(n)]
    return [_score_of(row) for row in rows]


def _of_object(fields: Mapping[str, Any], n: int) -> Sequence[Any] | None:
    for key in _SCORES:
        if key in fields:
            return _scores(fields[key], n, named=True)
    by_number = {number: inner for key, inner in fields.items() if (number := _response(key)) is not None}
    if sorted(by_number) != list(range(1, n + 1)):
        return None
    inner = [by_number[i + 1] for i in range(n)]
    return [_score_of({_key(k): v for k, v in item.items()}) if isinstance(item, Mapping) else item for item in inner]


def _score_of(row: Mapping[str, Any]) -> Any:
    return next((row[key] for key in _SCORES if key in row), None)


def _response(key: str) -> int | None:
    """Return the number of the response that a key names: `Response 2`, `s_2`, `B`, `2`."""
    match = _RESPONSE.fullmatch(_key(key))
    if match is None:
        return None
    mark = match.group(1)
    return int(mark) if mark.isdigit() else ord(mark) - ord("a") + 1


def _key(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _number(value: Any) -> float | None:
    if isinstance(value, str) and (match := _FRACTION.fullmatch(value)):
        return float(match.group(1))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 else None
