"""The cold start's second half: from sampled judgements to a fine-tuned policy.

sampled.jsonl ─kept─┐
                    ├▶ dataset.jsonl ─▶ SFTLearner xW ─▶ checkpoints/ ─▶ model (the one that cold_start.select means)
general data ───────┘
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from buffer import json_lines
from buffer.json_lines import JsonLines
from configs.schema import Config
from grm.instructions import Instruction
from grm.rejection import is_kept
from launch.cluster import calls
from launch.cluster.failures import CallFailed, RunFailed
from launch.cluster.ray_cluster import Cluster
from launch.cluster.tries import Tries
from launch.driver.sft_judging import JudgedPrompts
from launch.monitoring import jsonl_log
from launch.setup.tokenizer import Tokenizer
from learner import checkpoint
from learner.generation import in_order
from learner.sft import SFTLearner, SFTReport, SFTStatus

ASKED = {"step": "a step", "judge": "the judgements", "settle": "a checkpoint", "status": "the status"}


def write_dataset(path: Path, sampled: Path, mixed: Iterable[Instruction], tokenizer: Tokenizer, limit: int) -> dict[str, int]:
    """Write the examples to train on, all or none; no file is in memory as a whole.

    Args:
        path: Of the data set.
        sampled: The cold start's `sampled.jsonl`.
        mixed: General data.
        tokenizer: The policy's.
        limit: Most tokens of a prompt and its completion. A longer example is left out and counted.

    Returns:
        The number of examples of each kind and, under `too_long`, of those left out.
    """
    counts = dict.fromkeys(("plain", "hinted", "general", "too_long"), 0)
    examples = chain(_kept(sampled, tokenizer), _general(mixed, tokenizer))
    draft = path.with_suffix(".unfinished")
    draft.unlink(missing_ok=True)
    jsonl_log.append(draft, _fitting(examples, limit, counts))
    draft.rename(path)
    return counts


def _fitting(examples: Iterable[dict[str, Any]], limit: int, counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the examples of at most `limit` tokens; count all of them in `counts`."""
    for example in examples:
        fits = len(example["prompt_ids"]) + len(example["completion_ids"]) <= limit
        counts[example["kind"] if fits else "too_long"] += 1
        if fits:
            yield example


def _kept(sampled: Path, tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """Yield the judgements that were kept. A hinted one stands under the plain prompt: the hint is in no training text."""
    # Sorted: the order in which groups came depends on the machine, and the batches must not.
    order = sorted((row["preference"], row["hinted"], offset) for offset, row in json_lines.rows(sampled))
    for group in JsonLines(sampled, (offset for _, _, offset in order)):
        for completion in group["completions"]:
            if is_kept(completion["verdict"]):
                yield {
                    "kind": "hinted" if group["hinted"] else "plain",
                    "preference": group["preference"],
                    "prompt": tokenizer.decode(group["prompt_ids"]),
                    "completion": completion["text"],
                    "prompt_ids": group["prompt_ids"],
                    "completion_ids": completion["ids"],
                }


def _general(mixed: Iterable[Instruction], tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    for instruction in mixed:
        yield {
            "kind": "general",
            "prompt": instruction.prompt,
            "completion": instruction.completion,
            "prompt_ids": tokenizer.encode(tokenizer.escape_special_tokens(instruction.prompt)),
            "completion_ids": tokenizer.completion(instruction.completion),
        }


def fine_tune(
    cluster: Cluster,
    config: Config,
    *,
    model: str,
    folder: Path,
    judged: JudgedPrompts | None = None,
    on_report: Callable[[SFTReport], None],
    note: Callable[[str], None],
) -> tuple[Path, SFTStatus]:
    """Fine-tune `model` on folder/dataset.jsonl until `cold_start.select` has its version.

    Killed and started again, it resumes from its newest checkpoint and ends with the same model. When a rank dies, all ranks
    are started again, as often as `Tries` allows.

    Args:
        cluster: Where the ranks run.
        config: The run's.
        model: Folder or hub name of the model to fine-tune.
        folder: Of the cold start.
        judged: What is judged at each measurement, with `cold_start.select=accuracy`.
        on_report: Gets the report of each optimiser step.
        note: Gets a sentence about each death.

    Returns:
        The folder of the best model, and the status of the fine-tuning at its end.

    Raises:
        RunFailed: It died too often, or for a reason that a restart does not remove.
        TimeoutError: A step took longer than `waits.progress_s`.
    """
    tries = Tries("the fine-tuning", config.cluster.restarts)

    def on_step(report: SFTReport) -> None:
        tries.reached(report.version)
        on_report(report)

    while True:
        ranks = _ranks(cluster, config, model, folder)
        try:
            status = _run_to_end(cluster, config, ranks, judged, on_step)
            return _link_best_model(folder), status
        except CallFailed as error:
            note(f"the fine-tuning died ({error}): started again, {tries.died(error)}")
        finally:
            cluster.end(ranks)


def _ranks(cluster: Cluster, config: Config, model: str, folder: Path) -> list[Any]:
    world = config.learner.ranks
    return [
        cluster.remote(
            SFTLearner,
            gpu=True,
            config=config,
            rank=rank,
            world=world,
            model_path=model,
            dataset=folder / "dataset.jsonl",
            checkpoints=folder / "checkpoints",
        )
        for rank in range(world)
    ]


def _run_to_end(
    cluster: Cluster,
    config: Config,
    ranks: Sequence[Any],
    judged: JudgedPrompts | None,
    on_report: Callable[[SFTReport], None],
) -> SFTStatus:
    cluster.await_all({ref: f"sft-{rank}" for rank, ref in enumerate(cluster.start_ranks(ranks))})

    limit_s = config.waits.progress_s

    def asked(method: str, *arguments: Any) -> list[Any]:
        what = f"{ASKED[method]} of the fine-tuning (waits.progress_s)"
        return calls.answers([getattr(rank, method).remote(*arguments) for rank in ranks], limit_s=limit_s, what=what)

    def settled(prompts: JudgedPrompts) -> tuple[float, SFTStatus]:
        accuracy = prompts.accuracy(in_order(asked("judge", prompts.request()), len(prompts.drafts)))
        return accuracy, asked("settle", accuracy)[0]

    if judged is not None and asked("status")[0].unsettled:
        settled(judged)
    while (report := asked("step")[0]) is not None:
        if judged is not None and report.unsettled:
            accuracy, status = settled(judged)
            report = replace(report, best=status.best, metrics=report.metrics | {"sft/heldout_accuracy": accuracy})
        on_report(report)
    ended: SFTStatus = asked("status")[0]
    return ended


def _link_best_model(folder: Path) -> Path:
    """Link folder/model to the newest checkpoint's model, which is the best one; return the link."""
    newest = checkpoint.newest(folder / "checkpoints")
    if newest is None:
        raise RunFailed(f"the fine-tuning left no checkpoint in {folder / 'checkpoints'}")
    link, draft = folder / "model", folder / "model.unfinished"
    draft.unlink(missing_ok=True)
    draft.symlink_to(os.path.relpath(newest[0] / "model", folder))
    draft.rename(link)
    return link


def require_examples(counts: Mapping[str, int], verdicts: Mapping[str, int]) -> None:
    """Raise RunFailed when no judgement was kept: there is nothing to train on."""
    if not counts["plain"] + counts["hinted"]:
        raise RunFailed(
            f"the cold start kept none of its judgements ({dict(verdicts)}): sample more preferences, set"
            " cold_start.hinted=true, or choose a prompts.style that the model can follow"
        )
