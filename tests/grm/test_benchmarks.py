"""The table by worked numbers: ties, unparsable judgements, position bias, subsets, and n = 1 beside n >= 2."""

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence

import pytest

from grm.benchmarks import Figure, Item, Sample, TableRow, table
from grm.voting import Scores


def sample(scores: Scores | None, *, n: int = 2, best_at: int | None = None, label: int = 0, **more: float) -> Sample:
    """A judgement of n responses; `best_at` is the place, from 1, in which the one of the label was shown."""
    n = len(scores) if scores else n
    order = [own for own in range(n) if own != label]
    order.insert(label if best_at is None else best_at - 1, label)
    fields = {"tokens": 100, "meta": None} | more
    failure = "" if scores else "no_box"
    return Sample(scores=scores, permutation=tuple(order), failure=failure, **fields)  # type: ignore[arg-type]


def pair(id_: str, greedy: Scores | None, *votes: Scores | None, best_at: int = 1, **more: object) -> Item:
    """A preference for the first, longer one of two responses."""
    return item(id_, sample(greedy, best_at=best_at), *[sample(scores) for scores in votes], **more)


def single(id_: str, label: int, greedy: int | None, *votes: int | None) -> Item:
    def judged(score: int | None) -> Sample:
        return Sample(
            scores=None if score is None else (score,), permutation=(0,), tokens=50, failure="empty" if score is None else ""
        )

    return Item(
        id=id_, subset="", label=label, lengths=(40,), greedy=judged(greedy), votes=tuple(judged(score) for score in votes)
    )


def item(id_: str, greedy: Sample | None, *votes: Sample, **more: object) -> Item:
    fields = {"subset": "", "label": 0, "lengths": (30, 20)} | more
    return Item(id=id_, greedy=greedy, votes=votes, **fields)  # type: ignore[arg-type]


def with_meta(judged: Item, *meta: float | None) -> Item:
    votes = [dataclasses.replace(vote, meta=score) for vote, score in zip(judged.votes, meta, strict=True)]
    return dataclasses.replace(judged, votes=tuple(votes))


def rows(items: Sequence[Item], ks: Sequence[int] = (), **more: int) -> list[TableRow]:
    return table(items, ks=ks, **({"resamples": 10} | more))  # type: ignore[arg-type]


def values(items: Sequence[Item], ks: Sequence[int] = (), **more: int) -> Mapping[str, float]:
    """The values of the row "overall"."""
    return {name: figure.value for name, figure in rows(items, ks, **more)[-1].figures.items()}


def test_greedy_figures() -> None:
    items = [
        pair("right", (9, 2), best_at=1),
        pair("wrong", (3, 4), best_at=2),
        pair("tied", (5, 5), best_at=2),
        pair("unparsable", None, best_at=1),
        pair("right too", (7, 6), best_at=1),
    ]
    figures = rows(items)[-1].figures
    assert figures["greedy"].value == (1 + 0 + 1 / 2 + 0 + 1) / 5
    assert figures["greedy_ties_lost"].value == (1 + 0 + 0 + 0 + 1) / 5
    assert (figures["tie_rate"].value, figures["tie_rate"].rows) == (1 / 4, 4)  # of the parsed ones
    assert figures["parse_rate"].value == 4 / 5
    assert (figures["position_1"].value, figures["position_1"].rows) == (pytest.approx(2 / 3), 3)
    assert (figures["position_2"].value, figures["position_2"].rows) == (1 / 4, 2)
    assert figures["tokens"].value == 100
    assert not [name for name in figures if "@" in name or "vote" in name or "auc" in name]


def test_a_judge_that_always_says_first_shows_in_the_positions() -> None:
    # Shown first, the best response gets the 9; shown later, whichever stands first does.
    items = [
        item(f"{place}", sample((9, 1, 1) if place == 1 else (1, 9, 1), best_at=place), lengths=(1, 1, 1))
        for place in (3, 1, 2)
    ]
    assert all(item.greedy and item.greedy.scores and item.greedy.scores[item.greedy.permutation[0]] == 9 for item in items)
    figures = values(items)
    assert [figures[f"position_{place}"] for place in (1, 2, 3)] == [1.0, 0.0, 0.0]
    assert [name for name in figures if name.startswith("position")] == ["position_1", "position_2", "position_3"]


def test_baselines() -> None:
    items = [
        item("longest", None, lengths=(30, 20), label=0),
        item("shortest", None, lengths=(30, 20), label=1),
        item("as long", None, lengths=(20, 20), label=1),
        item("of three", None, lengths=(10, 30, 30), label=2),
    ]
    figures = values(items)
    assert figures == {
        "chance": (3 * 1 / 2 + 1 / 3) / 4,
        "longest": (1 + 0 + 1 / 2 + 1 / 2) / 4,
        "shortest": (0 + 1 + 1 / 2 + 0) / 4,
    }


