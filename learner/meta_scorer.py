"""A trained meta-RM that only scores: for voting, in a run and in evaluation.

Plain torch, one process: no optimiser, no ranks.
"""

from collections.abc import Sequence

import torch

from configs.schema import Config
from learner import batching, models
from learner.batching import PromptGroup
from learner.meta_rm import CorrectnessLogits
from learner.shared_prefix import supports_shared_prefix


class MetaScorer:
    """Scores completions of prompts."""

    def __init__(self, config: Config, *, model_path: str) -> None:
        """Load a meta-RM.

        Args:
            config: of the run or the evaluation.
            model_path: its Hugging Face folder (`checkpoints/meta-rm/.../model`).

        Raises:
            ValueError: the folder holds a model without a scalar head, which would score at random.
        """
        self._limit = config.meta_rm.micro_tokens
        self._device = torch.device(config.cluster.device)
        model = models.load_scorer(model_path, config.dtype, config.cluster.device)
        self._logits = CorrectnessLogits(model).eval().requires_grad_(False).to(self._device)
        self._share = supports_shared_prefix(model.config)

    def ready(self) -> str:
        """Return its name, once the model is loaded: the driver waits for it."""
        return "meta-rm"

    def score(self, groups: Sequence[PromptGroup]) -> list[list[float]]:
        """Return a logit for each completion: sigmoid(logit) estimates P(the judgement is right).

        Args:
            groups: prompts with their completions, in token ids of the meta-RM's own tokenizer.
        """
        if not groups:
            return []
        completions = [ids for _, group in groups for ids in group]
        logits = [0.0] * len(completions)
        for rows in batching.micro_batches_of_rank(groups, self._limit, share=self._share, rank=0, ranks=1):
            tokens = batching.collate(rows, completions).to(self._device)
            with torch.no_grad():
                values = self._logits(tokens).tolist()
            for index, logit in zip((index for row in rows for index in row.completions), values, strict=True):
                logits[index] = logit
        remaining = iter(logits)
        return [[next(remaining) for _ in group] for _, group in groups]
