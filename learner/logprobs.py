"""Log-probabilities of completion tokens and the entropies behind them, never with the logits of a whole batch (pure torch).

A module, so that the hooks which gather partitioned weights (ZeRO 3) fire around it: call it, never its methods or
submodules. The reference layout is a Hugging Face causal LM: a base model that gives hidden states, and an output head.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from learner.batching import Tokens
from learner.shared_prefix import hidden_states

CHUNK_LOGITS = 1 << 24  # logits held at a time (64 MiB in float32)

# Settings of some architectures that change the logits between the head and the softmax.
UNSUPPORTED = ("logits_scaling", "logit_scale", "lm_head_multiplier")


class TokenLogProbs(nn.Module):
    """log pi(token | everything before it) at a temperature, for each completion token of a micro-batch."""

    def __init__(self, model: Any, *, temperature: float, chunk_logits: int = CHUNK_LOGITS) -> None:
        """Wrap a model.

        Args:
            model: a Hugging Face causal LM.
            temperature: T > 0 of the sampling; logits are divided by it.
            chunk_logits: logits held at a time; the head is applied to chunk_logits / vocabulary tokens at once, and each
                chunk is computed again in the backward pass.

        Raises:
            ValueError: the model's config has a setting that would give other logits (`UNSUPPORTED`).
        """
        super().__init__()
        self.model = model
        config = model.config.get_text_config()
        for name in UNSUPPORTED:
            if getattr(config, name, None) not in (None, 1, 1.0):
                raise ValueError(f"{config.model_type}: log-probs with {name} in the model's config are not supported")
        self._cap: float | None = getattr(config, "final_logit_softcapping", None)
        self._temperature = temperature
        self._chunk = max(1, chunk_logits // config.vocab_size)

    def forward(self, tokens: Tokens, temperature: float | None = None) -> tuple[Tensor, Tensor]:
        """Return log-probs (<= 0) and entropies (>= 0, nats, without gradient), [T] float32, in the order of `tokens.targets`.

        The entropy of a token is that of the distribution that it was chosen from, at the same temperature.

        Args:
            tokens: of a micro-batch.
            temperature: another one than that of the sampling.
        """
        at = self._temperature if temperature is None else temperature
        predicting = hidden_states(self.model, tokens)[tokens.predicting]
        head = self.model.get_output_embeddings()
        # Read once and passed on: under ZeRO 3 this is what gathers the weight, on every rank exactly once however
        # many chunks there are. (Calling the head per chunk would need as many collectives as there are chunks.)
        weight, bias = head.weight, head.bias
        if len(predicting) <= self._chunk:
            return self._outputs(predicting, tokens.targets, weight, bias, at)
        chunks = zip(predicting.split(self._chunk), tokens.targets.split(self._chunk), strict=True)
        computed = [
            checkpoint(self._outputs, hidden, targets, weight, bias, at, use_reentrant=False) for hidden, targets in chunks
        ]
        logprobs, entropies = zip(*computed, strict=True)
        return torch.cat(logprobs), torch.cat(entropies)

    def _outputs(
        self, hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        logits = functional.linear(hidden, weight, bias).float()
        if self._cap is not None:
            logits = torch.tanh(logits / self._cap) * self._cap
        if temperature != 1.0:
            logits = logits / temperature
        log_softmax = functional.log_softmax(logits, dim=-1)
        chosen = -functional.nll_loss(log_softmax, targets, reduction="none")
        # Last, where the recomputation of a chunk for the backward pass has ended: it is computed once.
        return chosen, _entropies(log_softmax.detach())


@torch.no_grad()
def _entropies(log_softmax: Tensor) -> Tensor:
    """Return -sum_v p_v log p_v of each row, with one temporary of the size of `log_softmax`."""
    return -log_softmax.exp().mul_(log_softmax).sum(dim=-1)
