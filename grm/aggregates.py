"""The figures of known benchmarks, each by its own rule, and the two ways to average over subsets. Pure functions.

    table rows ─▶ which benchmarks are whole or part in them, by the names of their subsets ─▶ a figure for each and its parts

micro    each preference counts the same: the row `overall` of `grm.benchmarks`
macro    each subset counts the same

| benchmark | figure | rule |
|---|---|---|
| RewardBench, PPE, RMB | greedy | as in the paper's table (`grm.macro`) |
| RewardBench 2 | greedy | mean of six; four answers each, a tie for the best is split; Ties by `grm.ties` |
| RM-Bench | greedy_ties_lost | mean over domains of the mean of hard, normal and easy; safety is the mean of its two |
| JudgeBench | both_orders | all pairs; right more often than wrong in the two orders |
| ReaLMistake | auc_greedy | mean over its sets |
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from grm.benchmarks import OVERALL, TableRow
from grm.item_figures import Plan, measure
from grm.judged import Item
from grm.macro import (
    PPE_CORRECTNESS,
    PPE_PREFERENCE,
    REALMISTAKE,
    REWARD_BENCH,
    RMB,
    Figures,
    Mean,
    Pool,
    macro,
    macro_of_values,
    mean,
    missing,
    subsets,
)
from grm.statistics import Figure
from grm.ties import ties_figure

TIES = "Ties"
REWARD_BENCH_2 = ("Factuality", "Precise IF", "Math", "Safety", "Focus", TIES)
LEVELS = ("hard", "normal", "easy")
_RM_BENCH = re.compile(r"(?:.*/)?(chat|code|math|safety(?:[-_]\w+)?)/(hard|normal|easy)$", re.IGNORECASE)
_JUDGE_BENCH = (
    ("Knowledge", "mmlu-pro"),
    ("Reasoning", "livebench-reasoning"),
    ("Math", "livebench-math"),
    ("Coding", "livecodebench"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """A figure of a benchmark, or of a part of it."""

    benchmark: str
    """Its name."""
    part: str
    """The part; "": all of it."""
    rule: str
    """How it is made."""
    name: str
    """The figure of the preferences that it is made of."""
    figure: Figure | None
    """Its value; None: a subset is missing."""
    missing: tuple[str, ...] = ()
    """The subsets that are missing, or have no such figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    whole: Mean | Pool
    figure: str
    words: str
    shares_prompts: bool = False  # whether preferences of one prompt lie in several subsets


def macro_figures(rows: Sequence[TableRow]) -> dict[str, Figure]:
    """Return the mean over subsets, which count the same, of each figure that all of them have; none for one subset."""
    own = [row for row in rows if row.subset != OVERALL]
    if len(own) < 2:
        return {}
    shared = [name for name in own[0].figures if all(name in row.figures for row in own)]
    return {name: mean([row.figures[name] for row in own]) for name in shared}


def aggregates(rows: Sequence[TableRow], items: Sequence[Item], *, seed: int = 0, resamples: int = 200) -> list[Aggregate]:
    """Return the figures of the benchmarks whose subsets are in a table, the whole first and then its parts.

    Args:
        rows: The table (`grm.benchmarks.table`).
        items: What it was made of; Ties are more than a mean over preferences.
        seed: Of the resamples for the interval of Ties.
        resamples: Their number.
    """
    figures: dict[str, dict[str, Figure]] = {row.subset: dict(row.figures) for row in rows}
    for row in rows:  # as the benchmark's own file names them
        for prefix in ("reward-bench",):
            figures.setdefault(f"{prefix}/{row.subset}", dict(row.figures))
    if TIES in figures:
        ties = ties_figure((item for item in items if item.subset == TIES), resamples=resamples, rng=random.Random(seed))
        figures[TIES] = {} if ties is None else {"greedy": ties}
    names = [row.subset for row in rows if row.subset != OVERALL]
    found: list[Aggregate] = []
    for rule in (*_known(figures), *_reward_bench_2(names), *_rm_bench(names), *_judge_bench(names)):
        parts = () if isinstance(rule.whole, Pool) else rule.whole.parts
        every = [("", rule.whole), *((part.name, part) for part in parts)]
        if rule.whole.name == "RM-Bench":
            every += [(level, _level(names, level)) for level in LEVELS]
        if rule.whole.name == "JudgeBench":
            every += [(part.name, part) for part in _judge_bench_parts(names)]
        values = _values(items, rule.figure) if rule.shares_prompts else None
        for name, group in every:
            aggregate = _aggregate(rule, group, name, figures)
            if values is not None and aggregate.figure is not None:
                joint = macro_of_values(group, values, resamples=resamples, rng=random.Random(seed))
                aggregate = replace(aggregate, figure=joint)
            found.append(aggregate)
    return found


