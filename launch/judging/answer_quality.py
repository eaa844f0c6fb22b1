"""What a judge's answers are like, beside right or wrong: how many parse and why the others do not, copies, cost, its dates.

    rows of judgements ─▶ quality ─▶ warnings (terminal, page), table.json, a few unparsed ones to read

Pure functions of the rows on disk (`votes.py`), so that an evaluation that was cut tells the same as a whole one.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grm.judged import NO_ANSWER

Row = Mapping[str, Any]
Sample = Mapping[str, Any]

FEW_PARSED = 0.5  # below this share the figures say more about the format than about the judge
COPIES = 0.9  # share of sets of copied votes from which on no sampling is at work
TO_READ = 5  # unparsed judgements that are shown
SHOWN = 2000  # characters of one of them
_REFUSAL = re.compile(
    r"\s*(?:i(?:'|’)?m (?:very )?sorry|i apologi[sz]e|sorry,|i (?:can(?:'|’)?t|cannot|am unable to|won(?:'|’)t)\b"
    r"|as an ai\b|抱歉|对不起|很抱歉)",
    re.IGNORECASE,
)
_DECIMALS = re.compile(r"boxed\s*\{[^{}]*\d[.,]\d[^{}]*\}")
CUT, THOUGHT, REFUSED, DECIMALS = "cut at the limit", "empty beside its thought", "refused", "scores with decimals"
_REASONS = {
    "empty": "empty",
    "cut_short": CUT,
    "no_scores": "no scores",
    "no_box": "no box behind the scores",
    "unclosed_box": "box without an end",
    "empty_box": "empty box",
    "not_integers": "box without numbers",
    "wrong_count": "another number of scores than responses",
    "out_of_range": "scores outside of 1..10",
}
_REMEDIES = {
    CUT: "raise rollout.max_new_tokens",
    THOUGHT: "raise rollout.max_new_tokens, or switch thinking off with --extra-body",
    REFUSED: "read what was refused",
    DECIMALS: "use a prompt that asks for integers",
    "scores outside of 1..10": "set eval.clip_scores=true if the nearest score is meant",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Unparsed:
    """A judgement that did not parse, to be read."""

    id: str
    """Id of its preference."""
    kind: str
    """`greedy` or `vote`."""
    reason: str
    """Why, in words."""
    text: str
    """What the judge wrote, its beginning and its end."""
    thought: str
    """What it thought, where the server tells that apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerQuality:
    """The answers of one evaluation."""

    judgements: int
    """Answers."""
    parsed: int
    """Those of them that hold scores."""
    reasons: Mapping[str, int]
    """Number of the others by reason, the most frequent first."""
    unanswered: int
    """Judgements that were asked for and got no answer, in preferences that got some."""
    to_read: tuple[Unparsed, ...]
    """A few unparsed ones, of as many reasons as there are."""
    copied: int
    """Sets of votes in one order, of one preference, that are all the same text."""
    repeated: int
    """Sets of two such votes or more."""
    fingerprints: Mapping[str, int]
    """Answers by the server's `system_fingerprint`; empty where it tells none."""
    dates: tuple[str, ...]
    """The first and the last day of asking (UTC), as 2026-11-27; () in older files."""
    prompt_tokens: int
    """Tokens of prompts that the server counted; 0: it counts none, or our own engines judged."""
    completion_tokens: int
    """Tokens of the answers."""
    votes: int = 0
    """Votes that were asked for."""
    spared: int = 0
    """Votes that were not, as they could not change the best response."""

    @property
    def parsed_share(self) -> float:
        """Parsed share of the answers, 0..1; 1 where there are none."""
        return self.parsed / self.judgements if self.judgements else 1.0


def quality(rows: Sequence[Row], *, k: int | None = None) -> AnswerQuality:
    """Return what the answers in the rows of an evaluation are like; of the votes the first k of each, None: all."""
    rows = [{**row, "samples": _counting(row, k)} for row in rows]
    voted = [sum(sample["kind"] == "vote" for sample in row["samples"]) for row in rows]
    every = [(str(row["id"]), sample) for row in rows for sample in row["samples"]]
    answered = [(name, sample) for name, sample in every if sample["failure"] != NO_ANSWER]
    unparsed = [(name, sample, reason(sample)) for name, sample in answered if sample["failure"]]
    counted = Counter(why for _, _, why in unparsed)
    sets = [texts for row in rows for texts in _votes_by_order(row)]
    return AnswerQuality(
        judgements=len(answered),
        parsed=len(answered) - len(unparsed),
        reasons=dict(counted.most_common()),
        unanswered=len(every) - len(answered),
        to_read=tuple(_to_read(unparsed)),
        copied=sum(len(set(texts)) == 1 for texts in sets),
        repeated=len(sets),
        fingerprints=dict(Counter(s["fingerprint"] for _, s in answered if s.get("fingerprint")).most_common()),
        dates=_ends(sorted({row["date"] for row in rows if row.get("date")})),
        prompt_tokens=sum(sample.get("prompt_tokens", 0) for _, sample in answered),
        completion_tokens=sum(sample["tokens"] for _, sample in answered),
        votes=sum(voted),
        spared=sum(k - count for count in voted if count) if k else 0,
    )


