"""Rows of n answers with an index, scores or ranks, and of several right and wrong ones (pure)."""

from collections.abc import Mapping
from math import fsum, isfinite

from grm.json_rows import JsonRow, shown, wrong
from grm.preferences import HALF_RIGHT, NOT_VERIFIABLE, TWO_BEST, DataError, Preference, Skipped, clean
from grm.shapes.fields import (
    MOST_RESPONSES,
    SAID,
    answer,
    filled_answer,
    is_number,
    labelled,
    number,
    one_best,
    query,
    require_side,
    score,
    subset_of,
)

NO_BEST = "no best response is named"
NO_SCORE = "response without a score"
FEW_RESPONSES = "fewer than two responses"
DOUBTFUL_TEN = "overall score of 10 without aspect ratings above 4 (UltraFeedback's 10 for 1)"
STYLES = 3  # RM-Bench: each answer in three styles, from plain and short to long with Markdown

Item = Preference | Skipped


def own(row: JsonRow) -> Item:
    """Convert our own rows: `responses` with `preferred`, an index, or `scores`, of which the highest is the best."""
    if {"chosen", "rejected"} & row.fields.keys():
        raise row.error("responses", "stands beside 'chosen' and 'rejected', which label the row too", "give one of the two")
    responses = _responses(row)
    label = _label(row, len(responses))
    if len(responses) > 1:
        require_side(row, None if isinstance(label, Skipped) else label, [name for name in SAID if name != "preferred"])
    return label if isinstance(label, Skipped) else labelled(row, query(row), responses, label, subset_of(row))


def nectar(row: JsonRow) -> Item:
    """Convert `answers` of {answer, rank}: rank 1 is the best (Nectar)."""
    return _ranked(row, "answers", "answer")


def nemo_rl(row: JsonRow) -> Item:
    """Convert `completions` of {completion, rank}: the lowest rank is the best (NeMo-RL)."""
    return _ranked(row, "completions", "completion")


def rewardbench2(row: JsonRow) -> list[Item]:
    """Convert one right answer and three wrong ones; of a row of Ties, each of several right ones among all wrong ones.

    A judge is right about a row of Ties when each of its preferences is judged right: then every right answer beats every wrong
    one. Their ids are those of the row, with `.0`, `.1`, ... behind it.
    """
    right, wrong_ones = _several(row, "chosen"), _several(row, "rejected")
    asked, subset = query(row), subset_of(row)
    return [labelled(row, asked, (text, *wrong_ones), 0, subset) for text in right]


def rm_bench(row: JsonRow) -> list[Item]:
    """Convert RM-Bench's 3 x 3: each style of the right answer against each style of the wrong one, nine pairs.

    The subset is `DOMAIN/hard`, `/normal` or `/easy`: whether the right answer's style is plainer than the wrong one's, the
    same, or richer. The pair of styles i and j has the id of the row with `.{3 i + j}` behind it.
    """
    right, wrong_ones = _several(row, "chosen"), _several(row, "rejected")
    asked, domain = query(row), row.short("domain", clean(str(row.fields["domain"])))
    pairs: list[Item] = []
    for i, good in enumerate(right):
        for j, bad in enumerate(wrong_ones):
            level = "hard" if i < j else "normal" if i == j else "easy"
            pairs.append(labelled(row, asked, (good, bad), 0, f"{domain}/{level}"))
    return pairs


def ultrafeedback(row: JsonRow) -> Item:
    """Convert a row of usually four completions; the best has the highest overall score.

    A bug of the set once turned an overall score of 1 into 10: of 2,628 tens many were of responses whose critique was harsh.
    Its authors mended it (2023-12-29) by the mean of the four aspect ratings: a 10 stands where that is above 4, the others
    were changed or annotated again. Copies and revisions from before that day still have the bug, so a row whose best is such a
    ten is skipped. (Others use the mean itself as the score.)
    """
    completions = _objects(row, "completions", "use the set as published")
    scores = [completion.get("overall_score") for completion in completions]
    if len(completions) < 2:
        return Skipped(reason=FEW_RESPONSES)
    numbers = [score for score in scores if is_number(score)]
    if len(numbers) != len(scores):
        return Skipped(reason=NO_SCORE)
    best = one_best(numbers)
    if best is None:
        return Skipped(reason=TWO_BEST)
    if numbers[best] == 10 and (_mean_rating(completions[best]) or 0) <= 4:
        return Skipped(reason=DOUBTFUL_TEN)
    texts = [answer(row, "completions", each.get("response"), "[].response") for each in completions]
    return labelled(row, row.text("instruction", "give the query as text"), texts, best, subset_of(row, "source"))


