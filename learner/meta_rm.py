"""The meta-RM learner: from the same experience, a model that scores whether a judgement is right.

    first: batches of the cold start's samples ─────────────┐
    then:  [experience] ─claim─▶ whole groups ─parsed.py────┴▶ BCE on "was it right" (reward > 0) ─▶ checkpoint ─▶ acknowledge

One logit per (prompt, completion), trained on every parsed completion of the stream: groups without policy gradient teach it as
much as the others. An entry is acknowledged once a checkpoint contains it (I3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from buffer.streams import Address
from configs.schema import Config
from grm.statistics import auc, auc_within
from learner import batching, losses, models
from learner.adapters import adapted
from learner.base import Learner, begun_whole
from learner.batching import Tokens
from learner.checkpoint import Record
from learner.cold_start_batches import ColdStartBatches
from learner.deepspeed_engine import Engine, NotFinite
from learner.deepspeed_settings import deepspeed_settings
from learner.experience import ReceivedGroup, pack, unpack
from learner.meta_intake import MetaIntake
from learner.parsed import ParsedCompletions, parsed_completions
from learner.prompt_groups import by_prompt
from learner.ranks import Ranks
from learner.shared_prefix import hidden_states, supports_shared_prefix


@dataclass(frozen=True, kw_only=True, slots=True)
class MetaRMReport:
    """One optimiser step of the meta-RM."""

    version: int
    """Optimiser steps so far, this one included."""
    groups: tuple[int, ...]
    """Groups of the stream that were trained on; none in a batch of the cold start's samples."""
    completions: int
    """Parsed completions that were trained on."""
    metrics: dict[str, float]
    """`meta_rm/{loss,accuracy,auc,auc_within}` of this batch *before* it was trained on (`auc` is missing when all of it was
    right or all wrong, `auc_within` when that is so of each preference); on rank 0 also `meta_rm/{backlog,skipped}`, in
    groups."""


