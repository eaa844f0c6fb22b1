"""Ids that occur once, whatever the files are called; and batches and splits that the data can fill."""

import json
import re
from pathlib import Path

import pytest

from configs.load import ConfigError, load
from configs.schema import Config
from grm.content import CONTRADICTING, REPEATED
from grm.preferences import DataError
from launch.setup.preference_data import (
    describe_data,
    load_data,
    load_heldout,
    load_training,
    overlap_notes,
    require_enough,
    small_data_notes,
)
from launch.setup.preflight import format_skipped


def write(file: Path, *ids: str | None) -> Path:
    """A file of preferences, a row for each id; a row with None has none."""
    file.parent.mkdir(exist_ok=True, parents=True)
    rows = [
        {"prompt": f"q{i} of {file.parent.name}/{file.name}", "responses": ["x", "y"], "preferred": 0}
        | ({"id": name} if name else {})
        for i, name in enumerate(ids)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def checked(*overrides: str) -> list[str]:
    """The ids of all preferences, the training ones first."""
    config = load("tiny", overrides)
    found = load_data(config)
    return [preference.question.id for data in (found.train, found.heldout) for preference in data.preferences]


def test_two_files_of_one_name_do_not_collide(tmp_path: Path) -> None:
    train, heldout = write(tmp_path / "train" / "data.jsonl", None, None), write(tmp_path / "heldout" / "data.jsonl", None)
    assert len(set(checked(f"data.train={train}", f"data.heldout={heldout}"))) == 3


def test_ids_are_those_of_the_content_wherever_the_file_lies(tmp_path: Path) -> None:
    first, heldout = write(tmp_path / "x" / "a.jsonl", None, None), write(tmp_path / "b.jsonl", None)
    (tmp_path / "y").mkdir()
    second = tmp_path / "y" / "renamed.jsonl"
    second.write_text("\n" + "".join(reversed(first.read_text().splitlines(keepends=True))))
    one, other = (checked(f"data.train={train}", f"data.heldout={heldout}") for train in (first, second))
    assert one == other


@pytest.mark.parametrize("changed", ["  Q0  OF x/a.jsonl ", "q0 of x/a.jsonl"])
def test_a_row_that_is_trained_on_and_held_out_is_found_by_its_content(tmp_path: Path, changed: str) -> None:
    train = write(tmp_path / "x" / "a.jsonl", "p", "q")
    row = {"id": "another", "prompt": changed, "responses": ["Y", "x"], "preferred": 1}
    (tmp_path / "b.jsonl").write_text(json.dumps(row))
    message = (
        r"data\.heldout: 1 of 1 preferences stand in data\.train too, by content: the first are 'p' and 'another'; leave them"
        r" out of one: python launch/data\.py convert TRAIN --without HELDOUT"
    )
    with pytest.raises(ConfigError, match=message):
        checked(f"data.train={train}", f"data.heldout={tmp_path / 'b.jsonl'}")


def test_a_held_out_query_that_is_trained_on_with_other_responses_is_said(tmp_path: Path) -> None:
    train = write(tmp_path / "x" / "a.jsonl", "p", "q")
    row = {"prompt": "q0 of x/a.jsonl", "responses": ["x", "z"], "preferred": 1}
    (tmp_path / "b.jsonl").write_text(json.dumps(row))
    data = load_data(load("tiny", [f"data.train={train}", f"data.heldout={tmp_path / 'b.jsonl'}"]))
    (note,) = overlap_notes(data)
    assert note.startswith("data.heldout: 1 of 1 queries stand in data.train too, with other responses: the first are 'p' and ")


def test_of_the_small_world_whose_queries_are_few_nothing_is_said() -> None:
    data = load_data(load("tiny", ["data.train=tiny:1:200", "data.heldout=tinyheld:2:50"]))
    assert data.overlap.queries
    assert overlap_notes(data) == []


def test_rows_of_two_files_that_contradict_or_repeat_each_other_are_skipped(tmp_path: Path) -> None:
    row = {"prompt": "q", "responses": ["x", "y"], "preferred": 0}
    twice = {"prompt": "r", "responses": ["x", "y"], "preferred": 0}
    for name, rows in {"a": [row, twice], "b": [{**row, "responses": ["y", "x"]}, twice, {**row, "prompt": "s"}]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    train = load_training(load("tiny", [f"data.train=[{tmp_path / 'a.jsonl'}, {tmp_path / 'b.jsonl'}]"]))
    assert sorted(preference.question.query for preference in train.preferences) == ["r", "s"]
    assert train.skipped == {CONTRADICTING: 2, REPEATED: 1}


def test_what_is_skipped_is_counted_and_the_first_is_named(tmp_path: Path) -> None:
    good = [{"prompt": f"q{i}", "responses": ["x", "y"], "preferred": 0} for i in range(4)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*good, {"prompt": "q", "responses": ["x"], "scores": [None]}]))
    train = load_training(load("tiny", [f"data.train={path}"]))
    assert format_skipped(train.skipped, train.named) == (
        "\nskipped    1 x unusable field 'scores'"
        f"\n           first unusable field 'scores': {path}:5: field 'scores': holds null; give numbers"
    )
    with pytest.raises(DataError, match=r"a\.jsonl:5: field 'scores': holds null"):
        load_training(load("tiny", [f"data.train={path}", "data.strict=true"]))


