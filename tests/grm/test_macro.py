"""Benchmarks averaged as the paper averages them; the worked numbers are its own sections (arXiv:2504.02495 v3)."""

from random import Random

import pytest

from grm.macro import (
    OVERALL,
    PPE_CORRECTNESS,
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


def figure(value: float, *, half: float = 0.0, rows: int = 100) -> Figure:
    return Figure(value=value, low=value - half, high=value + half, rows=rows)


def sections(group: Mean, *values: float) -> dict[str, dict[str, Figure]]:
    """The same value in every subset of a section, whatever its size."""
    return {
        subset: {"greedy": figure(value, rows=10 + 7 * place)}
        for part, value in zip(group.parts, values, strict=True)
        for place, subset in enumerate(subsets(part))
    }


GREEDY: Figures = {
    **sections(REWARD_BENCH, 94.1, 78.3, 88.0, 83.8),
    "ppe-preference": {"greedy": figure(64.7)},
    **sections(PPE_CORRECTNESS, 64.8, 68.8, 55.6, 50.1, 59.8),
    **sections(RMB, 62.3, 80.5, 57.0, 76.1),
}


def value(group: Mean | Pool, figures: Figures, name: str = "greedy") -> float:
    found = macro(group, figures, name)
    assert found is not None
    return found.value


def test_the_papers_sections_give_the_papers_benchmarks() -> None:
    assert value(REWARD_BENCH, GREEDY) == pytest.approx(86.05)
    assert value(RMB, GREEDY) == pytest.approx(68.975)
    assert value(PPE_CORRECTNESS, GREEDY) == pytest.approx(59.82)
    assert value(OVERALL, GREEDY) == pytest.approx((86.05 + 64.7 + 59.82 + 68.975) / 4)  # 69.886; the paper rounds to 69.9


def test_the_papers_rounded_benchmarks_give_its_overall() -> None:
    rounded = {"a": 86.0, "b": 64.7, "c": 59.8, "d": 69.0}
    group = Mean(name="overall", parts=tuple(Pool(name=name, subsets=(name,)) for name in rounded))
    assert value(group, {name: {"greedy": figure(v)} for name, v in rounded.items()}) == pytest.approx(69.875)


def test_in_a_pool_every_preference_counts_the_same() -> None:
    pool = Pool(name="Safety", subsets=("a", "b"))
    assert value(pool, {"a": {"greedy": figure(1.0, rows=30)}, "b": {"greedy": figure(0.0, rows=10)}}) == 0.75


def test_math_weighs_as_much_as_all_code_together() -> None:
    code = {name: {"greedy": figure(0.5, rows=164)} for name in subsets(REWARD_BENCH) if "/hep-" in name}
    figures = {**code, "reward-bench/math-prm": {"greedy": figure(0.9, rows=447)}}
    assert len(code) == 6
    assert value(REWARD_BENCH.parts[3], figures) == pytest.approx(0.7)
    assert value(REWARD_BENCH.parts[3], figures) == pytest.approx((984 * 0.9 + 6 * 164 * 0.5) / (984 + 6 * 164))


def test_intervals_add_in_squares() -> None:
    group = Mean(name="m", parts=(Pool(name="a", subsets=("a",)), Pool(name="b", subsets=("b",))))
    found = macro(group, {"a": {"greedy": figure(0.4, half=0.03)}, "b": {"greedy": figure(0.8, half=0.04)}}, "greedy")
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.6 - 0.025), pytest.approx(0.6 + 0.025))  # sqrt(.015^2 + .02^2)
    assert found.rows == 200


def test_without_one_of_its_subsets_a_benchmark_has_no_figure() -> None:
    lacking = {name: own for name, own in GREEDY.items() if name != "rmb/Harmlessness BoN"}
    assert macro(RMB, lacking, "greedy") is None
    assert macro(OVERALL, lacking, "greedy") is None
    assert missing(OVERALL, lacking, "greedy") == ["rmb/Harmlessness BoN"]
    assert macro(RMB, GREEDY, "vote@8") is None
    assert value(REWARD_BENCH, lacking) == pytest.approx(86.05)


def test_reward_bench_has_its_23_subsets_and_realmistake_its_six_sets() -> None:
    assert len(set(subsets(REWARD_BENCH))) == 23
    assert len(set(subsets(REALMISTAKE))) == 6


def test_an_interval_of_shares_ends_at_0() -> None:
    """0 and 1/4 (0 to 3/4): half the width of the second, halved, is 0.1875, which is more than the mean, 1/8."""
    first, second = (Figure(value=v, low=0.0, high=high, rows=4) for v, high in ((0.0, 0.0), (0.25, 0.75)))
    joint = mean([first, second])
    assert (joint.value, joint.low, joint.high, joint.rows) == (0.125, 0.0, pytest.approx(0.3125), 8)
    assert mean([second]) == second, "one subset has its own interval, symmetric or not"


def test_a_whole_that_is_all_right_is_as_sure_as_its_prompts_are_many() -> None:
    """Ten prompts in both parts: Wilson of 10 of 10 begins at 10 / (10 + 1.96^2)."""
    group = Mean(name="both", parts=(Pool(name="a", subsets=("a",)), Pool(name="b", subsets=("b",))))
    values = [(subset, f"q{i}", 1.0) for i in range(10) for subset in "ab"]
    joint = macro_of_values(group, values, resamples=20, rng=Random(0))
    assert joint == Figure(value=1.0, low=pytest.approx(0.722, abs=0.0005), high=1.0, rows=20)
