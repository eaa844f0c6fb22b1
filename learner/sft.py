"""Supervised fine-tuning: the cold start's last stage, on judgements that were sampled and not rejected.

    train eval_every steps -> measure (held-out loss, judging accuracy) -> [better: checkpoint] -> ... -> done

What is better, `cold_start.select` says (`sft_selection.py`). With `accuracy` the driver reads what `judge` writes, and tells
all ranks with `settle`: no text and no label comes here.

The newest checkpoint is always the best version so far, and everything after it is a function of it and of the data
set: batches depend on the step alone. So a process that is killed resumes from the best version, takes the same steps
and evaluations again, and ends as if it had never stopped.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from buffer import files
from configs.schema import Config
from learner import checkpoint
from learner.base import Learner, begun_whole
from learner.deepspeed_engine import NotFinite
from learner.generation import GreedyRequest, complete, share
from learner.sft_examples import ExampleLimits, batch_at, read_examples, split
from learner.sft_selection import SELECTIONS, Measured
from learner.supervised_update import SupervisedUpdate

FINISHED = "finished.json"  # in the checkpoints folder once training has ended; holds the last `SFTStatus`


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTReport:
    """One optimiser step.

    A batch that was skipped counts as a step, since batches depend on the step alone: its loss is NaN, and lr and grad_norm
    are missing.
    """

    version: int
    """Optimiser steps so far, this one included."""
    loss: float
    """Of the batch before the step, in nats per completion token."""
    heldout_loss: float | None
    """Held-out loss after the step, in the same unit; None between two evaluations."""
    best: int
    """The best version so far; of the unsettled ones before this."""
    unsettled: bool
    """Whether `settle` is due."""
    metrics: dict[str, float]
    """`sft/{loss,lr,grad_norm}`, after an evaluation also `sft/heldout_loss`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTStatus:
    """How far training is."""

    version: int
    """Optimiser steps so far."""
    best: int
    """The best version so far."""
    best_loss: float
    """Its held-out loss, in nats per completion token."""
    best_accuracy: float | None
    """Its judging accuracy, 0..1; None where it was not judged."""
    unsettled: bool
    """Whether `settle` is due: the version is measured, but for its judgements."""


class SFTLearner(Learner):
    """One rank of the fine-tuning (see `Learner`). Each rank reads the data set itself; there is no buffer."""

    def __init__(
        self,
        config: Config,
        *,
        rank: int,
        world: int,
        model_path: str,
        dataset: Path,
        checkpoints: Path,
        beside: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a rank; `start` loads the model.

        Args:
            config: of the run.
            rank: number of this rank.
            world: how many ranks there are.
            model_path: what it starts from.
            dataset: a file as in `sft_examples`.
            checkpoints: a folder that all ranks share.
            beside: {name: text} of files that lie beside the weights in each model's folder, as a model card.
        """
        place = {"rank": rank, "world": world, "zero_stage": config.learner.zero_stage}
        super().__init__(config, **place, model_path=model_path, checkpoints=checkpoints, beside=beside)
        self._keep = 1  # the best one, which is the newest
        self._dataset = dataset
        self._rank_of = SELECTIONS[config.cold_start.select]
        self._best: Measured | None = None
        self._unsettled: Measured | None = None

    def start(self, host: str, port: int, gpu: int = 0) -> None:
        """Join the ranks, load the model (and the newest checkpoint, if there is one) and measure the held-out loss.

        Raises:
            ValueError: the data set is malformed or cannot be split.
        """
        config = self._config
        self._update = self._load(host, port, gpu, begun_whole(SupervisedUpdate))
        limits = ExampleLimits(vocabulary=self._vocabulary, tokens=config.learner.micro_tokens)
        examples = read_examples(self._dataset, limits)
        self._training, self._heldout = map(examples.subset, split(examples.preferences, seed=config.run.seed))
        self._resume()
        self._misses = 0
        self._done = (self._checkpoints / FINISHED).exists()
        self._measure()

    def step(self) -> SFTReport | None:
        """Take one optimiser step; return None when training is done. Nothing is waited for, so there is no time limit.

        Raises:
            RuntimeError: the version before was not settled.
        """
        if self._unsettled is not None:
            raise RuntimeError(f"version {self.version} of the fine-tuning is to be judged and settled before the next step")
        self._finish_writing(wait=False)
        if self._done:
            return None
        cold = self._config.cold_start
        batch = batch_at(self._training, self.version, batch=cold.batch, seed=self._config.run.seed)
        try:
            metrics = self._update.apply(batch)
            self._advance()
        except NotFinite:
            self._skip(f"the examples of step {self.version} in {self._dataset}")
            metrics = {"sft/loss": math.nan}
            self.version += 1
        heldout = None
        if self.version == cold.steps or self.version % cold.eval_every == 0:
            heldout = self._measure()
        return SFTReport(
            version=self.version,
            loss=metrics["sft/loss"],
            heldout_loss=heldout,
            best=self.status().best,
            unsettled=self._unsettled is not None,
            metrics=metrics if heldout is None else metrics | {"sft/heldout_loss": heldout},
        )

    def judge(self, request: GreedyRequest) -> list[tuple[int, ...]]:
        """Complete this rank's share of the prompts greedily (`generation.share`, `in_order`). A collective at ZeRO 3."""
        return complete(
            self._model,
            share(request.prompts, self._rank, self._world),
            request,
            rows=max(1, self._config.learner.micro_tokens // self._config.model.context),
            synced=self._zero_stage == 3 and self._world > 1,
            device=self._ranks.device,
        )

    def settle(self, accuracy: float | None) -> SFTStatus:
        """Keep the measured version if it is better than the best one, and end training if it is time. A collective.

        Args:
            accuracy: share of the judgements of `judge` that are right, the same on all ranks.
        """
        if self._unsettled is None:
            raise RuntimeError(f"version {self.version} of the fine-tuning is settled already")
        measured, first = replace(self._unsettled, accuracy=accuracy), self._best is None
        self._unsettled = None
        if self._best is None or self._rank_of(measured) > self._rank_of(self._best):
            self._best, self._misses = measured, 0
            if not first or not checkpoint.versions(self._checkpoints):
                self._save()  # the untrained model, too: if nothing improves on it, it is the result
        else:
            self._misses += 1
        cold = self._config.cold_start
        if not self._done and (self.version >= cold.steps or self._misses == cold.patience):
            self._finish()
        return self.status()

    def status(self) -> SFTStatus:
        """Return how far training is. Not a collective; the same on every rank."""
        best = self._best or Measured(version=self.version, loss=math.nan, accuracy=None)
        return SFTStatus(
            version=self.version,
            best=best.version,
            best_loss=best.loss,
            best_accuracy=best.accuracy,
            unsettled=self._unsettled is not None,
        )

    def _measure(self) -> float:
        """Return the held-out loss of this version, and settle it unless its judgements are to be read first."""
        loss = self._update.loss(self._heldout)
        self._unsettled = Measured(version=self.version, loss=loss, accuracy=None)
        if self._config.cold_start.select != "accuracy":
            self.settle(None)
        return loss

    def _save(self) -> None:
        self._write(self._whole_state())

    def _finish(self) -> None:
        """Mark the end on disk: a learner that starts on these checkpoints later is done at once."""
        self._finish_writing()
        self._done = True
        if self._rank == 0:
            files.write(self._checkpoints / FINISHED, json.dumps(asdict(self.status())))
