"""The command: what fails ends nothing else, what is not there is not passed, and the results say where they were found."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.gpu import check, parts
from tests.gpu.check import LEAST_S, main, report, results, run_part
from tests.gpu.figures import Figure, figure
from tests.gpu.parts import Part, figures_of


def raises(subject: Any) -> Iterator[Figure]:
    yield figure("one", 1, most=1)
    raise RuntimeError("out of memory")


def lacks(subject: Any) -> Iterator[Figure]:
    yield figure("two", 1, most=1)
    import nothing_of_this_name.inner  # noqa: F401


def broken(subject: Any) -> Iterator[Figure]:
    yield figure("three", 1, most=1)
    import json.nothing  # noqa: F401


def good(subject: Any) -> Iterator[Figure]:
    yield figure("four", 1, most=1)


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parts of this file beside those that there are."""

    @contextmanager
    def prepared(device: str, folder: Path) -> Iterator[None]:
        yield

    @contextmanager
    def refused(device: str, folder: Path) -> Iterator[None]:
        raise OSError("no such card")
        yield

    whole = SimpleNamespace(prepared=prepared, CHECKS=(raises, lacks, broken, good))
    monkeypatch.setitem(sys.modules, "tests.gpu.whole_checks", whole)
    monkeypatch.setitem(sys.modules, "tests.gpu.refused_checks", SimpleNamespace(prepared=refused, CHECKS=(good,)))
    for name, needs in (("whole", ()), ("refused", ()), ("absent", ("json", "nothing_of_this_name"))):
        monkeypatch.setitem(parts.PARTS, name, Part(needs=needs, seconds=1, what="invented"))


@pytest.mark.usefixtures("invented")
def test_what_ends_one_check_does_not_end_the_others(tmp_path: Path) -> None:
    found = list(figures_of("whole", "cpu", tmp_path))
    assert [(each.name, each.state) for each in found] == [
        ("one", "passed"),
        ("raises", "failed"),
        ("two", "passed"),
        ("lacks", "not run"),
        ("three", "passed"),
        ("broken", "failed"),
        ("four", "passed"),
    ]
    assert found[1].why.startswith("RuntimeError: out of memory (")
    assert found[3].why == "not installed: nothing_of_this_name"
    assert "No module named 'json.nothing'" in found[5].why, "json is there, so its lack of a module is an error"


@pytest.mark.usefixtures("invented")
def test_a_part_without_its_libraries_is_not_run_and_one_that_cannot_begin_has_failed(tmp_path: Path) -> None:
    (lacking,) = figures_of("absent", "cpu", tmp_path)
    assert (lacking.state, lacking.why) == ("not run", "not installed: nothing_of_this_name")
    (refused,) = figures_of("refused", "cpu", tmp_path)
    assert (refused.state, refused.why[:23]) == ("failed", "OSError: no such card (")


@pytest.mark.usefixtures("invented")
def test_a_part_is_not_begun_on_a_card_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "card_gigabytes", lambda: 24.0)
    monkeypatch.setitem(parts.PARTS, "whole", Part(needs=(), seconds=1, gigabytes=45, what="invented"))
    (small,) = figures_of("whole", "cuda", tmp_path)
    assert (small.state, small.why) == ("not run", "it wants a card of 45 GB, and this one has 24")
    assert len(list(figures_of("whole", "cpu", tmp_path))) > 1


def test_a_part_that_runs_past_its_limit_is_ended_and_has_failed(tmp_path: Path) -> None:
    found = run_part("head", "cpu", tmp_path, 0.05)
    assert found.state == "failed"
    assert "it ran past 0 s" in found.figures[-1]["why"]


def test_a_process_that_dies_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.PARTS, "gone", Part(needs=(), seconds=1, what="not in the child's table"))
    found = run_part("gone", "cpu", tmp_path, 60)
    assert found.state == "failed"
    assert "it ended with status 1; the end of its log: Traceback" in found.figures[-1]["why"]


def test_without_time_nothing_is_begun() -> None:
    *_, found = results(["head", "step"], "cpu", seconds=LEAST_S)
    assert [(part.name, part.state, part.figures[0]["why"]) for part in found] == [
        ("head", "not run", "no time was left of 20 s"),
        ("step", "not run", "no time was left of 20 s"),
    ]
    assert report(found)["passed"] is False
    assert report([])["passed"] is False, "no part is no proof"


def test_the_results_are_one_json_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results" / "check.json"
    monkeypatch.setattr(sys, "argv", ["check", str(file), "--device", "cpu", "head"])
    assert main() == 2, "a CPU has no memory of a card, which is not passed"
    found = json.loads(file.read_text())
    assert {"date", "commit", "device", "cards", "versions", "passed", "failed", "parts"} == found.keys()
    assert found["device"] == "cpu"
    assert found["versions"].keys() >= {"python", "torch"}
    assert not found["passed"]
    assert not found["failed"]
    (part,) = found["parts"]
    assert (part["name"], part["state"]) == ("head", "partly run")
    assert part["figures"][0]["expected"] == "<= 0.0001"
    assert "not run: memory over what was there" in capsys.readouterr().out


def test_a_part_that_is_unknown_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["check", str(tmp_path / "x.json"), "heads"])
    with pytest.raises(SystemExit):
        main()
    assert "no part is called 'heads': choose of head, attention" in capsys.readouterr().err


def test_where_there_is_no_clone_the_commit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ROOT", tmp_path)
    assert check.commit() == "unknown"
    monkeypatch.setenv("SPCT_COMMIT", "abc")
    assert check.commit() == "abc"
