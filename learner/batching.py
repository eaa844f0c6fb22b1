"""Cutting a batch of sequences into micro-batches and dealing them to ranks (pure torch).

A batch is the sum of its micro-batches because every coefficient in the loss has a global divisor; how it is cut and
who computes which part changes the result by rounding only. Everything here is deterministic in its arguments.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PAD = 0
"""Token id in padded places: never attended to by a real token (causal attention, padding on the right)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Right-padded rows and where their completion tokens are.

    input_ids: [rows, length] int64. lengths: [rows] int64, prompt and completion together. For each of the T
    completion tokens, row by row: ``rows`` and ``columns`` [T] name the position whose hidden state predicts it (one
    before its own), ``targets`` [T] its id.
    """

    input_ids: Tensor
    lengths: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Tokens":
        return Tokens(
            input_ids=self.input_ids.to(device),
            lengths=self.lengths.to(device),
            rows=self.rows.to(device),
            columns=self.columns.to(device),
            targets=self.targets.to(device),
        )


def cut(lengths: Sequence[int], micro_tokens: int, ranks: int) -> list[list[int]]:
    """Indices of each micro-batch: rows x longest row <= micro_tokens, as many micro-batches on each rank.

    Sequences are taken from the longest to the shortest (ties by index), so that rows of a micro-batch are of
    similar length and little is padding. The fewest micro-batches that are a multiple of ``ranks`` are made, and of
    the smallest budget that suffices for that number, so that they, and the work of the ranks, are about even. If
    there are too few sequences, some micro-batches stay empty.

    Raises:
        ValueError: one sequence alone is over the budget.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    longest = lengths[order[0]]
    if longest > micro_tokens:
        raise ValueError(
            f"a sequence of {longest} tokens does not fit into a micro-batch of {micro_tokens}:"
            " raise micro_tokens to model.context at least"
        )
    wanted = -(-len(_packed(order, lengths, micro_tokens)) // ranks) * ranks
    budgets = range(longest, micro_tokens + 1)
    at = bisect_left(budgets, True, key=lambda budget: len(_packed(order, lengths, budget)) <= wanted)
    cuts = _packed(order, lengths, budgets[at])
    while len(cuts) < wanted and any(len(part) > 1 for part in cuts):
        largest = max(range(len(cuts)), key=lambda i: (len(cuts[i]) > 1, len(cuts[i]) * lengths[cuts[i][0]], -i))
        part, half = cuts[largest], (len(cuts[largest]) + 1) // 2
        cuts[largest : largest + 1] = [part[:half], part[half:]]
    return cuts + [[] for _ in range(wanted - len(cuts))]


def _packed(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """``order`` (descending lengths) cut wherever one more row would go over the budget."""
    cuts: list[list[int]] = []
    for index in order:
        if not cuts or (len(cuts[-1]) + 1) * lengths[cuts[-1][0]] > budget:
            cuts.append([])
        cuts[-1].append(index)
    return cuts


def deal(cuts: Sequence[list[int]], rank: int, ranks: int) -> list[list[int]]:
    """The micro-batches of one rank: every ``ranks``-th, so that those computed at the same time are of one size."""
    if len(cuts) % ranks:
        raise ValueError(f"{len(cuts)} micro-batches cannot be dealt evenly to {ranks} ranks: cut() makes a multiple")
    return list(cuts[rank::ranks])


def collate(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> Tokens:
    """Prompts and their completions (each of at least one token) as right-padded rows.

    No sequences at all give one row of two padding tokens with one target: a micro-batch for a rank that has nothing
    to compute but must take part in the collectives. Its coefficients are to be 0.
    """
    if not completions:
        prompts, completions = [[PAD]], [[PAD]]
    sizes = [(len(prompt), len(completion)) for prompt, completion in zip(prompts, completions, strict=True)]
    lengths = [prompt + completion for prompt, completion in sizes]
    longest = max(lengths)
    flat = [
        [*prompt, *completion, *(PAD,) * (longest - length)]
        for prompt, completion, length in zip(prompts, completions, lengths, strict=True)
    ]
    counts = torch.tensor([completion for _, completion in sizes])
    starts = torch.tensor([prompt - 1 for prompt, _ in sizes])
    rows = torch.repeat_interleave(counts)
    first = torch.cumsum(counts, 0) - counts
    columns = torch.arange(len(rows)) - first[rows] + starts[rows]
    input_ids = torch.tensor(flat)
    return Tokens(
        input_ids=input_ids,
        lengths=torch.tensor(lengths),
        rows=rows,
        columns=columns,
        targets=input_ids[rows, columns + 1],
    )


def per_token(values: Sequence[float], counts: Sequence[int]) -> Tensor:
    """One value per completion, repeated for each of its tokens; shape [sum of counts], float32."""
    return torch.repeat_interleave(torch.tensor(values, dtype=torch.float32), torch.tensor(counts))
