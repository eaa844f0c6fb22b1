"""Figures of whole benchmarks, averaged as the paper's table averages them. Pure functions.

    RewardBench        mean of Chat, Chat Hard, Safety and Reasoning; Reasoning = mean of math-prm and all of the code
    PPE Preference     all pairs that are no tie
    PPE Correctness    mean of MMLU-Pro, MATH, GPQA, MBPP-Plus and IFEval
    RMB                mean of Helpfulness and Harmlessness, best-of-N and pairwise
    overall            mean of these four                            (arXiv:2504.02495, tables 2, 8, 9 and 10)
    ReaLMistake        mean ROC-AUC of its six sets (the paper does not say how it averages)

Within a section every preference counts the same. (RewardBench's own tool counts subsets by a table of sizes, in which those of
the two xstest subsets are exchanged, so its Safety may differ from this one by some tenths.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from random import Random

from grm.benchmark_sets import PPE_CORRECTNESS_SETS, REALMISTAKE_MODELS, REALMISTAKE_TASKS, RMB_GOALS, RMB_SETS
from grm.statistics import Figure, percentiles, with_width

Figures = Mapping[str, Mapping[str, Figure]]
"""{subset: {name of a figure: its value}}: `TableRow.figures` by subset."""

_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Subsets of which every preference counts the same."""

    name: str
    """Its name."""
    subsets: tuple[str, ...]
    """The subsets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Parts that count the same, however many preferences each has."""

    name: str
    """Its name."""
    parts: tuple["Mean | Pool", ...]
    """The parts."""


def macro(group: Mean | Pool, figures: Figures, name: str) -> Figure | None:
    """Return a group's figure; None if a subset of it has none (`missing` names them).

    The interval takes subsets for independent and means for normal: s^2 = sum of w_i^2 s_i^2, where s_i is half the width of
    the i-th interval over 1.96. It is symmetric about the value, but ends at the mean of the lower ends and at that of the
    upper ones: a share is never below 0. The interval of one subset is its own.

    Args:
        group: The benchmark, or a part of it.
        figures: Of each subset.
        name: Of the figure, as `greedy` or `vote@8`.
    """
    if missing(group, figures, name):
        return None
    if isinstance(group, Mean):
        parts = [macro(part, figures, name) for part in group.parts]
        return _combined([part for part in parts if part], [1.0] * len(parts))
    own = [figures[subset][name] for subset in group.subsets]
    return _combined(own, [float(figure.rows) for figure in own])


def macro_of_values(
    group: Mean | Pool, values: Sequence[tuple[str, str, float]], *, resamples: int, rng: Random
) -> Figure | None:
    """Return a group's figure from the values of its preferences; None if a subset has none.

    Preferences of one prompt may lie in several subsets (RM-Bench: hard, normal and easy), which are not independent then. So
    whole prompts are drawn for the interval, in all subsets at once.

    Args:
        group: The benchmark, or a part of it.
        values: (subset, prompt, value) of each preference.
        resamples: For the interval.
        rng: Draws them.
    """
    names = set(subsets(group))
    own = [each for each in values if each[0] in names]
    if {subset for subset, _, _ in own} != names:
        return None
    members: dict[str, list[tuple[str, float]]] = {}
    for subset, prompt, value in own:
        members.setdefault(prompt, []).append((subset, value))
    prompts = list(members.values())
    estimates = []
    for _ in range(resamples):
        estimate = _estimate(group, [pair for prompt in rng.choices(prompts, k=len(prompts)) for pair in prompt])
        estimates.append(0.0 if estimate is None else estimate)
    whole = _estimate(group, [(subset, value) for subset, _, value in own])
    if whole is None:
        return None
    low, high = with_width(whole, percentiles(estimates), len(prompts))
    return Figure(value=whole, low=low, high=high, rows=len(own))


