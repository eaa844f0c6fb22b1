"""What a meta-RM is asked about judgements: a prompt for each order of the responses, so that it is computed once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grm.preferences import Question
from launch.judging.vote_plan import VotePlan
from launch.setup.tokenizer import Tokenizer
from learner.batching import PromptGroup


def meta_prompts(
    tokenizer: Tokenizer, plan: VotePlan, question: Question, samples: Sequence[Mapping[str, Any]]
) -> list[PromptGroup]:
    """Returns a prompt and its completions for each order.

    Args:
        tokenizer: The meta-RM's.
        plan: How it is asked.
        question: What was judged.
        samples: The judgements: `text`, `finish` and `permutation` of each.
    """
    return [
        (
            tokenizer.encode(plan.message(question, permutation, tokenizer.escape_special_tokens)),
            [tokenizer.completion(samples[i]["text"], ended=samples[i]["finish"] == "stop") for i in places],
        )
        for permutation, places in _by_permutation(samples).items()
    ]


def in_sample_order(samples: Sequence[Mapping[str, Any]], logits: Iterator[list[float]]) -> list[float]:
    """Returns the logits of `meta_prompts` in the order of the samples."""
    placed = [0.0] * len(samples)
    for places in _by_permutation(samples).values():
        for place, logit in zip(places, next(logits), strict=True):
            placed[place] = logit
    return placed


def _by_permutation(samples: Sequence[Mapping[str, Any]]) -> dict[tuple[int, ...], list[int]]:
    places: dict[tuple[int, ...], list[int]] = {}
    for place, sample in enumerate(samples):
        places.setdefault(tuple(sample["permutation"]), []).append(place)
    return places
