"""What the meta-RM thinks of judgements: a logit for each, on disk as they come.

rows of judgements ─ by permutation, so that a prompt is computed once ─▶ [ MetaScorer ×GPUs ] ─▶ meta.jsonl

Each scorer gets the next few preferences when it has answered, so all GPUs work until the last ones.

It reads the user's message and then a judgement, whole, as the assistant's turn, in its own chat format. The message is the
judge's prompt, on which a run's meta-RM is trained; or that of `meta_rm.template_path`, for one that was trained elsewhere. A
single response is asked about on the scale 1..10, as its judge was: a prompt for 0 or 1 before a judgement of 1..10 would be
another mismatch with training.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from configs.schema import Config
from grm.preferences import Preference
from launch.cluster import calls
from launch.cluster.failures import RunFailed
from launch.cluster.ray_cluster import Cluster
from launch.judging.meta_prompts import in_sample_order, meta_prompts
from launch.judging.vote_plan import VotePlan
from launch.judging.votes import Row, mark
from launch.monitoring import jsonl_log
from launch.setup.tokenizer import Tokenizer
from learner import checkpoint
from learner.batching import PromptGroup
from learner.meta_scorer import MetaScorer

Shard = TypeVar("Shard")

COMPLETIONS = 256  # of one call, about: a minute's work for a 27B model


def guiding_meta_rm(checkpoints: Path, examples: int) -> Path | None:
    """Returns the model that chooses the votes of a run; None where it has learnt nothing.

    Args:
        checkpoints: Of the run's meta-RM.
        examples: Completions that it was trained on.

    Raises:
        RunFailed: There is no checkpoint, though there should be one.
    """
    newest = checkpoint.newest(checkpoints)
    if newest is None:
        raise RunFailed(
            f"no checkpoint of the meta-RM in {checkpoints}, so the votes cannot be counted with its choice: is run.dir shared"
            " by all nodes? (meta_rm.enabled=false counts them without it)"
        )
    path, record = newest
    return path / "model" if record.version and examples else None


def start_scorers(cluster: Cluster, config: Config, model: str) -> tuple[list[Any], Tokenizer]:
    """Start a `MetaScorer` actor on each GPU and wait until their models are loaded. Errors as of `Cluster.await_all`.

    Args:
        cluster: Where they run; by then nothing else does.
        config: The run's or the evaluation's.
        model: The meta-RM's folder.

    Returns:
        The actors, on CPU one, and the tokenizer of their texts.
    """
    scorers = [cluster.remote(MetaScorer, gpus=1, config=config, model_path=model) for _ in range(max(1, cluster.gpus))]
    tokenizer = Tokenizer(model, thinking=config.prompts.thinking)
    cluster.await_all({scorer.ready.remote(): f"meta-RM scorer {number}" for number, scorer in enumerate(scorers)})
    return scorers, tokenizer


def meta_scores(
    scorers: Sequence[Any],
    tokenizer: Tokenizer,
    plan: VotePlan,
    preferences: Sequence[Preference],
    rows: Sequence[Row],
    *,
    path: Path,
    timeout_s: float,
) -> dict[str, list[float]]:
    """Score the judgements of which `path` does not hold the scores yet.

    Args:
        scorers: `MetaScorer` actors (`start_scorers`).
        tokenizer: The meta-RM's own; all texts are read with it, whichever model wrote them.
        plan: How it is asked: as the judge was, or with a template of its own.
        preferences: The judged ones.
        rows: Their rows, in the same order; those with an error are passed over.
        path: A row for each preference. A score counts as long as it is of the same judgements of the same question.
        timeout_s: In which one of the scorers must answer.

    Returns:
        {preference: the meta-RM's logit of each sample}, in the order of the rows.

    Raises:
        TimeoutError: No scorer answered within `timeout_s`.
    """
    marks, known = _marks(rows), stored_scores(rows, path)
    missing = [(p, row) for p, row in zip(preferences, rows, strict=True) if "samples" in row and p.question.id not in known]
    asked = (
        (shard, [entry for p, row in shard for entry in meta_prompts(tokenizer, plan, p.question, row["samples"])])
        for shard in _shards(missing)
    )
    for shard, answer in scored(scorers, asked, timeout_s=timeout_s, what="the meta-RM to score"):
        logits = iter(answer)
        fresh = [{"id": row["id"], "of": marks[row["id"]], "meta": in_sample_order(row["samples"], logits)} for _, row in shard]
        jsonl_log.append(path, fresh)
        known |= {row["id"]: row["meta"] for row in fresh}
    return {row["id"]: known[row["id"]] for row in rows if row.get("id") in known}


def scored(
    scorers: Sequence[Any], asked: Iterable[tuple[Shard, Sequence[PromptGroup]]], *, timeout_s: float, what: str
) -> Iterator[tuple[Shard, list[list[float]]]]:
    """Yield the logits of each shard as they come; a scorer gets the next shard when it has answered.

    Args:
        scorers: `MetaScorer` actors (`start_scorers`).
        asked: Shards with their prompts and completions, made when a scorer is free.
        timeout_s: In which one of the scorers must answer.
        what: The driver waits for it, in the error.

    Raises:
        TimeoutError: No scorer answered within `timeout_s`.
    """
    shards, free = iter(asked), deque(scorers)
    running: dict[Any, tuple[Any, Shard]] = {}  # the scorer and its shard, by the call
    while True:
        while free and (following := next(shards, None)) is not None:
            shard, prompts = following
            scorer = free.popleft()
            running[scorer.score.remote(prompts)] = scorer, shard
        if not running:
            return
        call, answer = calls.next_answer(list(running), limit_s=timeout_s, what=f"{what} (waits.judge_s)")
        scorer, shard = running.pop(call)
        free.append(scorer)
        yield shard, answer


def stored_scores(rows: Sequence[Row], path: Path) -> dict[str, list[float]]:
    """Returns the scores that `path` holds of these very judgements, as `meta_scores` does."""
    marks = _marks(rows)
    return {row["id"]: row["meta"] for row in jsonl_log.repair_and_read(path) if row.get("of", "") == marks.get(row["id"])}


def _marks(rows: Sequence[Row]) -> dict[str, str]:
    return {row["id"]: mark([row["question"], row["samples"]]) for row in rows if "samples" in row}


_Shard = list[tuple[Preference, Row]]


def _shards(missing: Sequence[tuple[Preference, Row]]) -> Iterator[_Shard]:
    """Yields what one call asks about: whole preferences, of `COMPLETIONS` or a few more."""
    shard: _Shard = []
    for pair in missing:
        shard.append(pair)
        if sum(len(row["samples"]) for _, row in shard) >= COMPLETIONS:
            yield shard
            shard = []
    if shard:
        yield shard