def test_votes() -> None:
    items = [
        pair("a", (9, 2), (9, 1), (4, 5), (4, 5)),  # sums 17, 11; majority 1, 2
        pair("b", (9, 2), (5, 5), None, (5, 5)),  # tied
        pair("c", (9, 2), None, None, None),
        pair("d", (9, 2), (3, 4), (3, 4), (5, 6)),
    ]
    figures = values(items, [1, 2, 3, 4])
    assert figures["vote@1"] == pytest.approx((1 / 3 + 1 / 3 + 0 + 0) / 4)
    assert figures["vote@1_ties_lost"] == pytest.approx((1 / 3 + 0 + 0 + 0) / 4)
    # Pairs of a: (13, 6), (13, 6), (8, 10); of b: each is tied.
    assert figures["vote@2"] == pytest.approx((2 / 3 + 1 / 2 + 0 + 0) / 4)
    assert figures["vote@2_ties_lost"] == pytest.approx((2 / 3 + 0 + 0 + 0) / 4)
    assert figures["vote@3"] == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)
    assert figures["vote@3_ties_lost"] == pytest.approx((1 + 0 + 0 + 0) / 4)
    # Pairs of a: tied, tied, lost.
    assert figures["majority@2"] == pytest.approx((1 / 3 + 1 / 2 + 0 + 0) / 4)
    assert figures["majority@3"] == pytest.approx((0 + 1 / 2 + 0 + 0) / 4)
    assert figures["vote_parse_rate"] == pytest.approx((3 + 2 + 0 + 3) / 12)
    assert figures["vote_tokens"] == 100
    assert not [name for name in figures if "@4" in name or "guided" in name]


def test_best_of_n_needs_the_single_best() -> None:
    four = item("four", sample((8, 3, 8, 1), label=2), sample((8, 3, 8, 1)), label=2, lengths=(1, 2, 3, 4))
    figures = values([four], [1])
    assert (figures["greedy"], figures["greedy_ties_lost"]) == (1 / 2, 0.0)
    assert (figures["vote@1"], figures["vote@1_ties_lost"]) == (1 / 2, 0.0)
    assert (figures["chance"], figures["tie_rate"], figures["position_3"]) == (1 / 4, 1.0, 1 / 2)


def test_guided_votes() -> None:
    judged = pair("a", (9, 2), (6, 5), (1, 9), None, (8, 6))
    good = values([with_meta(judged, 0.9, 0.1, None, 0.8)], [1, 4])  # the unparsable one needs no meta score
    bad = values([with_meta(judged, 0.1, 0.9, 1.0, 0.2)], [1, 4])
    assert (good["vote@4"], bad["vote@4"]) == (0.0, 0.0)  # (15, 20)
    assert good["guided@4"] == 1.0  # (14, 11)
    assert bad["guided@4"] == 0.0  # (9, 15)
    assert good["guided@1"] == good["vote@1"] == 2 / 4


def test_guided_votes_are_over_the_same_items_as_plain_ones_or_absent() -> None:
    items = [with_meta(pair("a", None, (9, 1)), 0.5), pair("b", None, (9, 1))]
    assert not [name for name in values(items, [1]) if name.startswith("guided")]
    nothing_parsed = with_meta(pair("a", None, None), 0.5)
    assert not [name for name in values([nothing_parsed], [1]) if name.startswith("guided")]


def test_single_responses() -> None:
    items = [
        single("r1", 1, 9, 8, None, 6),  # mean 7
        single("r2", 1, None, 4, 5, 6),  # mean 5; greedy in the middle
        single("w1", 0, 6, 5, 5, 5),  # mean 5
        single("w2", 0, 2, None, None, None),  # in the middle: 5.5
    ]
    figures = rows(items, [3])[-1].figures
    # Greedy 9, 5.5 against 6, 2: three of the four pairs. Votes 7, 5 against 5, 5.5: two, and a tie.
    assert figures["auc_greedy"].value == 3 / 4
    assert figures["auc_vote@3"].value == 2.5 / 4
    assert (figures["auc_greedy"].rows, figures["parse_rate"].value, figures["tokens"].value) == (4, 3 / 4, 50)
    assert figures["vote_parse_rate"].value == 8 / 12
    assert set(figures) == {"auc_greedy", "auc_vote@3", "parse_rate", "strict_parse_rate", "tokens"} | {
        "vote_parse_rate",
        "vote_strict_parse_rate",
        "vote_tokens",
    }


def test_one_vote_of_single_responses_is_averaged_over_all_of_them() -> None:
    items = [single("r", 1, 9, 8, 4), single("w", 0, 1, 5, 5)]
    assert values(items, [1])["auc_vote@1"] == 1 / 2  # 8 against 5, then 4 against 5


def test_drawn_votes_of_single_responses() -> None:
    source = random.Random(1)
    items = [
        single(f"{index}", index % 2, 5, *[source.choice([3, 4, 5]) + index % 2 for _ in range(12)]) for index in range(60)
    ]
    figures = values(items, [1, 4, 12], resamples=2)
    assert 0.6 < figures["auc_vote@1"] < figures["auc_vote@4"] < figures["auc_vote@12"] <= 1.0


