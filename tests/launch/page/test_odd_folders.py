"""A run folder may be anybody's: whatever its files hold, there is a report or a sentence."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.page.lenient_json import parsed
from launch.page.run_page import write_report
from launch.report import main
from tests.fuzzing import inputs, values
from tests.launch.page import sample_run
from tests.launch.page.strict_page import OWN_TAGS, Page

DEEP, LONG = "[" * 100_000, "9" * 5000
BROKEN = {
    "deep": DEEP,
    "long": f'{{"steps": {LONG}, "seed": {LONG}}}',
    "deep inside": '{"steps": ' + DEEP,
    "deep and whole": '{"a":' * 5000 + "1" + "}" * 5000,
    "infinite": '{"a": 1e999}',
    "NUL": "\x00",
}
NAMES = ("summary.json", "metrics.jsonl", "samples.jsonl")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_run.write(tmp_path_factory.mktemp("run"), steps=3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", BROKEN.values(), ids=list(BROKEN))
def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_drawn(name: str, text: str, tmp_path: Path) -> None:
    sample_run.write(tmp_path, steps=3)
    (tmp_path / name).write_text(text)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert {tag for tag, _ in page.tags} <= OWN_TAGS
    if not text.startswith("{") or text.endswith("["):
        assert f"{name} could not be read" in page.text or f"{name}: 1 line could not be read" in page.text


def test_a_long_number_costs_only_itself(tmp_path: Path) -> None:
    sample_run.write(tmp_path, steps=3)
    whole = json.dumps(sample_run.summary()).replace('"tokens": 681402', f'"tokens": {LONG}')
    (tmp_path / "summary.json").write_text(whole)
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "55.8%→91.2%" in text
    assert "Tokens samplednot recorded" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"accuracy": {"before": 7.0, "after": -3.0}, "heldout": {"rows": -4}},
        {"heldout": {"rows": 10**19, "n": [1e308]}},
        {"seconds": {"total": 1e308, "train": 5e-324}, "tokens": 1e308},
        {"votes": {"after": {f"vote@{LONG}": {"value": 1e308}, "vote@2": {"value": 0.5}}}},
        {"votes": {"after": {"vote@2": {"value": -1e308, "low": 0, "high": 0}, "greedy": {"value": 1e308}}}},
    ],
)
def test_values_that_make_no_sense_are_drawn_or_said(changes: dict[str, Any], tmp_path: Path) -> None:
    sample_run.write(tmp_path, steps=3)
    (tmp_path / "summary.json").write_text(json.dumps(sample_run.summary(**changes)))
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert {tag for tag, _ in page.tags} <= OWN_TAGS
    assert "Configuration" in page.text


def test_a_sound_run_is_drawn_whole(sample: Path) -> None:
    assert "cannot be drawn" not in write_report(sample).read_text(encoding="utf-8")


@inputs(60)
@given(st.dictionaries(st.sampled_from(list(sample_run.summary())), values), values, values)
def test_any_values_end_in_a_page(sample: Path, changes: dict[str, Any], metrics: Any, judgement: Any) -> None:
    (sample / "summary.json").write_text(json.dumps(sample_run.summary(**changes)))
    (sample / "metrics.jsonl").write_text(
        json.dumps({"elapsed_s": 1, "metrics": {"learner/version": 1, "reward/mean": metrics, "eval/version": metrics}})
    )
    (sample / "samples.jsonl").write_text(
        json.dumps(judgement) + "\n" + json.dumps({"responses": judgement, "scores": metrics})
    )
    page = Page(write_report(sample).read_text(encoding="utf-8"))
    assert {tag for tag, _ in page.tags} <= OWN_TAGS


def test_a_link_in_the_place_of_the_report_is_not_followed(tmp_path: Path) -> None:
    """Seen to overwrite the target before."""
    folder, target = tmp_path / "run", tmp_path / "authorized_keys"
    folder.mkdir()
    target.write_text("mine\n")
    (folder / "config.yaml").write_text("run: {}\nssh-ed25519 theirs\n")
    (folder / "report.html").symlink_to(target)
    assert main([str(folder)]) == 0
    assert target.read_text() == "mine\n"
    assert not (folder / "report.html").is_symlink()


def test_a_page_that_cannot_be_written_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("run: {}\n")
    (tmp_path / "report.html").mkdir()
    assert main([str(tmp_path)]) == 2
    assert re.fullmatch(r"error: .*report\.html cannot be written \(Is a directory\): .*\n", capsys.readouterr().err)


def test_what_is_nested_too_deeply_is_left_out() -> None:
    nested: Any = 1
    for _ in range(7):
        nested = [nested]
    assert parsed(json.dumps({"a": nested, "b": 2})) == {"a": nested, "b": 2}
    assert parsed(json.dumps({"a": [nested], "b": 2}))["b"] == 2
    assert "1" not in json.dumps(parsed(json.dumps({"a": [nested]})))
    assert parsed("9" * 400) == float("inf")
