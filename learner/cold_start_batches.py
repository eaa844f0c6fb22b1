"""The cold start's samples as the first batches of the meta-RM (pure, standard library).

    sampled.jsonl ─parsed, without hinted─▶ in the order of a hash ─▶ batches of whole groups, decoded when they are trained on

The file is the cold start's `sampled.jsonl`: a line per group with prompt_ids and completions [{ids, reward, failure, ...}].
Hinted judgements are left out: knowing the answer, they take shortcuts in their reasoning, and so would teach the meta-RM the
wrong thing (arXiv:2504.02495). Those that could not be parsed are left out as they are of the stream (`learner/parsed.py`).
The order is that of a hash of the preference's id: by the ids themselves a batch would hold one source, and the last would win.
"""

import hashlib
from array import array
from pathlib import Path

from buffer.json_lines import JsonLines, Row, rows
from learner.parsed import ParsedCompletions


class ColdStartBatches:
    """Batches of whole groups in a fixed mixed order; only offsets of lines stay in memory."""

    def __init__(self, path: Path, batch: int) -> None:
        """Index a file.

        Args:
            path: the cold start's `sampled.jsonl`.
            batch: parsed completions of a batch; the last group of each may exceed it. A rest of fewer is left out.
        """
        counted = ((_order(row["preference"]), offset, len(_parsed(row))) for offset, row in rows(path) if not row["hinted"])
        plain = sorted(group for group in counted if group[-1])
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

    def __getitem__(self, number: int) -> list[ParsedCompletions]:
        end = self._ends[number]
        start = self._ends[number - 1] if number else 0
        return [_group(self._groups[index]) for index in range(start, end)]


def _order(preference: str) -> tuple[bytes, str]:
    return hashlib.sha256(preference.encode()).digest()[:8], preference


def _parsed(row: Row) -> list[Row]:
    return [completion for completion in row["completions"] if not completion["failure"]]


def _group(row: Row) -> ParsedCompletions:
    completions = _parsed(row)
    return ParsedCompletions(
        preference=row["preference"],
        prompt_ids=tuple(row["prompt_ids"]),
        completion_ids=tuple(tuple(completion["ids"]) for completion in completions),
        rewards=tuple(completion["reward"] for completion in completions),
    )
