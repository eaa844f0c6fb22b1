"""The cold start's second half: from sampled judgements to a fine-tuned policy.

sampled.jsonl ─kept─┐
                    ├▶ dataset.jsonl ─▶ SFTLearner xW ─▶ checkpoints/ ─▶ model (the one of lowest held-out loss)
general data ───────┘
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.schema import Config
from grm.instructions import Instruction
from grm.rejection import is_kept
from launch.cluster import calls
from launch.cluster.failures import ActorLost, RunFailed
from launch.cluster.ray_cluster import Cluster
from launch.monitoring import jsonl_log
from launch.setup.tokenizer import Tokenizer
from learner import checkpoint
from learner.sft import SFTLearner, SFTReport, SFTStatus


def write_dataset(
    path: Path, sampled: Iterable[Mapping[str, Any]], mixed: Sequence[Instruction], tokenizer: Tokenizer, limit: int
) -> dict[str, int]:
    """Write what is to be learnt, whole or not at all; examples by kind. An instruction of more than `limit` tokens is
    left out and counted."""
    rows = [*_kept(sampled, tokenizer), *_general(mixed, tokenizer)]
    fitting = [row for row in rows if len(row["prompt_ids"]) + len(row["completion_ids"]) <= limit]
    draft = path.with_suffix(".unfinished")
    draft.unlink(missing_ok=True)
    jsonl_log.append(draft, fitting)
    draft.rename(path)
    counts = {kind: sum(row["kind"] == kind for row in fitting) for kind in ("plain", "hinted", "general")}
    return counts | {"too_long": len(rows) - len(fitting)}


def _kept(sampled: Iterable[Mapping[str, Any]], tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """The judgements that passed. A hinted one stands under the plain prompt: the hint is in no training text."""
    # Sorted: the order in which groups came depends on the machine, and the batches must not.
    for group in sorted(sampled, key=lambda row: (row["preference"], row["hinted"])):
        for one in group["completions"]:
            if is_kept(one["verdict"]):
                yield {
                    "kind": "hinted" if group["hinted"] else "plain",
                    "preference": group["preference"],
                    "prompt": tokenizer.decode(group["prompt_ids"]),
                    "completion": one["text"],
                    "prompt_ids": group["prompt_ids"],
                    "completion_ids": one["ids"],
                }


def _general(mixed: Sequence[Instruction], tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    for one in mixed:
        yield {
            "kind": "general",
            "prompt": one.prompt,
            "completion": one.completion,
            "prompt_ids": tokenizer.encode(tokenizer.escape_special_tokens(one.prompt)),
            "completion_ids": tokenizer.completion(one.completion),
        }


def fine_tune(
    cluster: Cluster,
    config: Config,
    *,
    model: str,
    folder: Path,
    on_report: Callable[[SFTReport], None],
    note: Callable[[str], None],
) -> tuple[Path, SFTStatus]:
    """Fine-tune `model` on folder/dataset.jsonl until the held-out loss is at its lowest; the folder of the best model,
    and where the fine-tuning stood when it ended.

    Killed and started again, it goes on from its newest checkpoint and ends with the same model. When a rank dies all of
    them are started again, up to `cluster.restarts` times; then RunFailed. note: told of each death.
    """
    for death in range(config.cluster.restarts + 1):
        ranks = _ranks(cluster, config, model, folder)
        try:
            status = _trained(cluster, config, ranks, on_report)
            break
        except calls.FATAL as error:
            raise RunFailed(f"the fine-tuning failed: {error}") from error
        except ActorLost as error:
            if death == config.cluster.restarts:
                what = f"the fine-tuning failed {death + 1} times (cluster.restarts)"
                raise RunFailed(f"{what}; the last time: {error}") from error
            note(f"the fine-tuning died ({error.reason}): started again, try {death + 1} of {config.cluster.restarts}")
        finally:
            cluster.end(ranks)
    return _linked(folder), status


def _ranks(cluster: Cluster, config: Config, model: str, folder: Path) -> list[Any]:
    world = config.learner.ranks
    return [
        cluster.remote(
            SFTLearner,
            {},
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


def _trained(cluster: Cluster, config: Config, ranks: Sequence[Any], on_report: Callable[[SFTReport], None]) -> SFTStatus:
    cluster.await_all({ref: f"sft-{rank}" for rank, ref in enumerate(cluster.start_ranks(ranks))})
    limit_s, what = config.waits.progress_s, "a step of the fine-tuning (waits.progress_s)"
    while (report := calls.answers([rank.step.remote() for rank in ranks], limit_s=limit_s, what=what)[0]) is not None:
        on_report(report)
    status: SFTStatus = calls.answers([ranks[0].status.remote()], limit_s=limit_s, what=what)[0]
    return status


def _linked(folder: Path) -> Path:
    """A name that lasts for the newest checkpoint's model, which is the best one."""
    found = checkpoint.newest(folder / "checkpoints")
    if found is None:
        raise RunFailed(f"the fine-tuning left no checkpoint in {folder / 'checkpoints'}")
    link, draft = folder / "model", folder / "model.unfinished"
    draft.unlink(missing_ok=True)
    draft.symlink_to(os.path.relpath(found[0] / "model", folder))
    draft.rename(link)
    return link


def require_some(counts: Mapping[str, int], verdicts: Mapping[str, int]) -> None:
    """RunFailed when nothing was kept: there is nothing to learn from."""
    if not counts["plain"] + counts["hinted"]:
        raise RunFailed(
            f"the cold start kept none of its judgements ({dict(verdicts)}): sample more preferences, set"
            " cold_start.hinted=true, or choose a prompts.style that the model can follow"
        )
