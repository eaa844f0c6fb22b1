"""The GRPO learner: experience in, policy versions out.

One optimiser step per batch, so pi_old is pi_theta of the same forward pass, detached. A step goes

    wait and select (I2) -> train -> publish version v + 1 -> advance the ledger -> [checkpoint -> acknowledge (I3)]

(what arrives while it trains is filtered at once, so that other groups are sampled meanwhile). The order is what makes a
crash at any point harmless: what is in no checkpoint can be claimed again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from buffer.messages import ExperienceGroup
from buffer.streams import Address
from buffer.weights import Probe, WeightSink
from configs.schema import Config
from learner import batching, checkpoint, losses, models
from learner.adapters import adapted
from learner.arrivals import ArrivalsReport
from learner.base import Clock, Learner
from learner.corrections import CORRECTIONS, SampledTokens
from learner.deepspeed_engine import Engine, NotFinite, deepspeed_settings
from learner.experience import pack, unpack
from learner.grpo_intake import Intake
from learner.kl import ESTIMATORS
from learner.logprobs import TokenLogProbs
from learner.policy_batch import PolicyBatch, policy_batch
from learner.policy_weights import policy_weights
from learner.prompt_groups import by_prompt
from learner.ranks import Ranks
from learner.reference import reference
from learner.shared_prefix import supports_shared_prefix
from learner.staleness import staleness_metrics
from learner.weight_export import probe_token_ids

ARRIVALS_S = 20.0  # without a step, what arrived is reported as often


@dataclass(frozen=True, kw_only=True, slots=True)
class GRPOReport:
    """One optimiser step."""

    version: int
    """Policy version after it."""
    groups: tuple[int, ...]
    """Groups that were trained on, in the order of the batch."""
    loss: float
    """Of the whole batch, before the step."""
    metrics: dict[str, float]
    """By the names of docs/design.md; those of the stream are in rank 0's report only."""


class PolicyUpdate:
    """The policy, its frozen reference and the optimiser step between two versions; independent of the buffer."""

    def __init__(self, config: Config, ranks: Ranks, model_path: str) -> None:
        self._config, self._ranks = config, ranks
        grpo = config.grpo
        settings = deepspeed_settings(
            config,
            zero_stage=config.learner.zero_stage,
            lr=grpo.lr,
            warmup_steps=grpo.warmup_steps,
            weight_decay=grpo.weight_decay,
            grad_clip=grpo.grad_clip,
        )

        def build(lora_rank: int) -> TokenLogProbs:
            model = adapted(models.load_policy(model_path, config.dtype), rank=lora_rank, seed=config.run.seed)
            return TokenLogProbs(model, temperature=config.rollout.temperature)

        self.engine = Engine(partial(build, config.learner.lora_rank), settings, ranks)
        frozen = partial(reference, self.engine, lora_rank=config.learner.lora_rank, build=partial(build, 0), settings=settings)
        self._reference = frozen() if grpo.beta > 0 else None

    def apply(
        self, groups: Sequence[ExperienceGroup], *, meanwhile: Callable[[], None] = lambda: None
    ) -> tuple[float, dict[str, float]]:
        """Take one optimiser step on `groups`. A collective.

        The loss is a sum over micro-batches and ranks with global divisors (docs/design.md), so neither the split into
        micro-batches nor the number of ranks changes it.

        Args:
            groups: the batch.
            meanwhile: called behind each micro-batch; no collective.

        Returns:
            The loss before the step, and its metrics.

        Raises:
            NotFinite: no step was taken.
        """
        grpo = self._config.grpo
        batch = policy_batch(groups, self._config)
        micro_batches = batching.micro_batches_of_rank(
            by_prompt(groups),
            self._config.learner.micro_tokens,
            share=supports_shared_prefix(self.engine.module.model.config),
            rank=self._ranks.rank,
            ranks=self._ranks.world,
        )
        sums = torch.zeros(len(losses.SUMS), dtype=torch.float64)
        for number, rows in enumerate(micro_batches):
            loss = self._loss(batch, rows)
            self.engine.backward(loss.loss, last=number == len(micro_batches) - 1)
            sums += loss.sums.cpu()
            meanwhile()
        result = self.engine.step()
        metrics = losses.policy_metrics(self._ranks.sum(sums).tolist())
        metrics |= {"optim/lr": result.lr, "optim/grad_norm": result.grad_norm}
        trained = [len(ids) for ids, share in zip(batch.completions, batch.coefficients, strict=True) if share]
        if trained:
            metrics["length/trained"] = fmean(trained)
        return metrics["loss/policy"] + grpo.beta * metrics["loss/kl"], metrics

    def probe(self) -> Probe:
        """Return what an engine must compute with the weights as they are. A collective."""
        ids = probe_token_ids(self.engine.module.model.config.get_text_config().vocab_size)
        rows = batching.pack_rows([(ids[:1], [ids[1:]])], len(ids), share=False)
        with torch.no_grad():
            logprobs, _ = self.engine(batching.collate(rows, [ids[1:]]).to(self._ranks.device), 1.0)
        return Probe(token_ids=ids, logprobs=tuple(logprobs.tolist()))

    def _loss(self, batch: PolicyBatch, rows: Sequence[batching.PackedRow]) -> losses.PolicyLoss:
        """Return what the completions in `rows` contribute to the batch's loss (no rows: a zero that has a gradient)."""
        grpo, device = self._config.grpo, self._ranks.device
        tokens = batching.collate(rows, batch.completions).to(device)
        indices = [index for row in rows for index in row.completions]
        counts = [len(batch.completions[i]) for i in indices] or [1]
        behaviour_logprobs = [value for i in indices for value in batch.behaviour_logprobs[i]] or [0.0]
        new, entropies = self.engine(tokens)
        sampled = SampledTokens(
            new=new,
            old=new.detach(),
            behaviour=torch.tensor(behaviour_logprobs, device=device),
            advantages=batching.per_token([batch.advantages[i] for i in indices] or [0.0], counts).to(device),
            lengths=counts,
        )
        return losses.policy_loss(
            sampled,
            reference=self._reference(tokens)[0] if self._reference else None,
            entropies=entropies,
            coefficients=batching.per_token([batch.coefficients[i] for i in indices] or [0.0], counts).to(device),
            correction=CORRECTIONS[grpo.correction],
            bounds=grpo.ratio_bounds,
            estimator=ESTIMATORS[grpo.kl],
            beta=grpo.beta,
        )


