"""What the meta-RM thinks of judgements: a logit for each, on disk as they come.

rows of judgements ─ by permutation, so that a prompt is computed once ─▶ MetaScorer ─▶ meta.jsonl

It reads the user's message and then a judgement, whole, as the assistant's turn, in its own chat format. The message is the
judge's prompt, on which a run's meta-RM is trained; or that of `meta_rm.template_path`, for one that was trained elsewhere. A
single response is asked about on the scale 1..10, as its judge was: a prompt for 0 or 1 before a judgement of 1..10 would be
another mismatch with training.
"""

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


def start_scorer(cluster: Cluster, config: Config, model: str) -> tuple[Any, Tokenizer]:
    """Start a `MetaScorer` actor and wait until its model is loaded. Errors as of `Cluster.await_all`.

    Args:
        cluster: Where it runs, on a GPU.
        config: The run's or the evaluation's.
        model: The meta-RM's folder.

    Returns:
        The actor, and the tokenizer of its texts.
    """
    scorer = cluster.remote(MetaScorer, gpu=True, config=config, model_path=model)
    tokenizer = Tokenizer(model, thinking=config.prompts.thinking)
    cluster.await_all({scorer.ready.remote(): "the meta-RM"})
    return scorer, tokenizer


def meta_scores(
    scorer: Any,
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
        scorer: A `MetaScorer` actor (`start_scorer`).
        tokenizer: The meta-RM's own; all texts are read with it, whichever model wrote them.
        plan: How it is asked: as the judge was, or with a template of its own.
        preferences: The judged ones.
        rows: Their rows, in the same order; those with an error are passed over.
        path: A row for each preference. A score counts as long as it is of the same judgements of the same question.
        timeout_s: For the scores of a wave.

    Returns:
        {preference: the meta-RM's logit of each sample}.

    Raises:
        TimeoutError: The scorer did not answer within `timeout_s`.
    """
    marks = {row["id"]: mark([row["question"], row["samples"]]) for row in rows if "samples" in row}
    known = {row["id"]: row["meta"] for row in jsonl_log.repair_and_read(path) if row.get("of") == marks.get(row["id"])}
    missing = [(p, row) for p, row in zip(preferences, rows, strict=True) if "samples" in row and p.question.id not in known]
    for start in range(0, len(missing), plan.wave):
        wave = missing[start : start + plan.wave]
        asked = [entry for p, row in wave for entry in _asked(tokenizer, plan, p.question, row)]
        what = "the meta-RM to score (waits.judge_s)"
        logits = iter(calls.answers([scorer.score.remote(asked)], limit_s=timeout_s, what=what)[0])
        fresh = [{"id": row["id"], "of": marks[row["id"]], "meta": _in_sample_order(row, logits)} for _, row in wave]
        jsonl_log.append(path, fresh)
        known |= {row["id"]: row["meta"] for row in fresh}
    return known


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