class CorrectnessLogits(nn.Module):
    """One logit per completion, read at its last token: sigmoid(logit) estimates P(the judgement is right)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tokens) -> Tensor:
        """Return the logits, [completions] float32."""
        logits: Tensor = self.model.score(hidden_states(self.model, tokens)[tokens.ends])
        return logits.squeeze(-1).float()


class MetaRMUpdate:
    """The meta-RM and its optimiser step; independent of the buffer."""

    def __init__(self, config: Config, ranks: Ranks, model_path: str) -> None:
        self._config, self._ranks = config, ranks
        meta_rm = config.meta_rm
        settings = deepspeed_settings(config, zero_stage=meta_rm.zero_stage, lr=meta_rm.lr, warmup_steps=meta_rm.warmup_steps)

        def build() -> CorrectnessLogits:
            model = models.load_classifier(model_path, config.dtype, config.cluster.device)
            return CorrectnessLogits(adapted(model, rank=config.learner.lora_rank, seed=config.run.seed))

        self.engine = Engine(build, settings, ranks)

    def apply(self, groups: Sequence[ParsedCompletions]) -> dict[str, float]:
        """Take one optimiser step on every completion of `groups`; return its metrics before it. A collective.

        Raises:
            NotFinite: no step was taken.
        """
        completions = [ids for group in groups for ids in group.completion_ids]
        correct = [reward > 0 for group in groups for reward in group.rewards]
        micro_batches = batching.micro_batches_of_rank(
            by_prompt(groups),
            self._config.meta_rm.micro_tokens,
            share=supports_shared_prefix(self.engine.module.model.config),
            rank=self._ranks.rank,
            ranks=self._ranks.world,
        )
        sums = torch.zeros(len(completions) + 1, dtype=torch.float64)  # this rank's logits in their places, and its loss
        for number, rows in enumerate(micro_batches):
            tokens = batching.collate(rows, completions).to(self._ranks.device)
            indices = [index for row in rows for index in row.completions]
            logits: Tensor = self.engine(tokens)
            labels = torch.tensor([float(correct[i]) for i in indices] or [0.0], device=logits.device)
            coefficient = 1.0 / len(completions) if indices else 0.0
            loss = losses.correctness_loss(logits, labels, torch.full_like(labels, coefficient))
            self.engine.backward(loss, last=number == len(micro_batches) - 1)
            sums[-1] += loss.item()
            if indices:
                sums[indices] = logits.detach().cpu().double()
        self.engine.step()
        *all_logits, total_loss = self._ranks.sum(sums).tolist()
        preferences = [group.preference for group in groups for _ in group.rewards]
        return {"meta_rm/loss": total_loss, **_quality(all_logits, correct, preferences)}


class MetaRMLearner(Learner):
    """One rank of the meta-RM learner (see `Learner`): reads the stream too, and never delays the policy.

    A batch that is skipped counts as a step: a batch of the cold start's samples would come again.
    """

    def __init__(
        self,
        config: Config,
        *,
        rank: int,
        world: int,
        model_path: str,
        address: Address,
        checkpoints: Path,
        beside: Mapping[str, str] | None = None,
        cold_start_samples: Path | None = None,
        other_ends: Mapping[int, int] = MappingProxyType({}),
        stacks: str = "",
    ) -> None:
        """Prepare a rank; `start` loads the model.

        Args:
            config: of the run.
            rank: number of this rank.
            world: how many ranks there are.
            model_path: what the meta-RM starts from: the policy's start.
            address: of the run's streams.
            checkpoints: a folder that all ranks share.
            beside: {name: text} of files that lie beside the weights in each model's folder, as a model card.
            cold_start_samples: the cold start's `sampled.jsonl`, its first batches; all ranks share this file, too.
            other_ends: see `parsed_completions`.
            stacks: see `Heartbeat`.
        """
        stage = config.meta_rm.zero_stage
        place = {"rank": rank, "world": world, "zero_stage": stage}
        super().__init__(config, **place, model_path=model_path, checkpoints=checkpoints, beside=beside)
        self._address, self._stacks, self._other_ends = address, stacks, other_ends
        self._first = ColdStartBatches(cold_start_samples, config.meta_rm.batch) if cold_start_samples else ()

    def start(self, host: str, port: int, gpu: int = 0) -> None:
        """Join the ranks and load the model (and the newest checkpoint, if there is one)."""
        self._update = self._load(host, port, gpu, begun_whole(MetaRMUpdate))
        contained = self._resume()
        if self._rank == 0:
            self._intake = MetaIntake(self._config, self._address, self._vocabulary)
            self._intake.recover(contained)
        self._heartbeat = self._start_heartbeat(self._address, f"meta-rm-{self._rank}", self._stacks)

    def step(self, seconds: float) -> MetaRMReport | None:
        """Take one optimiser step; return None when too few completions arrived within `seconds`, or it was skipped."""
        self._finish_writing(wait=False)
        if self.version < len(self._first):  # the same on all ranks, and the next one after a restart
            if self._rank == 0:
                self._intake.bound_backlog()
            return self._train(self._first[self.version], f"batch {self.version} of the cold start's samples")
        with self._heartbeat.activity("wait for experience"):
            batch = self._intake.wait(seconds) if self._rank == 0 else []
            message = self._ranks.broadcast_bytes(pack(batch))
        if not message:
            return None
        groups = unpack(message, self._config.max_entry_bytes)
        return self._train(
            parsed_completions(groups, self._other_ends), f"groups {[group.group for group in groups]}", batch, message
        )

    def _train(
        self, groups: Sequence[ParsedCompletions], name: str, batch: Sequence[ReceivedGroup] = (), message: bytes = b""
    ) -> MetaRMReport | None:
        """Take one optimiser step; return None when it was skipped.

        Args:
            groups: to train on.
            name: `groups` in words.
            batch: the same as rank 0 received them from the stream.
            message: the same as `pack` encoded them.
        """
        metrics: dict[str, float] | None = None
        try:
            with self._heartbeat.activity("train"):
                metrics = self._update.apply(groups)
        except NotFinite:
            self._skip(name, replay=message, name="not-finite-meta-rm")
            self.version += 1
        else:
            self._advance()
        self._heartbeat.version, self._heartbeat.done = self.version, self._heartbeat.done + len(groups)
        if self._rank == 0:
            self._intake.trained(batch)
        if self.version % self._config.learner.checkpoint_every == 0:
            self._save()
        if metrics is None:
            return None
        if self._rank == 0:
            metrics |= self._intake.metrics()
        return MetaRMReport(
            version=self.version,
            groups=tuple(received.group.group for received in batch),
            completions=sum(len(group.rewards) for group in groups),
            metrics=metrics,
        )

    def save(self) -> None:
        """Write a checkpoint, unless there is one of this version already; return when it is on disk and acknowledged."""
        if self.version != self._saved_version:
            self._save()
        with self._heartbeat.activity("save"):
            self._finish_writing()

    def _save(self) -> None:
        """Begin a checkpoint."""
        with self._heartbeat.activity("save"):
            self._write(self._whole_state(), lambda: self._intake.unacknowledged)

    def _written(self, record: Record) -> None:
        """Acknowledge what is in a checkpoint, only now that it is whole on disk (I3)."""
        if self._rank == 0:
            self._intake.saved(record.entries)

    def close(self) -> None:
        """Leave the buffer and the other ranks; save nothing. For tests: in a run the process is killed."""
        self._heartbeat.stop()
        if self._rank == 0:
            self._intake.close()
        super().close()


def _quality(logits: Sequence[float], correct: Sequence[bool], preferences: Sequence[str]) -> dict[str, float]:
    """Return accuracy and ROC-AUC of the logits, over all and within preferences; an AUC without a pair is missing."""
    hits = sum((logit > 0) == right for logit, right in zip(logits, correct, strict=True))
    areas = {"meta_rm/auc": auc(logits, correct), "meta_rm/auc_within": auc_within(logits, correct, preferences)}
    return {"meta_rm/accuracy": hits / len(correct), **{name: area for name, area in areas.items() if area is not None}}
