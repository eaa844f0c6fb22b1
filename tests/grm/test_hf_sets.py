"""The public sets: each converter on rows in its set's schema, written here, and loading from a folder."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from grm import hf_sets
from grm.json_rows import JsonRow, shown
from grm.preferences import CONTEXTS_DIFFER, EMPTY_RESPONSE, NOT_VERIFIABLE, TWO_BEST, DataError, Preference, Skipped
from grm.shapes import lists, pairs, sides, singles
from grm.sources import load
from grm.ties import answers_of
from tests.grm.judged_items import item

ULTRAFEEDBACK: dict[str, object] = {
    "source": "evol_instruct",
    "instruction": "Name a prime above ten.",
    "models": ["model-a", "model-b", "model-c"],
    "completions": [
        {"model": "model-a", "principle": "honesty", "response": "Twelve.", "overall_score": 2.0},
        {"model": "model-b", "principle": "honesty", "response": "Eleven.", "overall_score": 9.0},
        {"model": "model-c", "principle": "honesty", "response": "Ten.", "overall_score": 2.0},
    ],
    "correct_answers": ["None"],
    "incorrect_answers": ["None"],
}
OFFSETBIAS: dict[str, object] = {"instruction": "Say hi.", "output_1": "A long speech.", "output_2": "Hi.", "label": 2}
SKYWORK: dict[str, object] = {
    "chosen": [{"content": "Say hi.", "role": "user"}, {"content": "Hi.", "role": "assistant"}],
    "rejected": [{"content": "Say hi.", "role": "user"}, {"content": "No.", "role": "assistant"}],
    "source": "magpie",
}
HELPSTEER2: dict[str, object] = {
    "split": "train",
    "prompt": "Hi\n<extra_id_1>Assistant\nHello, what now?\n<extra_id_1>User\nA rhyme\non cats.",
    "response_1": "Cats in hats.",
    "response_2": "Dogs.",
    "preference_strength": -2,
    "preference_statement": "The first is much better.",
}
OPENMATH: dict[str, object] = {
    "question": "What is 3 * 4?",
    "generated_solution": "3 * 4 = \\boxed{12}",
    "expected_answer": "12",
    "predicted_answer": "12",
    "error_message": "<not_executed>",
    "is_correct": True,
    "dataset": "math",
}


def row(fields: dict[str, object]) -> JsonRow:
    return JsonRow(fields=fields, where="set row 5", default_id="set:5")


def label(item: Preference | Skipped) -> int:
    assert isinstance(item, Preference)
    return item.label


def test_ultrafeedback() -> None:
    item = lists.ultrafeedback(row(ULTRAFEEDBACK))
    assert isinstance(item, Preference)
    assert item.question.query == "Name a prime above ten."
    assert item.question.responses == ("Twelve.", "Eleven.", "Ten.")
    assert (item.label, item.subset, item.question.id) == (1, "evol_instruct", "set:5")


def rated(*completions: tuple[float, dict[str, object]]) -> JsonRow:
    """A row of UltraFeedback with an overall score and the annotations of each completion."""
    columns = [
        {"response": f"response {index}", "overall_score": score, "annotations": annotations}
        for index, (score, annotations) in enumerate(completions)
    ]
    return row({**ULTRAFEEDBACK, "completions": columns})


def aspects(*ratings: str) -> dict[str, object]:
    names = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    return {name: {"Rating": rating, "Rationale": "So."} for name, rating in zip(names, ratings, strict=True)}


@pytest.mark.parametrize(
    ("annotations", "counts"),
    [
        (aspects("5", "5", "4", "4"), True),  # mean 4.5
        (aspects("5", "N/A", "4", "4"), True),  # 13 / 3
        (aspects("4", "4", "4", "4"), False),  # above 4 is asked for
        (aspects("1", "1", "2", "1"), False),  # the bug: a response that was rated worst
        (aspects("N/A", "N/A", "N/A", "N/A"), False),
        ({}, False),
    ],
)
def test_ultrafeedbacks_ten_counts_where_its_ratings_say_so(annotations: dict[str, object], counts: bool) -> None:
    item = lists.ultrafeedback(rated((7.0, aspects("4", "4", "4", "4")), (10.0, annotations)))
    assert item == Skipped(reason=lists.DOUBTFUL_TEN) if not counts else label(item) == 1


def test_a_score_below_ten_needs_no_ratings() -> None:
    assert label(lists.ultrafeedback(rated((9.5, {}), (3.0, aspects("5", "5", "5", "5"))))) == 0


NO_NUMBERS: list[object] = [math.nan, math.inf, -math.inf, True, False, "5", None]


@pytest.mark.parametrize("score", NO_NUMBERS)
@pytest.mark.parametrize("place", [0, 1])
def test_ultrafeedback_skips_a_score_that_is_no_finite_number(score: object, place: int) -> None:
    scores: list[object] = [1.0, 1.0]
    scores[place] = score
    completions = [{"response": f"response {index}", "overall_score": value} for index, value in enumerate(scores)]
    skipped = lists.ultrafeedback(row({**ULTRAFEEDBACK, "completions": completions}))
    assert skipped == Skipped(reason=lists.NO_SCORE)


@pytest.mark.parametrize(
    ("convert", "example", "field"),
    [(sides.one_or_two, OFFSETBIAS, "label"), (hf_sets.helpsteer2, HELPSTEER2, "preference_strength")],
)
@pytest.mark.parametrize("value", [value for value in NO_NUMBERS if value != "5"])  # text is read
def test_a_label_that_is_no_finite_number_is_refused(
    convert: hf_sets.Converter, example: dict[str, object], field: str, value: object
) -> None:
    with pytest.raises(DataError, match=f"set row 5: field '{field}': is {shown(value)}; "):
        convert(row({**example, field: value}))


@pytest.mark.parametrize("verdict", [1, 0, 1.0, math.nan, None])
def test_openmath_takes_verdicts_only(verdict: object) -> None:
    with pytest.raises(DataError, match="set row 5: field 'is_correct': is not true or false"):
        singles.openmath(row({**OPENMATH, "is_correct": verdict}))


@pytest.mark.parametrize(
    ("completions", "reason"),
    [
        ([{"response": "a", "overall_score": 5.0}, {"response": "b", "overall_score": 5.0}], TWO_BEST),
        (
            [{"response": "a", "overall_score": None}, {"response": "b", "overall_score": 5.0}],
            lists.NO_SCORE,
        ),
        ([{"response": "", "overall_score": 4.0}, {"response": "b", "overall_score": 5.0}], EMPTY_RESPONSE),
        ([{"response": "a", "overall_score": 4.0}], lists.FEW_RESPONSES),
        ([], lists.FEW_RESPONSES),
    ],
)
def test_ultrafeedback_skips(completions: list[object], reason: str) -> None:
    assert lists.ultrafeedback(row({**ULTRAFEEDBACK, "completions": completions})) == Skipped(reason=reason)


def test_offsetbias() -> None:
    item = sides.one_or_two(row(OFFSETBIAS))
    assert isinstance(item, Preference)
    assert item.question.responses == ("A long speech.", "Hi.")
    assert item.label == 1
    assert label(sides.one_or_two(row({**OFFSETBIAS, "label": 1}))) == 0


def test_skywork() -> None:
    item = pairs.pair(row(SKYWORK))
    assert isinstance(item, Preference)
    assert item.question.query == "Say hi."
    assert item.question.responses == ("Hi.", "No.")
    assert (item.label, item.subset) == (0, "magpie")
    other = [{"content": "Something else.", "role": "user"}, {"content": "No.", "role": "assistant"}]
    assert pairs.pair(row({**SKYWORK, "rejected": other})) == Skipped(reason=CONTEXTS_DIFFER)


def test_helpsteer2() -> None:
    item = hf_sets.helpsteer2(row(HELPSTEER2))
    assert isinstance(item, Preference)
    assert item.question.query == "User: Hi\n\nAssistant: Hello, what now?\n\nUser: A rhyme\non cats."
    assert item.question.responses == ("Cats in hats.", "Dogs.")
    assert item.label == 0
    assert label(hf_sets.helpsteer2(row({**HELPSTEER2, "preference_strength": 1}))) == 1
    tied = hf_sets.helpsteer2(row({**HELPSTEER2, "preference_strength": 0}))
    assert tied == Skipped(reason=TWO_BEST)
    validation = hf_sets.helpsteer2(row({**HELPSTEER2, "split": "validation"}))
    assert validation == Skipped(reason=hf_sets.OTHER_SPLIT)
    for split in ("val", "validation"):
        assert hf_sets.helpsteer2_validation(row({**HELPSTEER2, "split": split})) == item
    assert hf_sets.helpsteer2_validation(row(HELPSTEER2)) == Skipped(reason=hf_sets.OTHER_SPLIT)
    single_turn = hf_sets.helpsteer2(row({**HELPSTEER2, "prompt": "c#"}))
    assert isinstance(single_turn, Preference)
    assert single_turn.question.query == "c#"


def test_openmath() -> None:
    item = singles.openmath(row(OPENMATH))
    assert isinstance(item, Preference)
    assert item.question.query == "What is 3 * 4?"
    assert item.question.responses == ("3 * 4 = \\boxed{12}",)
    assert (item.label, item.subset) == (1, "math")
    assert label(singles.openmath(row({**OPENMATH, "is_correct": False}))) == 0


TWO_TURNS = "User: Hi\n\nAssistant: Hello, what now?\n\nUser: A rhyme\non cats."
ASKED: dict[hf_sets.Converter, tuple[list[dict[str, object]], str]] = {
    lists.ultrafeedback: ([ULTRAFEEDBACK], "Name a prime above ten."),
    sides.one_or_two: ([OFFSETBIAS], "Say hi."),
    pairs.pair: ([SKYWORK], "Say hi."),
    hf_sets.helpsteer2: ([HELPSTEER2], TWO_TURNS),
    hf_sets.helpsteer2_validation: ([{**HELPSTEER2, "split": "val"}], TWO_TURNS),
    singles.openmath: ([OPENMATH], "What is 3 * 4?"),
    hf_sets.openmath_pair: ([OPENMATH, {**OPENMATH, "generated_solution": "13", "is_correct": False}], "What is 3 * 4?"),
}


@pytest.mark.parametrize("convert", ASKED)
def test_the_query_is_what_was_asked_and_no_more(convert: hf_sets.Converter) -> None:
    """No label and no response stands in it."""
    rows, query = ASKED[convert]
    found = convert(*map(row, rows))
    assert isinstance(found, Preference)
    assert found.question.query == query


def test_no_set_is_left_out_above() -> None:
    assert {public.convert for public in hf_sets.SETS.values()} == set(ASKED)


@pytest.mark.parametrize(
    ("convert", "fields", "field"),
    [
        (lists.ultrafeedback, {**ULTRAFEEDBACK, "completions": "text"}, "completions"),
        (lists.ultrafeedback, {**ULTRAFEEDBACK, "instruction": None}, "instruction"),
        (sides.one_or_two, {**OFFSETBIAS, "label": 3}, "label"),
        (sides.one_or_two, {**OFFSETBIAS, "output_2": [3]}, "output_2"),
        (pairs.pair, {**SKYWORK, "chosen": "Hi."}, "chosen"),
        (pairs.pair, {**SKYWORK, "rejected": [{"content": 1, "role": "user"}, {}]}, "rejected"),
        (hf_sets.helpsteer2, {**HELPSTEER2, "preference_strength": None}, "preference_strength"),
        (singles.openmath, {**OPENMATH, "is_correct": "yes"}, "is_correct"),
    ],
)
def test_another_shape_is_refused(convert: hf_sets.Converter, fields: dict[str, object], field: str) -> None:
    with pytest.raises(DataError, match=f"set row 5: field '{field}'"):
        convert(row(fields))


@pytest.mark.parametrize(
    ("name", "file", "example"),
    [
        ("openbmb/UltraFeedback", "evol_instruct.jsonl", ULTRAFEEDBACK),
        ("NCSOFT/offsetbias", "offsetbias.json", OFFSETBIAS),
        ("Skywork/Skywork-Reward-Preference-80K-v0.2", "data/train-00000-of-00001.parquet", SKYWORK),
        ("nvidia/HelpSteer2", "preference/preference.jsonl", HELPSTEER2),
        ("nvidia/HelpSteer2:validation", "preference/preference.jsonl", {**HELPSTEER2, "split": "val"}),
        ("nvidia/OpenMathInstruct-1", "correct_solutions/train.jsonl", OPENMATH),
    ],
)
def test_loading_a_copy_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, example: dict[str, object]
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "copy" / file
    path.parent.mkdir(parents=True)
    if path.suffix == ".parquet":
        datasets.Dataset.from_list([example] * 12).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(example) + "\n" for _ in range(12)), encoding="utf-8")
    source = f"hf:{name}@{tmp_path / 'copy'}"
    loaded = load(source, limit=7)
    assert len(loaded.preferences) == 7
    assert loaded == load(source, limit=7)
    ids = [preference.question.id for preference in load(source).preferences]
    assert sorted(ids) == sorted(f"{name}:{i}" for i in range(12))
    assert ids != sorted(ids)  # a fixed random order, for files may be sorted


@pytest.mark.parametrize(
    ("place", "folder", "revision"),
    [
        ("", "", None),
        ("@main", "", "main"),
        ("@v1.0", "", "v1.0"),
        (f"@{'0a' * 20}", "", "0a" * 20),
        ("@/data/copy", "/data/copy", None),
        ("@./copy", "./copy", None),
        ("@here", "here", None),  # a folder of this name is there
        ("@..", "..", None),
        ("@~/copy", "~/copy", None),
    ],
)
def test_what_stands_behind_the_name_is_a_folder_or_a_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, folder: str, revision: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert hf_sets.parts(f"NCSOFT/offsetbias{place}") == ("NCSOFT/offsetbias", folder, revision)


def test_a_revision_reaches_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: dict[str, object] = {}

    def load_dataset(location: str, **options: object) -> list[dict[str, object]]:
        asked.update(options, location=location)
        return [OFFSETBIAS]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load("hf:NCSOFT/offsetbias@v1.0").preferences) == 1
    assert (asked["location"], asked["revision"]) == ("NCSOFT/offsetbias", "v1.0")


def test_a_set_of_any_name_is_read_by_the_shape_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    copy = tmp_path / "copy"
    copy.mkdir()
    for split, worse in {"train": "5", "test": "6"}.items():
        row = {"Prompt": "2 + 2?", "chosen": "4", "rejected": worse, "domain": None}
        (copy / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(2)), encoding="utf-8")
    (first, second) = load(f"hf:someone/else@{copy}").preferences
    assert (first.question.responses, first.label) == (("4", "5"), 0)
    assert {first.question.id, second.question.id} == {"someone/else:0", "someone/else:1"}
    assert load(f"hf:someone/else:test@{copy}").preferences[0].question.responses == ("4", "6")


def test_a_row_of_such_a_set_that_cannot_be_read_is_skipped_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "copy").mkdir()
    row = {"prompt": "q", "chosen": "a", "rejected": ""}
    (tmp_path / "copy" / "train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    source, message = f"hf:someone/else@{tmp_path / 'copy'}", "hf:someone/else row 0: field 'rejected': is empty"
    (named,) = load(source).named["unusable field 'rejected'"]
    assert named.startswith(message)
    with pytest.raises(DataError, match=message):
        load(source, strict=True)


Copy = Callable[..., str]


@pytest.fixture
def copy_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """A source: a copy on disk of a set with these rows that has no converter of its own."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def written(*rows: dict[str, object]) -> str:
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return f"hf:someone/else@{tmp_path / 'copy'}"

    return written