def _values(items: Sequence[Item], name: str) -> list[tuple[str, str, float]]:
    """Returns (subset, prompt, value) of each item that has a figure of this name."""
    plan = Plan(ks=(), guided=False, expected=False, seed=0, draws=1, resamples=1)
    measured = [(item, measure(replace(item, votes=()), plan)) for item in items]
    return [(item.subset, item.group or item.id, values[name]) for item, values in measured if name in values]


def _aggregate(rule: _Rule, group: Mean | Pool, part: str, figures: Figures) -> Aggregate:
    return Aggregate(
        benchmark=rule.whole.name,
        part=part,
        rule=rule.words,
        name=rule.figure,
        figure=macro(group, figures, rule.figure),
        missing=tuple(missing(group, figures, rule.figure)),
    )


def _known(figures: Figures) -> list[_Rule]:
    """Returns the benchmarks of the paper of which there is some subset."""
    words = "sections count the same; in a section each preference does"
    rules = [_Rule(whole=group, figure="greedy", words=words) for group in (REWARD_BENCH, PPE_CORRECTNESS, RMB)]
    rules.append(_Rule(whole=PPE_PREFERENCE, figure="greedy", words="each pair counts the same"))
    rules.append(_Rule(whole=REALMISTAKE, figure="auc_greedy", words="mean ROC-AUC; its six sets count the same"))
    return [rule for rule in rules if any(name in figures for name in subsets(rule.whole))]


def _reward_bench_2(names: Sequence[str]) -> list[_Rule]:
    if len(set(names) & set(REWARD_BENCH_2)) < 3:  # Math and Safety are names that others use, too
        return []
    parts = tuple(Pool(name=name, subsets=(name,)) for name in REWARD_BENCH_2)
    words = "mean of its six domains; one of four, a tie for the best is split; Ties by its own score"
    return [_Rule(whole=Mean(name="RewardBench 2", parts=parts), figure="greedy", words=words)]


def _rm_bench(names: Sequence[str]) -> list[_Rule]:
    domains = sorted({found[1] for name in names if (found := _RM_BENCH.match(name))})
    if not domains:
        return []
    safety = [_domain(names, domain) for domain in domains if domain.startswith("safety")]
    parts: list[Mean | Pool] = [_domain(names, domain) for domain in domains if not domain.startswith("safety")]
    parts += [Mean(name="safety", parts=tuple(safety))] if safety else []
    words = "domains count the same, and in each hard, normal and easy; a tie is wrong"
    return [_Rule(whole=Mean(name="RM-Bench", parts=tuple(parts)), figure="greedy_ties_lost", words=words, shares_prompts=True)]


def _domain(names: Sequence[str], domain: str) -> Mean:
    own = {found[2].lower(): name for name in names if (found := _RM_BENCH.match(name)) and found[1] == domain}
    levels = tuple(Pool(name=level, subsets=(own.get(level, f"{domain}/{level}"),)) for level in LEVELS)
    return Mean(name=domain, parts=levels)


def _level(names: Sequence[str], level: str) -> Mean:
    """Returns a level over all domains, which count the same, the two of safety as one."""
    (rule,) = _rm_bench(names)
    assert isinstance(rule.whole, Mean)

    def picked(part: Mean | Pool) -> Mean | Pool:
        if isinstance(part, Pool):
            return part
        own = [each for each in part.parts if each.name == level]
        return own[0] if own else Mean(name=part.name, parts=tuple(picked(each) for each in part.parts))

    return Mean(name=level, parts=tuple(picked(part) for part in rule.whole.parts))


def _judge_bench(names: Sequence[str]) -> list[_Rule]:
    parts = _judge_bench_parts(names)
    if not parts:
        return []
    whole = Pool(name="JudgeBench", subsets=tuple(name for part in parts for name in part.subsets))
    words = "each pair counts the same; it is right if it is right more often than wrong in the two orders"
    return [_Rule(whole=whole, figure="both_orders", words=words)]


def _judge_bench_parts(names: Sequence[str]) -> list[Pool]:
    own = [(part, [name for name in names if name.lower().startswith(prefix)]) for part, prefix in _JUDGE_BENCH]
    return [Pool(name=part, subsets=tuple(found)) for part, found in own if found]