def test_a_benchmark_is_never_trained_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.train: bench:rmb@copy is a benchmark"):
        load_training(load("tiny", ["data.train=[tiny:1:5, bench:rmb@copy]"]))


def test_one_file_under_two_names_is_found(tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", None)
    (tmp_path / "link.jsonl").symlink_to(train)
    for other in (tmp_path / "link.jsonl", tmp_path / "." / ".." / tmp_path.name / "a.jsonl"):
        with pytest.raises(ConfigError, match=r"data\.heldout: 1 of 1 preferences stand in data\.train too, by content"):
            checked(f"data.train={train}", f"data.heldout={other}")


def test_an_id_that_occurs_twice_is_named_with_both_files(tmp_path: Path) -> None:
    train, heldout = write(tmp_path / "a" / "x.jsonl", "p", "q"), write(tmp_path / "b" / "x.jsonl", "q", "r")
    message = f"preference id 'q' occurs twice, in data.train ({train}) and in data.heldout ({heldout}) (1 such ids)"
    with pytest.raises(ConfigError, match=re.escape(message)):
        checked(f"data.train={train}", f"data.heldout={heldout}")


def test_a_source_that_is_named_twice_is_found(tmp_path: Path) -> None:
    train = write(tmp_path / "x.jsonl", "p")
    message = f"occurs twice, in data.train ({train}) and in data.train ({train})"
    with pytest.raises(ConfigError, match=re.escape(message)):
        checked(f"data.train=[{train}, {train}]")


def test_the_limit_holds_over_all_sources_mixed(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.jsonl", "p", "q"), write(tmp_path / "b.jsonl", "r", "s")
    limited = load("tiny", [f"data.train=[{first}, {second}]", "data.train_limit=3"])
    train = load_training(limited)
    assert [[p.question.id for p in source.preferences] for source in train.sources] == [["p"], ["s", "r"]]
    assert [p.question.id for p in train.preferences] == ["s", "p", "r"], "whatever limit comes later takes the first of these"
    assert train.describe() == f"data.train: 1 of {first}, 2 of {second}"


@pytest.mark.parametrize("leaf", ["train", "heldout"])
def test_no_source_is_left_out_by_a_limit(tmp_path: Path, leaf: str) -> None:
    files = [write(tmp_path / f"{name}.jsonl", *(f"{name}{i}" for i in range(100))) for name in "abc"]
    limited = load("tiny", [f"data.{leaf}=[{', '.join(map(str, files))}]", f"data.{leaf}_limit=60"])
    data = load_training(limited) if leaf == "train" else load_heldout(limited, beside=())
    assert all(10 <= len(source.preferences) <= 30 for source in data.sources)
    assert all(any(p.question.id[0] == name for p in data.preferences[:20]) for name in "abc")


def test_30_data_of_ties_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "q", "responses": ["x", "y"], "scores": [1, 1]}))
    with pytest.raises(ConfigError, match=r"data\.train: no usable preference in \S+: 1 x two best labels, the first at \S+:1"):
        load_training(load("tiny", [f"data.train={path}"]))


