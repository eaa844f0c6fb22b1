"""Supervised fine-tuning: the cold start's last stage, on judgements that were sampled and not rejected.

    train eval_every steps -> look at the held-out loss -> [better: checkpoint] -> ... -> done

The newest checkpoint is always the best version so far, and everything after it is a function of it and of the data
set: batches depend on the step alone. So a process that is killed goes on from the best version, takes the same steps
and looks again, and ends as if it had never stopped.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from configs.schema import Config
from learner import batching, checkpoint, models
from learner.base import Learner
from learner.deepspeed_engine import DeepSpeedSettings, Engine, NotFinite, Ranks
from learner.logprobs import TokenLogProbs
from learner.sft_examples import Example, ExampleLimits, batch_at, read_examples, split
from learner.shared_prefix import supports_shared_prefix

FINISHED = "finished.json"
"""In the checkpoints folder once training has ended; holds the last ``SFTStatus``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTReport:
    """One optimiser step.

    version: after it. loss: of the batch before the step; heldout_loss: after it, if it was looked at; both in nats
    per completion token. best: version with the lowest held-out loss so far. done: this was the last step. examples,
    tokens (of completions): trained. metrics: sft/{loss,lr,grad_norm} and, after a look, sft/heldout_loss. A batch that
    was skipped counts as a step, since batches depend on the step alone: its loss is NaN, lr and grad_norm are missing.
    """

    version: int
    loss: float
    heldout_loss: float | None
    best: int
    done: bool
    examples: int
    tokens: int
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTStatus:
    """How far training is. best_loss: the held-out loss of version ``best``. training, heldout: examples."""

    version: int
    best: int
    best_loss: float
    done: bool
    training: int
    heldout: int


class SupervisedUpdate:
    """A causal LM and its optimiser step on examples; knows no files."""

    def __init__(self, config: Config, ranks: Ranks, model_path: str) -> None:
        self._limit, self._ranks = config.learner.micro_tokens, ranks
        settings = DeepSpeedSettings(
            zero_stage=config.learner.zero_stage,
            lr=config.cold_start.lr,
            warmup_steps=config.cold_start.warmup_steps,
            weight_decay=0.0,
            grad_clip=1.0,
            gradient_checkpointing=config.learner.gradient_checkpointing,
            device=config.cluster.device,
            dtype=config.dtype,
        )
        self.engine = Engine(
            lambda: TokenLogProbs(models.load_policy(model_path, config.dtype), temperature=1.0), settings, ranks
        )

    def apply(self, examples: Sequence[Example]) -> dict[str, float]:
        """One optimiser step on the loss of ``examples``; sft/{loss,lr,grad_norm}, before it. A collective. See ``NotFinite``.

        The loss is the mean negative log-likelihood of all completion tokens, which is what ``loss`` measures.
        """
        batch = self._laid_out(examples)
        found = 0.0
        for number, rows in enumerate(batch.mine):
            loss = self._loss(batch, rows)
            self.engine.backward(loss, last=number == len(batch.mine) - 1)
            found += loss.item()
        stepped = self.engine.step()
        return {"sft/loss": self._total(found), "sft/lr": stepped.lr, "sft/grad_norm": stepped.grad_norm}

    def loss(self, examples: Sequence[Example]) -> float:
        """Mean negative log-likelihood per completion token over all of ``examples``, in nats. A collective."""
        batch = self._laid_out(examples)
        with torch.no_grad():
            return self._total(sum(self._loss(batch, rows).item() for rows in batch.mine))

    def _laid_out(self, examples: Sequence[Example]) -> "_Batch":
        groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for example in examples:
            groups.setdefault(example.prompt_ids, []).append(example.completion_ids)
        rows = batching.pack_rows(groups.items(), self._limit, share=supports_shared_prefix(self.engine.module.model.config))
        cuts = batching.split_micro_batches([row.length for row in rows], self._limit, self._ranks.world)
        mine = batching.shard(cuts, self._ranks.rank, self._ranks.world)
        completions = [completion for group in groups.values() for completion in group]
        return _Batch(
            completions=completions,
            tokens=sum(map(len, completions)),
            mine=[[rows[index] for index in part] for part in mine],
        )

    def _loss(self, batch: "_Batch", rows: Sequence[batching.PackedRow]) -> Tensor:
        """What the completions in ``rows`` contribute to the batch's loss (no rows: a zero that has a gradient)."""
        logprobs: Tensor = self.engine(batching.collate(rows, batch.completions).to(self._ranks.device))
        return -logprobs.sum() * (1.0 / batch.tokens if rows else 0.0)

    def _total(self, part: float) -> float:
        return self._ranks.sum(torch.tensor(part, dtype=torch.float64)).item()


