"""Inference-time scaling: K judgements of each preference, on disk as they come, then meta scores, then who is right.

    preference ─▶ 1 greedy + K sampled, responses re-shuffled before each ─▶ judge ─▶ judgements.jsonl
                                                       meta-RM ─▶ meta.jsonl ──┴──▶ items of grm.benchmarks

A line per preference; what stands in a file is not asked again, as long as it is of the same question (and a meta score
of the same judgements). A preference that got no answer stands there with its error: it is reported, and asked again when
the evaluation is started again.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.load import ConfigError
from configs.schema import Config
from grm.benchmarks import Item, Sample
from grm.judgement import Judgement, ParseFailure, ScoreRange, parse, unshuffle
from grm.preferences import Preference, Question
from grm.prompts import Template, render, shuffled
from launch.judging.protocol import Answer, Ask, Judge, NotJudged
from launch.monitoring import jsonl_log
from launch.setup.prompt_source import sampling_seed
from launch.setup.tokenizer import Tokenizer

if TYPE_CHECKING:
    from learner.meta_scorer import Asked

Notify = Callable[[str], None]
EscapeTokens = Callable[[str], str]
NOTES = 5  # lines said on the way


@dataclass(frozen=True, kw_only=True, slots=True)
class VotePlan:
    """How preferences are judged. k: sampled judgements of each, beside a greedy one; wave: preferences asked at a time."""

    template: Template
    k: int
    temperature: float
    max_new_tokens: int
    seed: int
    wave: int

    def asks(self, question: Question, escape_special_tokens: EscapeTokens = str) -> list[tuple[tuple[int, ...], Ask]]:
        """(permutation, ask): the greedy one, then the votes; those that share a permutation are asked together."""
        n = len(question.responses)
        greedy = shuffled(n, random.Random(f"greedy/{self.seed}/{question.id}"))
        asked = [(greedy, self._ask(question, greedy, escape_special_tokens, samples=1, temperature=0.0))]
        drawn = [shuffled(n, random.Random(f"vote/{self.seed}/{question.id}/{j}")) for j in range(self.k)]
        for permutation in dict.fromkeys(drawn):
            count = drawn.count(permutation)
            ask = self._ask(question, permutation, escape_special_tokens, samples=count, temperature=self.temperature)
            asked.append((permutation, ask))
        return asked

    def message(self, question: Question, permutation: Sequence[int], escape_special_tokens: EscapeTokens = str) -> str:
        """The 1..10 scale for every n, as in evaluation. escape_special_tokens: see `render`."""
        return render(
            question, permutation, self.template, score_range=ScoreRange.GRADED, escape_special_tokens=escape_special_tokens
        )

    def _ask(
        self,
        question: Question,
        permutation: Sequence[int],
        escape_special_tokens: EscapeTokens,
        *,
        samples: int,
        temperature: float,
    ) -> Ask:
        return Ask(
            message=self.message(question, permutation, escape_special_tokens),
            samples=samples,
            temperature=temperature,
            max_new_tokens=self.max_new_tokens,
            seed=sampling_seed(f"{self.seed}/{question.id}/{permutation}"),
        )


def vote_plan(config: Config, template: Template, k: int) -> VotePlan:
    """As the config says; a wave fills every engine twice over."""
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
    judge: Judge, poll: VotePlan, preferences: Sequence[Preference], *, path: Path, settings: Mapping[str, Any], note: Notify
) -> list[dict[str, Any]]:
    """The rows of all preferences, in order; judges those that `path` does not hold yet.

    settings: what the judgements depend on, written at the head of the file. ConfigError when it was begun with others.
    """
    rows = _opened(path, settings)
    marks = {p.question.id: _mark([p.question.query, p.question.responses]) for p in preferences}
    missing = [p for p in preferences if not _stands(rows.get(p.question.id, {}), marks[p.question.id])]
    if rows and missing and len(missing) < len(preferences):
        note(f"{len(preferences) - len(missing)} of {len(preferences)} preferences stand in {path.name} already")
    for start in range(0, len(missing), poll.wave):
        wave = [p.question for p in missing[start : start + poll.wave]]
        asked = [
            (question.id, permutation, ask)
            for question in wave
            for permutation, ask in poll.asks(question, judge.escape_special_tokens)
        ]
        answers = judge.judge([ask for _, _, ask in asked])
        fresh: dict[str, dict[str, Any]] = {q.id: {"id": q.id, "question": marks[q.id], "samples": []} for q in wave}
        for (name, permutation, _), answered in zip(asked, answers, strict=True):
            if isinstance(answered, NotJudged):
                fresh[name] = {"id": name, "question": marks[name], "error": str(answered)}
            elif "samples" in fresh[name]:
                fresh[name]["samples"] += [_sampled(answer, permutation) for answer in answered]
        jsonl_log.append(path, fresh.values())
        rows |= fresh
        done, last = len(preferences) - len(missing) + start + len(wave), start + len(wave) == len(missing)
        if last or done * NOTES // len(preferences) > (done - len(wave)) * NOTES // len(preferences):
            note(f"judged {done} of {len(preferences)} preferences, {poll.k} votes each")
    return [rows[p.question.id] for p in preferences]


def _opened(path: Path, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a file by id (later lines win), after checking its head; writes the head of a new one."""
    found = jsonl_log.repair_and_read(path)
    if not found:
        jsonl_log.append(path, [{"settings": dict(settings)}])
        return {}
    begun = found[0].get("settings", {})
    if begun != dict(settings):
        other = sorted(key for key in {*settings, *begun} if begun.get(key) != settings.get(key))
        raise ConfigError(f"{path} was begun with another {', '.join(other)}: use another folder, or remove the file")
    return {row["id"]: row for row in found[1:]}


