"""The policy's model and its optimiser step: groups in, gradient, next weights; without streams or files."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from transformers import PreTrainedModel

from buffer.messages import ExperienceGroup
from buffer.weights import Probe
from configs.schema import Config
from learner import batching, losses, models
from learner.corrections import SampledTokens
from learner.deepspeed_engine import Engine
from learner.deepspeed_settings import deepspeed_settings
from learner.kl import ESTIMATORS
from learner.logprobs import TokenLogProbs
from learner.own_loss import correction_of
from learner.policy_batch import PolicyBatch, policy_batch
from learner.policy_weights import policy_weights
from learner.prompt_groups import by_prompt
from learner.ranks import Ranks
from learner.reference import reference
from learner.shared_prefix import supports_shared_prefix
from learner.weight_export import probe_token_ids


class PolicyUpdate:
    """The policy, its frozen reference and the optimiser step between two versions; independent of the buffer."""

    def __init__(self, config: Config, ranks: Ranks, model_path: str, start: Path | None = None) -> None:
        """Load the models.

        Args:
            config: of the run.
            ranks: that train it together.
            model_path: of the reference, and of the policy where nothing else is said.
            start: a checkpoint whose weights the policy begins with, without its optimiser.
        """
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

        def log_probs(model: PreTrainedModel) -> TokenLogProbs:
            return TokenLogProbs(model, temperature=config.rollout.temperature)

        def build_reference() -> TokenLogProbs:
            return log_probs(models.load_policy(model_path, config.dtype, config.cluster.device))

        weights = policy_weights(config.learner.lora_rank)
        self.engine = Engine(lambda: log_probs(weights.load(config, model_path, start)), settings, ranks)
        frozen = partial(reference, self.engine, lora_rank=config.learner.lora_rank, build=build_reference, settings=settings)
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
            correction=correction_of(grpo.correction),
            bounds=grpo.ratio_bounds,
            estimator=ESTIMATORS[grpo.kl],
            beta=grpo.beta,
        )
