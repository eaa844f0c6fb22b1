"""The frozen reference of the policy: what it was when training began. Its log-probs are pi_ref of the KL.

all weights are trained   ─▶ a second copy of the model, frozen
adapters are trained      ─▶ the same model without its adapters; nothing more in memory
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from learner.adapters import switched_off
from learner.batching import Tokens
from learner.deepspeed_engine import Engine, Frozen
from learner.deepspeed_settings import DeepSpeedSettings
from learner.logprobs import TokenLogProbs


class Reference(Protocol):
    """The policy as it was when training began."""

    def __call__(self, tokens: Tokens, /) -> tuple[Tensor, Tensor]:
        """Return what `TokenLogProbs` does, without gradient. A collective under ZeRO 3."""
        ...


class WithoutAdapters:
    """The model in training with its adapters switched off."""

    def __init__(self, engine: Engine) -> None:
        self._module = engine.module

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), switched_off(self._module):
            found: tuple[Tensor, Tensor] = self._module(tokens)
        return found


def reference(engine: Engine, *, lora_rank: int, build: Callable[[], TokenLogProbs], settings: DeepSpeedSettings) -> Reference:
    """Return the reference of a policy in training. A collective.

    Args:
        engine: of the policy.
        lora_rank: of its adapters, 0: it has none.
        build: makes the model without adapters.
        settings: of the policy's engine.
    """
    return WithoutAdapters(engine) if lora_rank else Frozen(build, settings, engine.ranks)
