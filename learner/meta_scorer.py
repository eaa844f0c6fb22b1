"""A trained meta-RM that only scores: for voting, in evaluation and wherever a judge is asked.

Plain torch, one process: no optimiser, no ranks.
"""

from collections.abc import Sequence

import torch

from configs.schema import Config
from learner import batching, models
from learner.meta_rm import Score
from learner.shared_prefix import supports_shared_prefix

Asked = tuple[Sequence[int], Sequence[Sequence[int]]]


class MetaScorer:
    """Scores completions of prompts. model_path: a meta-RM's Hugging Face folder (`checkpoints/meta-rm/.../model`)."""

    def __init__(self, config: Config, *, model_path: str) -> None:
        """ValueError when the folder holds a model without a scalar head: it would score at random."""
        self._limit = config.meta_rm.micro_tokens
        self._device = torch.device(config.cluster.device)
        model = models.load_scorer(model_path, config.dtype)
        self._score = Score(model).eval().requires_grad_(False).to(self._device)
        self._share = supports_shared_prefix(model.config)

    def ready(self) -> str:
        """Answers when the model is loaded: the driver waits on it."""
        return "meta-rm"

    def score(self, asked: Sequence[Asked]) -> list[list[float]]:
        """Logits of the belief that each judgement is right: for each (prompt, completions), one per completion.

        The token ids are those of the meta-RM's own tokenizer.
        """
        if not asked:
            return []
        completions = [ids for _, found in asked for ids in found]
        rows = batching.pack_rows(asked, self._limit, share=self._share)
        logits = [0.0] * len(completions)
        for cut in batching.split_micro_batches([row.length for row in rows], self._limit, ranks=1):
            tokens = batching.collate([rows[i] for i in cut], completions).to(self._device)
            with torch.no_grad():
                found = self._score(tokens).tolist()
            for index, logit in zip((index for i in cut for index in rows[i].completions), found, strict=True):
                logits[index] = logit
        taken = iter(logits)
        return [[next(taken) for _ in found] for _, found in asked]
