"""Laying a batch out in rows, cutting these into micro-batches and dealing them to ranks (pure torch).

A batch is the sum of its micro-batches because every coefficient in the loss has a global divisor; how it is cut and
who computes which part changes the result by rounding only. Everything here is deterministic in its arguments.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

PAD = 0
"""Token id in padded places, which no real token attends to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedRow:
    """A prompt with completions of it side by side; completions: their indices in the batch. length: all tokens."""

    prompt: Sequence[int]
    completions: tuple[int, ...]
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Right-padded rows, each a prompt that branches into its completions, and where to read the results.

    input_ids, positions, branches: [rows, length] int64. A position counts from the prompt's start along its own
    branch; branch 0 is the prompt, 1, 2, ... are the completions, -1 is padding. A token sees what is before it in
    its own branch and in the prompt: what it would see if its completion stood alone behind the prompt.

    predicting, targets: [T], for each completion token in the order of the completions: the place in the flattened
    rows whose hidden state predicts it, and its id. ends: [completions], the places of their last tokens.
    """

    input_ids: Tensor
    positions: Tensor
    branches: Tensor
    predicting: Tensor
    targets: Tensor
    ends: Tensor

    def to(self, device: torch.device) -> "Tokens":
        return Tokens(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def pack_rows(groups: Iterable[tuple[Sequence[int], Sequence[Sequence[int]]]], limit: int, *, share: bool) -> list[PackedRow]:
    """The rows of a batch: for each group as few as hold its completions within ``limit`` tokens a row.

    The prompt is computed once per row, which for G short completions of a long prompt is nearly G times less work.

    Args:
        groups: a prompt and its completions each; completions are counted through the whole batch.
        share: False for one completion per row.
    """
    rows: list[PackedRow] = []
    index = 0
    for prompt, completions in groups:
        taken: list[int] = []
        length = len(prompt)
        for completion in completions:
            if taken and (not share or length + len(completion) > limit):
                rows.append(PackedRow(prompt=prompt, completions=tuple(taken), length=length))
                taken, length = [], len(prompt)
            taken.append(index)
            length += len(completion)
            index += 1
        rows.append(PackedRow(prompt=prompt, completions=tuple(taken), length=length))
    return rows


def split_micro_batches(lengths: Sequence[int], micro_tokens: int, ranks: int) -> list[list[int]]:
    """Indices of each micro-batch: rows x longest row <= micro_tokens, as many micro-batches on each rank.

    Rows are taken from the longest to the shortest (ties by index), so that rows of a micro-batch are of
    similar length and little is padding. The fewest micro-batches that are a multiple of ``ranks`` are made, and of
    the smallest budget that suffices for that number, so that they, and the work of the ranks, are about even. If
    there are too few rows, some micro-batches stay empty.

    Raises:
        ValueError: one row alone is over the budget.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    longest = lengths[order[0]]
    if longest > micro_tokens:
        raise ValueError(
            f"a row of {longest} tokens does not fit into a micro-batch of {micro_tokens}:"
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


def shard(cuts: Sequence[list[int]], rank: int, ranks: int) -> list[list[int]]:
    """The micro-batches of one rank: every ``ranks``-th, so that those computed at the same time are of one size."""
    if len(cuts) % ranks:
        raise ValueError(f"{len(cuts)} micro-batches cannot be dealt evenly to {ranks} ranks: cut() makes a multiple")
    return list(cuts[rank::ranks])


def collate(rows: Sequence[PackedRow], completions: Sequence[Sequence[int]]) -> Tokens:
    """The tensors of some rows; ``completions`` are those of the whole batch, each of at least one token.

    No rows at all give one of two padding tokens with one target: a micro-batch for a rank that has nothing to
    compute but must take part in the collectives. Its coefficients are to be 0.
    """
    if not rows:
        rows, completions = [PackedRow(prompt=[PAD], completions=(0,), length=2)], [[PAD]]
    width = max(row.length for row in rows)
    ids, positions, branches, predicting, ends = [], [], [], [], []
    for number, row in enumerate(rows):
        start, prompt = number * width, len(row.prompt)
        row_ids, row_positions, row_branches = list(row.prompt), list(range(prompt)), [0] * prompt
        for branch, index in enumerate(row.completions, start=1):
            length, first = len(completions[index]), start + len(row_ids)
            row_ids += completions[index]
            row_positions += range(prompt, prompt + length)
            row_branches += [branch] * length
            predicting += [start + prompt - 1, *range(first, first + length - 1)]
            ends.append(first + length - 1)
        padding = width - row.length
        ids.append(row_ids + [PAD] * padding)
        positions.append(row_positions + [0] * padding)
        branches.append(row_branches + [-1] * padding)
    chosen = [token for row in rows for index in row.completions for token in completions[index]]
    return Tokens(
        input_ids=torch.tensor(ids),
        positions=torch.tensor(positions),
        branches=torch.tensor(branches),
        predicting=torch.tensor(predicting),
        targets=torch.tensor(chosen),
        ends=torch.tensor(ends),
    )


def per_token(values: Sequence[float], counts: Sequence[int]) -> Tensor:
    """One value per completion, repeated for each of its tokens; shape [sum of counts], float32."""
    return torch.repeat_interleave(torch.tensor(values, dtype=torch.float32), torch.tensor(counts))
