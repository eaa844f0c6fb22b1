"""The values of one judged preference whose means over preferences are figures (their names: `grm.benchmarks`)."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from statistics import fmean

from grm import baselines
from grm.calibration import SHARPNESS
from grm.judge_bias import bias, both_orders
from grm.judged import NO_ANSWER, Item, Sample
from grm.vote_estimates import Subset, are_balanced, balanced_subsets, expected_credit, guided_credits, subsets
from grm.vote_shares import brier, shares
from grm.voting import Credit, Rule, Scores, agree, best, credit, guided, majority, unguided, vote, votes_needed, weighted


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How to measure."""

    ks: tuple[int, ...]
    """The k to report, ascending, none above K."""
    guided: bool
    """Whether the meta-RM scored every parsed vote, so that guided@k is over the same items as vote@k."""
    expected: bool
    """Whether all parsed greedy judgements have expected scores."""
    seed: int
    """Seed of all draws."""
    draws: int
    """Random subsets of k votes per preference."""
    resamples: int
    """Resamples of the preferences for the intervals."""
    spared: bool = False
    """Whether votes were spared: then the best response of all K is known, and no other figure of votes."""

    def rng(self, *names: object) -> random.Random:
        """Return the generator of these names: rules compared at one k draw the same votes, figures the same resamples."""
        return random.Random(":".join(str(name) for name in (self.seed, *names)))

    def drawn(self, item: Item, k: int) -> list[Subset]:
        """Return the subsets of k of an item's votes that stand for k votes."""
        n, size = len(item.lengths), len(item.votes)
        if not has_balanced_votes(item):
            return self.shuffled(item, k)
        return balanced_subsets(n, size, k, self.draws, self.rng(item.id, k))

    def shuffled(self, item: Item, k: int) -> list[Subset]:
        """Return any subsets of k of an item's votes."""
        return subsets(len(item.votes), k, self.draws, self.rng(item.id, k))


def measure(item: Item, plan: Plan) -> dict[str, float]:
    """Return the values of one preference; an AUC is no mean, and not among them."""
    values = _read(item.at_zero) | _read(item.votes, "vote_")
    if len(item.lengths) == 1:
        return values
    values["chance"] = baselines.chance(len(item.lengths))
    values["longest"] = baselines.longest(item.lengths, item.label)
    values["shortest"] = baselines.shortest(item.lengths, item.label)
    if item.greedy:
        values |= _greedy(item.at_zero, item.label) | bias(item.at_zero, item.lengths, item.label)
        if plan.expected:
            values |= _expected(item.at_zero, item.label)
    if item.votes:
        values |= _voted(item, plan)
    return values


def calibration_credits(item: Item, plan: Plan, k: int) -> list[float]:
    """Return the credit of the guided vote of k judgements at k_meta = 1..k."""
    return guided_credits(*judgements_of(item), item.label, plan.drawn(item, k))


def weighing_credits(item: Item, plan: Plan, k: int) -> list[float]:
    """Return the credit of the weighted vote of k judgements at each of `SHARPNESS`."""
    drawn = plan.drawn(item, k)
    rules = [partial(weighted, sharpness=each) for each in SHARPNESS]
    return [expected_credit(*judgements_of(item), item.label, rule, drawn).split for rule in rules]


def has_balanced_votes(item: Item) -> bool:
    """Return whether the votes were asked for in balanced orders."""
    return are_balanced([sample.permutation for sample in item.votes])


def judgements_of(item: Item) -> tuple[list[Scores | None], list[float]]:
    """Return the K judgements and their meta scores. A missing meta score is 0, which no rule that `Plan` allows reads."""
    return [sample.scores for sample in item.votes], [sample.meta or 0.0 for sample in item.votes]


def _read(samples: Sequence[Sample], of: str = "") -> dict[str, float]:
    samples = [sample for sample in samples if sample.failure != NO_ANSWER and not sample.alone]
    if not samples:
        return {}
    parsed = [sample for sample in samples if sample.scores is not None]
    lengths = [sample.tokens for sample in samples if sample.tokens]
    return {
        f"{of}parse_rate": len(parsed) / len(samples),
        f"{of}strict_parse_rate": sum(sample.strict for sample in parsed) / len(samples),
        **({f"{of}tokens": fmean(lengths)} if lengths else {}),
    }


