"""The GRPO learner: experience in, policy versions out.

One optimiser step per batch, so pi_old is pi_theta of the same forward pass, detached. A step goes

    wait and select (I2) -> train -> publish version v + 1 -> advance the ledger -> [checkpoint -> acknowledge (I3)]

and the order is what makes a crash at any point harmless: what is in no checkpoint can be claimed again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from buffer.messages import ExperienceGroup
from buffer.streams import Address
from buffer.weights import WeightSink
from configs.schema import Config
from learner import batching, checkpoint, losses, models
from learner.advantages import group_advantages
from learner.base import Clock, Learner
from learner.deepspeed_engine import DeepSpeedSettings, Engine, Frozen, NotFinite, Ranks
from learner.experience import pack, unpack
from learner.grpo_intake import Intake
from learner.logprobs import TokenLogProbs
from learner.shared_prefix import supports_shared_prefix
from learner.weight_export import to_published_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class GRPOReport:
    """One optimiser step.

    version: after it. groups: trained, in the order of the batch. completions, tokens: trained. loss: of the whole
    batch, before the step. metrics: by the names of design.md section 6; what only rank 0 sees (the stream) is
    in its report only.
    """

    version: int
    groups: tuple[int, ...]
    completions: int
    tokens: int
    loss: float
    metrics: dict[str, float]


class PolicyUpdate:
    """The policy, its frozen reference and the optimiser step between two versions; knows no buffer."""

    def __init__(self, config: Config, ranks: Ranks, model_path: str) -> None:
        self._config, self._ranks = config, ranks
        learner, grpo = config.learner, config.grpo
        settings = DeepSpeedSettings(
            zero_stage=learner.zero_stage,
            lr=grpo.lr,
            warmup_steps=grpo.warmup_steps,
            weight_decay=grpo.weight_decay,
            grad_clip=grpo.grad_clip,
            gradient_checkpointing=learner.gradient_checkpointing,
            device=config.cluster.device,
            dtype=config.dtype,
        )

        def build() -> TokenLogProbs:
            model = models.load_policy(model_path, config.dtype)
            return TokenLogProbs(model, temperature=config.rollout.temperature)

        self.engine = Engine(build, settings, ranks)
        self._reference = Frozen(build, settings, ranks) if grpo.beta > 0 else None

    def apply(self, groups: Sequence[ExperienceGroup]) -> tuple[float, dict[str, float]]:
        """One optimiser step on ``groups``; the loss before it, and its metrics. A collective. See ``NotFinite``.

        The loss is a sum over micro-batches and ranks with global divisors (design.md section 4), so neither the
        cut into micro-batches nor the number of ranks changes it.
        """
        grpo, limit = self._config.grpo, self._config.learner.micro_tokens
        batch = _flatten(groups, losses.NORMALISATIONS[grpo.normalise])
        share = supports_shared_prefix(self.engine.module.model.config)
        rows = batching.pack_rows(((group.prompt_ids, group.completion_ids) for group in groups), limit, share=share)
        cuts = batching.split_micro_batches([row.length for row in rows], limit, self._ranks.world)
        mine = batching.shard(cuts, self._ranks.rank, self._ranks.world)
        sums = torch.zeros(len(losses.SUMS), dtype=torch.float64)
        for number, part in enumerate(mine):
            loss = self._loss(batch, [rows[i] for i in part])
            self.engine.backward(loss.loss, last=number == len(mine) - 1)
            sums += loss.sums.cpu()
        stepped = self.engine.step()
        metrics = losses.policy_metrics(self._ranks.sum(sums).tolist())
        metrics |= {"optim/lr": stepped.lr, "optim/grad_norm": stepped.grad_norm}
        metrics["length/trained"] = fmean(map(len, batch.completions))
        return metrics["loss/policy"] + grpo.beta * metrics["loss/kl"], metrics

    def _loss(self, batch: "_Batch", rows: Sequence[batching.PackedRow]) -> losses.PolicyLoss:
        """What the completions in ``rows`` contribute to the batch's loss (no rows: a zero that has a gradient)."""
        grpo, device = self._config.grpo, self._ranks.device
        tokens = batching.collate(rows, batch.completions).to(device)
        part = [index for row in rows for index in row.completions]
        counts = [len(batch.completions[i]) for i in part] or [1]
        behaviour = [value for i in part for value in batch.logprobs[i]] or [0.0]
        new: Tensor = self.engine(tokens)
        return losses.policy_loss(
            new=new,
            old=new.detach(),
            behaviour=torch.tensor(behaviour, device=device),
            reference=self._reference(tokens) if self._reference else None,
            advantages=batching.per_token([batch.advantages[i] for i in part] or [0.0], counts).to(device),
            coefficients=batching.per_token([batch.coefficients[i] for i in part] or [0.0], counts).to(device),
            correction=losses.CORRECTIONS[grpo.correction],
            cap=grpo.tis_cap,
            clip_low=grpo.clip_low,
            clip_high=grpo.clip_high,
            beta=grpo.beta,
        )


