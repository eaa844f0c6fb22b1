"""The benchmarks of the paper's table, each read from a small copy in its own schema."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from grm import benchmark_sets
from grm.benchmark_sets import EQUAL_SCORES, Converter
from grm.json_rows import JsonRow
from grm.macro import OVERALL, REALMISTAKE, subsets
from grm.preferences import EMPTY_RESPONSE, TWO_BEST, DataError, Preference, Skipped
from grm.sources import default_names, load
from tests.grm import benchmark_files
from tests.grm.benchmark_files import BAD, GOOD, WORSE


def converted(convert: Converter, fields: dict[str, Any]) -> list[Preference | Skipped]:
    items: Iterable[Preference | Skipped] = convert(JsonRow(fields=fields, where="row 5", default_id="set:5"), "subset")
    return list(items)


def only(convert: Converter, fields: dict[str, Any]) -> Preference:
    (item,) = converted(convert, fields)
    assert isinstance(item, Preference)
    return item


def test_reward_bench() -> None:
    preference = only(benchmark_sets.reward_bench, benchmark_files.reward_bench("math-prm", 3))
    assert preference.question.responses == (GOOD, BAD)
    assert preference.label == 0
    assert preference.subset == "subset/math-prm"


@pytest.mark.parametrize(("winner", "label"), [("model_a", 0), ("model_b", 1)])
def test_ppe_preference(winner: str, label: int) -> None:
    preference = only(benchmark_sets.ppe_preference, benchmark_files.ppe_preference(winner))
    assert preference.label == label
    assert preference.question.responses[label] == GOOD


@pytest.mark.parametrize("winner", ["tie", "tie (bothbad)"])
def test_what_people_called_a_tie_is_left_out(winner: str) -> None:
    assert converted(benchmark_sets.ppe_preference, benchmark_files.ppe_preference(winner)) == [Skipped(reason=TWO_BEST)]


def test_ppe_correctness_gives_a_preference_for_each_pair() -> None:
    first, second, equal = converted(benchmark_sets.ppe_correctness, benchmark_files.ppe_correctness())
    assert isinstance(first, Preference)
    assert isinstance(second, Preference)
    assert (first.question.responses, first.label) == ((BAD, GOOD), 1)
    assert (second.question.responses, second.label) == ((f"{GOOD} too", WORSE), 0)
    assert first.question.id != second.question.id
    assert equal == Skipped(reason=EQUAL_SCORES)


def test_rmb_has_pairs_and_lists() -> None:
    pair = only(benchmark_sets.rmb_pair, benchmark_files.rmb(0))
    assert (pair.question.responses, pair.label) == ((GOOD, BAD), 0)
    many = only(benchmark_sets.rmb_best_of_n, benchmark_files.rmb(0, losers=3))
    assert (many.question.responses, many.label) == ((GOOD, BAD, BAD, BAD), 0)
    for text in ("Rephrase 0.", "Which way?", "Politely."):
        assert text in many.question.query


RMB_QUERY = "User: Rephrase 0.\n\nAssistant: Which way?\n\nUser: Politely."
ASKED: dict[Converter, tuple[dict[str, Any], str]] = {
    benchmark_sets.reward_bench: (benchmark_files.reward_bench("math-prm", 3), "Say hi to math-prm, 3."),
    benchmark_sets.ppe_preference: (benchmark_files.ppe_preference("model_b"), "Which one, 0?"),
    benchmark_sets.ppe_correctness: (benchmark_files.ppe_correctness(), "What is 0 + 1?"),
    benchmark_sets.rmb_pair: (benchmark_files.rmb(0), RMB_QUERY),
    benchmark_sets.rmb_best_of_n: (benchmark_files.rmb(0, losers=2), RMB_QUERY),
    benchmark_sets.realmistake: (benchmark_files.realmistake("error"), "Is it so?"),
}


@pytest.mark.parametrize("convert", ASKED)
def test_the_query_is_what_was_asked_and_no_more(convert: Converter) -> None:
    """No label and no response stands in it."""
    fields, query = ASKED[convert]
    asked = {item.question.query for item in converted(convert, fields) if isinstance(item, Preference)}
    assert asked == {query}


def test_no_benchmark_is_left_out_above() -> None:
    known = {each.convert for each in benchmark_sets.BENCHMARKS.values()} | {f for _, f in benchmark_sets.RMB_SETS.values()}
    assert known == set(ASKED)


@pytest.mark.parametrize("field", ["label", "error_label"])
def test_realmistake_is_right_where_there_is_no_error(field: str) -> None:
    for label, expected in (("no_error", 1), ("error", 0)):
        preference = only(benchmark_sets.realmistake, benchmark_files.realmistake(label, field=field))
        assert (preference.label, len(preference.question.responses)) == (expected, 1)


@pytest.mark.parametrize(
    ("convert", "fields", "field"),
    [
        (benchmark_sets.reward_bench, {"prompt": "q", "chosen": "a", "rejected": 7, "subset": "s"}, "rejected"),
        (benchmark_sets.ppe_preference, {"prompt": "q", "response_1": "a", "response_2": "b"}, "winner"),
        (benchmark_sets.ppe_correctness, {"prompt": "q", "scores": [1, 0]}, "sampled_conflict_pairs"),
        (
            benchmark_sets.ppe_correctness,
            {"prompt": "q", "scores": [1], "sampled_conflict_pairs": [[0, 1]]},
            "sampled_conflict",
        ),
        (
            benchmark_sets.rmb_pair,
            {"conversation_input": [], "chosen": {"answer": "a"}, "reject": {"answer": "b"}},
            "conversation",
        ),
        (benchmark_sets.rmb_pair, {"conversation_input": [{"role": "user", "content": "q"}], "chosen": {}}, "chosen"),
        (benchmark_sets.rmb_best_of_n, {"bon_best": {"answer": "a"}}, "loser_list"),
        (benchmark_sets.realmistake, {"input": "q", "llm_response": "a", "label": "maybe"}, "label"),
    ],
)
def test_a_row_of_another_shape_is_named(convert: Converter, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(DataError, match=rf"row 5: field '{field}"):
        converted(convert, fields)


def test_an_empty_response_is_skipped_and_counted() -> None:
    row = {**benchmark_files.reward_bench("hep-js"), "rejected": " "}
    assert converted(benchmark_sets.reward_bench, row) == [Skipped(reason=EMPTY_RESPONSE)]


def test_copies_of_all_of_them_hold_every_subset_of_the_table(tmp_path: Path) -> None:
    sources = benchmark_files.copies(tmp_path)
    loaded = {source: load(source) for source in sources}
    counted = Counter(p.subset for each in loaded.values() for p in each.preferences)
    assert set(counted) == {*subsets(OVERALL), *subsets(REALMISTAKE)}
    assert counted["reward-bench/math-prm"] == 2
    assert counted["ppe-preference"] == 2
    assert counted["ppe-correctness/GPQA"] == 4
    assert counted["rmb/Harmlessness BoN"] == 2
    assert [dict(each.skipped) for each in loaded.values()] == [{}, {TWO_BEST: 1}, {EQUAL_SCORES: 10}, {}, {}]
    ids = [p.question.id for each in loaded.values() for p in each.preferences]
    assert len(set(ids)) == len(ids)
    assert default_names(sources) == {}


def test_a_limit_takes_a_sample_and_always_the_same(tmp_path: Path) -> None:
    source = benchmark_files.copies(tmp_path)[0]
    some = load(source, limit=10).preferences
    assert some == load(source).preferences[:10]
    assert len({p.subset for p in some}) > 5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("bench:rewardbench", "no such benchmark; known are ppe-correctness"),
        ("bench:rmb", "clone RMB-Reward-Model-Benchmark and give the folder"),
        ("bench:rmb@{}", "has no Pairwise_set/, BoN_set/"),
        ("bench:ppe-correctness@{}", "has no PPE-MMLU-Pro-Best-of-K"),
        ("bench:realmistake@{}", "has no gpt-4-0613.jsonl"),
    ],
)
def test_what_is_not_there_is_named(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load(source.format(tmp_path))


def test_a_file_that_is_no_list_is_named(tmp_path: Path) -> None:
    file = tmp_path / "Pairwise_set" / "Harmlessness" / "S1.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"rows": []}))
    with pytest.raises(DataError, match=r"S1\.json: is not a list of objects"):
        load(f"bench:rmb@{tmp_path}")


def test_a_copy_that_cannot_be_read_is_named_with_the_form_of_a_benchmark(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("no row", encoding="utf-8")
    with pytest.raises(DataError, match=r"^bench:.*: cannot be loaded .* or give bench:<name>@<folder with a copy>$"):
        load(f"bench:reward-bench@{tmp_path}")
