"""The cold start's second half: from sampled judgements to a fine-tuned policy.

sampled.jsonl ─kept─┐
                    ├▶ dataset.jsonl ─▶ SFTLearner xW ─▶ checkpoints/ ─▶ model (the one that cold_start.select means)
general data ───────┘
"""

import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from buffer import json_lines
from buffer.json_lines import JsonLines
from configs.schema import Config
from grm.instructions import Instruction
from grm.rejection import is_kept, surplus
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


def write_dataset(
    path: Path,
    sampled: Path,
    mixed: Iterable[Instruction],
    tokenizer: Tokenizer,
    limit: int,
    *,
    balanced: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Write the examples to train on, all or none; no file is in memory as a whole.

    Args:
        path: Of the data set.
        sampled: The cold start's `sampled.jsonl`.
        mixed: General data.
        tokenizer: The policy's.
        limit: Most tokens of a prompt and its completion. A longer example is left out and counted.
        balanced: Label of each preference, by which the places of the best responses are balanced. None: they are not.

    Returns:
        The number of examples of each kind and of those left out: under `too_long`, and with `balanced` under `surplus`.
    """
    counts = dict.fromkeys(("plain", "hinted", "general", "too_long"), 0)
    left_out = set() if balanced is None else _surplus(sampled, balanced)
    if balanced is not None:
        counts["surplus"] = len(left_out)
    examples = chain(_kept(sampled, tokenizer, left_out), _general(mixed, tokenizer))
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


def _surplus(sampled: Path, labels: Mapping[str, int]) -> set[tuple[str, bool, int]]:
    """Returns preference, hinted and number of the kept judgements to leave out, so that no place of the best is favoured."""
    kept = []
    for _, row in json_lines.rows(sampled):
        orders, name = [view["permutation"] for view in row["views"]], row["preference"]
        for number, completion in enumerate(row["completions"]):
            order = orders[completion["view"]]
            if is_kept(completion["verdict"]):
                kept.append(((name, row["hinted"], number), (len(order), order.index(labels[name]) if len(order) > 1 else 0)))
    kept.sort()
    left_out = surplus([shown for _, shown in kept])
    return {key for index, (key, _) in enumerate(kept) if index in left_out}


def _kept(sampled: Path, tokenizer: Tokenizer, left_out: Container[tuple[str, bool, int]]) -> Iterator[dict[str, Any]]:
    """Yield the judgements that were kept. A hinted one stands under the plain prompt: the hint is in no training text."""
    # Sorted: the order in which groups came depends on the machine, and the batches must not.
    order = sorted((row["preference"], row["hinted"], offset) for offset, row in json_lines.rows(sampled))
    for group in JsonLines(sampled, (offset for _, _, offset in order)):
        for number, completion in enumerate(group["completions"]):
            if is_kept(completion["verdict"]) and (group["preference"], group["hinted"], number) not in left_out:
                prompt_ids = group["views"][completion["view"]]["prompt_ids"]
                yield {
                    "kind": "hinted" if group["hinted"] else "plain",
                    "preference": group["preference"],
                    "prompt": tokenizer.decode(prompt_ids),
                    "completion": completion["text"],
                    "prompt_ids": prompt_ids,
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
    beside: Mapping[str, str],
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
        beside: The files that lie beside the weights of its models (see `SFTLearner`).
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
        ranks = _ranks(cluster, config, model, folder, beside)
        try:
            status = _run_to_end(cluster, config, ranks, judged, on_step)
            return _link_best_model(folder), status
        except CallFailed as error:
            note(f"the fine-tuning died ({error}): started again, {tries.died(error)}")
        finally:
            cluster.end(ranks)


def fitting_ranks(config: Config, held_gpus: int, checkpoints: Path) -> int:
    """Returns how many ranks fine-tune: one on each GPU that the run holds, as nothing else runs by then. One that goes on has
    as many as it began with: its checkpoint is divided among them.

    Args:
        config: The run's; at least `learner.ranks` are given.
        held_gpus: GPUs that the run holds from its start; 0 on CPU, and where its parts share one.
        checkpoints: Of the fine-tuning.
    """
    begun = checkpoint.newest(checkpoints)
    return begun[1].ranks if begun is not None else max(config.learner.ranks, held_gpus)


def _ranks(cluster: Cluster, config: Config, model: str, folder: Path, beside: Mapping[str, str]) -> list[Any]:
    world = fitting_ranks(config, cluster.held_gpus, folder / "checkpoints")
    return [
        cluster.remote(
            SFTLearner,
            gpus=1,
            config=config,
            rank=rank,
            world=world,
            model_path=model,
            dataset=folder / "dataset.jsonl",
            checkpoints=folder / "checkpoints",
            beside=beside,
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
            + (", or set cold_start.balance=false: all that were kept favour one place" if counts.get("surplus") else "")
        )
