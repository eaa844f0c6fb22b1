"""What the benchmarks count: rows of judgements as they are on disk, joined with labels and meta scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from grm.judged import NO_ANSWER, Item, Sample
from grm.preferences import Preference
from launch.judging.votes import mark


def items(
    preferences: Sequence[Preference],
    rows: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Sequence[float]],
    *,
    k: int | None = None,
    early_stop: bool = False,
) -> list[Item]:
    """Returns what the benchmarks count, labels joined.

    Args:
        preferences: The judged ones.
        rows: Their rows, in the same order; those with an error are left out (the caller reports them).
        meta: {id: the meta-RM's logit of each sample}, where it scored them.
        k: Votes that count, the first ones of each preference; None: all.
        early_stop: Whether rows hold as few of the k votes as make sure of the best; the others were spared.
    """
    judged = []
    for preference, row in zip(preferences, rows, strict=True):
        if "error" in row:
            continue
        name = preference.question.id
        logits = meta.get(name, [None] * len(row["samples"]))
        read = [(each["kind"], _sample(each, logit)) for each, logit in zip(row["samples"], logits, strict=True)]
        greedy = [sample for kind, sample in read if kind == "greedy" and sample.failure != NO_ANSWER]
        voted = [sample for kind, sample in read if kind == "vote"][:k]
        answered = any(sample.failure != NO_ANSWER for sample in voted)
        judged.append(
            Item(
                id=name,
                subset=preference.subset,
                label=preference.label,
                lengths=tuple(len(response) for response in preference.question.responses),
                group=mark(preference.question.query),
                greedy=greedy[0] if greedy else None,
                opposite=greedy[1] if len(greedy) > 1 else None,
                votes=tuple(voted) if answered else (),
                spared=k - len(voted) if early_stop and answered and k else 0,
            )
        )
    return judged


def _sample(sample: Mapping[str, Any], meta: float | None) -> Sample:
    scores = sample["scores"]
    return Sample(
        scores=None if scores is None else tuple(scores),
        permutation=tuple(sample["permutation"]),
        tokens=sample["tokens"],
        failure=sample["failure"],
        meta=meta,
        strict=sample["strict"],
        expected=tuple(sample["expected"]) if "expected" in sample else None,
        alone=sample.get("alone", False),
    )
