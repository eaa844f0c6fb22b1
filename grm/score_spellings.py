"""How scores are spelled, in a box or without one: numbers, lists and named scores. Pure functions, linear time."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from grm.judgement import CLOSERS, closed

_BOX = re.compile(r"\\boxed\s*+\\*+\{")
_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it|sf)|bm|boldsymbol|left|right|q?quad|displaystyle|[Bb]ig[lr]?)(?![a-zA-Z])"
    r"|\\[,;:! ()\[\]{}\\]|~"
)
_SUBSCRIPT = re.compile(r"_\s?\{\s?(\d{1,3})\s?\}")
_VALUE = re.compile(r"([+-]?\d{1,9}(?:\.\d{1,6})?)(?:\s?/\s?(\d{1,3})(?:\.0)?|\s?out of (\d{1,3}))?(?![\w%/])(?!\.\d)")
_BETWEEN = re.compile(r"\s*+(?:[,;&|]\s*+)?(?:(?:and|und|et|y|и|和)\s++)?", re.IGNORECASE)
NAMED = re.compile(
    r"(?:[-•>#]\s++)?(?:the\s)?(?:(?:response|answer|assistant|model|candidate|reply|option|output|回答|回复|応答|응답|답변|respuesta"
    r"|réponse|antwort|ответ|resposta|risposta|الرد|الإجابة|الاستجابة|उत्तर)[ _#-]?(\d{1,3}|[a-z])|(?:s|r|score)[ _]?(\d{1,3}))"
    r"(?:'s)?(?:[ _]score|[ _]rating)?\s?(?:[:=]|is\s|gets\s|->|→)\s*+",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"[*`$]")


class Wanted(NamedTuple):
    """What the scores must be."""

    n: int
    low: int
    high: int
    clip: bool


class Box(NamedTuple):
    """A box, and where it stands in its text."""

    start: int
    end: int
    content: str


def boxes_in(text: str) -> Iterator[Box]:
    """Yield the outer boxes of a text, up to one that is not closed."""
    at = 0
    while (match := _BOX.search(text, at)) and (content := closed(text, match.end())) is not None:
        at = match.end() + len(content) + 1
        yield Box(match.start(), at, content)


def of_boxes(run: Sequence[Box], wanted: Wanted) -> tuple[float, ...] | None:
    """Return the scores of the last box that fits, or of as many boxes as there are responses, with one each."""
    fitting = [scores for box in run if (scores := written(box.content, wanted, whole=True)) is not None]
    if fitting:
        return fitting[-1]
    if len(run) != wanted.n:
        return None
    singles = [written(box.content, wanted._replace(n=1), whole=True) for box in run]
    return tuple(scores[0] for scores in singles if scores) if all(singles) else None


def unboxed(text: str) -> str:
    """Return a text in which each box is replaced by its content."""
    pieces, at = [], 0
    for box in boxes_in(text):
        pieces += [text[at : box.start], box.content]
        at = box.end
    return "".join([*pieces, text[at:]])


def clean(text: str) -> str:
    """Return a text without the commands of LaTeX and the marks of Markdown that scores are dressed in."""
    text = _MARKUP.sub("", _COMMAND.sub(" ", _SUBSCRIPT.sub(r"_\1", text)))
    return text.replace("{", " ").replace("}", " ")


def written(text: str, wanted: Wanted, *, whole: bool) -> tuple[float, ...] | None:
    """Return the scores of a list or of named scores; `whole`: nothing else stands in the text, else on their last line."""
    bare = clean(text).strip()
    return _listed(bare.lstrip("[( "), wanted, whole=whole) or named(bare, wanted, whole=whole)


def _listed(text: str, wanted: Wanted, *, whole: bool) -> tuple[float, ...] | None:
    at, values = 0, []
    for i in range(wanted.n):
        between = _BETWEEN.match(text, at) if i else None
        at = between.end() if between else at
        value = _VALUE.match(text, at)
        if value is None or (between is not None and not between.group()):
            return None
        at = value.end()
        values.append(_number(value, wanted))
    return fitting(values, wanted) if _ends(text, at, whole=whole) else None


def named(text: str, wanted: Wanted, *, whole: bool) -> tuple[float, ...] | None:
    """Return the scores of `Response 1: 7, Response 2: 8`: of each response once, in any order; see `written`."""
    at, values = 0, dict[int, float | None]()
    for i in range(wanted.n):
        between = _BETWEEN.match(text, at) if i else None
        name = NAMED.match(text, between.end() if between else at)
        value = name and _VALUE.match(text, name.end())
        if name is None or value is None:
            return None
        at = value.end()
        at += text[at : at + 1] == "."
        mark = str(name.group(1) or name.group(2)).lower()
        values[int(mark) if mark.isdigit() else ord(mark) - ord("a") + 1] = _number(value, wanted)
    if sorted(values) != list(range(1, wanted.n + 1)) or not _ends(text, at, whole=whole):
        return None
    following = _BETWEEN.match(text, at)
    if following and NAMED.match(text, following.end()):
        return None  # there are more than were asked for
    return fitting([values[i + 1] for i in range(wanted.n)], wanted)


def _ends(text: str, at: int, *, whole: bool) -> bool:
    line = len(text) if whole or (end := text.find("\n", at)) < 0 else end
    return not text[at:line].strip(CLOSERS + ",;|")


def _number(value: re.Match[str], wanted: Wanted) -> float | None:
    """Return the score; None when it is of another scale."""
    scale = value.group(2) or value.group(3)
    return float(value.group(1)) if scale is None or int(scale) == wanted.high else None


def fitting(values: Sequence[float | None], wanted: Wanted) -> tuple[float, ...] | None:
    """Return the values as scores if they are n of the range, or are clipped to it."""
    if len(values) != wanted.n or any(value is None for value in values):
        return None
    scores: list[float] = [value for value in values if value is not None]
    if wanted.clip:
        scores = [min(max(score, wanted.low), wanted.high) for score in scores]
    if not all(wanted.low <= score <= wanted.high for score in scores):
        return None
    return tuple(int(score) if score == int(score) else score for score in scores)
