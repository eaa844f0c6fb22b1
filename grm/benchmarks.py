"""From judged preferences to a table: accuracies, ROC-AUC, and the baselines to compare with. Pure functions.

n >= 2, over preferences; accuracies are 0..1, a tie for the best is split among the tied unless the name says otherwise,
an unparsable judgement is wrong. Where a preference was judged greedily in both orders, it counts the mean of the two:
    greedy, greedy_ties_lost      of the greedy judgement; in the second a tie is wrong
    greedy_summed                 of the sum of the scores in both orders, in which a position bias cancels
    consistency                   share of the preferences in which the greedy judgements of both orders name the same single
                                  best response, among those in which both parsed
    consistent_accuracy           right in both orders; a tie is wrong
    expected, expected_ties_lost  as greedy, by the expected scores (`grm.expected_scores`), if they were asked for
    expected_summed, expected_consistency
                                  of the expected scores in both orders, as greedy_summed and consistency
    both_orders                   right in one order, and not wrong in the other (JudgeBench)
    tie_rate                      of the parsed greedy judgements, those with more than one best
    position_i                    `greedy` where the best response was shown in place i, from 1
    picks_longest, picks_first    how often the judge's best is the longest, or was shown first (`grm.judge_bias`)
    greedy_longest, greedy_shortest
                                  `greedy` where the best response is the one longest, or the one shortest
    vote@k, vote@k_ties_lost      expected accuracy of k votes in balanced orders, out of the K >= k that were sampled
                                  (`balanced_subsets`)
    shuffled@k                    of any k of the K, as if each vote's order were drawn (as in the paper; the nearer, the
                                  smaller k is beside K)
    guided@k                      of the k // 2 of them that the meta-RM chooses, if it scored every parsed vote
    guided@k_one, guided@k_quarter
                                  of the one, and of the k // 4, that it chooses, for k >= 8 (the paper's ablation of k_meta)
    calibrated@k, k_meta@k        of the k_meta of them that earned most on the other half of the preferences; its mean
    weighted@k                    where each judgement counts as much as the meta-RM believes in it
    calibrated_weights@k, sharpness@k
                                  the same, more or less sharply, as earned most on the other half (`SHARPNESS`); its mean
    majority@k                    where each judgement votes for its best response only
    brier@k, ece@k                how far the shares of the first k votes are probabilities (`grm.vote_shares`): 0 is best
    votes_needed@k                mean number of votes, of k cast in turn, after which the best could not change. Where votes
                                  were spared for that reason, only this and vote@K are known, K being the whole number
    vote_consistency              share of pairs of parsed votes in different orders that name the same single best
    chance, longest, shortest     of judges without a model (`grm.baselines`)
n = 1, where the label is right or wrong, ROC-AUC of the score 1..10; an unparsable judgement scores MIDDLE:
    auc_greedy, auc_expected, auc_vote@k, auc_guided@k
any n:
    parse_rate, vote_parse_rate   parsed share of the greedy judgements, and of the votes
    strict_parse_rate, vote_strict_parse_rate
                                  the share that the strict parser reads, as in training (`grm.lenient` reads the others)
    tokens, vote_tokens           mean length of a greedy judgement, and of a vote, of those whose tokens were counted

There is no average@k: the mean of the parsed votes has the same best responses as their sum. For n = 1 the sum would mislead,
as an unparsable vote lowers it. There, k votes score the mean of the parsed ones, and MIDDLE if none parses. If all parse,
this is their sum but for the factor k, which does not change an AUC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from grm.calibration import SHARPNESS, cross_fitted
from grm.item_figures import Plan, calibration_credits, judgements_of, measure, weighing_credits
from grm.judged import Item, Sample
from grm.statistics import Figure, area_figure, mean_figure, share_figure
from grm.vote_estimates import outcomes
from grm.vote_shares import calibration_figure, shares
from grm.voting import Rule, average, guided_average, unguided

__all__ = ["COUNTS", "MIDDLE", "OVERALL", "Figure", "Item", "Sample", "TableRow", "table"]

OVERALL = "overall"
COUNTS = ("tokens", "vote_tokens", "votes_needed", "k_meta", "sharpness")  # figures that are no shares, with or without @k
MIDDLE = 5.5  # of the scores 1..10: neither right nor wrong
FEWEST_QUARTERED = 8  # votes, of which a quarter is neither one nor none
MOST_AREA_DRAWS = 20  # one draw averages over all preferences already


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """The figures of a subset."""

    subset: str
    """Name of the subset, or `overall`."""
    rows: int
    """Number of its preferences; a figure may be over fewer of them."""
    figures: Mapping[str, Figure]
    """By the names at the head of this file; figures that were not measured are absent."""


def table(
    items: Sequence[Item], *, ks: Sequence[int], seed: int = 0, draws: int = 100, resamples: int = 1000
) -> list[TableRow]:
    """Return the table of judged preferences. The same arguments give the same table.

    Args:
        items: At least one; all that have votes have the same number K of them, spared ones counted.
        ks: Numbers of votes to report; those above K are left out.
        seed: Seed of all draws.
        draws: Random subsets of k votes per preference (`balanced_subsets`).
        resamples: Resamples of the preferences for the intervals.

    Returns:
        One row per subset, by name, if there are several; then the row `overall`, in which each preference counts the same.
    """
    _check(items, ks)
    most, spared = max(len(item.votes) + item.spared for item in items), any(item.spared for item in items)
    meta = [sample.meta for item in items for sample in item.votes if sample.scores is not None]
    read = [sample.expected for item in items for sample in item.at_zero if sample.scores is not None]
    plan = Plan(
        ks=tuple(k for k in sorted(set(ks)) if k == most or (k < most and not spared)),
        guided=bool(meta) and None not in meta and not spared,
        expected=bool(read) and None not in read,
        seed=seed,
        draws=draws,
        resamples=resamples,
        spared=spared,
    )
    calibrated = _calibrated(items, plan)
    measured = [measure(item, plan) | calibrated[item.id] for item in items]
    names = sorted({item.subset for item in items})
    return [_row(name, items, measured, plan) for name in (*(names if len(names) > 1 else ()), OVERALL)]


def _check(items: Sequence[Item], ks: Sequence[int]) -> None:
    if not items:
        raise ValueError("no judged preferences to make a table of")
    if any(k < 1 for k in ks):
        raise ValueError(f"ks {list(ks)}: give numbers of votes, 1 or more")
    counts = sorted({len(item.votes) + item.spared for item in items if item.votes})
    if len(counts) > 1:
        raise ValueError(f"votes: some items have {counts[0]}, others {counts[-1]}: give all that are voted on the same K")
    if any(item.subset == OVERALL for item in items):
        raise ValueError(f"subset {OVERALL!r} is the name of the last row: rename the subset")


def _row(name: str, items: Sequence[Item], measured: Sequence[Mapping[str, float]], plan: Plan) -> TableRow:
    inside = [i for i, item in enumerate(items) if name in (OVERALL, item.subset)]
    single = [items[i] for i in inside if len(items[i].lengths) == 1]
    own = [items[i] for i in inside]
    figures = _means([measured[i] for i in inside], own, plan) | _calibration_errors(own, plan) | _areas(single, plan)
    return TableRow(subset=name, rows=len(inside), figures=figures)


def _means(measured: Sequence[Mapping[str, float]], items: Sequence[Item], plan: Plan) -> dict[str, Figure]:
    """Return the mean of each value over the preferences that have it; those of one prompt are resampled together."""
    columns: dict[str, list[float]] = {}
    groups: dict[str, list[str]] = {}
    for values, item in zip(measured, items, strict=True):
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
            groups.setdefault(name, []).append(item.group or item.id)
    return {
        name: (mean_figure if name.partition("@")[0] in COUNTS else share_figure)(
            columns[name], resamples=plan.resamples, rng=plan.rng(), groups=groups[name]
        )
        for name in sorted(columns, key=_place)
    }


def _calibration_errors(items: Sequence[Item], plan: Plan) -> dict[str, Figure]:
    """Return ece@k over the preferences of several responses that have a parsed vote among the first k."""
    figures = {}
    for k in () if plan.spared else plan.ks:
        several = [item for item in items if len(item.lengths) > 1]
        voted = [(item, p) for item in several if (p := shares([sample.scores for sample in item.votes[:k]]))]
        if voted:
            rows, groups = [(p, item.label) for item, p in voted], [item.group or item.id for item, _ in voted]
            figures[f"ece@{k}"] = calibration_figure(rows, groups, resamples=plan.resamples, rng=plan.rng())
    return figures


def _place(name: str) -> int:
    """Return the key that sorts the figures of shown places behind the others, which keep their order."""
    return int(name.removeprefix("position_")) if name.startswith("position_") else 0


def _calibrated(items: Sequence[Item], plan: Plan) -> dict[str, dict[str, float]]:
    """Return, for each item by its id, its credit at each k where other votes than the better half are chosen: one, a quarter,
    and as many, or with such weights, as earned most on the other half of the items."""
    several = [item for item in items if item.votes and len(item.lengths) > 1] if plan.guided else []
    values: dict[str, dict[str, float]] = {item.id: {} for item in items}
    for k in plan.ks:
        credits = {item.id: calibration_credits(item, plan, k) for item in several}
        for name, (k_meta, earned) in cross_fitted(credits).items():
            values[name] |= {f"calibrated@{k}": earned, f"k_meta@{k}": float(k_meta)}
        for name, (at, earned) in cross_fitted({item.id: weighing_credits(item, plan, k) for item in several}).items():
            values[name] |= {f"calibrated_weights@{k}": earned, f"sharpness@{k}": SHARPNESS[at - 1]}
        for name, earned_by in credits.items() if k >= FEWEST_QUARTERED else ():
            values[name] |= {f"guided@{k}_one": earned_by[0], f"guided@{k}_quarter": earned_by[k // 4 - 1]}
    return values


def _areas(items: Sequence[Item], plan: Plan) -> dict[str, Figure]:
    """Return the AUC figures of single responses: none if all of them are right, or all are wrong."""

    def area(draws: Sequence[Sequence[float]], judged: Sequence[Item]) -> Figure | None:
        right = [item.label == 1 for item in judged]
        groups = [item.group or item.id for item in judged]
        return area_figure(draws, right, resamples=plan.resamples, rng=plan.rng(), groups=groups)

    voted = [item for item in items if item.votes]
    greedy = [_single(item.greedy.scores) for item in items if item.greedy]
    figures = {"auc_greedy": area([greedy], [item for item in items if item.greedy])}
    if plan.expected:
        expected = [_single(item.greedy.expected) for item in items if item.greedy]
        figures["auc_expected"] = area([expected], [item for item in items if item.greedy])
    for k in plan.ks:
        figures[f"auc_vote@{k}"] = area(_drawn(voted, k, unguided(average), plan), voted)
        if plan.guided:
            figures[f"auc_guided@{k}"] = area(_drawn(voted, k, guided_average, plan), voted)
    return {name: figure for name, figure in figures.items() if figure}


def _drawn(items: Sequence[Item], k: int, rule: Rule, plan: Plan) -> list[list[float]]:
    """Return, for each draw of k votes, the score of each single response."""
    few = replace(plan, draws=min(plan.draws, MOST_AREA_DRAWS))
    scores = [[_single(drawn) for drawn in outcomes(*judgements_of(item), rule, few.drawn(item, k))] for item in items]
    return [list(draw) for draw in zip(*scores, strict=True)]


def _single(totals: Sequence[float] | None) -> float:
    return MIDDLE if totals is None else totals[0]
