"""Log-probabilities of completion tokens, without ever holding the logits of a whole batch (pure torch).

A module, so that the hooks which gather partitioned weights (ZeRO 3) fire around it: it must be called, never its
parts. The reference layout is a Hugging Face causal LM: a base model that gives hidden states, and an output head.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from learner.batching import Tokens
from learner.shared_prefix import hidden_states

CHUNK_LOGITS = 1 << 24
"""Logits held at a time (64 MiB in float32)."""

UNSUPPORTED = ("logits_scaling", "logit_scale", "lm_head_multiplier")
"""Settings of some architectures that change the logits between the head and the softmax."""


class TokenLogProbs(nn.Module):
    """log pi(token | everything before it) at a temperature, for each completion token of a micro-batch.

    Args:
        model: a Hugging Face causal LM. temperature: T > 0 of the sampling; logits are divided by it.
        chunk_logits: logits held at a time; the head is applied to chunk_logits / vocabulary tokens at once and the
            chunk is computed again in the backward pass.
    """

    def __init__(self, model: Any, *, temperature: float, chunk_logits: int = CHUNK_LOGITS) -> None:
        super().__init__()
        self.model = model
        config = model.config.get_text_config()
        for name in UNSUPPORTED:
            if getattr(config, name, None) not in (None, 1, 1.0):
                raise ValueError(f"{config.model_type}: log-probs with {name} in the model's config are not supported")
        self._cap: float | None = getattr(config, "final_logit_softcapping", None)
        self._temperature = temperature
        self._chunk = max(1, chunk_logits // config.vocab_size)

    def forward(self, tokens: Tokens) -> Tensor:
        """Shape [T], float32, all <= 0, in the order of ``tokens.targets``."""
        predicting = hidden_states(self.model, tokens)[tokens.predicting]
        head = self.model.get_output_embeddings()
        # Read once and passed on: under ZeRO 3 this is what gathers the weight, on every rank exactly once however
        # many chunks there are. (Calling the head per chunk would need as many collectives as there are chunks.)
        weight, bias = head.weight, head.bias
        if len(predicting) <= self._chunk:
            return self._chosen(predicting, tokens.targets, weight, bias)
        parts = zip(predicting.split(self._chunk), tokens.targets.split(self._chunk), strict=True)
        return torch.cat([checkpoint(self._chosen, part, chosen, weight, bias, use_reentrant=False) for part, chosen in parts])

    def _chosen(self, hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        logits = functional.linear(hidden, weight, bias).float()
        if self._cap is not None:
            logits = torch.tanh(logits / self._cap) * self._cap
        if self._temperature != 1.0:
            logits = logits / self._temperature
        return -functional.cross_entropy(logits, targets, reduction="none")
