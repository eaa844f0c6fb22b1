"""Judgements of labelled preferences: one greedy and K sampled ones each, on disk as they come, then counted.

    preference ─▶ 1 greedy + K sampled, responses re-shuffled before each ─▶ judge ─▶ judgements.jsonl
                                         meta-RM (meta_scores.py) ─▶ meta.jsonl ──┴──▶ items of grm.benchmarks

This is the one way of judging: an evaluation is K = 0. A line per preference, of which the last one counts; what a file holds
is not asked again, as long as it is of the same question, and a preference with a greedy judgement is asked for its votes
alone. A preference that got no answer is there with its error: it is reported, and asked again when the evaluation is started
again.
"""

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.load import ConfigError
from configs.schema import Config
from grm.benchmarks import Item, Sample
from grm.judgement import Judgement, ParseFailure, ScoreRange, parse, unshuffle
from grm.preferences import Preference, Question
from grm.prompts import Template, example_place, render, shuffled
from launch.judging.protocol import Answer, Judge, JudgeRequest, NotJudged
from launch.monitoring import jsonl_log
from launch.setup.prompt_source import sampling_seed

Notify = Callable[[str], None]
EscapeTokens = Callable[[str], str]
Row = Mapping[str, Any]  # of one preference, as it is on disk
Asked = tuple[str, tuple[int, ...], JudgeRequest]  # preference, permutation, request
NOTES = 5  # log lines on the way


@dataclass(frozen=True, kw_only=True, slots=True)
class VotePlan:
    """How preferences are judged."""

    template: Template
    """The prompt."""
    k: int
    """Sampled judgements of each preference, beside the greedy one; 0: the greedy one alone."""
    temperature: float
    """Of the sampled ones, above 0."""
    max_new_tokens: int
    """Tokens of a judgement at most."""
    seed: int
    """Of the permutations and of the sampling."""
    wave: int
    """Preferences asked at a time."""

    def requests(
        self, question: Question, escape_special_tokens: EscapeTokens = str
    ) -> list[tuple[tuple[int, ...], JudgeRequest]]:
        """Returns (permutation, request) of the greedy judgement, then of the votes."""
        return [self.greedy(question, escape_special_tokens), *self.votes(question, escape_special_tokens)]

    def greedy(self, question: Question, escape_special_tokens: EscapeTokens = str) -> tuple[tuple[int, ...], JudgeRequest]:
        """Returns the permutation and the request for the greedy judgement; they depend on the seed and the question alone."""
        permutation = shuffled(len(question.responses), random.Random(f"greedy/{self.seed}/{question.id}"))
        return permutation, self._request(question, permutation, escape_special_tokens, samples=1, temperature=0.0)

    def votes(
        self, question: Question, escape_special_tokens: EscapeTokens = str
    ) -> list[tuple[tuple[int, ...], JudgeRequest]]:
        """Returns (permutation, request) of the votes; those that share a permutation are asked together."""
        n = len(question.responses)
        drawn = [shuffled(n, random.Random(f"vote/{self.seed}/{question.id}/{j}")) for j in range(self.k)]
        asked = []
        for permutation in dict.fromkeys(drawn):
            count = drawn.count(permutation)
            request = self._request(question, permutation, escape_special_tokens, samples=count, temperature=self.temperature)
            asked.append((permutation, request))
        return asked

    def message(self, question: Question, permutation: Sequence[int], escape_special_tokens: EscapeTokens = str) -> str:
        """Returns the text of a prompt, on the scale 1..10 for every n. escape_special_tokens: see `render`.

        All prompts of a question show one example: a judge that copies its order favours a place, which other orders undo.
        """
        return render(
            question,
            permutation,
            self.template,
            example=example_place(len(permutation), f"{self.seed}/{question.id}"),
            score_range=ScoreRange.GRADED,
            escape_special_tokens=escape_special_tokens,
        )

    def _request(
        self,
        question: Question,
        permutation: Sequence[int],
        escape_special_tokens: EscapeTokens,
        *,
        samples: int,
        temperature: float,
    ) -> JudgeRequest:
        return JudgeRequest(
            message=self.message(question, permutation, escape_special_tokens),
            samples=samples,
            temperature=temperature,
            max_new_tokens=self.max_new_tokens,
            seed=sampling_seed(f"{self.seed}/{question.id}/{permutation}"),
        )