def _estimate(group: Mean | Pool, pairs: Sequence[tuple[str, float]]) -> float | None:
    """Return the figure of (subset, value) pairs; a part that a resample lacks is left out of the mean."""
    sums: dict[str, tuple[float, int]] = {}
    for subset, value in pairs:
        total, count = sums.get(subset, (0.0, 0))
        sums[subset] = total + value, count + 1

    def of(part: Mean | Pool) -> float | None:
        if isinstance(part, Mean):
            found = [each for each in map(of, part.parts) if each is not None]
            return fsum(found) / len(found) if found else None
        own = [sums[name] for name in part.subsets if name in sums]
        return fsum(total for total, _ in own) / sum(count for _, count in own) if own else None

    return of(group)


def mean(figures: Sequence[Figure]) -> Figure:
    """Return the mean of figures that count the same; the interval as in `macro`."""
    return _combined(figures, [1.0] * len(figures))


def missing(group: Mean | Pool, figures: Figures, name: str) -> list[str]:
    """Return the subsets of a group that have no figure of this name, in order."""
    return [subset for subset in subsets(group) if name not in figures.get(subset, {})]


def subsets(group: Mean | Pool) -> list[str]:
    """Return the subsets of a group, in order."""
    if isinstance(group, Pool):
        return list(group.subsets)
    return [subset for part in group.parts for subset in subsets(part)]


def _combined(figures: Sequence[Figure], weights: Sequence[float]) -> Figure:
    if len(figures) == 1:
        return figures[0]
    total = sum(weights)
    shares = [weight / total for weight in weights]
    value = sum(share * figure.value for share, figure in zip(shares, figures, strict=True))
    spread = _Z * sqrt(sum((share * _deviation(figure)) ** 2 for share, figure in zip(shares, figures, strict=True)))
    low = sum(share * figure.low for share, figure in zip(shares, figures, strict=True))
    high = sum(share * figure.high for share, figure in zip(shares, figures, strict=True))
    rows = sum(figure.rows for figure in figures)
    return Figure(value=value, low=max(low, value - spread), high=min(high, value + spread), rows=rows)


def _deviation(figure: Figure) -> float:
    return (figure.high - figure.low) / (2 * _Z)


def _pool(benchmark: str, name: str, *names: str) -> Pool:
    return Pool(name=name, subsets=tuple(f"{benchmark}/{each}" for each in names))


_CHAT_HARD = (
    "mt-bench-hard",
    "llmbar-natural",
    "llmbar-adver-neighbor",
    "llmbar-adver-GPTInst",
    "llmbar-adver-GPTOut",
    "llmbar-adver-manual",
)
_SAFETY = ("refusals-dangerous", "refusals-offensive", "xstest-should-refuse", "xstest-should-respond", "donotanswer")
_CODE = tuple(f"hep-{language}" for language in ("cpp", "go", "java", "js", "python", "rust"))

REWARD_BENCH = Mean(
    name="RewardBench",
    parts=(
        _pool(
            "reward-bench",
            "Chat",
            "alpacaeval-easy",
            "alpacaeval-length",
            "alpacaeval-hard",
            "mt-bench-easy",
            "mt-bench-med",
        ),
        _pool("reward-bench", "Chat Hard", *_CHAT_HARD),
        _pool("reward-bench", "Safety", *_SAFETY),
        Mean(name="Reasoning", parts=(_pool("reward-bench", "Math", "math-prm"), _pool("reward-bench", "Code", *_CODE))),
    ),
)
PPE_PREFERENCE = Pool(name="PPE Preference", subsets=("ppe-preference",))
PPE_CORRECTNESS = Mean(
    name="PPE Correctness",
    parts=tuple(_pool("ppe-correctness", name, name) for name in PPE_CORRECTNESS_SETS),
)
RMB = Mean(
    name="RMB",
    parts=tuple(_pool("rmb", name, name) for name in (f"{goal} {kind}" for goal in RMB_GOALS for kind in sorted(RMB_SETS))),
)
OVERALL = Mean(name="overall", parts=(REWARD_BENCH, PPE_PREFERENCE, PPE_CORRECTNESS, RMB))
REALMISTAKE = Mean(
    name="ReaLMistake",
    parts=tuple(
        Mean(name=task, parts=tuple(_pool("realmistake", model, f"{task}/{model}") for model in REALMISTAKE_MODELS))
        for task in REALMISTAKE_TASKS
    ),
)
