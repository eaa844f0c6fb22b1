"""The public sets: each converter on rows in its set's schema, written here, and loading from a folder."""

import json
import math
from pathlib import Path

import pytest

from grm import hf_sets
from grm.json_rows import JsonRow
from grm.preferences import CONTEXTS_DIFFER, EMPTY_RESPONSE, TWO_BEST, DataError, Preference, Skipped
from grm.sources import load

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
    item = hf_sets.ultrafeedback(row(ULTRAFEEDBACK))
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
    item = hf_sets.ultrafeedback(rated((7.0, aspects("4", "4", "4", "4")), (10.0, annotations)))
    assert item == Skipped(reason=hf_sets.DOUBTFUL_TEN) if not counts else label(item) == 1


def test_a_score_below_ten_needs_no_ratings() -> None:
    assert label(hf_sets.ultrafeedback(rated((9.5, {}), (3.0, aspects("5", "5", "5", "5"))))) == 0


NO_NUMBERS: list[object] = [math.nan, math.inf, -math.inf, True, False, "5", None]


@pytest.mark.parametrize("score", NO_NUMBERS)
@pytest.mark.parametrize("place", [0, 1])
def test_ultrafeedback_skips_a_score_that_is_no_finite_number(score: object, place: int) -> None:
    scores: list[object] = [1.0, 1.0]
    scores[place] = score
    completions = [{"response": f"response {index}", "overall_score": value} for index, value in enumerate(scores)]
    skipped = hf_sets.ultrafeedback(row({**ULTRAFEEDBACK, "completions": completions}))
    assert skipped == Skipped(reason=hf_sets.NO_SCORE)


@pytest.mark.parametrize(
    ("convert", "example", "field"),
    [(hf_sets.offsetbias, OFFSETBIAS, "label"), (hf_sets.helpsteer2, HELPSTEER2, "preference_strength")],
)
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_label_that_is_no_finite_number_is_refused(
    convert: hf_sets.Converter, example: dict[str, object], field: str, value: object
) -> None:
    with pytest.raises(DataError, match=f"set row 5: field '{field}': is {value!r}, not "):
        convert(row({**example, field: value}))


@pytest.mark.parametrize("verdict", [1, 0, 1.0, math.nan, None])
def test_openmath_takes_verdicts_only(verdict: object) -> None:
    with pytest.raises(DataError, match="set row 5: field 'is_correct': is not true or false"):
        hf_sets.openmath(row({**OPENMATH, "is_correct": verdict}))


@pytest.mark.parametrize(
    ("completions", "reason"),
    [
        ([{"response": "a", "overall_score": 5.0}, {"response": "b", "overall_score": 5.0}], TWO_BEST),
        (
            [{"response": "a", "overall_score": None}, {"response": "b", "overall_score": 5.0}],
            hf_sets.NO_SCORE,
        ),
        ([{"response": "", "overall_score": 4.0}, {"response": "b", "overall_score": 5.0}], EMPTY_RESPONSE),
        ([{"response": "a", "overall_score": 4.0}], hf_sets.FEW_RESPONSES),
        ([], hf_sets.FEW_RESPONSES),
    ],
)
def test_ultrafeedback_skips(completions: list[object], reason: str) -> None:
    assert hf_sets.ultrafeedback(row({**ULTRAFEEDBACK, "completions": completions})) == Skipped(reason=reason)


def test_offsetbias() -> None:
    item = hf_sets.offsetbias(row(OFFSETBIAS))
    assert isinstance(item, Preference)
    assert item.question.responses == ("A long speech.", "Hi.")
    assert item.label == 1
    assert label(hf_sets.offsetbias(row({**OFFSETBIAS, "label": 1}))) == 0


def test_skywork() -> None:
    item = hf_sets.skywork(row(SKYWORK))
    assert isinstance(item, Preference)
    assert item.question.query == "Say hi."
    assert item.question.responses == ("Hi.", "No.")
    assert (item.label, item.subset) == (0, "magpie")
    other = [{"content": "Something else.", "role": "user"}, {"content": "No.", "role": "assistant"}]
    assert hf_sets.skywork(row({**SKYWORK, "rejected": other})) == Skipped(reason=CONTEXTS_DIFFER)


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
    item = hf_sets.openmath(row(OPENMATH))
    assert isinstance(item, Preference)
    assert item.question.query == "What is 3 * 4?"
    assert item.question.responses == ("3 * 4 = \\boxed{12}",)
    assert (item.label, item.subset) == (1, "math")
    assert label(hf_sets.openmath(row({**OPENMATH, "is_correct": False}))) == 0


@pytest.mark.parametrize(
    ("convert", "fields", "field"),
    [
        (hf_sets.ultrafeedback, {**ULTRAFEEDBACK, "completions": "text"}, "completions"),
        (hf_sets.ultrafeedback, {**ULTRAFEEDBACK, "instruction": None}, "instruction"),
        (hf_sets.offsetbias, {**OFFSETBIAS, "label": 0}, "label"),
        (hf_sets.offsetbias, {**OFFSETBIAS, "output_2": 3}, "output_2"),
        (hf_sets.skywork, {**SKYWORK, "chosen": "Hi."}, "chosen"),
        (hf_sets.skywork, {**SKYWORK, "rejected": [{"content": 1, "role": "user"}, {}]}, "rejected"),
        (hf_sets.helpsteer2, {**HELPSTEER2, "preference_strength": None}, "preference_strength"),
        (hf_sets.openmath, {**OPENMATH, "is_correct": "yes"}, "is_correct"),
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


def test_a_set_without_a_converter_is_refused() -> None:
    with pytest.raises(DataError, match=r"hf:someone/else: not a set with a known schema; known are NCSOFT/"):
        load("hf:someone/else")


def test_a_set_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"cannot be loaded \(.*check the name and the network, or give hf:"):
        load(f"hf:NCSOFT/offsetbias@{tmp_path / 'none'}")