def _mean_rating(completion: Mapping[str, object]) -> float | None:
    """Return the mean of UltraFeedback's aspect ratings ("1".."5", or "N/A"); None where there are none."""
    aspects = completion.get("annotations")
    if not isinstance(aspects, dict):
        return None
    ratings = [aspect.get("Rating") for aspect in aspects.values() if isinstance(aspect, dict)]
    numbers = [float(rating) for rating in ratings if isinstance(rating, str) and rating in ("1", "2", "3", "4", "5")]
    return fsum(numbers) / len(numbers) if numbers else None


def _ranked(row: JsonRow, field: str, text: str) -> Item:
    """Convert a list of objects with a rank; the single lowest is the best."""
    answers = _objects(row, field, f"give objects with {text!r} and 'rank'")
    if len(answers) < 2:
        return Skipped(reason=FEW_RESPONSES)
    ranks = [number(each.get("rank")) for each in answers]
    known = [rank for rank in ranks if rank is not None]
    if len(known) != len(ranks):
        raise row.error(field, f"holds the rank {shown(answers[ranks.index(None)].get('rank'))}", "give numbers")
    best = one_best(known, lowest=True)
    if best is None:
        return Skipped(reason=TWO_BEST)
    texts = [answer(row, field, each.get(text), f"[].{text}") for each in answers]
    return labelled(row, query(row), texts, best, subset_of(row))


def _objects(row: JsonRow, field: str, remedy: str) -> list[Mapping[str, object]]:
    items = row.fields.get(field)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise row.error(field, "is not a list of objects", remedy)
    return items


def _several(row: JsonRow, field: str) -> list[str]:
    items = row.fields.get(field)
    if not isinstance(items, list) or not items:
        raise row.error(field, wrong(items, field in row.fields), "give a list of texts")
    return [filled_answer(row, field, item, f"[{index}]") for index, item in enumerate(items)]


# ---- our own rows ----------------------------------------------------------------------------------------------------


def _responses(row: JsonRow) -> tuple[str, ...]:
    values = row.fields.get("responses")
    if "response" in row.fields and values is None:
        values = [row.fields["response"]]
    if not isinstance(values, list) or not values:
        raise row.error("responses", wrong(values, "responses" in row.fields), "give a list of texts")
    if len(values) > MOST_RESPONSES:
        raise row.error("responses", f"has {len(values)} texts, {MOST_RESPONSES} are the most", "remove some, or the row")
    remedy = "give the response as text"
    return tuple(filled_answer(row, "responses", value, f"[{i}]", remedy) for i, value in enumerate(values))


def _label(row: JsonRow, n: int) -> int | Skipped:
    scores = row.fields.get("scores", row.fields.get("score"))
    if "preferred" in row.fields and scores is not None:
        raise row.error("preferred", "stands beside 'scores'", "give one of them")
    if "preferred" in row.fields:
        return _preferred(row, row.fields["preferred"], n)
    if scores is None and row.nulls & {"preferred", "scores"}:
        return Skipped(reason=NO_BEST)
    return _best_score(row, scores, n)


def _preferred(row: JsonRow, value: object, n: int) -> int:
    if n == 1:
        raise row.error("preferred", "has no meaning for a single response", "give scores: [1] or [0] (right, wrong)")
    if isinstance(value, list):
        raise row.error("preferred", f"is {shown(value)}", "name the one best; ties go into 'scores'")
    index = _index(value)
    if index is None:
        raise row.error("preferred", wrong(value, True), f"give the index of the best response, 0..{n - 1}, or its letter")
    if not 0 <= index < n:  # all indices may be 1 too high, so the other rows of the file cannot be trusted either
        message = f"is {shown(value)}, out of range; {n} responses: give 0..{n - 1}, which count from 0 in every row"
        raise DataError(f"{row.where}: field 'preferred': {message}")
    return index


def _index(value: object) -> int | None:
    """Return an index that is a whole number, as text or float too, or a letter: A is 0."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value.strip()) == 1 and value.strip().isascii() and value.strip().isalpha():
        return ord(value.strip().upper()) - ord("A")
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def _best_score(row: JsonRow, values: object, n: int) -> int | Skipped:
    if n == 1 and score(values) is not None:
        values = [values]
    if not isinstance(values, list):
        present = "scores" in row.fields or "score" in row.fields
        raise row.error("scores", wrong(values, present), "give one number per response, or 'preferred'")
    if len(values) != n:
        raise row.error("scores", f"has {len(values)} numbers for {n} responses", "give one per response")
    scores = []
    for value in values:
        found = score(value)
        if found is None:
            finite = "finite " if isinstance(value, float) and not isfinite(value) else ""
            raise row.error("scores", f"holds {shown(value)}", f"give {finite}numbers")
        scores.append(found)
    if n == 1:
        return int(scores[0]) if scores[0] in (0, 1) else Skipped(reason=HALF_RIGHT if 0 < scores[0] < 1 else NOT_VERIFIABLE)
    best = one_best(scores)
    return Skipped(reason=TWO_BEST) if best is None else best