def vote_plan(config: Config, template: Template, k: int) -> VotePlan:
    """Returns the plan of the config; a wave fills every engine twice over."""
    sequences = config.rollout.workers * config.rollout.max_groups * config.rollout.samples
    return VotePlan(
        template=template,
        k=k,
        temperature=config.eval.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=config.run.seed,
        wave=max(1, 2 * sequences // (k + 1)),
    )


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
    missing = [p for p in preferences if not _holds(rows.get(p.question.id, {}), p, plan.k)]
    if rows and missing and len(missing) < len(preferences):
        note(f"{len(preferences) - len(missing)} of {len(preferences)} preferences are in {path.name} already")
    for start in range(0, len(missing), plan.wave):
        wave = missing[start : start + plan.wave]
        begun = {p.question.id: rows[p.question.id] for p in wave if _holds(rows.get(p.question.id, {}), p, 0)}
        asked = requests_of(plan, wave, judge.escape_special_tokens, begun)
        fresh = rows_of(wave, asked, judge.judge([request for _, _, request in asked]), begun)
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
        (p.question.id, permutation, request)
        for p in preferences
        for permutation, request in (plan.votes if p.question.id in begun else plan.requests)(p.question, escape_special_tokens)
    ]


def rows_of(
    preferences: Sequence[Preference],
    asked: Sequence[Asked],
    answers: Sequence[tuple[Answer, ...] | NotJudged],
    begun: Mapping[str, Row],
) -> dict[str, dict[str, Any]]:
    """Returns {id: row} of what `requests_of` asked; a preference of which one request failed has no samples but the error."""
    rows: dict[str, dict[str, Any]] = {}
    for p in preferences:
        name = p.question.id
        rows[name] = {"id": name, "question": _mark_of(p), "samples": list(begun[name]["samples"][:1]) if name in begun else []}
    for (name, permutation, _), answered in zip(asked, answers, strict=True):
        if isinstance(answered, NotJudged):
            rows[name] = {"id": name, "question": rows[name]["question"], "error": str(answered)}
        elif "samples" in rows[name]:
            rows[name]["samples"] += [_sampled(answer, permutation) for answer in answered]
    return rows


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


def _holds(row: Row, preference: Preference, k: int) -> bool:
    """Returns whether a row holds a greedy judgement and k votes of this very question: ids are often line numbers, and
    files change."""
    return len(row.get("samples", ())) > k and row.get("question") == _mark_of(preference)


def _mark_of(preference: Preference) -> str:
    question = preference.question
    more = [question.reference, question.criteria] if question.reference or question.criteria else []
    return mark([question.query, question.responses, *more])


def mark(value: Any) -> str:
    """Returns a digest that tells JSON values apart."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _sampled(answer: Answer, permutation: tuple[int, ...]) -> dict[str, Any]:
    read = read_graded(answer.text, len(permutation))
    return {
        "permutation": permutation,
        "text": answer.text,
        "tokens": answer.tokens,
        "finish": answer.finish,
        "version": answer.version,
        "scores": unshuffle(read.scores, permutation) if isinstance(read, Judgement) else None,
        "failure": read.reason if isinstance(read, ParseFailure) else "",
    }


def read_graded(text: str, n: int) -> Judgement | ParseFailure:
    """Returns the judgement in a completion, on the scale that a `VotePlan` asks for."""
    return parse(text, n, low=ScoreRange.GRADED.low, high=ScoreRange.GRADED.high)


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
        greedy, *votes = (_sample(sample, logit) for sample, logit in zip(row["samples"], logits, strict=True))
        judged.append(
            Item(
                id=name,
                subset=preference.subset,
                label=preference.label,
                lengths=tuple(len(response) for response in preference.question.responses),
                greedy=greedy,
                votes=tuple(votes),
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
    )
