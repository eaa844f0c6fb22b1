"""What the cold start sampled, as first batches for the meta-RM (pure, standard library).

The file is the cold start's `sampled.jsonl`: a line per group with prompt_ids and completions [{ids, reward, ...}].
Hinted judgements are left out: they are often cut short, and so would teach the meta-RM the wrong thing
(arXiv:2504.02495).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledGroup:
    """The completions of one prompt, with their rewards."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[tuple[int, ...], ...]
    rewards: tuple[float, ...]


def cold_start_batches(path: Path, batch: int) -> list[list[SampledGroup]]:
    """Whole groups in the order of their prompts' ids, `batch` completions or a few more each; a rest is left out."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    plain = sorted((row for row in rows if not row["hinted"]), key=lambda row: row["preference"])
    batches: list[list[SampledGroup]] = [[]]
    for row in plain:
        if sum(len(group.rewards) for group in batches[-1]) >= batch:
            batches.append([])
        batches[-1].append(_group(row))
    return [found for found in batches if sum(len(group.rewards) for group in found) >= batch]


def _group(row: dict[str, Any]) -> SampledGroup:
    completions = row["completions"]
    return SampledGroup(
        prompt_ids=tuple(row["prompt_ids"]),
        completion_ids=tuple(tuple(one["ids"]) for one in completions),
        rewards=tuple(one["reward"] for one in completions),
    )
