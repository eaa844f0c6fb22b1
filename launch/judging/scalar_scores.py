"""Scores of a scalar reward model: a number for each response by itself, on disk as they come.

    preference ─▶ query and response as a chat, for each response ─▶ scalar model ─▶ judgements.jsonl ─▶ items of grm.benchmarks

A row is that of `votes.py` with one greedy judgement, which has no text and is marked `alone`: no response was shown beside
another, so there are no orders and no votes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from grm.preferences import Preference, Question, turns_of
from launch.cluster.failures import RunFailed
from launch.judging import votes
from launch.judging.protocol import JudgeGone, NotJudged
from launch.judging.votes import Notify, Row
from launch.monitoring import jsonl_log

WAVE = 256  # preferences between two writes

Chat = tuple[str, ...]
"""Message, answer, message, answer, and so on: an even number of texts, of which the last one is scored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What a scalar reward model says of a chat."""

    value: float
    """The higher, the better its last answer; of no scale in particular."""
    tokens: int = 0
    """Tokens of the chat that a server counted; 0 where it does not say, and of our own models."""


class ScalarModel(Protocol):
    """Scores in the order of the chats; one that failed is there as its error."""

    def score(self, chats: Sequence[Chat]) -> Sequence[Score | NotJudged]:
        """Returns a score for each chat, or why there is none."""
        ...


def chats_of(question: Question) -> list[Chat]:
    """Return a chat for each response: the turns of the query, and the response as the next one.

    >>> chats_of(Question(id="p", query="Why?", responses=("So.", "No.")))
    [('Why?', 'So.'), ('Why?', 'No.')]
    """
    asked = [text for _, text in turns_of(question.query)]
    return [(*asked, response) for response in question.responses]


def collect(
    model: ScalarModel, preferences: Sequence[Preference], *, path: Path, settings: Mapping[str, Any], note: Notify
) -> list[Row]:
    """Score the preferences that `path` does not hold yet. Arguments and errors as of `votes.collect`."""
    rows = votes.opened(path, settings)
    missing = [p for p in preferences if not is_scored(rows.get(p.question.id, {}), p)]
    if rows and missing and len(missing) < len(preferences):
        note(f"{len(preferences) - len(missing)} of {len(preferences)} preferences are in {path.name} already")
    for start in range(0, len(missing), WAVE):
        wave = missing[start : start + WAVE]
        chats = list(dict.fromkeys(chat for p in wave for chat in chats_of(p.question)))  # pairs share responses
        scores = model.score(chats)
        found = dict(zip(chats, scores, strict=True))
        fresh = {p.question.id: _row(p, [found[chat] for chat in chats_of(p.question)]) for p in wave}
        jsonl_log.append(path, fresh.values())
        rows |= fresh
        failed = sum("error" in rows[p.question.id] for p in missing[: start + len(wave)])
        done = len(preferences) - (len(missing) - start - len(wave)) - failed
        if gone := next((each for each in scores if isinstance(each, JudgeGone)), None):
            raise RunFailed(f"scored {done} of {len(preferences)} preferences, which are kept; then the model was gone: {gone}")
        note(f"scored {done} of {len(preferences)} preferences{f'; {failed} got no score' if failed else ''}")
    return [rows[p.question.id] for p in preferences]


def stored_rows(preferences: Sequence[Preference], *, path: Path) -> list[Row] | None:
    """Return the rows of all preferences where `path` holds them; None where one is missing."""
    rows = votes.rows_on_disk(path)
    found: list[Row] = [rows.get(p.question.id, {}) for p in preferences]
    return found if all(is_scored(row, p) for row, p in zip(found, preferences, strict=True)) else None


def is_scored(row: Row, preference: Preference) -> bool:
    """Return whether a row holds the scores of this very question."""
    return "samples" in row and votes.holds_question(row, preference)


def _row(preference: Preference, scores: Sequence[Score | NotJudged]) -> dict[str, Any]:
    head = {"id": preference.question.id, "question": votes.mark_of(preference)}
    if missed := [score for score in scores if isinstance(score, NotJudged)]:
        return {**head, "error": str(missed[0])}
    known = [score for score in scores if isinstance(score, Score)]
    sample: dict[str, Any] = {
        "kind": "greedy",
        "alone": True,
        "permutation": list(range(len(known))),
        "text": "",
        "tokens": 0,
        "finish": "stop",
        "version": 0,
        "scores": [score.value for score in known],
        "failure": "",
        "strict": True,
    }
    if counted := sum(score.tokens for score in known):
        sample["prompt_tokens"] = counted
    return {**head, "date": datetime.now(UTC).date().isoformat(), "samples": [sample]}