def test_guided_single_responses() -> None:
    items = [
        with_meta(single("r", 1, 9, 9, 1), 0.9, 0.1),
        with_meta(single("w", 0, 1, 6, 6), 0.5, 0.5),
    ]
    figures = values(items, [2])
    assert figures["auc_vote@2"] == 0.0  # 5 against 6
    assert figures["auc_guided@2"] == 1.0  # 9 against 6


def test_no_area_without_right_and_wrong() -> None:
    assert not [name for name in values([single("r", 1, 9, 8), single("s", 1, 9, 8)], [1]) if "auc" in name]


def test_single_and_several_responses_together() -> None:
    items = [single("r", 1, 9), single("w", 0, 2), pair("p", (9, 2)), pair("q", None)]
    (row,) = rows(items)
    assert (row.subset, row.rows) == ("overall", 4)
    assert (row.figures["greedy"].value, row.figures["greedy"].rows) == (1 / 2, 2)
    assert (row.figures["auc_greedy"].value, row.figures["auc_greedy"].rows) == (1.0, 2)
    assert (row.figures["parse_rate"].value, row.figures["parse_rate"].rows) == (3 / 4, 4)
    assert row.figures["chance"].rows == 2


def test_a_row_a_subset_and_the_last_over_all() -> None:
    items = [
        pair("a", (9, 2), subset="sums"),
        pair("b", (2, 9), subset="prose"),
        pair("c", (9, 2), subset="sums"),
    ]
    by_subset = rows(items)
    assert [(row.subset, row.rows) for row in by_subset] == [("prose", 1), ("sums", 2), ("overall", 3)]
    assert [row.figures["greedy"].value for row in by_subset] == [0.0, 1.0, pytest.approx(2 / 3)]
    (alone,) = rows(items[:1])
    assert alone.subset == "overall"


def test_only_some_items_are_voted_on() -> None:
    figures = rows([pair("a", (9, 2), (9, 2), (2, 9)), pair("b", (9, 2))], [1, 2])[-1].figures
    assert (figures["greedy"].rows, figures["vote@1"].rows, figures["vote@2"].rows) == (2, 1, 1)
    assert (figures["vote@1"].value, figures["vote@2"].value) == (1 / 2, 1 / 2)  # the two sum up to a tie


def test_intervals_are_over_preferences() -> None:
    items = [pair(f"{index}", (9, 2) if index < 60 else (2, 9)) for index in range(100)]
    figure = rows(items, resamples=1000)[-1].figures["greedy"]
    assert figure.value == 0.6
    assert (figure.low, figure.high) == (pytest.approx(0.5, abs=0.02), pytest.approx(0.7, abs=0.02))
    assert rows(items)[-1].figures["chance"] == Figure(value=0.5, low=0.5, high=0.5, rows=100)


def test_the_seed_alone_decides_what_is_drawn() -> None:
    source = random.Random(2)
    items = [
        with_meta(
            pair(f"{index}", None, *[(source.randint(1, 9), source.randint(1, 9)) for _ in range(8)]),
            *[source.random() for _ in range(8)],
        )
        for index in range(20)
    ]
    first = rows(items, [3], draws=10)
    assert first == rows(items, [3], draws=10)
    assert first != rows(items, [3], draws=10, seed=1)
    assert values(items, [3], draws=10) == pytest.approx(values(items[::-1], [3], draws=10))  # whatever the order


def test_refuses_what_makes_no_table() -> None:
    with pytest.raises(ValueError, match="no judged preferences"):
        rows([])
    with pytest.raises(ValueError, match=r"ks \[0, 1\]"):
        rows([pair("a", None)], [0, 1])
    with pytest.raises(ValueError, match="some items have 1, others 2"):
        rows([pair("a", None, (1, 2)), pair("b", None, (1, 2), (1, 2))])
    with pytest.raises(ValueError, match="subset 'overall'"):
        rows([pair("a", None, subset="overall")])


def test_samples_and_items_are_checked() -> None:
    with pytest.raises(ValueError, match=r"permutation \(0, 2\)"):
        Sample(scores=(1, 2), permutation=(0, 2), tokens=1)
    with pytest.raises(ValueError, match="exactly one of the two"):
        Sample(scores=None, permutation=(0, 1), tokens=1)
    with pytest.raises(ValueError, match="exactly one of the two"):
        Sample(scores=(1, 2), permutation=(0, 1), tokens=1, failure="no_box")
    with pytest.raises(ValueError, match="one for each of 2"):
        Sample(scores=(1, 2, 3), permutation=(0, 1), tokens=1)
    with pytest.raises(ValueError, match="NaN"):
        Sample(scores=(1, 2), permutation=(0, 1), tokens=1, meta=math.nan)
    with pytest.raises(ValueError, match=r"label 2 is not in 0\.\.1"):
        pair("a", (1, 2), label=2)
    with pytest.raises(ValueError, match="another number of responses than 3"):
        pair("a", (1, 2), lengths=(1, 2, 3))
    with pytest.raises(ValueError, match="for 0 responses"):
        item("a", None, lengths=())
