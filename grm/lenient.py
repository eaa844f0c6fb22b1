"""What other people's judges write, read second to `grm.judgement.parse`, in evaluation alone. Pure functions, linear time.

    completion ─▶ strict parse ─▶ judgement
                     └─ failed ─▶ one spelling ─▶ without thoughts ─▶ behind the last score label, or alone at the end ─▶ scores

A verdict counts only where a judge gives one, here as there. It stands directly behind a score label at a line's head (also
`Final score:`, `**Ratings**`, `评分：`, `My scores are`), or it closes the text as lines of its own. There it may be spelled as

    a box or several      \\boxed{7.5, 8}   \\boxed{7}, \\boxed{8}   \\boxed{\\textbf{7} \\quad 8}   \\boxed{s_1=7, s_2=8}
    a list                7, 8   7; 8   7 and 8   7/10, 8/10   [[7, 8]]
    a score a response    Response 1: 7, Response 2: 8 (numbered or lettered, all of them, each once)
    JSON                  {"scores": [7, 8]}   {"Response 1": 7, "Response 2": 8}   [{"score": 7}, {"score": 8}], fenced or not

in digits of any script. Numbers in running text, of criteria, in thoughts and in what a judge quotes are no verdict. Scores may
have decimals, since votes sum them.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from grm.judgement import CLOSERS, Judgement, ParseFailure, closed, parse, sections, without_thoughts
from grm.lenient_json import json_scores

_UNSEEN = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")  # zero-width, direction marks
_DIGIT = re.compile(r"(?![0-9])\d")
_SPELLINGS = {full: full - 0xFEE0 for full in range(0xFF01, 0xFF5F)} | str.maketrans("\u3000、،٬؛٫−", " ,,,;.-")
_HEAD = r"^[ \t>#*_\-•]*+(?:\d{1,3}[.)][ \t*_]*+)?+"
_SCORE_WORDS = (
    r"(?:final|overall|comprehensive)?[ \t]*+(?:scores|ratings|grades)|(?:final|overall)[ \t]++(?:score|rating|grade)"
    r"|最终评分|最终得分|综合评分|评分|得分|分数|評分|スコア|採点|点数|최종 점수|점수|평점|итоговые оценки|оценки|оценка|баллы"
    r"|puntuaciones|puntuación|puntajes|calificaciones|notes finales|punktzahlen|punkte|bewertungen|bewertung|noten|pontuações"
    r"|pontuação|notas|punteggi|punteggio|voti|الدرجات|الدرجة|النتائج|التقييم|स्कोर|अंक"
)
_LABEL = re.compile(
    _HEAD + r"(?:(?P<specific>specific[ \t]++criteria|criteria|principles|具体标准|评判标准|标准|評価基準|평가 기준|критерии"
    r"|criterios|critères|kriterien|criteri|critérios|المعايير|मानदंड)"
    r"|(?P<analysis>analysis|分析|评析|解析|분석|анализ|análisis|analyse|analisi|análise|التحليل|تحليل|विश्लेषण)"
    rf"|(?P<scores>{_SCORE_WORDS})|(?P<single>score|rating|grade))"
    r"(?:[ \t]?\([^()\n]{0,80}\))?[*_ \t\r]*+(?:[:=][*_]*+|$)",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(
    _HEAD + r"(?:(?:so|thus|hence|therefore),?[ \t])?(?:the|my)[ \t](?:final[ \t]|overall[ \t])?(?:scores?|ratings?)"
    r"(?:[ \t](?:for|of)[ \t](?:each|both|the|all)(?:[ \t](?:the[ \t])?(?:two[ \t])?responses?)?)?[ \t](?:are|is)[ \t]?+:?",
    re.IGNORECASE | re.MULTILINE,
)
_LEAD = re.compile(r"(?:[\s>#*_$`]|-\s|\\[(\[])*+(?:(?<=```)json\s*+)?", re.IGNORECASE)  # between a label and what it is of
_BOX = re.compile(r"\\boxed\s*+\\*+\{")
_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it|sf)|bm|boldsymbol|left|right|q?quad|displaystyle|[Bb]ig[lr]?)(?![a-zA-Z])"
    r"|\\[,;:! ()\[\]{}\\]|~"
)
_SUBSCRIPT = re.compile(r"_\s?\{\s?(\d{1,3})\s?\}")
_VALUE = re.compile(r"([+-]?\d{1,9}(?:\.\d{1,6})?)(?:\s?/\s?(\d{1,3})(?:\.0)?|\s?out of (\d{1,3}))?(?![\w%/])(?!\.\d)")
_BETWEEN = re.compile(r"\s*+(?:[,;&|]\s*+)?(?:(?:and|und|et|y|и|和)\s++)?", re.IGNORECASE)
_NAMED = re.compile(
    r"(?:[-•>#]\s++)?(?:the\s)?(?:(?:response|answer|assistant|model|candidate|reply|option|output|回答|回复|応答|응답|답변|respuesta"
    r"|réponse|antwort|ответ|resposta|risposta|الرد|الإجابة|الاستجابة|उत्तर)[ _#-]?(\d{1,3}|[a-z])|(?:s|r|score)[ _]?(\d{1,3}))"
    r"(?:'s)?(?:[ _]score|[ _]rating)?\s?(?:[:=]|is\s|gets\s|->|→)\s*+",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"[*`$]")
_JOINT = re.compile(r"[\s,;&|$*`.\-\\()\[\]]*+(?:and\s++)?[$*`\\(\[]*+", re.IGNORECASE)  # what may stand between two boxes
_CONTINUED = re.compile(r"[^\W\d_]$|[,=(]$")  # a line that goes on in the next
_ABOUT_SCORES = re.compile(r"scor|rating|" + _SCORE_WORDS, re.IGNORECASE)
_TRIES = 8  # places at the end of a text where JSON may begin


class _Range(NamedTuple):
    """What the scores must be."""

    n: int
    low: int
    high: int
    clip: bool


class _Box(NamedTuple):
    start: int
    end: int
    content: str


def read(
    completion: str, n: int, *, low: int = 1, high: int = 10, cut_short: bool = False, clip: bool = False
) -> tuple[Judgement | ParseFailure, bool]:
    """Return the judgement as an evaluation reads it, and whether `parse` read it.

    Args:
        completion: What the judge wrote.
        n: Responses that it was shown.
        low: The lowest score.
        high: The highest.
        cut_short: Whether the completion was cut at the token limit. Then `parse` alone reads it: a strict verdict was given
            before the cut, while of anything else nobody knows whether it was to be the verdict.
        clip: Whether scores outside of low..high become the nearest inside, as the released DeepSeek-GRM's do.

    Returns:
        The judgement or the strict parser's reason, and whether the strict parser was satisfied.
    """
    strict = parse(completion, n, low=low, high=high)
    if isinstance(strict, Judgement):
        return strict, True
    loose = None if cut_short else lenient(completion, n, low=low, high=high, clip=clip)
    return (strict if loose is None else loose), False


def lenient(completion: str, n: int, *, low: int = 1, high: int = 10, clip: bool = False) -> Judgement | None:
    """Return the judgement that a benevolent reader finds in a complete text, or None; see the module. Never raises."""
    text = without_thoughts(_respelled(completion)).rstrip()
    wanted = _Range(n, low, high, clip)
    matches = list(_LABEL.finditer(text))
    singles = sum(match.lastgroup == "single" for match in matches)
    last = max([m for m in matches if m.lastgroup in ("scores", "single")], key=lambda m: m.end(), default=None)
    # several bare `Score:` are of criteria, or of responses that are not named beside them
    ends = [last.end()] if last is not None and (last.lastgroup == "scores" or singles == 1) else []
    ends += [match.end() for match in _SENTENCE.finditer(text)][-1:]
    scores = _behind(text[max(ends) :], wanted) if ends else None
    if scores is None and not ends and last is None:
        scores = _at_the_end(text, wanted)
    if scores is None:
        return None
    labels = [("scores" if m.lastgroup == "single" else str(m.lastgroup), m) for m in matches]
    principles, critique = sections(text, labels)
    return Judgement(principles=principles, critique=critique, scores=scores)


def _respelled(text: str) -> str:
    """Return the text with one spelling of digits, commas and of `\\boxed`, without marks that nobody sees."""
    text = _UNSEEN.sub("", text).replace("\boxed", "\\boxed").translate(_SPELLINGS)
    return _DIGIT.sub(lambda match: str(unicodedata.decimal(match.group())), text)


# ---- where a verdict stands ----------------------------------------------------------------------------------------------


def _behind(text: str, wanted: _Range) -> tuple[float, ...] | None:
    """Return the scores that a text begins with."""
    start = _LEAD.match(text)
    text = text[start.end() :] if start else text
    if text[:1] in ("{", "[") and (values := json_scores(text, wanted.n)) is not None:
        return _fitting(values, wanted)
    boxes = _run(list(_boxes(text)), text, 0)
    return _of_boxes(boxes, wanted) or _written(_unboxed(text), wanted, whole=False)


def _at_the_end(text: str, wanted: _Range) -> tuple[float, ...] | None:
    """Return the scores that close a text without a score label, as lines of their own."""
    tail = text.removesuffix("```").rstrip()
    starts = [m.start(1) for m in re.finditer(r"^[ \t]*+(?:```(?:json)?[ \t]*+)?([{\[])", tail, re.MULTILINE | re.IGNORECASE)]
    for start in starts[-_TRIES:]:
        values = json_scores(tail[start:], wanted.n, whole=True)
        if values is not None and _introduced(text[:start].rstrip().removesuffix("```json").removesuffix("```")):
            return _fitting(values, wanted)
    boxes = list(_boxes(text))
    if boxes and wanted.n > 1 and not text[boxes[-1].end :].strip(CLOSERS):
        run = _run(boxes[::-1], text, len(text))[::-1]
        line = text.rfind("\n", 0, run[0].start) + 1
        if not text[line : run[0].start].strip(" \t>#*_-$`\\([") and _introduced(text[:line]):
            return _of_boxes(run, wanted)
    return _closing_lines(text, wanted)


def _closing_lines(text: str, wanted: _Range) -> tuple[float, ...] | None:
    """Return the scores of the last lines, each of them `Response 1: 7` or several of these."""
    lines, taken = text.splitlines(), 0
    for line in reversed(lines[-3 * wanted.n :]):
        bare = _clean(_unboxed(line)).strip()
        if bare and not _NAMED.match(bare):
            break
        taken += 1
    kept = lines[len(lines) - taken :]
    if not taken or not _introduced("\n".join(lines[: len(lines) - taken])):
        return None
    return _named(_clean(_unboxed("\n".join(kept))).strip(), wanted, whole=True)


def _introduced(before: str) -> bool:
    """Return whether what follows a text is a statement of its own, and none that its last line quotes or goes on with."""
    line = before.rstrip().rpartition("\n")[2].strip()
    if not line or line[0] in "#*" or _ABOUT_SCORES.search(line[-80:]):
        return True
    return line[-1] != ":" and not _CONTINUED.search(line)


def _boxes(text: str) -> Iterator[_Box]:
    at = 0
    while (match := _BOX.search(text, at)) and (content := closed(text, match.end())) is not None:
        at = match.end() + len(content) + 1
        yield _Box(match.start(), at, content)


def _run(boxes: Sequence[_Box], text: str, edge: int) -> list[_Box]:
    """Return the boxes that follow one another from an edge of the text, in the order given."""
    if not boxes or (edge == 0 and text[: boxes[0].start].strip(CLOSERS + "([-#>")):
        return []
    run = [boxes[0]]
    for one, next_ in pairwise(boxes):
        first, second = sorted((one, next_))
        if not _JOINT.fullmatch(text, first.end, second.start):
            break
        run.append(next_)
    return run


# ---- how it is spelled ---------------------------------------------------------------------------------------------------


def _of_boxes(run: Sequence[_Box], wanted: _Range) -> tuple[float, ...] | None:
    """Return the scores of the last box that fits, or of as many boxes as there are responses, with one each."""
    fitting = [scores for box in run if (scores := _written(box.content, wanted, whole=True)) is not None]
    if fitting:
        return fitting[-1]
    if len(run) != wanted.n:
        return None
    singles = [_written(box.content, wanted._replace(n=1), whole=True) for box in run]
    return tuple(scores[0] for scores in singles if scores) if all(singles) else None


def _unboxed(text: str) -> str:
    """Return a text in which each box is replaced by its content."""
    pieces, at = [], 0
    for box in _boxes(text):
        pieces += [text[at : box.start], box.content]
        at = box.end
    return "".join([*pieces, text[at:]])


def _clean(text: str) -> str:
    text = _MARKUP.sub("", _COMMAND.sub(" ", _SUBSCRIPT.sub(r"_\1", text)))
    return text.replace("{", " ").replace("}", " ")


def _written(text: str, wanted: _Range, *, whole: bool) -> tuple[float, ...] | None:
    """Return the scores of a list or of named scores; `whole`: nothing else stands in the text, else on their last line."""
    bare = _clean(text).strip()
    return _listed(bare.lstrip("[( "), wanted, whole=whole) or _named(bare, wanted, whole=whole)


def _listed(text: str, wanted: _Range, *, whole: bool) -> tuple[float, ...] | None:
    at, values = 0, []
    for i in range(wanted.n):
        between = _BETWEEN.match(text, at) if i else None
        at = between.end() if between else at
        value = _VALUE.match(text, at)
        if value is None or (between is not None and not between.group()):
            return None
        at = value.end()
        values.append(_number(value, wanted))
    return _fitting(values, wanted) if _ends(text, at, whole=whole) else None


def _named(text: str, wanted: _Range, *, whole: bool) -> tuple[float, ...] | None:
    at, values = 0, dict[int, float | None]()
    for i in range(wanted.n):
        between = _BETWEEN.match(text, at) if i else None
        name = _NAMED.match(text, between.end() if between else at)
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
    if following and _NAMED.match(text, following.end()):
        return None  # there are more than were asked for
    return _fitting([values[i + 1] for i in range(wanted.n)], wanted)


def _ends(text: str, at: int, *, whole: bool) -> bool:
    line = len(text) if whole or (end := text.find("\n", at)) < 0 else end
    return not text[at:line].strip(CLOSERS + ",;|")


def _number(value: re.Match[str], wanted: _Range) -> float | None:
    """Return the score; None when it is of another scale."""
    scale = value.group(2) or value.group(3)
    return float(value.group(1)) if scale is None or int(scale) == wanted.high else None


def _fitting(values: Sequence[float | None], wanted: _Range) -> tuple[float, ...] | None:
    if len(values) != wanted.n or any(value is None for value in values):
        return None
    scores: list[float] = [value for value in values if value is not None]
    if wanted.clip:
        scores = [min(max(score, wanted.low), wanted.high) for score in scores]
    if not all(wanted.low <= score <= wanted.high for score in scores):
        return None
    return tuple(int(score) if score == int(score) else score for score in scores)