class GRPOLearner(Learner):
    """One rank of the GRPO learner (see ``Learner``). Rank 0 publishes each version."""

    def __init__(
        self,
        config: Config,
        *,
        rank: int,
        world: int,
        model_path: str,
        address: Address,
        sink: WeightSink,
        checkpoints: Path,
        stacks: str = "",
    ) -> None:
        """model_path: the policy's start, and the frozen reference. checkpoints: a folder that all ranks share. stacks: see
        ``Heartbeat``."""
        stage = config.learner.zero_stage
        super().__init__(config, rank=rank, world=world, zero_stage=stage, model_path=model_path, checkpoints=checkpoints)
        self._stacks = stacks
        self._address, self._sink = address, sink

    def start(self, host: str, port: int) -> None:
        """Joins the ranks, loads the model (and the newest checkpoint, if there is one), publishes its version."""
        self._ranks = self._join(host, port)
        self._update = PolicyUpdate(self._config, self._ranks, self._model_path)
        self._engine = self._update.engine
        self._model = self._engine.module.model
        contained = self._resume()
        if self._rank == 0:
            vocabulary = self._model.config.get_text_config().vocab_size
            self._intake = Intake(self._config, self._address, vocabulary)
            self._incarnation, self.version = self._intake.recover(self.version, contained)
        self.version = int(self._ranks.broadcast_bytes(str(self.version).encode()))
        self._publish()
        self._clock = Clock()
        self._heartbeat = self._beat(self._address, f"grpo-{self._rank}", self._stacks)

    def step(self, seconds: float) -> GRPOReport | None:
        """One optimiser step, or None when no batch was ready within ``seconds``, or it was skipped."""
        began = time.perf_counter()
        if self._rank == 0:
            self._sink.republish_if_lost()
        with self._heartbeat.activity("wait for experience"):
            batch = self._intake.wait(self.version, seconds) if self._rank == 0 else []
            message = self._ranks.broadcast_bytes(pack([one.payload for one in batch]) if batch else b"")
        ready = time.perf_counter()
        self._clock.waited(ready - began)
        if not message:
            return None
        groups = unpack(message, self._config.max_entry_bytes)
        metrics = staleness_metrics(groups, self.version)
        try:
            with self._heartbeat.activity("train"):
                loss, trained_metrics = self._update.apply(groups)
        except NotFinite:
            self._skip(f"groups {[group.group for group in groups]}", replay=message)
            if self._rank == 0:
                self._intake.drop(batch)
            return None
        trained = time.perf_counter()
        self._advance()
        with self._heartbeat.activity("publish"):
            state = self._publish()
        self._heartbeat.version, self._heartbeat.done = self.version, self._heartbeat.done + len(groups)
        done = time.perf_counter()
        if self._rank == 0:
            self._intake.trained(self.version, batch)
            metrics |= self._intake.metrics()
        if self.version % self._config.learner.checkpoint_every == 0 or self.version == self._config.grpo.steps:
            self._save(state)
        metrics |= trained_metrics | self._clock.metrics()
        metrics |= {"time/train_s": trained - ready, "time/publish_s": done - trained}
        metrics["optim/skipped_steps"] = float(self.skipped)
        return _report(self.version, groups, loss, metrics)

    def save(self) -> None:
        """A checkpoint now, unless the newest one is of this version already; acknowledges what it contains."""
        if self.version not in checkpoint.versions(self._checkpoints):
            self._save(self._engine.full_state(self._model))

    def close(self) -> None:
        """Leaves the buffer and the other ranks; saves nothing."""
        self._heartbeat.stop()
        if self._rank == 0:
            self._intake.close()
        super().close()

    def _publish(self) -> dict[str, Tensor]:
        """Makes this version the newest that rollout actors can pull; its weights (empty but on rank 0)."""
        state = self._engine.full_state(self._model)
        if self._rank == 0:
            self._sink.publish(to_published_weights(self.version, state, incarnation=self._incarnation))
        return state

    def _save(self, state: dict[str, Tensor]) -> None:
        """I3: acknowledged only once the checkpoint that contains the gradient is whole on disk."""
        with self._heartbeat.activity("save"):
            self._write(state, self._intake.unacknowledged if self._rank == 0 else ())
        if self._rank == 0:
            self._intake.saved()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """The completions of a batch, group after group; one item per completion in each field."""

    completions: list[tuple[int, ...]]
    logprobs: list[tuple[float, ...]]
    advantages: list[float]
    coefficients: list[float]


def _flatten(groups: Sequence[ExperienceGroup], normalise: losses.Normalisation) -> _Batch:
    completions = [ids for group in groups for ids in group.completion_ids]
    return _Batch(
        completions=completions,
        logprobs=[values for group in groups for values in group.logprobs],
        advantages=[advantage for group in groups for advantage in group_advantages(group.rewards)],
        coefficients=normalise([len(ids) for ids in completions]),
    )


def staleness_metrics(groups: Sequence[ExperienceGroup], version: int) -> dict[str, float]:
    """How old the groups of a batch are, in policy versions, when trained from ``version`` = v.

    With u the version at issue and l the version of a group's newest token: staleness v - u is the sum of in_flight
    = l - u (it passed while the group was generated) and in_queue = v - l (while it waited to be trained on).
    """
    staleness = [version - group.issued_at for group in groups]
    queued = [version - max(versions[-1] for versions in group.versions) for group in groups]
    return {
        "staleness/mean": fmean(staleness),
        "staleness/max": float(max(staleness)),
        "staleness/in_flight": fmean(staleness) - fmean(queued),
        "staleness/in_queue": fmean(queued),
    }


def _report(version: int, groups: Sequence[ExperienceGroup], loss: float, metrics: dict[str, float]) -> GRPOReport:
    lengths = [len(ids) for group in groups for ids in group.completion_ids]
    return GRPOReport(
        version=version,
        groups=tuple(group.group for group in groups),
        completions=len(lengths),
        tokens=sum(lengths),
        loss=loss,
        metrics=metrics,
    )
