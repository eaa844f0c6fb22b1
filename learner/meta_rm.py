"""The meta-RM learner: from the same experience, a model that tells good judgements from bad.

A scalar per (prompt, completion), trained with binary cross-entropy on "was this judgement right" (reward > 0), on
every completion of the stream: groups without policy gradient teach it as much as the others. What the cold start
sampled without a hint, right and wrong, comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from buffer.streams import Address
from configs.schema import Config
from grm.statistics import auc
from learner import batching, checkpoint, losses, models
from learner.base import Learner
from learner.batching import Tokens
from learner.cold_start_batches import cold_start_batches
from learner.deepspeed_engine import DeepSpeedSettings, Engine, NotFinite, Ranks
from learner.experience import ReceivedGroup, pack, unpack
from learner.meta_intake import MetaIntake
from learner.shared_prefix import hidden_states, supports_shared_prefix


@dataclass(frozen=True, kw_only=True, slots=True)
class MetaRMReport:
    """One optimiser step of the meta-RM.

    version: after it. groups: of the stream, trained on (none in a batch of the cold start's). completions, tokens (of
    prompts and completions): likewise. metrics: meta_rm/{loss,accuracy,auc} of this batch *before* it was trained on
    (auc is missing when all of it was right or all wrong), meta_rm/{backlog,skipped} in groups on rank 0.
    """

    version: int
    groups: tuple[int, ...]
    completions: int
    tokens: int
    metrics: dict[str, float]


class Judgements(Protocol):
    """Completions of one prompt with their rewards: an `ExperienceGroup`, or what the cold start sampled."""

    @property
    def prompt_ids(self) -> Sequence[int]: ...
    @property
    def completion_ids(self) -> Sequence[Sequence[int]]: ...
    @property
    def rewards(self) -> Sequence[float]: ...


class Score(nn.Module):
    """One logit per completion, read at its last token: sigmoid(logit) is the belief that the judgement is right."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tokens) -> Tensor:
        """Shape [completions], float32."""
        logits: Tensor = self.model.score(hidden_states(self.model, tokens)[tokens.ends])
        return logits.squeeze(-1).float()


class ScoreUpdate:
    """The meta-RM and its optimiser step; knows no buffer."""

    def __init__(self, config: Config, ranks: Ranks, model_path: str) -> None:
        self._config, self._ranks = config, ranks
        settings = DeepSpeedSettings(
            zero_stage=config.meta_rm.zero_stage,
            lr=config.meta_rm.lr,
            warmup_steps=config.meta_rm.warmup_steps,
            weight_decay=0.0,
            grad_clip=1.0,
            gradient_checkpointing=config.learner.gradient_checkpointing,
            device=config.cluster.device,
            dtype=config.dtype,
        )
        self.engine = Engine(lambda: Score(models.load_classifier(model_path, config.dtype)), settings, ranks)

    def apply(self, groups: Sequence[Judgements]) -> dict[str, float]:
        """One optimiser step on every completion of ``groups``; its metrics before it. A collective. See ``NotFinite``."""
        completions = [ids for group in groups for ids in group.completion_ids]
        correct = [reward > 0 for group in groups for reward in group.rewards]
        limit = self._config.meta_rm.micro_tokens
        share = supports_shared_prefix(self.engine.module.model.config)
        rows = batching.pack_rows(((group.prompt_ids, group.completion_ids) for group in groups), limit, share=share)
        cuts = batching.split_micro_batches([row.length for row in rows], limit, self._ranks.world)
        mine = batching.shard(cuts, self._ranks.rank, self._ranks.world)
        found = torch.zeros(len(completions) + 1, dtype=torch.float64)  # this rank's logits in their places, and its loss
        for number, cut in enumerate(mine):
            tokens = batching.collate([rows[i] for i in cut], completions).to(self._ranks.device)
            part = [index for i in cut for index in rows[i].completions]
            logits: Tensor = self.engine(tokens)
            labels = torch.tensor([float(correct[i]) for i in part] or [0.0], device=logits.device)
            weight = 1.0 / len(completions) if part else 0.0
            loss = losses.correctness_loss(logits, labels, torch.full_like(labels, weight))
            self.engine.backward(loss, last=number == len(mine) - 1)
            found[-1] += loss.item()
            if part:
                found[part] = logits.detach().cpu().double()
        self.engine.step()
        *logits_all, loss_all = self._ranks.sum(found).tolist()
        return {"meta_rm/loss": loss_all, **_quality(logits_all, correct)}


