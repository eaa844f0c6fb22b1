"""Log-probabilities of completion tokens and the entropies behind them, never with the logits of a whole batch (pure torch).

A module, so that the hooks which gather partitioned weights (ZeRO 3) fire around it: call it, never its methods or
submodules. The reference layout is a Hugging Face causal LM: a base model that gives hidden states, and an output head.
"""

from typing import Any

from torch import Tensor, nn

from learner.batching import Tokens
from learner.head_logprobs import head_logprobs
from learner.shared_prefix import hidden_states

# Logits held at a time, in float32: 64 MiB, and 1 GiB where a matrix product wants thousands of rows (1,766 tokens of Qwen3).
CHUNK_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 28}

# Settings of some architectures that change the logits between the head and the softmax.
UNSUPPORTED = ("logits_scaling", "logit_scale", "lm_head_multiplier")


class TokenLogProbs(nn.Module):
    """log pi(token | everything before it) at a temperature, for each completion token of a micro-batch."""

    def __init__(self, model: Any, *, temperature: float, chunk_logits: int | None = None) -> None:
        """Wrap a model.

        Args:
            model: a Hugging Face causal LM.
            temperature: T > 0 of the sampling; logits are divided by it.
            chunk_logits: logits held at a time; the head is applied to chunk_logits / vocabulary tokens at once, and each
                chunk is computed again in the backward pass. None: `CHUNK_LOGITS` of the device.

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
        self._temperature, self._chunk_logits = temperature, chunk_logits

    def forward(self, tokens: Tokens, temperature: float | None = None) -> tuple[Tensor, Tensor]:
        """Return log-probs (<= 0) and entropies (>= 0, nats, without gradient), [T] float32, in the order of `tokens.targets`.

        The entropy of a token is that of the distribution that it was chosen from, at the same temperature.

        Args:
            tokens: of a micro-batch.
            temperature: another one than that of the sampling.
        """
        predicting = hidden_states(self.model, tokens)[tokens.predicting]
        head = self.model.get_output_embeddings()
        # Read once and passed on: under ZeRO 3 this is what gathers the weight, on every rank exactly once however
        # many chunks there are. (Calling the head per chunk would need as many collectives as there are chunks.)
        weight, bias = head.weight, head.bias
        chunk_logits = self._chunk_logits or CHUNK_LOGITS[predicting.device.type]
        return head_logprobs(
            predicting,
            weight,
            bias,
            tokens.targets,
            temperature=self._temperature if temperature is None else temperature,
            cap=self._cap,
            chunk=max(1, chunk_logits // len(weight)),
        )
