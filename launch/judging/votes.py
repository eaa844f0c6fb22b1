"""Judgements of labelled preferences: greedy ones and K sampled ones each, on disk as they come, then counted.

    preference ─▶ greedy (both orders) + K sampled (balanced orders) ─▶ judge ─▶ judgements.jsonl
                  ▲                                                                    │
                  └── with early stopping in rounds, until the best is sure ───────────┤
                                               meta-RM (meta_scores.py) ─▶ meta.jsonl ─┴─▶ vote_items.py

This is the one way of judging: an evaluation is K = 0. A line per preference, of which the last one counts; what a file holds
is not asked again, as long as it is of the same question: only the judgements that are missing are, because K has grown or
because they got no answer. A judgement without an answer is there with its error, and so is a preference without any.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.load import ConfigError
from grm.expected_scores import expected_scores
from grm.judged import NO_ANSWER
from grm.judgement import Judgement, ParseFailure, unshuffle
from grm.preferences import Preference
from launch.cluster.failures import RunFailed
from launch.judging.protocol import Answer, Answered, Judge, JudgeGone, NotJudged, one_by_one
from launch.judging.vote_plan import Asked, EscapeTokens, Kind, Place, VotePlan
from launch.monitoring import jsonl_log

Notify = Callable[[str], None]
Row = Mapping[str, Any]  # of one preference, as it is on disk
NOTES = 5  # log lines on the way


def collect(
    judge: Judge,
    plan: VotePlan,
    preferences: Sequence[Preference],
    *,
    path: Path,
    settings: Mapping[str, Any],
    note: Notify,
    show: Callable[[int], None] | None = None,
) -> list[Row]:
    """Judge the preferences of which `path` does not hold all judgements of the plan yet.

    Args:
        judge: Gives the answers.
        plan: What it is asked.
        preferences: Those to be judged, with ids of their own.
        path: A row for each preference, behind the settings.
        settings: What the judgements depend on, written at the head of the file.
        note: Gets a few log lines.
        show: Gets how many preferences were asked about, before each wave and at the end, in place of log lines.

    Returns:
        The rows of all preferences, in order: {"id", "question", "date", "samples"}, or "error" in place of the samples.

    Raises:
        ConfigError: The file was begun with other settings.
        RunFailed: The judge is gone; what it answered is on disk.
    """
    rows = opened(path, settings)
    waiting = deque(p for p in preferences if not holds_all(rows.get(p.question.id, {}), p, plan))
    if rows and waiting and len(waiting) < len(preferences):
        note(f"{len(preferences) - len(waiting)} of {len(preferences)} preferences are in {path.name} already")
    unfinished: list[Preference] = []  # with early stopping: those whose best was open after the last round
    tried: dict[str, set[Place]] = {}
    reached, failed = len(preferences) - len(waiting), 0
    while waiting or unfinished:
        if show is not None:
            show(reached)
        wave = [*unfinished, *(waiting.popleft() for _ in range(min(len(waiting), plan.wave - len(unfinished))))]
        begun = {p.question.id: row for p in wave if (row := _begun(rows.get(p.question.id, {}), p))}
        wanted = {p.question.id: lacking(begun.get(p.question.id, {}), p, plan, tried.get(p.question.id, ())) for p in wave}
        asked = requests_of(plan, wave, judge.escape_special_tokens, wanted)
        answers = judge.judge([each.request for each in asked])
        fresh = rows_of(plan, wave, asked, answers, begun)
        jsonl_log.append(path, fresh.values())
        rows |= fresh
        for name, places in wanted.items():
            tried.setdefault(name, set()).update(places)
        unfinished = [p for p in wave if lacking(fresh[p.question.id], p, plan, tried[p.question.id])]
        failed += sum("error" in row for row in fresh.values())
        before, reached = reached, len(preferences) - len(waiting) - len(unfinished)
        if gone := _gone(answers):
            done = reached - failed
            raise RunFailed(f"judged {done} of {len(preferences)} preferences, which are kept; then the judge was gone: {gone}")
        is_due = reached == len(preferences) or reached * NOTES // len(preferences) > before * NOTES // len(preferences)
        if is_due and (failed or show is None):
            note(describe_progress(plan, reached - failed, len(preferences), failed))
    if show is not None:
        show(len(preferences))
    return [rows[p.question.id] for p in preferences]


def rows_on_disk(path: Path) -> dict[str, Row]:
    """Return the rows of a file by id; none where it does not exist."""
    return {row["id"]: row for row in jsonl_log.repair_and_read(path)[1:]} if path.exists() else {}


def stored_rows(plan: VotePlan, preferences: Sequence[Preference], *, path: Path) -> list[Row] | None:
    """Return the rows of all preferences where `path` holds every judgement of the plan; None where one is missing."""
    rows = rows_on_disk(path)
    found: list[Row] = [rows.get(p.question.id, {}) for p in preferences]
    return found if all(holds_all(row, p, plan) for row, p in zip(found, preferences, strict=True)) else None


def requests_of(
    plan: VotePlan,
    preferences: Sequence[Preference],
    escape_special_tokens: EscapeTokens,
    wanted: Mapping[str, Collection[Place]] | None = None,
) -> list[Asked]:
    """Returns what is asked about the preferences, one after the other: for the judgements `wanted` of each; None: for all."""
    requests = []
    for p in preferences:
        known = set[Place]() if wanted is None else {*plan.places(p.question)} - {*wanted[p.question.id]}
        requests += plan.requests(p.question, escape_special_tokens, known=known)
    return requests


def lacking(row: Row, preference: Preference, plan: VotePlan, tried: Collection[Place] = ()) -> list[Place]:
    """Returns the judgements that are asked for next: those of the plan that a row has no answer to.

    Args:
        row: The preference's row; empty where it has none.
        preference: It.
        plan: With `early_stop`, of the votes only as many as are surely needed.
        tried: What was asked for already since this start: it is not asked for again.
    """
    row = _begun(row, preference)
    if tried and "error" in row:
        return []  # nothing at all was answered: the next start asks again
    answered = _known(row)
    left = [place for place in plan.places(preference.question) if place not in answered and place not in tried]
    cast = [vote["scores"] for i, vote in enumerate(judgements(row, "vote")[: plan.k]) if ("vote", i) in answered]
    votes = [place for place in left if place[0] == "vote"]
    due = plan.votes_due(len(preference.question.responses), cast)
    return [*(place for place in left if place[0] == "greedy"), *votes[:due]]


def rows_of(
    plan: VotePlan,
    preferences: Sequence[Preference],
    asked: Sequence[Asked],
    answers: Sequence[Answered],
    begun: Mapping[str, Row],
) -> dict[str, dict[str, Any]]:
    """Returns {id: row} of what `requests_of` asked; a preference without a single answer has no samples but the error."""
    samples: dict[str, dict[Place, dict[str, Any]]] = {}
    for p in preferences:
        row = begun.get(p.question.id, {})
        kinds: tuple[Kind, ...] = ("greedy", "vote")
        stored = {(kind, i): dict(sample) for kind in kinds for i, sample in enumerate(judgements(row, kind))}
        samples[p.question.id] = stored
    for each, answered in zip(asked, answers, strict=True):
        for place, answer in zip(each.places, one_by_one(answered, len(each.places)), strict=True):
            samples[each.id][each.kind, place] = _sampled(plan, each, answer)
    date = datetime.now(UTC).date().isoformat()
    rows: dict[str, dict[str, Any]] = {}
    for p in preferences:
        own = [sample for _, sample in sorted(samples[p.question.id].items())]
        missed = [sample["error"] for sample in own if "error" in sample]
        found = {"error": missed[0]} if own and len(missed) == len(own) else {"date": date, "samples": own}
        rows[p.question.id] = {"id": p.question.id, "question": mark_of(p), **found}
    return rows


def judgements(row: Row, kind: Kind) -> list[Mapping[str, Any]]:
    """Returns the judgements of a kind in a row, in the order in which they were asked for; none in a row with an error."""
    return [sample for sample in row.get("samples", ()) if sample.get("kind") == kind]


def settings_of(path: Path) -> dict[str, Any]:
    """Returns the settings that `path` was begun with; none when it was not."""
    lines = jsonl_log.repair_and_read(path) if path.exists() else []
    return dict(lines[0].get("settings", {})) if lines else {}


def require_same_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """ConfigError when `path` was begun with other settings than these; changes nothing."""
    if path.exists():
        _check(path, jsonl_log.repair_and_read(path), settings)


def opened(path: Path, settings: Mapping[str, Any]) -> dict[str, Row]:
    """Returns the rows of a file by id (later lines count), after checking its head; writes the head of a new one."""
    lines = jsonl_log.repair_and_read(path)
    if not lines:
        jsonl_log.append(path, [{"settings": dict(settings)}])
        return {}
    _check(path, lines, settings)
    return {row["id"]: row for row in lines[1:]}


def _check(path: Path, lines: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    begun = lines[0].get("settings", {}) if lines else dict(settings)
    other = sorted(key for key in {*settings, *begun} - {"k"} if begun.get(key) != settings.get(key))  # older files name k
    if other:
        raise ConfigError(f"{path} was begun with another {', '.join(other)}: use another folder, or remove the file")


def holds_all(row: Row, preference: Preference, plan: VotePlan) -> bool:
    """Returns whether a row holds all judgements of the plan that count, and of this very question."""
    return not lacking(row, preference, plan)


def holds_question(row: Row, preference: Preference) -> bool:
    """Returns whether a row is of this very question: ids may be numbers, and files change."""
    return row.get("question") == mark_of(preference)


def _begun(row: Row, preference: Preference) -> Row:
    """Returns the row if it is of this very question, else an empty one."""
    return row if holds_question(row, preference) else {}


def _known(row: Row) -> set[Place]:
    """Returns the judgements of a row that were answered."""
    kinds: tuple[Kind, ...] = ("greedy", "vote")
    return {(kind, i) for kind in kinds for i, sample in enumerate(judgements(row, kind)) if "error" not in sample}


def describe_progress(plan: VotePlan, done: int, of: int, failed: int = 0) -> str:
    """Returns how many preferences are judged, as a log line."""
    each = f", {'up to ' if plan.early_stop else ''}{plan.k} votes each" if plan.k else ""
    return f"judged {done} of {of} preferences{each}{f'; {failed} got no answer' if failed else ''}"


def _gone(answers: Collection[Answered]) -> JudgeGone | None:
    each = (one for answered in answers for one in (answered if isinstance(answered, tuple) else (answered,)))
    return next((one for one in each if isinstance(one, JudgeGone)), None)


def mark_of(preference: Preference) -> str:
    """Returns a digest of what a judge is asked about: rows of another text are not those of this question."""
    question = preference.question
    more = [question.reference, question.criteria] if question.reference or question.criteria else []
    return mark([question.query, question.responses, *more])


def mark(value: Any) -> str:
    """Returns a digest that tells JSON values apart."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _sampled(plan: VotePlan, asked: Asked, answer: Answer | NotJudged) -> dict[str, Any]:
    permutation = asked.permutation
    if isinstance(answer, NotJudged):
        missed = {
            "text": "",
            "tokens": 0,
            "finish": "stop",
            "version": 0,
            "scores": None,
            "failure": NO_ANSWER,
            "strict": False,
        }
        return {"kind": asked.kind, "permutation": permutation, **missed, "error": str(answer)}
    read, strict = plan.read(answer, len(permutation))
    sample: dict[str, Any] = {
        "kind": asked.kind,
        "permutation": permutation,
        "text": answer.text,
        "tokens": answer.tokens,
        "finish": answer.finish,
        "version": answer.version,
        "scores": unshuffle(read.scores, permutation) if isinstance(read, Judgement) else None,
        "failure": read.reason if isinstance(read, ParseFailure) else "",
        "strict": strict,
    }
    served: dict[str, Any] = {
        "thought": answer.thought,
        "refused": answer.refused,
        "prompt_tokens": answer.prompt_tokens,
        "fingerprint": answer.fingerprint,
    }
    sample |= {name: value for name, value in served.items() if value}
    if asked.request.alternatives and isinstance(read, Judgement):
        # where the scores are not written as the prompt asks, e.g. with decimals, they stand for themselves
        expected = expected_scores(answer.choices, read.scores) or read.scores
        sample["expected"] = unshuffle(expected, permutation)
    return sample
