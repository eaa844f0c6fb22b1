"""Greedy completions by a model in training, to see how it judges.

prompts ─▶ every `world`-th on a rank, as many on each ─▶ left-padded batches ─▶ transformers' generate ─▶ token ids

vLLM is not here while the learner has the devices, and its weights would have to be copied. It is slower than an engine: a step
of decoding reads all weights once, at ZeRO 3 over the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from learner.models import dense_attention


@dataclass(frozen=True, kw_only=True, slots=True)
class GreedyRequest:
    """Prompts to complete."""

    prompts: tuple[tuple[int, ...], ...]
    """Token ids of each, at least one prompt."""
    limit: int
    """Tokens of a completion at most."""
    end: int
    """The token that ends a completion."""
    other_ends: tuple[int, ...] = ()
    """Other tokens that end one, as they do in the engine."""

    @property
    def ends(self) -> tuple[int, ...]:
        """All tokens that end a completion."""
        return (self.end, *self.other_ends)


def share(prompts: Sequence[tuple[int, ...]], rank: int, world: int) -> list[tuple[int, ...]]:
    """Return the prompts of a rank: every `world`-th. Ranks that would have one less take one of the first again, so that all
    take part in as many collectives."""
    return [prompts[place % len(prompts)] for place in range(rank, -(-len(prompts) // world) * world, world)]


def in_order(shares: Sequence[Sequence[tuple[int, ...]]], count: int) -> list[tuple[int, ...]]:
    """Return what the ranks made of their shares in the order of the `count` prompts."""
    return [shares[place % len(shares)][place // len(shares)] for place in range(count)]


def complete(
    model: Any, prompts: Sequence[tuple[int, ...]], request: GreedyRequest, *, rows: int, synced: bool, device: torch.device
) -> list[tuple[int, ...]]:
    """Return the greedy completion of each prompt, with its end token unless it was cut at the limit. A collective at ZeRO 3.

    Args:
        model: a Hugging Face causal LM, in training or not.
        prompts: of this rank.
        request: limit and ends.
        rows: prompts completed at a time.
        synced: whether ranks that are done wait for the others, as they must where the weights are partitioned.
        device: of the model.
    """
    # What the model's folder says of sampling, as a penalty, would be merged in otherwise.
    model.generation_config = GenerationConfig()
    ends = list(request.ends)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=request.limit, eos_token_id=ends, pad_token_id=request.end, use_cache=True
    )
    training = model.training
    model.eval()  # in training, gradient checkpointing keeps no cache
    completions: list[tuple[int, ...]] = []
    try:
        with torch.no_grad(), dense_attention(model):
            for start in range(0, len(prompts), rows):
                batch = prompts[start : start + rows]
                width = max(map(len, batch))
                ids = torch.tensor([[request.end] * (width - len(prompt)) + list(prompt) for prompt in batch])
                mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch])
                written = model.generate(
                    input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=settings, synced_gpus=synced
                )
                completions += [ended(row, ends) for row in written[:, width:].tolist()]
    finally:
        model.train(training)
    return completions


def ended(ids: Sequence[int], ends: Sequence[int]) -> tuple[int, ...]:
    """Return the ids up to the first end token: what stands behind it is padding."""
    length = next((place for place, token in enumerate(ids, start=1) if token in ends), len(ids))
    return tuple(ids[:length])
