"""The GRPO learner: experience in, policy versions out.

One optimiser step per batch, so pi_old is pi_theta of the same forward pass, detached. A step goes

    wait and select (I2) -> train -> copy version v + 1 -> advance the ledger -> [checkpoint -> acknowledge (I3)]

(what arrives while it trains is filtered at once, so that other groups are sampled meanwhile; the copy is published beside the
next step). The order is what makes a crash at any point harmless: what is in no checkpoint can be claimed again.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from buffer.streams import Address
from buffer.weights import WeightSink
from configs.schema import Config
from learner import snapshot
from learner.arrivals import ArrivalsReport
from learner.base import Learner
from learner.checkpoint import Record
from learner.clock import Clock
from learner.deepspeed_engine import NotFinite
from learner.experience import pack, unpack
from learner.grpo_intake import Intake
from learner.host_buffers import HostBuffers
from learner.policy_update import PolicyUpdate
from learner.policy_weights import policy_weights
from learner.publisher import Publisher
from learner.staleness import staleness_metrics

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


class GRPOLearner(Learner):
    """One rank of the GRPO learner (see `Learner`). Rank 0 publishes each version."""

    latest = "latest"

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
        beside: Mapping[str, str] | None = None,
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
            beside: {name: text} of files that lie beside the weights in each model's folder, as a model card.
            stacks: see `Heartbeat`.
        """
        place = {"rank": rank, "world": world, "zero_stage": config.learner.zero_stage}
        super().__init__(config, **place, model_path=model_path, checkpoints=checkpoints, beside=beside)
        self._address, self._stacks = address, stacks
        self._weights = policy_weights(config.learner.lora_rank)
        self._publisher = Publisher(sink, timeout_s=config.waits.progress_s)
        # on a CPU a version is copied within memory, which is not worth a copy that is kept
        self._buffers = HostBuffers(pinned=True) if config.cluster.device == "cuda" and rank == 0 else None

    def start(self, host: str, port: int, gpu: int = 0) -> None:
        """Join the ranks, load the model (and the newest checkpoint, if there is one), publish its version."""
        self._update = self._load(host, port, gpu, PolicyUpdate)
        contained = self._resume()
        if self._rank == 0:
            self._intake = Intake(self._config, self._address, self._vocabulary)
            self._incarnation, self.version = self._intake.recover(self.version, contained)
        self.version = int(self._ranks.broadcast_bytes(str(self.version).encode()))
        self._publish()
        self._publisher.wait()
        self._clock, self._said_at = Clock(), time.monotonic()
        self._heartbeat = self._start_heartbeat(self._address, f"grpo-{self._rank}", self._stacks)

    def step(self, seconds: float) -> GRPOReport | ArrivalsReport | None:
        """Take one optimiser step; return None when no batch was ready within `seconds`, or the batch was skipped.

        Where everything that arrived since the last step is uninformative, say so every ARRIVALS_S.
        """
        began = time.perf_counter()
        self._finish_writing(wait=False)
        if self._rank == 0:
            self._publisher.look_after()
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
            if self._is_asked_for():
                self._publisher.wait()
        self._heartbeat.version, self._heartbeat.done = self.version, self._heartbeat.done + len(groups)
        published = time.perf_counter()
        if self._rank == 0:
            self._intake.trained(self.version, batch)
            metrics |= self._intake.metrics(self.version)
        last = self.version == self._config.grpo.steps
        if last or self.version % self._config.learner.checkpoint_every == 0:
            self._save(state)
        if last:
            self.save()
        metrics |= trained_metrics | self._clock.metrics()
        metrics |= {"time/train_s": trained - ready, "time/publish_s": published - trained}
        metrics["optim/skipped_steps"] = float(self.skipped)
        self._said_at = time.monotonic()
        return GRPOReport(version=self.version, groups=tuple(group.group for group in groups), loss=loss, metrics=metrics)

    def save(self) -> None:
        """Write a checkpoint, unless there is one of this version already; return when it is on disk and acknowledged."""
        if self.version != self._saved_version:
            self._save(self._weights.gather(self._engine, self._model))
        with self._heartbeat.activity("save"):
            self._finish_writing()

    def close(self) -> None:
        """Leave the buffer and the other ranks; save nothing. For tests: in a run the process is killed."""
        self._publisher.wait()
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
        """Begin to make this version the newest that rollout actors can load; return its weights (empty but on rank 0), which
        the next version may overwrite. The next optimiser step may change the model: all of it is copied."""
        self._publisher.wait()  # the copy is still read until then
        state, probe, version = (
            self._weights.gather(self._engine, self._model, self._buffers),
            self._update.probe(),
            self.version,
        )
        if self._rank == 0:
            seal = partial(self._weights.to_published, version, state, self._model, incarnation=self._incarnation, probe=probe)
            self._publisher.publish(version, seal)
        return state

    def _is_asked_for(self) -> bool:
        """Return whether somebody asks for this version by name as soon as its step is reported: an evaluation, or the votes of
        the end. (Prompts that are issued at it wait for it.)"""
        every, steps = self._config.eval.every, self._config.grpo.steps
        return self.version == steps or (every > 0 and self.version % every == 0)

    def _write_model(self, state: dict[str, Tensor], folder: Path) -> None:
        self._weights.save(self._model, state, self._model_path, folder)

    def _save(self, state: dict[str, Tensor]) -> None:
        """Begin a checkpoint."""
        with self._heartbeat.activity("save"):
            self._finish_writing()  # two checkpoints are never in memory at a time
            kept = snapshot.on_cpu(state) if self._buffers else state  # the next version is copied over it
            self._write(kept, lambda: self._intake.unacknowledged)

    def _written(self, record: Record) -> None:
        """Acknowledge what is in a checkpoint, only now that it is whole on disk (I3)."""
        if self._rank == 0:
            self._intake.saved(record.version, record.entries)
