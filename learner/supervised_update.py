"""The cold start's model and its optimiser step: examples in, gradient; without files."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.schema import Config
from learner import batching, models
from learner.adapters import adapted
from learner.deepspeed_engine import Engine
from learner.deepspeed_settings import deepspeed_settings
from learner.logprobs import TokenLogProbs
from learner.ranks import Ranks
from learner.sft_examples import Example
from learner.shared_prefix import supports_shared_prefix


class SupervisedUpdate:
    """A causal LM and its optimiser step on examples; independent of files."""

    def __init__(self, config: Config, ranks: Ranks, model_path: str) -> None:
        self._limit, self._ranks = config.learner.micro_tokens, ranks
        settings = deepspeed_settings(
            config, zero_stage=config.learner.zero_stage, lr=config.cold_start.lr, warmup_steps=config.cold_start.warmup_steps
        )

        def build() -> TokenLogProbs:
            model = adapted(
                models.load_policy(model_path, config.dtype, config.cluster.device),
                rank=config.learner.lora_rank,
                seed=config.run.seed,
            )
            return TokenLogProbs(model, temperature=1.0)

        self.engine = Engine(build, settings, ranks)

    def apply(self, examples: Sequence[Example]) -> dict[str, float]:
        """Take one optimiser step on `examples`; return `sft/{loss,lr,grad_norm}` before it. A collective.

        The loss is the mean negative log-likelihood of all completion tokens, which is what `loss` returns.

        Raises:
            NotFinite: no step was taken.
        """
        batch = self._pack(examples)
        total = 0.0
        for number, rows in enumerate(batch.micro_batches):
            loss = self._loss(batch, rows)
            self.engine.backward(loss, last=number == len(batch.micro_batches) - 1)
            total += loss.item()
        result = self.engine.step()
        return {"sft/loss": self._sum(total), "sft/lr": result.lr, "sft/grad_norm": result.grad_norm}

    def loss(self, examples: Iterable[Example]) -> float:
        """Return the mean negative log-likelihood per completion token of all `examples`, in nats. A collective."""
        batch = self._pack(examples)
        with torch.no_grad():
            return self._sum(sum(self._loss(batch, rows).item() for rows in batch.micro_batches))

    def _pack(self, examples: Iterable[Example]) -> "_Batch":
        """Lay out examples, those of one prompt together; arrays, since the held-out examples may be many."""
        groups: dict[bytes, tuple[array[int], list[array[int]]]] = {}
        for example in examples:
            prompt = array("i", example.prompt_ids)
            _, group = groups.setdefault(prompt.tobytes(), (prompt, []))
            group.append(array("i", example.completion_ids))
        completions = [completion for _, group in groups.values() for completion in group]
        return _Batch(
            completions=completions,
            tokens=sum(map(len, completions)),
            micro_batches=batching.micro_batches_of_rank(
                groups.values(),
                self._limit,
                share=supports_shared_prefix(self.engine.module.model.config),
                rank=self._ranks.rank,
                ranks=self._ranks.world,
            ),
        )

    def _loss(self, batch: "_Batch", rows: Sequence[batching.PackedRow]) -> Tensor:
        """Return what the completions in `rows` contribute to the batch's loss (no rows: a zero that has a gradient)."""
        logprobs: Tensor
        logprobs, _ = self.engine(batching.collate(rows, batch.completions).to(self._ranks.device))
        return -logprobs.sum() * (1.0 / batch.tokens if rows else 0.0)

    def _sum(self, share: float) -> float:
        return self._ranks.sum(torch.tensor(share, dtype=torch.float64)).item()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """Examples laid out for the ranks."""

    completions: list["array[int]"]
    """Token ids of each completion."""
    tokens: int
    """Tokens of all completions: the divisor of the loss."""
    micro_batches: list[list[batching.PackedRow]]
    """Rows of each micro-batch of this rank."""
