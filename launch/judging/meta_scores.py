"""What the meta-RM thinks of judgements: a logit for each, on disk as they come.

rows of judgements ─ by permutation, so that a prompt is computed once ─▶ [ MetaScorer ×GPUs ] ─▶ meta.jsonl

Each scorer gets the next few preferences when it has answered, so all GPUs work until the last ones.

It reads the user's message and then a judgement, whole, as the assistant's turn, in its own chat format. The message is the
judge's prompt, on which a run's meta-RM is trained; or that of `meta_rm.template_path`, for one that was trained elsewhere. A
single response is asked about on the scale 1..10, as its judge was: a prompt for 0 or 1 before a judgement of 1..10 would be
another mismatch with training.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.schema import Config
from grm.preferences import Preference, Question
from launch.cluster import calls
from launch.cluster.failures import RunFailed
from launch.cluster.ray_cluster import Cluster
from launch.judging.vote_plan import VotePlan
from launch.judging.votes import Row, mark
from launch.monitoring import jsonl_log
from launch.setup.tokenizer import Tokenizer
from learner import checkpoint
from learner.batching import PromptGroup
from learner.meta_scorer import MetaScorer

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
    scorers = [cluster.remote(MetaScorer, gpu=True, config=config, model_path=model) for _ in range(max(1, cluster.gpus))]
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
    marks = {row["id"]: mark([row["question"], row["samples"]]) for row in rows if "samples" in row}
    known = {row["id"]: row["meta"] for row in jsonl_log.repair_and_read(path) if row.get("of") == marks.get(row["id"])}
    missing = [(p, row) for p, row in zip(preferences, rows, strict=True) if "samples" in row and p.question.id not in known]
    shards, free = deque(_shards(missing)), deque(scorers)
    running: dict[Any, tuple[Any, _Shard]] = {}  # the scorer and its preferences, by the call
    while shards or running:
        while shards and free:
            scorer, shard = free.popleft(), shards.popleft()
            asked = [entry for p, row in shard for entry in _asked(tokenizer, plan, p.question, row)]
            running[scorer.score.remote(asked)] = scorer, shard
        call, answer = calls.next_answer(list(running), limit_s=timeout_s, what="the meta-RM to score (waits.judge_s)")
        scorer, shard = running.pop(call)
        free.append(scorer)
        logits = iter(answer)
        fresh = [{"id": row["id"], "of": marks[row["id"]], "meta": _in_sample_order(row, logits)} for _, row in shard]
        jsonl_log.append(path, fresh)
        known |= {row["id"]: row["meta"] for row in fresh}
    return {row["id"]: known[row["id"]] for row in rows if row.get("id") in known}


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


def _asked(tokenizer: Tokenizer, plan: VotePlan, question: Question, row: Row) -> list[PromptGroup]:
    """Returns a prompt and its completions for each permutation, so that the prompt is computed once."""
    return [
        (
            tokenizer.encode(plan.message(question, permutation, tokenizer.escape_special_tokens)),
            [tokenizer.completion(row["samples"][i]["text"], ended=row["samples"][i]["finish"] == "stop") for i in places],
        )
        for permutation, places in _by_permutation(row).items()
    ]


def _in_sample_order(row: Row, logits: Iterator[list[float]]) -> list[float]:
    """Returns the logits of `_asked` in the order of the row's samples."""
    placed = [0.0] * len(row["samples"])
    for places in _by_permutation(row).values():
        for place, logit in zip(places, next(logits), strict=True):
            placed[place] = logit
    return placed


def _by_permutation(row: Row) -> dict[tuple[int, ...], list[int]]:
    places: dict[tuple[int, ...], list[int]] = {}
    for place, sample in enumerate(row["samples"]):
        places.setdefault(tuple(sample["permutation"]), []).append(place)
    return places
