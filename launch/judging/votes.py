"""Judgements of labelled preferences: greedy ones and K sampled ones each, on disk as they come, then counted.

    preference ─▶ greedy (both orders) + K sampled (balanced orders) ─▶ judge ─▶ judgements.jsonl
                                               meta-RM (meta_scores.py) ─▶ meta.jsonl ──┴──▶ items of grm.benchmarks

This is the one way of judging: an evaluation is K = 0. A line per preference, of which the last one counts; what a file holds
is not asked again, as long as it is of the same question, and a preference with its greedy judgements is asked for its votes
alone. A preference that got no answer is there with its error: it is reported, and asked again when the evaluation is started
again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.load import ConfigError
from grm.expected_scores import expected_scores
from grm.judged import Item, Sample
from grm.judgement import Judgement, ParseFailure, unshuffle
from grm.preferences import Preference
from launch.judging.protocol import Answer, Judge, NotJudged
from launch.judging.vote_plan import Asked, EscapeTokens, Kind, VotePlan
from launch.monitoring import jsonl_log

Notify = Callable[[str], None]
Row = Mapping[str, Any]  # of one preference, as it is on disk
NOTES = 5  # log lines on the way


def collect(
    judge: Judge, plan: VotePlan, preferences: Sequence[Preference], *, path: Path, settings: Mapping[str, Any], note: Notify
) -> list[Row]:
    """Judge the preferences of which `path` does not hold all judgements of the plan yet.

    Args:
        judge: Gives the answers.
        plan: What it is asked.
        preferences: Those to be judged, with ids of their own.
        path: A row for each preference, behind the settings.
        settings: What the judgements depend on, written at the head of the file.
        note: Gets a few log lines.

    Returns:
        The rows of all preferences, in order: {"id", "question", "samples"}, or "error" in place of the samples.

    Raises:
        ConfigError: The file was begun with other settings.
    """
    rows = _opened(path, settings)
    missing = [p for p in preferences if not _holds(rows.get(p.question.id, {}), p, plan, plan.k)]
    if rows and missing and len(missing) < len(preferences):
        note(f"{len(preferences) - len(missing)} of {len(preferences)} preferences are in {path.name} already")
    for start in range(0, len(missing), plan.wave):
        wave = missing[start : start + plan.wave]
        begun = {p.question.id: rows[p.question.id] for p in wave if _holds(rows.get(p.question.id, {}), p, plan, 0)}
        asked = requests_of(plan, wave, judge.escape_special_tokens, begun)
        fresh = rows_of(plan, wave, asked, judge.judge([each.request for each in asked]), begun)
        jsonl_log.append(path, fresh.values())
        rows |= fresh
        done, last = len(preferences) - len(missing) + start + len(wave), start + len(wave) == len(missing)
        if last or done * NOTES // len(preferences) > (done - len(wave)) * NOTES // len(preferences):
            note(f"judged {done} of {len(preferences)} preferences{f', {plan.k} votes each' if plan.k else ''}")
    return [rows[p.question.id] for p in preferences]


def requests_of(
    plan: VotePlan, preferences: Sequence[Preference], escape_special_tokens: EscapeTokens, begun: Mapping[str, Row]
) -> list[Asked]:
    """Returns what is asked about the preferences, one after the other; about those in `begun` the votes alone."""
    return [
        asked
        for p in preferences
        for asked in (plan.votes if p.question.id in begun else plan.requests)(p.question, escape_special_tokens)
    ]


def rows_of(
    plan: VotePlan,
    preferences: Sequence[Preference],
    asked: Sequence[Asked],
    answers: Sequence[tuple[Answer, ...] | NotJudged],
    begun: Mapping[str, Row],
) -> dict[str, dict[str, Any]]:
    """Returns {id: row} of what `requests_of` asked; a preference of which one request failed has no samples but the error."""
    samples: dict[str, dict[tuple[Kind, int], dict[str, Any]]] = {}
    errors: dict[str, str] = {}
    for p in preferences:
        known = judgements(begun[p.question.id], "greedy") if p.question.id in begun else []
        samples[p.question.id] = {("greedy", place): dict(sample) for place, sample in enumerate(known)}
    for each, answered in zip(asked, answers, strict=True):
        if isinstance(answered, NotJudged):
            errors[each.id] = str(answered)
            continue
        for place, answer in zip(each.places, answered, strict=True):
            samples[each.id][each.kind, place] = _sampled(plan, each, answer)
    rows: dict[str, dict[str, Any]] = {}
    for p in preferences:
        name = p.question.id
        found = {"error": errors[name]} if name in errors else {"samples": [s for _, s in sorted(samples[name].items())]}
        rows[name] = {"id": name, "question": _mark_of(p), **found}
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


def _opened(path: Path, settings: Mapping[str, Any]) -> dict[str, Row]:
    """Returns the rows of a file by id (later lines count), after checking its head; writes the head of a new one."""
    lines = jsonl_log.repair_and_read(path)
    if not lines:
        jsonl_log.append(path, [{"settings": dict(settings)}])
        return {}
    _check(path, lines, settings)
    return {row["id"]: row for row in lines[1:]}


def _check(path: Path, lines: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    begun = lines[0].get("settings", {}) if lines else dict(settings)
    if begun != dict(settings):
        other = sorted(key for key in {*settings, *begun} if begun.get(key) != settings.get(key))
        raise ConfigError(f"{path} was begun with another {', '.join(other)}: use another folder, or remove the file")


def _holds(row: Row, preference: Preference, plan: VotePlan, k: int) -> bool:
    """Returns whether a row holds the greedy judgements and k votes of this very question: ids are often line numbers, and
    files change."""
    greedy, voted = judgements(row, "greedy"), judgements(row, "vote")
    enough = len(greedy) >= plan.greedy_judgements(preference.question) and len(voted) >= k
    return enough and row.get("question") == _mark_of(preference)


def _mark_of(preference: Preference) -> str:
    return mark([preference.question.query, preference.question.responses])


def mark(value: Any) -> str:
    """Returns a digest that tells JSON values apart."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _sampled(plan: VotePlan, asked: Asked, answer: Answer) -> dict[str, Any]:
    permutation = asked.permutation
    read, strict = plan.read(answer, len(permutation))
    sample = {
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
    if asked.request.alternatives and isinstance(read, Judgement):
        # where the scores are not written as the prompt asks, e.g. with decimals, they stand for themselves
        expected = expected_scores(answer.choices, read.scores) or read.scores
        sample["expected"] = unshuffle(expected, permutation)
    return sample


def items(
    preferences: Sequence[Preference], rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Sequence[float]]
) -> list[Item]:
    """Returns what the benchmarks count, labels joined.

    Args:
        preferences: The judged ones.
        rows: Their rows, in the same order; those with an error are left out (the caller reports them).
        meta: {id: the meta-RM's logit of each sample}, where it scored them.
    """
    judged = []
    for preference, row in zip(preferences, rows, strict=True):
        if "error" in row:
            continue
        name = preference.question.id
        logits = meta.get(name, [None] * len(row["samples"]))
        read = [(each["kind"], _sample(each, logit)) for each, logit in zip(row["samples"], logits, strict=True)]
        greedy = [sample for kind, sample in read if kind == "greedy"]
        judged.append(
            Item(
                id=name,
                subset=preference.subset,
                label=preference.label,
                lengths=tuple(len(response) for response in preference.question.responses),
                greedy=greedy[0],
                opposite=greedy[1] if len(greedy) > 1 else None,
                votes=tuple(sample for kind, sample in read if kind == "vote"),
            )
        )
    return judged


def _sample(sample: Mapping[str, Any], meta: float | None) -> Sample:
    scores = sample["scores"]
    return Sample(
        scores=None if scores is None else tuple(scores),
        permutation=tuple(sample["permutation"]),
        tokens=sample["tokens"],
        failure=sample["failure"],
        meta=meta,
        strict=sample["strict"],
        expected=tuple(sample["expected"]) if "expected" in sample else None,
    )