class SFTLearner(Learner):
    """One rank of the fine-tuning (see ``Learner``). Each rank reads the data set itself; there is no buffer."""

    def __init__(self, config: Config, *, rank: int, world: int, model_path: str, dataset: Path, checkpoints: Path) -> None:
        """model_path: what it starts from. dataset: see ``examples``. checkpoints: a folder that all ranks share."""
        stage = config.learner.zero_stage
        super().__init__(config, rank=rank, world=world, zero_stage=stage, model_path=model_path, checkpoints=checkpoints)
        self._keep = 1  # the best one, which is the newest
        self._dataset = dataset

    def start(self, host: str, port: int) -> None:
        """Joins the ranks, loads the model (and the newest checkpoint, if there is one) and looks at the held-out loss.

        Raises:
            ValueError: the data set is malformed or cannot be split.
        """
        config = self._config
        self._ranks = self._join(host, port)
        self._update = SupervisedUpdate(config, self._ranks, self._model_path)
        self._engine = self._update.engine
        self._model = self._engine.module.model
        vocabulary = self._model.config.get_text_config().vocab_size
        limits = ExampleLimits(vocabulary=vocabulary, tokens=config.learner.micro_tokens)
        self._training, self._heldout = split(read_examples(self._dataset, limits), seed=config.run.seed)
        self._resume()
        self._best, self._best_loss, self._misses = self.version, self._update.loss(self._heldout), 0
        self._done = (self._checkpoints / FINISHED).exists()
        if not checkpoint.versions(self._checkpoints):
            self._save()  # if nothing improves on the untrained model, that is the result
        if not self._done and self.version >= config.cold_start.steps:
            self._finish()  # killed between its last checkpoint and the end

    def step(self) -> SFTReport | None:
        """One optimiser step, or None if training is done. It waits for nobody, so there is no limit to give."""
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
        last = self.version == cold.steps
        heldout = self._look() if last or self.version % cold.eval_every == 0 else None
        if last or self._misses == cold.patience:
            self._finish()
        return SFTReport(
            version=self.version,
            loss=metrics["sft/loss"],
            heldout_loss=heldout,
            best=self._best,
            done=self._done,
            examples=len(batch),
            tokens=sum(len(example.completion_ids) for example in batch),
            metrics=metrics if heldout is None else metrics | {"sft/heldout_loss": heldout},
        )

    def status(self) -> SFTStatus:
        """Not a collective; every rank knows it."""
        return SFTStatus(
            version=self.version,
            best=self._best,
            best_loss=self._best_loss,
            done=self._done,
            training=len(self._training),
            heldout=len(self._heldout),
        )

    def _look(self) -> float:
        """The held-out loss of this version, which is saved if it is the best one."""
        found = self._update.loss(self._heldout)
        if found < self._best_loss:
            self._best, self._best_loss, self._misses = self.version, found, 0
            self._save()
        else:
            self._misses += 1
        return found

    def _save(self) -> None:
        self._write(self._engine.full_state(self._model), ())

    def _finish(self) -> None:
        """For ever: a learner that starts on these checkpoints is done at once."""
        self._done = True
        if self._rank == 0:
            aside = self._checkpoints / f"{FINISHED}.unfinished"
            with aside.open("w") as file:
                json.dump(asdict(self.status()), file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self._checkpoints / FINISHED)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """tokens: of all completions, the divisor of the loss. mine: the micro-batches of this rank, in rows."""

    completions: list[tuple[int, ...]]
    tokens: int
    mine: list[list[batching.PackedRow]]