class GRPOLearner(Learner):
    """One rank of the GRPO learner (see `Learner`). Rank 0 publishes each version."""

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
        """Prepare a rank; `start` loads the model.

        Args:
            config: of the run.
            rank: number of this rank.
            world: how many ranks there are.
            model_path: the policy's start, and the frozen reference.
            address: of the run's streams.
            sink: where versions are published.
            checkpoints: a folder that all ranks share.
            stacks: see `Heartbeat`.
        """
        stage = config.learner.zero_stage
        super().__init__(config, rank=rank, world=world, zero_stage=stage, model_path=model_path, checkpoints=checkpoints)
        self._address, self._sink, self._stacks = address, sink, stacks
        self._weights = policy_weights(config.learner.lora_rank)

    def start(self, host: str, port: int, gpu: int = 0) -> None:
        """Join the ranks, load the model (and the newest checkpoint, if there is one), publish its version."""
        self._update = self._load(host, port, gpu, PolicyUpdate)
        contained = self._resume()
        if self._rank == 0:
            self._intake = Intake(self._config, self._address, self._vocabulary)
            self._incarnation, self.version = self._intake.recover(self.version, contained)
        self.version = int(self._ranks.broadcast_bytes(str(self.version).encode()))
        self._publish()
        self._clock, self._said_at = Clock(), time.monotonic()
        self._heartbeat = self._start_heartbeat(self._address, f"grpo-{self._rank}", self._stacks)

    def step(self, seconds: float) -> GRPOReport | ArrivalsReport | None:
        """Take one optimiser step; return None when no batch was ready within `seconds`, or the batch was skipped.

        Where everything that arrived since the last step is uninformative, say so every ARRIVALS_S.
        """
        began = time.perf_counter()
        if self._rank == 0:
            self._sink.republish_if_lost()
        with self._heartbeat.activity("wait for experience"):
            batch = self._intake.wait(self.version, seconds) if self._rank == 0 else []
            message = self._ranks.broadcast_bytes(pack(batch))
        ready = time.perf_counter()
        self._clock.add_wait(ready - began)
        if not message:
            return self._uninformative()
        groups = unpack(message, self._config.max_entry_bytes)
        metrics = staleness_metrics(groups, self.version)
        try:
            with self._heartbeat.activity("train"):
                loss, trained_metrics = self._update.apply(groups, meanwhile=self._take_in)
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
        published = time.perf_counter()
        if self._rank == 0:
            self._intake.trained(self.version, batch)
            metrics |= self._intake.metrics()
        if self.version % self._config.learner.checkpoint_every == 0 or self.version == self._config.grpo.steps:
            self._save(state)
        metrics |= trained_metrics | self._clock.metrics()
        metrics |= {"time/train_s": trained - ready, "time/publish_s": published - trained}
        metrics["optim/skipped_steps"] = float(self.skipped)
        self._said_at = time.monotonic()
        return GRPOReport(version=self.version, groups=tuple(group.group for group in groups), loss=loss, metrics=metrics)

    def save(self) -> None:
        """Write a checkpoint now, unless there is one of this version already; acknowledge what it contains."""
        if self.version not in checkpoint.versions(self._checkpoints):
            self._save(self._weights.gather(self._engine, self._model))

    def close(self) -> None:
        """Leave the buffer and the other ranks; save nothing. For tests: in a run the process is killed."""
        self._heartbeat.stop()
        if self._rank == 0:
            self._intake.close()
        super().close()

    def _take_in(self) -> None:
        """On rank 0, look at what arrives during a step: each group that is filtered makes room for a new one at once."""
        if self._rank == 0:
            self._intake.take_in(self.version)

    def _uninformative(self) -> ArrivalsReport | None:
        """Return what arrived since the last step, on rank 0, every ARRIVALS_S, if nothing can be learnt from it."""
        if self._rank or time.monotonic() - self._said_at < ARRIVALS_S:
            return None
        self._said_at = time.monotonic()
        return self._intake.uninformative(self.version)

    def _publish(self) -> dict[str, Tensor]:
        """Make this version the newest that rollout actors can load; return its weights (empty but on rank 0)."""
        state, probe = self._weights.gather(self._engine, self._model), self._update.probe()
        if self._rank == 0:
            self._sink.publish(
                self._weights.to_published(self.version, state, self._model, incarnation=self._incarnation, probe=probe)
            )
        return state

    def _write_model(self, state: dict[str, Tensor], folder: Path) -> None:
        self._weights.save(self._model, state, self._model_path, folder)

    def _save(self, state: dict[str, Tensor]) -> None:
        """Write a checkpoint; acknowledge only once it is whole on disk (I3)."""
        with self._heartbeat.activity("save"):
            self._write(state, self._intake.unacknowledged if self._rank == 0 else ())
        if self._rank == 0:
            self._intake.saved()