def _stands(row: Mapping[str, Any], mark: str) -> bool:
    """Whether a row holds judgements of this very question: ids are often line numbers, and files change."""
    return "samples" in row and row.get("question") == mark


def _mark(value: Any) -> str:
    """A digest that tells JSON values apart."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _sampled(answer: Answer, permutation: tuple[int, ...]) -> dict[str, Any]:
    read = parse(answer.text, len(permutation), low=ScoreRange.GRADED.low, high=ScoreRange.GRADED.high)
    return {
        "permutation": permutation,
        "text": answer.text,
        "tokens": answer.tokens,
        "finish": answer.finish,
        "scores": unshuffle(read.scores, permutation) if isinstance(read, Judgement) else None,
        "failure": read.reason if isinstance(read, ParseFailure) else "",
    }


def meta_scores(
    scorer: Any,
    tokenizer: Tokenizer,
    poll: VotePlan,
    preferences: Sequence[Preference],
    rows: Sequence[Mapping[str, Any]],
    *,
    path: Path,
    timeout_s: float,
) -> dict[str, list[float]]:
    """{preference: the meta-RM's logit of each sample}; scores what `path` does not hold yet.

    scorer: a `MetaScorer` actor; tokenizer: the meta-RM's own. Texts are read with it, whoever wrote them.
    """
    import ray  # a judge that is served elsewhere needs none

    marks = {row["id"]: _mark(row["samples"]) for row in rows if "samples" in row}
    known = {row["id"]: row["meta"] for row in jsonl_log.repair_and_read(path) if row.get("of") == marks.get(row["id"])}
    missing = [(p, row) for p, row in zip(preferences, rows, strict=True) if "samples" in row and p.question.id not in known]
    for start in range(0, len(missing), poll.wave):
        wave = missing[start : start + poll.wave]
        asked = [one for p, row in wave for one in _asked(tokenizer, poll, p.question, row)]
        try:
            logits = iter(ray.get(scorer.score.remote(asked), timeout=timeout_s))
        except ray.exceptions.GetTimeoutError as error:
            raise TimeoutError(f"the driver waited {timeout_s:.0f} s for the meta-RM to score (waits.judge_s)") from error
        fresh = [{"id": row["id"], "of": marks[row["id"]], "meta": _in_place(row, logits)} for _, row in wave]
        jsonl_log.append(path, fresh)
        known |= {row["id"]: row["meta"] for row in fresh}
    return known


def _asked(tokenizer: Tokenizer, poll: VotePlan, question: Question, row: Mapping[str, Any]) -> list[Asked]:
    """A prompt and its completions for each permutation, so that the prompt is computed once."""
    return [
        (
            tokenizer.encode(poll.message(question, permutation, tokenizer.escape_special_tokens)),
            [tokenizer.completion(row["samples"][i]["text"], ended=row["samples"][i]["finish"] == "stop") for i in places],
        )
        for permutation, places in _by_permutation(row).items()
    ]


def _in_place(row: Mapping[str, Any], logits: Iterator[list[float]]) -> list[float]:
    """The logits of `_asked` in the order of the row's samples."""
    placed = [0.0] * len(row["samples"])
    for places in _by_permutation(row).values():
        for place, logit in zip(places, next(logits), strict=True):
            placed[place] = logit
    return placed


def _by_permutation(row: Mapping[str, Any]) -> dict[tuple[int, ...], list[int]]:
    places: dict[tuple[int, ...], list[int]] = {}
    for place, sample in enumerate(row["samples"]):
        places.setdefault(tuple(sample["permutation"]), []).append(place)
    return places


def items(
    preferences: Sequence[Preference], rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Sequence[float]]
) -> list[Item]:
    """What the benchmarks count, labels joined; preferences without an answer are left out (the caller reports them)."""
    found = []
    for preference, row in zip(preferences, rows, strict=True):
        if "error" in row:
            continue
        name = preference.question.id
        logits = meta.get(name, [None] * len(row["samples"]))
        greedy, *votes = (_sample(sample, logit) for sample, logit in zip(row["samples"], logits, strict=True))
        found.append(
            Item(
                id=name,
                subset=preference.subset,
                label=preference.label,
                lengths=tuple(len(response) for response in preference.question.responses),
                greedy=greedy,
                votes=tuple(votes),
            )
        )
    return found


def _sample(sample: Mapping[str, Any], meta: float | None) -> Sample:
    scores = sample["scores"]
    return Sample(
        scores=None if scores is None else tuple(scores),
        permutation=tuple(sample["permutation"]),
        tokens=sample["tokens"],
        failure=sample["failure"],
        meta=meta,
    )