class MetaRMLearner(Learner):
    """One rank of the meta-RM learner (see ``Learner``): reads along, and never holds the policy up.

    A batch that is skipped counts as a step: a batch of the seed would come again.
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
        seed: Path | None = None,
        stacks: str = "",
    ) -> None:
        """model_path: what the meta-RM starts from, the policy's start. checkpoints: a folder that all ranks share, as
        is the file seed: what the cold start sampled (see `meta_seed`), the first batches of its life. stacks: see
        ``Heartbeat``."""
        stage = config.meta_rm.zero_stage
        super().__init__(config, rank=rank, world=world, zero_stage=stage, model_path=model_path, checkpoints=checkpoints)
        self._address, self._stacks = address, stacks
        self._seed = cold_start_batches(seed, config.meta_rm.batch) if seed else []

    def start(self, host: str, port: int) -> None:
        """Joins the ranks, loads the model, and the newest checkpoint if there is one."""
        self._ranks = self._join(host, port)
        self._update = ScoreUpdate(self._config, self._ranks, self._model_path)
        self._engine = self._update.engine
        self._model = self._engine.module.model
        contained = self._resume()
        if self._rank == 0:
            vocabulary = self._model.config.get_text_config().vocab_size
            self._intake = MetaIntake(self._config, self._address, vocabulary)
            self._intake.recover(contained)
        self._heartbeat = self._beat(self._address, f"meta-rm-{self._rank}", self._stacks)

    def step(self, seconds: float) -> MetaRMReport | None:
        """One optimiser step, or None when too few completions were there within ``seconds``, or it was skipped."""
        if self.version < len(self._seed):  # the same on all ranks, and the next one after a restart
            if self._rank == 0:
                self._intake.bound()
            return self._learn(self._seed[self.version], f"batch {self.version} of the cold start's judgements")
        with self._heartbeat.activity("wait for experience"):
            batch = self._intake.wait(seconds) if self._rank == 0 else []
            message = self._ranks.broadcast_bytes(pack([one.payload for one in batch]) if batch else b"")
        if not message:
            return None
        groups = unpack(message, self._config.max_entry_bytes)
        return self._learn(groups, f"groups {[group.group for group in groups]}", batch, message)

    def _learn(
        self, groups: Sequence[Judgements], what: str, batch: Sequence[ReceivedGroup] = (), message: bytes = b""
    ) -> MetaRMReport | None:
        """what: ``groups`` in words. batch, message: as they came from the stream, if they did."""
        metrics: dict[str, float] | None = None
        try:
            with self._heartbeat.activity("train"):
                metrics = self._update.apply(groups)
        except NotFinite:
            self._skip(what, replay=message, name="not-finite-meta-rm")
            self.version += 1
        else:
            self._advance()
        self._heartbeat.version, self._heartbeat.done = self.version, self._heartbeat.done + len(groups)
        if self._rank == 0:
            self._intake.trained(batch)
        if self.version % self._config.learner.checkpoint_every == 0:
            self.save()
        if metrics is None:
            return None
        if self._rank == 0:
            metrics |= self._intake.metrics()
        return MetaRMReport(
            version=self.version,
            groups=tuple(one.group.group for one in batch),
            completions=sum(len(group.rewards) for group in groups),
            tokens=sum(len(group.prompt_ids) + len(ids) for group in groups for ids in group.completion_ids),
            metrics=metrics,
        )

    def save(self) -> None:
        """A checkpoint now, unless there is one of this version; then, and only then, its entries are acknowledged (I3)."""
        if self.version in checkpoint.versions(self._checkpoints):
            return
        state = self._engine.full_state(self._model)
        self._write(state, self._intake.unacknowledged if self._rank == 0 else ())
        if self._rank == 0:
            self._intake.saved()

    def close(self) -> None:
        self._heartbeat.stop()
        if self._rank == 0:
            self._intake.close()
        super().close()


def _quality(logits: Sequence[float], correct: Sequence[bool]) -> dict[str, float]:
    hits = sum((logit > 0) == right for logit, right in zip(logits, correct, strict=True))
    metrics = {"meta_rm/accuracy": hits / len(correct)}
    area = auc(logits, correct)
    return metrics if area is None else metrics | {"meta_rm/auc": area}