@pytest.mark.parametrize("limit", [None, 1, 4])
@pytest.mark.parametrize(
    ("field", "ratings"), [("label", [0, 1, 2, 3, 4]), ("Label", [1, 1, 1, 0, 9]), ("score", [0, 1, 1, 1, -2])]
)
def test_ratings_of_single_responses_are_no_verdicts(copy_of: Copy, field: str, ratings: list[int], limit: int | None) -> None:
    """A limit reads some rows only: then the others decide, too, what a 1 means."""
    rows = [{"prompt": f"q{i}", "response": "a", field: rating} for i, rating in enumerate(ratings)]
    loaded = load(copy_of(*rows), limit=limit)
    assert loaded.preferences == ()
    assert loaded.skipped == {NOT_VERIFIABLE: 5}


def test_verdicts_beside_pairs_with_scores_stay(copy_of: Copy) -> None:
    single = {"prompt": "q", "responses": ["a"], "scores": [1]}
    pair = {"prompt": "q", "responses": ["a", "b"], "scores": [7, 2]}
    assert len(load(copy_of(single, pair)).preferences) == 2


def test_a_rows_own_id_stands_behind_its_number(copy_of: Copy) -> None:
    """RewardBench 2 says in its ids what belongs together; ids that a set has twice stay different."""
    answers = {"prompt": "q", "rejected": ["x", "y"], "subset": "Ties"}
    rows = [{"id": "ref:3", "chosen": ["a"], **answers}, {"id": "tied:3", "chosen": ["a", "b"], **answers}]
    ids = {preference.question.id for preference in load(copy_of(*rows)).preferences}
    assert ids == {"someone/else:0:ref:3", "someone/else:1:tied:3.0", "someone/else:1:tied:3.1"}
    assert answers_of(item(name, (9, 1, 2), lengths=(1, 1, 1), subset="Ties") for name in ids).keys() == {
        ("ref", 3),
        ("tied", 3),
    }