def reason(sample: Sample) -> str:
    """Return in words why a judgement did not parse: what happened to the answer first, then what is wrong with its form.

    >>> reason({"text": "Scores: 7", "failure": "no_box", "finish": "length"})
    'cut at the limit'
    """
    if sample["finish"] == "length":
        return CUT
    if sample.get("refused") or _REFUSAL.match(sample["text"]):
        return REFUSED
    if sample["failure"] == "empty" and sample.get("thought"):
        return THOUGHT
    if sample["failure"] == "not_integers" and _DECIMALS.search(sample["text"]):
        return DECIMALS
    return failure_words(str(sample["failure"]))


def failure_words(failure: str) -> str:
    """Return in words why a text did not parse, by the name that its reader gives it."""
    return _REASONS.get(failure, failure.replace("_", " "))


def warnings(found: AnswerQuality) -> list[str]:
    """Return a sentence for each thing about the answers that a reader of the figures must know."""
    said = []
    if found.judgements and found.parsed_share < FEW_PARSED:
        said.append(
            f"only {found.parsed} of {found.judgements} judgements parsed ({found.parsed_share:.0%}): the figures below are"
            f" mostly of what did not. Why: {describe_reasons(found)}"
        )
    if found.repeated and found.copied >= COPIES * found.repeated:
        said.append(
            f"the votes are copies of each other in {found.copied} of {found.repeated} sets that share an order: the judge does"
            " not sample (its server ignores seed and temperature, or caches), and k votes are worth one in each order"
        )
    if len(found.fingerprints) > 1:
        named = ", ".join(f"{name} ({count})" for name, count in found.fingerprints.items())
        said.append(
            f"the answers came from {len(found.fingerprints)} editions of the served judge (system_fingerprint): {named}"
        )
    if found.unanswered:
        said.append(
            f"{found.unanswered} judgements of preferences that have others got no answer, and count as votes without scores;"
            " start again with the same --out to ask for them"
        )
    return said


def describe_spared(found: AnswerQuality) -> str:
    """Return how many votes early stopping has spared, as one line."""
    whole = found.votes + found.spared
    return f"{found.spared:,} of {whole:,} votes ({found.spared / whole:.0%}) were spared: they could not change the best"


def describe_reasons(found: AnswerQuality) -> str:
    """Return the reasons with their counts and what helps, as one line."""
    named = [f"{count} x {why}{f' ({_REMEDIES[why]})' if why in _REMEDIES else ''}" for why, count in found.reasons.items()]
    return ", ".join(named)


def _to_read(unparsed: Sequence[tuple[str, Sample, str]]) -> Iterator[Unparsed]:
    """Yields the first of each reason, then the first of the others, TO_READ at most."""
    first = {why: place for place, (_, _, why) in reversed(list(enumerate(unparsed)))}
    places = sorted(range(len(unparsed)), key=lambda place: (place not in first.values(), place))
    for name, sample, why in (unparsed[place] for place in places[:TO_READ]):
        text, thought = _ends_of(sample["text"]), _ends_of(sample.get("thought", ""))
        yield Unparsed(id=name, kind=sample["kind"], reason=why, text=text, thought=thought)


def _ends_of(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} […] {text[-SHOWN // 2 :]}"


def _counting(row: Row, k: int | None) -> list[Sample]:
    """Returns the judgements of a row that count: the greedy ones and the first k votes."""
    samples = row.get("samples", ())
    votes = [sample for sample in samples if sample["kind"] == "vote"]
    return [*(sample for sample in samples if sample["kind"] != "vote"), *votes[:k]]


def _votes_by_order(row: Row) -> list[list[str]]:
    """Returns the texts of the votes that share an order, where there are several."""
    texts: dict[tuple[int, ...], list[str]] = {}
    for sample in row["samples"]:
        if sample["kind"] == "vote" and sample["failure"] != NO_ANSWER:
            texts.setdefault(tuple(sample["permutation"]), []).append(sample["text"])
    return [each for each in texts.values() if len(each) > 1]


def _ends(dates: Sequence[str]) -> tuple[str, ...]:
    return (dates[0], dates[-1]) if dates else ()
