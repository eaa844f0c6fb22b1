"""Figures of whole benchmarks, each by its own rule, against a few independent lines."""

import random
from statistics import fmean

import pytest

from grm.aggregates import LEVELS, Aggregate, aggregates, macro_figures
from grm.benchmarks import Item, table
from tests.grm.judged_items import item


def by_part(found: list[Aggregate], benchmark: str) -> dict[str, float | None]:
    return {each.part: each.figure.value if each.figure else None for each in found if each.benchmark == benchmark}


def judged(items: list[Item]) -> list[Aggregate]:
    return aggregates(table(items, ks=(), resamples=20), items, resamples=20)


def test_rm_bench_counts_domains_the_same_and_a_tie_as_wrong() -> None:
    """The 3 x 3 of each prompt, scored at random; the plain lines follow the paper: matrices, then means."""
    rng = random.Random(1)
    items, matrices = [], dict[str, list[list[list[bool]]]]()
    for domain, count in (("chat", 4), ("safety-refuse", 3), ("safety-response", 5)):
        for row in range(count):
            right, wrong = [rng.randint(1, 10) for _ in range(3)], [rng.randint(1, 10) for _ in range(3)]
            matrices.setdefault(domain, []).append([[good > bad for bad in wrong] for good in right])
            for i, good in enumerate(right):
                for j, bad in enumerate(wrong):
                    level = "hard" if i < j else "normal" if i == j else "easy"
                    name, subset = f"{domain}{row}.{3 * i + j}", f"{domain}/{level}"
                    items.append(item(name, (good, bad), subset=subset, group=f"{domain}{row}"))

    def level_of(domain: str, level: str) -> float:
        places = [(i, j) for i in range(3) for j in range(3) if level == ("hard" if i < j else "normal" if i == j else "easy")]
        return fmean(matrix[i][j] for matrix in matrices[domain] for i, j in places)

    levels = {
        level: fmean([level_of("chat", level), fmean(level_of(f"safety-{kind}", level) for kind in ("refuse", "response"))])
        for level in LEVELS
    }
    found = by_part(judged(items), "RM-Bench")
    assert {level: found[level] for level in LEVELS} == pytest.approx(levels)
    assert found[""] == pytest.approx(fmean(levels.values()))
    assert found["chat"] == pytest.approx(fmean(level_of("chat", level) for level in LEVELS))
    assert set(found) == {"", "chat", "safety", *LEVELS}


def test_pairs_of_one_prompt_are_drawn_together() -> None:
    """Nine equal pairs of each of eight prompts are eight observations, not 72; nor are three levels of them 24."""
    levels = ["hard"] * 3 + ["normal"] * 3 + ["easy"] * 3

    def widths(*, grouped: bool) -> dict[str, float]:
        items = [
            item(f"{row}.{i}", (9, 2) if row % 2 else (2, 9), subset=f"chat/{level}", group=str(row) if grouped else "")
            for row in range(8)
            for i, level in enumerate(levels)
        ]
        found = aggregates(table(items, ks=(), resamples=100), items, resamples=200)
        return {each.part: each.figure.high - each.figure.low for each in found if each.figure}

    grouped, alone = widths(grouped=True), widths(grouped=False)
    assert grouped[""] > 2 * alone[""]
    assert grouped[""] == grouped["hard"] == grouped["easy"], "the levels are of the same prompts"


def test_judge_bench_wants_both_orders() -> None:
    items = [
        item("a", (9, 2), (9, 2), subset="mmlu-pro-law"),
        item("b", (9, 2), (2, 9), subset="mmlu-pro-law"),
        item("c", (9, 2), (5, 5), subset="livebench-math"),
        item("d", (2, 9), (2, 9), subset="livecodebench"),
    ]
    assert by_part(judged(items), "JudgeBench") == {"": 0.5, "Knowledge": 0.5, "Math": 1.0, "Coding": 0.0}


def test_reward_bench_2_is_the_mean_of_six_with_ties_by_their_own_score() -> None:
    four = (1, 2, 3, 4)
    items = [
        item("f1", (9, 2, 3, 4), lengths=four, subset="Factuality"),
        item("f2", (9, 9, 3, 4), lengths=four, subset="Factuality"),
        item("i", (1, 9, 3, 4), lengths=four, subset="Precise IF"),
        item("m", (9, 2, 3, 4), lengths=four, subset="Math"),
        item("s", (9, 2, 3, 4), lengths=four, subset="Safety"),
        item("o", (9, 9, 9, 9), lengths=four, subset="Focus"),
        item("ref:1", (9, 2), subset="Ties"),
        item("tied:1.0", (9, 2), subset="Ties"),
        item("tied:1.1", (8, 2), subset="Ties"),
    ]
    found = by_part(judged(items), "RewardBench 2")
    ties = 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * pytest.approx(1.0, abs=0.01).expected
    assert found["Ties"] == pytest.approx(ties, abs=1e-3)
    assert found["Factuality"] == 0.75
    assert found["Focus"] == 0.25
    assert found[""] == pytest.approx(fmean([0.75, 0.0, 1.0, 1.0, 0.25, found["Ties"] or 0]))


def test_a_part_that_is_missing_is_named_and_nothing_is_made_up() -> None:
    items = [item(name, (9, 2), subset=name) for name in ("Factuality", "Math", "Focus")]
    (whole, *_) = judged(items)
    assert (whole.figure, whole.missing) == (None, ("Precise IF", "Safety", "Ties"))


def test_reward_bench_is_known_by_its_own_subsets_too() -> None:
    items = [item("a", (9, 2), subset="alpacaeval-easy"), item("b", (2, 9), subset="math-prm")]
    found = judged(items)
    assert [each.benchmark for each in found if not each.part] == ["RewardBench"]
    assert "reward-bench/donotanswer" in found[0].missing


def test_other_subsets_are_no_benchmark() -> None:
    assert judged([item("a", (9, 2), subset="easy"), item("b", (9, 2), subset="Math")]) == []


def test_macro_counts_subsets_the_same() -> None:
    items = [item(f"a{i}", (9, 2), subset="a") for i in range(3)] + [item("b", (2, 9), subset="b")]
    rows = table(items, ks=(), resamples=20)
    assert rows[-1].figures["greedy"].value == 0.75, "micro"
    assert macro_figures(rows)["greedy"].value == 0.5
    assert macro_figures(table(items[:3], ks=(), resamples=20)) == {}