def test_what_is_asked_for_is_shown_of_such_a_set(copy_of: Copy) -> None:
    source = copy_of({"prompt": "q", "chosen": "a", "rejected": "b", "reference": "r", "criteria": ["c"]})
    (plain,), (shown,) = load(source).preferences, load(source, show=["reference", "criteria"]).preferences
    assert (plain.question.reference, plain.question.criteria) == ("", ())
    assert (shown.question.reference, shown.question.criteria) == ("r", ("c",))


def test_a_name_that_no_set_can_have_is_refused() -> None:
    with pytest.raises(DataError, match=r"hf:some one: no name of a set; write hf:OWNER/NAME, hf:OWNER/NAME:SPLIT"):
        load("hf:some one")


def test_a_set_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"cannot be loaded \(.*check the name and the network, or give hf:"):
        load(f"hf:NCSOFT/offsetbias@{tmp_path / 'none'}")


def test_a_copy_whose_splits_have_other_columns_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name, example in (("train", SKYWORK), ("test", OFFSETBIAS)):
        path = tmp_path / "copy" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(example) + "\n")
    with pytest.raises(DataError, match=r"cannot be loaded \(An error occurred.*: Couldn't cast .*output_1.*give hf:"):
        load(f"hf:me/mine@{tmp_path / 'copy'}")
