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
from collections.abc import Sequence
from itertools import pairwise

from grm.judgement import CLOSERS, Judgement, ParseFailure, ends_thought, parse, sections, without_thoughts
from grm.lenient_json import json_scores
from grm.score_spellings import NAMED, Box, Wanted, boxes_in, clean, fitting, named, of_boxes, unboxed, written

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
_JOINT = re.compile(r"[\s,;&|$*`.\-\\()\[\]]*+(?:and\s++)?[$*`\\(\[]*+", re.IGNORECASE)  # what may stand between two boxes
_CONTINUED = re.compile(r"[^\W\d_]$|[,=(]$")  # a line that goes on in the next
_ABOUT_SCORES = re.compile(r"scor|rating|" + _SCORE_WORDS, re.IGNORECASE)
_TRIES = 8  # places at the end of a text where JSON may begin


def read(
    completion: str,
    n: int,
    *,
    low: int = 1,
    high: int = 10,
    cut_short: bool = False,
    thinks: bool = False,
    clip: bool = False,
) -> tuple[Judgement | ParseFailure, bool]:
    """Return the judgement as an evaluation reads it, and whether `parse` read it.

    Args:
        completion: What the judge wrote.
        n: Responses that it was shown.
        low: The lowest score.
        high: The highest.
        cut_short: Whether the completion was cut at the token limit. Then `parse` alone reads it: a strict verdict was given
            before the cut, while of anything else nobody knows whether it was to be the verdict.
        thinks: Whether the judge thinks. Then the prompt may have begun the thought, and what was cut before one ended is all
            thought.
        clip: Whether scores outside of low..high become the nearest inside, as the released DeepSeek-GRM's do.

    Returns:
        The judgement or the strict parser's reason, and whether the strict parser was satisfied.
    """
    if thinks and cut_short and not ends_thought(completion):
        return ParseFailure(reason="cut_short"), False
    strict = parse(completion, n, low=low, high=high)
    if isinstance(strict, Judgement):
        return strict, True
    loose = None if cut_short else lenient(completion, n, low=low, high=high, clip=clip)
    return (strict if loose is None else loose), False


def lenient(completion: str, n: int, *, low: int = 1, high: int = 10, clip: bool = False) -> Judgement | None:
    """Return the judgement that a benevolent reader finds in a complete text, or None; see the module. Never raises."""
    text = without_thoughts(_respelled(completion)).rstrip()
    wanted = Wanted(n, low, high, clip)
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


def _behind(text: str, wanted: Wanted) -> tuple[float, ...] | None:
    """Return the scores that a text begins with."""
    start = _LEAD.match(text)
    text = text[start.end() :] if start else text
    if text[:1] in ("{", "[") and (values := json_scores(text, wanted.n)) is not None:
        return fitting(values, wanted)
    boxes = _run(list(boxes_in(text)), text, 0)
    return of_boxes(boxes, wanted) or written(unboxed(text), wanted, whole=False)


def _at_the_end(text: str, wanted: Wanted) -> tuple[float, ...] | None:
    """Return the scores that close a text without a score label, as lines of their own."""
    tail = text.removesuffix("```").rstrip()
    starts = [m.start(1) for m in re.finditer(r"^[ \t]*+(?:```(?:json)?[ \t]*+)?([{\[])", tail, re.MULTILINE | re.IGNORECASE)]
    for start in starts[-_TRIES:]:
        values = json_scores(tail[start:], wanted.n, whole=True)
        if values is not None and _introduced(text[:start].rstrip().removesuffix("```json").removesuffix("```")):
            return fitting(values, wanted)
    boxes = list(boxes_in(text))
    if boxes and wanted.n > 1 and not text[boxes[-1].end :].strip(CLOSERS):
        run = _run(boxes[::-1], text, len(text))[::-1]
        line = text.rfind("\n", 0, run[0].start) + 1
        if not text[line : run[0].start].strip(" \t>#*_-$`\\([") and _introduced(text[:line]):
            return of_boxes(run, wanted)
    return _closing_lines(text, wanted)


def _closing_lines(text: str, wanted: Wanted) -> tuple[float, ...] | None:
    """Return the scores of the last lines, each of them `Response 1: 7` or several of these."""
    lines, taken = text.splitlines(), 0
    for line in reversed(lines[-3 * wanted.n :]):
        bare = clean(unboxed(line)).strip()
        if bare and not NAMED.match(bare):
            break
        taken += 1
    kept = lines[len(lines) - taken :]
    if not taken or not _introduced("\n".join(lines[: len(lines) - taken])):
        return None
    return named(clean(unboxed("\n".join(kept))).strip(), wanted, whole=True)


def _introduced(before: str) -> bool:
    """Return whether what follows a text is a statement of its own, and none that its last line quotes or goes on with."""
    line = before.rstrip().rpartition("\n")[2].strip()
    if not line or line[0] in "#*" or _ABOUT_SCORES.search(line[-80:]):
        return True
    return line[-1] != ":" and not _CONTINUED.search(line)


def _run(boxes: Sequence[Box], text: str, edge: int) -> list[Box]:
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
