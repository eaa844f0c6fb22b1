"""The report's judgements: what the policy wrote about the same preferences before and after training, side by side.

All text here comes from a model or a data set. It is escaped by `tag`, isolated by `dir="auto"`, and cut at `LONGEST`.
Rows are read leniently, since a field may be missing: the page of a run must not fail over one of its rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from launch.monitoring.records import finite
from launch.page.markup import Markup, tag

SampleRow = Mapping[str, Any]  # a line of samples.jsonl
FOLD, LONGEST = 420, 20_000  # characters shown at once, and shown at all
MOST_CASES = 8


def cases(rows: Sequence[SampleRow]) -> Markup:
    """Draw the section: preferences in the order in which they were recorded, so that none is hand-picked."""
    keys = list(dict.fromkeys(_text(row, "preference") for row in rows))
    if not keys:
        note = tag("p", "No sample judgements were recorded in this run.")
        return tag("section", tag("h2", "Judgements"), note)
    count = min(len(keys), MOST_CASES)
    intro = f"The first {count} of {len(keys)} recorded preferences, not hand-picked."
    shown = [_case([row for row in rows if _text(row, "preference") == key]) for key in keys[:count]]
    return tag("section", tag("h2", "Judgements before and after"), tag("p", intro), *shown)


def judged(rows: Sequence[SampleRow]) -> Markup:
    """Draw the section of one judge's judgements: preferences in the order in which they were judged."""
    rows = rows[:MOST_CASES]
    many = f"{len(rows)} judgements" if len(rows) > 1 else "judgement"
    intro = f"The first {many} at temperature 0, as the responses were shown, not hand-picked."
    shown = [_framed(row, [_side(row, len(_list(row, "responses")), "Judgement")]) for row in rows]
    return tag("section", tag("h2", "Judgements"), tag("p", intro), *shown)


def _case(rows: Sequence[SampleRow]) -> Markup:
    """Draw one preference: query and responses, the judgements before and after, and those in between on demand."""
    count = len(_list(rows[0], "responses"))
    ends = {_text(row, "when"): row for row in rows if row.get("when") != "during"}
    between = {_text(row, "version"): row for row in rows if row.get("when") == "during"}
    sides = [_side(ends[when], count, _stage(ends[when])) for when in ("before", "cold_start", "after") if when in ends]
    more = None
    if between:
        summary = tag("summary", f"During training, version {', '.join(between)}")
        columns = tag("div", *(_side(row, count, _stage(row)) for row in between.values()), class_="sides")
        more = tag("details", summary, columns, class_="between")
    return _framed(rows[0], sides, more)


def _stage(row: SampleRow) -> str:
    version, when = row.get("version"), _text(row, "when")
    return when.replace("_", " ").capitalize() + (f", version {version}" if isinstance(version, int) else "")


def _framed(first: SampleRow, sides: Sequence[Markup], more: Markup | None = None) -> Markup:
    """Draw query and responses with judgements below them."""
    label, answers = first.get("label"), _list(first, "responses")
    best, items = _best(label, len(answers)), list[Markup]()
    for index, answer in enumerate(answers):
        head = tag("h4", f"Response {index + 1}", _mark(label, index, len(answers)))
        items.append(tag("li", head, prose(str(answer)), class_="best" if index == best else None))
    return tag(
        "article",
        tag("h3", "Query"),
        prose(_text(first, "query"), "text query"),
        tag("ol", *items, class_="answers"),
        tag("div", *sides, class_="sides"),
        more,
        class_="case",
    )


def _side(row: SampleRow, count: int, name: str) -> Markup:
    """Draw one judgement: verdict, scores, principles and critique, or the raw completion and why it did not parse."""
    reward, verdict = row.get("reward"), None
    if finite(reward):
        right = reward > 0
        text = f"{'right' if right else 'wrong'} {reward:+g}".replace("-", "\u2212")
        verdict = tag("span", text, class_="verdict" if right else "verdict bad")
    head, failure = tag("header", tag("b", name), verdict), _text(row, "failure")
    scores = [float(score) for score in _list(row, "scores") if finite(score)]
    best = _best(row.get("label"), count)
    bars = [_score(index, score, best=index == best) for index, score in enumerate(scores)]
    body = [head, tag("div", *bars, class_="scores") if bars else None]
    if failure:
        body.append(tag("p", f"Did not parse: {failure.replace('_', ' ')}", class_="verdict bad"))
    for title, text in (("Principles", _text(row, "principles")), ("Critique", _text(row, "critique"))):
        if text:
            body += [tag("h4", title), prose(text)]
    if not (_text(row, "principles") or _text(row, "critique")):
        body += [tag("h4", "Completion"), prose(_text(row, "completion") or "(empty)")]
    return tag("div", *body, class_="side")


def _score(index: int, score: float, *, best: bool) -> Markup:
    share = min(100.0, max(0.0, 10 * score))
    track = tag("span", tag("span", class_="fill", style=f"width:{share:.0f}%"), class_="track")
    name = tag(
        "span",
        f"Response {index + 1}",
        tag("span", " \u2605", class_="mark", title="labelled best") if best else None,
    )
    return tag("div", name, track, tag("b", f"{score:g}"), class_="best" if best else None)


def _best(label: object, count: int) -> int | None:
    """Returns the index of the response labelled best; None for a single response."""
    return label if isinstance(label, int) and count > 1 else None


def _mark(label: object, index: int, count: int) -> Markup | None:
    if count == 1 and label in (0, 1):
        return tag("span", " labelled right" if label else " labelled wrong", class_="mark" if label else "mark bad")
    return tag("span", " \u2605 labelled best", class_="mark") if _best(label, count) == index else None


def prose(text: str, kind: str = "text") -> Markup:
    """Draw a text of any length: its start at once, the rest on demand; beyond LONGEST it is only counted."""
    if len(text) <= FOLD:
        return tag("div", text, class_=kind, dir="auto")
    cut = text.rfind(" ", FOLD - 60, FOLD)
    cut = FOLD if cut < 0 else cut
    over = len(text) - LONGEST
    rest = text[cut:LONGEST] + (f" [{over:,} more characters are in samples.jsonl]" if over > 0 else "")
    unfold = tag("span", f" … show all {len(text):,} characters", class_="unfold")
    head = tag("summary", tag("span", text[:cut], class_=kind, dir="auto"), unfold)
    return tag("details", head, tag("div", rest, class_=kind, dir="auto"), class_="long")


def _text(row: SampleRow, name: str) -> str:
    value = row.get(name)
    return "" if value is None else value if isinstance(value, str) else str(value)


def _list(row: SampleRow, name: str) -> Sequence[Any]:
    value = row.get(name)
    return value if isinstance(value, list) else ()