@pytest.mark.parametrize(
    ("overrides", "said", "usable"),
    [
        ([], "rows       6,000 to train on, 400 held out, 0 skipped", True),
        (
            ["data.heldout=none.jsonl"],
            "rows       cannot be used as they are: none.jsonl: no such file; give a path, tiny:<seed>",
            False,
        ),
        (["data.train=hf:x/y"], "rows       not looked at, since hf:x/y would be fetched", True),
    ],
)
def test_a_plan_says_what_there_is_of_the_data(overrides: list[str], said: str, usable: bool) -> None:
    text, found = describe_data(load("tiny", overrides))
    assert text.startswith(said)
    assert found == usable


# ---- enough for what is to be done -----------------------------------------------------------------------------------


def config(*overrides: str) -> Config:
    return load("tiny", overrides)


@pytest.mark.parametrize(("overrides", "train"), [([], 1), (["cold_start.preferences=1", "cold_start.samples=64"], 100)])
def test_a_cold_start_of_one_preference_is_refused_before_it_samples(overrides: list[str], train: int) -> None:
    small = config(*overrides, "meta_rm.enabled=false")
    with pytest.raises(
        ConfigError, match=r"the cold start would learn from 1 preference, and .* give two preferences at least"
    ):
        require_enough(small, train=train, general=5)  # of general data nothing is held out


def test_a_teachers_file_decides_how_many_preferences_there_are(tmp_path: Path) -> None:
    (tmp_path / "taught.jsonl").write_text("")
    taught = config(f"cold_start.teacher={tmp_path / 'taught.jsonl'}", "meta_rm.enabled=false")
    with pytest.raises(ConfigError, match="the cold start would learn from 1 preference"):
        require_enough(taught, train=100, general=0, taught=["p", "p"])
    require_enough(taught, train=100, general=0, taught=["p", "q"])
    (note,) = small_data_notes(taught, train=100, general=1, taught=["p", "q", "q"])
    assert note.startswith("cold_start.batch = 32 is over the 4 examples at most")


def test_one_preference_without_a_cold_start_is_enough() -> None:
    require_enough(config("cold_start.enabled=false"), train=1, general=0)


def test_a_meta_rm_that_might_never_take_a_step_is_refused() -> None:
    small = ["grpo.steps=2", "grpo.batch_groups=2", "rollout.samples=4", "meta_rm.batch=32"]
    with pytest.raises(ConfigError, match=r"meta_rm\.batch = 32 .* online RL trains 16 .* the cold start samples 0 without"):
        load("tiny", [*small, "cold_start.enabled=false"])
    load("tiny", [*small, "cold_start.enabled=false", "meta_rm.enabled=false"])
    load("tiny", [*small, "cold_start.enabled=false", "meta_rm.batch=16"])
    enough = load("tiny", [*small, "cold_start.samples=3", "cold_start.preferences=11"])
    require_enough(enough, train=11, general=0)
    with pytest.raises(ConfigError, match=r"meta_rm\.batch = 32 .* the cold start samples 30 without a hint; lower"):
        require_enough(enough, train=10, general=0)


@pytest.mark.parametrize(
    ("train", "general", "notes"),
    [
        (8, 0, []),
        (7, 5, [r"grpo\.batch_groups = 8 is over the 7 training preferences: a step takes some of them more than once"]),
        (7, 0, [r"cold_start\.batch = 32 is over the 28 examples at most: each step takes all of them", r"grpo\.batch_groups"]),
    ],
)
def test_what_is_seldom_meant_is_said(train: int, general: int, notes: list[str]) -> None:
    found = small_data_notes(config(), train=train, general=general)
    assert len(found) == len(notes)
    assert all(re.match(pattern, note) for pattern, note in zip(notes, found, strict=True))