def _greedy(samples: Sequence[Sample], label: int) -> dict[str, float]:
    earned = [credit(sample.scores, label) for sample in samples]
    values = {"greedy": fmean(each.split for each in earned), "greedy_ties_lost": fmean(each.lost for each in earned)}
    if parsed := [sample.scores for sample in samples if sample.scores is not None]:
        values["tie_rate"] = fmean(len(best(scores)) > 1 for scores in parsed)
    if len(samples) > 1:
        values["greedy_summed"] = credit(vote(parsed), label).split
        values["consistent_accuracy"] = min(each.lost for each in earned)
        values["both_orders"] = both_orders(samples, label)
        values |= _consistency("consistency", samples)
    if samples[0].alone:
        return values | {"both_orders": values["greedy_ties_lost"]}  # in whichever order, the scores are the same
    places: dict[int, list[float]] = {}
    for sample, each in zip(samples, earned, strict=True):
        places.setdefault(1 + sample.permutation.index(label), []).append(each.split)
    return values | {f"position_{place}": fmean(places[place]) for place in sorted(places)}


def _expected(samples: Sequence[Sample], label: int) -> dict[str, float]:
    """Return the figures of expected scores, which an unparsable judgement has none of."""
    earned = [credit(sample.expected, label) for sample in samples]
    values = {"expected": fmean(each.split for each in earned), "expected_ties_lost": fmean(each.lost for each in earned)}
    if len(samples) > 1:
        values["expected_summed"] = credit(vote([sample.expected for sample in samples]), label).split
        values |= _consistency("expected_consistency", [replace(each, scores=each.expected) for each in samples])
    return values


def _consistency(name: str, samples: Sequence[Sample]) -> dict[str, float]:
    """Return the share of pairs of parsed judgements from different orders that name the same single best response; nothing
    where there is no such pair."""
    pairs = [
        agree(one.scores, other.scores)
        for one, other in combinations(samples, 2)
        if one.scores is not None and other.scores is not None and one.permutation != other.permutation
    ]
    return {name: fmean(pairs)} if pairs else {}


def _voted(item: Item, plan: Plan) -> dict[str, float]:
    judgements, meta = judgements_of(item)
    if plan.spared:
        return {name: value for k in plan.ks for name, value in _spared(judgements, item, k).items()}

    def expected(rule: Rule, drawn: Sequence[Subset]) -> Credit:
        return expected_credit(judgements, meta, item.label, rule, drawn)

    values = _consistency("vote_consistency", item.votes)
    for k in plan.ks:
        if probabilities := shares(judgements[:k]):
            values[f"brier@{k}"] = brier(probabilities, item.label)
        drawn = plan.drawn(item, k)
        summed = expected(unguided(vote), drawn)
        values |= {f"vote@{k}": summed.split, f"vote@{k}_ties_lost": summed.lost}
        if plan.guided:
            values |= {f"guided@{k}": expected(guided, drawn).split, f"weighted@{k}": expected(weighted, drawn).split}
        values[f"majority@{k}"] = expected(unguided(majority), drawn).split
        if k > 1 and has_balanced_votes(item):
            values[f"shuffled@{k}"] = expected(unguided(vote), plan.shuffled(item, k)).split
        values[f"votes_needed@{k}"] = _mean_of(votes_needed, judgements, drawn)
    return values


def _spared(judgements: Sequence[Scores | None], item: Item, k: int) -> dict[str, float]:
    """Return the figures of k votes that the votes before an early stop tell."""
    earned = credit(vote(judgements), item.label)
    needed = votes_needed([*judgements, *[None] * item.spared])
    return {f"vote@{k}": earned.split, f"vote@{k}_ties_lost": earned.lost, f"votes_needed@{k}": float(needed)}


def _mean_of(
    count: Callable[[Sequence[Scores | None]], float], judgements: Sequence[Scores | None], drawn: Sequence[Subset]
) -> float:
    return fmean(count([judgements[index] for index in subset]) for subset in drawn)
