"""Rows to compute attention on, and flex attention on a CPU with gradients. It needs torch and transformers alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from torch.nn.attention import flex_attention as flex

from learner import attention
from learner.batching import Tokens, collate, pack_rows


@contextmanager
def unfused_flex_attention() -> Iterator[None]:
    """Let flex attention run unfused on the CPU, where it is refused although it works."""
    refuses = mock.patch.object(flex, "_validate_device", return_value=None)
    with refuses, mock.patch.object(attention, "_compiled", return_value=flex.flex_attention):
        yield


def packed(lengths: list[tuple[int, tuple[int, ...]]], *, share: bool) -> Tokens:
    """Return rows of random ids: prompts of these lengths, each with completions of these lengths."""
    rng = random.Random(0)

    def ids(length: int) -> list[int]:
        return [rng.randrange(4, 250) for _ in range(length)]

    groups = [(ids(prompt), [ids(length) for length in completions]) for prompt, completions in lengths]
    return collate(pack_rows(groups, 10_000, share=share), [completion for _, group in groups for completion in group])
