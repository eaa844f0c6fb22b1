"""The cold start's samples as the first batches of the meta-RM (pure, standard library).

    sampled.jsonl ─without hinted─▶ sorted by preference ─▶ batches of whole groups, decoded when they are trained on

The file is the cold start's `sampled.jsonl`: a line per group with views [{prompt_ids, ...}], one for each order in which the
responses were shown, and completions [{view, ids, reward, ...}], those of a view together.
Hinted judgements are left out: they are often cut short, and so would teach the meta-RM the wrong thing
(arXiv:2504.02495).
"""

from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from buffer.json_lines import JsonLines, Row, rows


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledGroup:
    """The sampled completions of one preference."""

    prompt_ids: tuple[tuple[int, ...], ...]
    """Token ids of the prompt of each view, without a hint."""
    samples: tuple[int, ...]
    """Completions of each view."""
    completion_ids: tuple[tuple[int, ...], ...]
    """Token ids of each completion."""
    rewards: tuple[float, ...]
    """Reward of each completion."""


class ColdStartBatches:
    """Batches of whole groups in the order of their preferences' ids; only offsets of lines stay in memory."""

    def __init__(self, path: Path, batch: int) -> None:
        """Index a file.

        Args:
            path: the cold start's `sampled.jsonl`.
            batch: completions of a batch; the last group of each may exceed it. A rest of fewer is left out.
        """
        plain = sorted(
            (row["preference"], offset, len(row["completions"]))
            for offset, row in rows(path)
            if not row["hinted"] and row["completions"]  # of a teacher's, those that are too long are left out
        )
        self._groups = JsonLines(path, (offset for _, offset, _ in plain))
        self._ends = array("Q")  # index of the group behind each batch
        completions = 0
        for end, (_, _, count) in enumerate(plain, start=1):
            completions += count
            if completions >= batch:
                self._ends.append(end)
                completions = 0

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> list[SampledGroup]:
        end = self._ends[number]
        start = self._ends[number - 1] if number else 0
        return [_group(self._groups[index]) for index in range(start, end)]


def _group(row: Row) -> SampledGroup:
    completions = row["completions"]
    counts = Counter(completion["view"] for completion in completions)
    return SampledGroup(
        prompt_ids=tuple(tuple(row["views"][view]["prompt_ids"]) for view in counts),
        samples=tuple(counts.values()),
        completion_ids=tuple(tuple(completion["ids"]) for completion in completions),
        rewards=tuple(completion["reward"] for completion in completions),
    )
