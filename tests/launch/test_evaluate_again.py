"""An evaluation that is started again: more votes, other data, a judge that changed under its name, or no judge any more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.evaluate import default_folder, main, parser
from launch.judging.same_judge import FILE
from tests.launch.evaluation import ROWS, reply, rows
from tests.launch.judging.fake_server import FakeServer, Reply, failure

Start = Callable[..., int]


@pytest.fixture
def server(judge_server: FakeServer) -> FakeServer:
    judge_server.reply = lambda body: edition("fp-1", body)
    return judge_server


@pytest.fixture
def started(server: FakeServer, tmp_path: Path) -> Start:
    data = rows(tmp_path / "data.jsonl", *ROWS[:2])
    usual = ["--endpoint", server.url, "--model", "judge", "--data", data, "--out", str(tmp_path / "out")]
    return lambda *more: main([*usual, "tracking.mode=disabled", *more])


def edition(fingerprint: str, body: dict[str, Any], words: str = "") -> Reply:
    status, answer, headers = reply(body)
    for choice in answer["choices"]:
        choice["message"]["content"] = words + choice["message"]["content"]
    return status, answer | {"system_fingerprint": fingerprint}, headers


def written(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "table.json").read_text()))


def test_more_votes_are_asked_for_beside_those_that_stand(started: Start, server: FakeServer, tmp_path: Path) -> None:
    assert started("--k", "1,2") == 0
    first = sum(body["n"] for body in server.asked)
    assert started("--k", "1,2,4") == 0
    assert sum(body["n"] for body in server.asked) == first + 1 + 2 * 2, "a stored prompt, and two votes of each pair"
    grown = written(tmp_path / "out")["subsets"]["overall"]["figures"]
    assert {"vote@1", "vote@2", "vote@4"} <= grown.keys()
    assert started("--k", "2") == 0
    fewer = written(tmp_path / "out")["subsets"]["overall"]["figures"]
    assert {name for name in fewer if name.startswith("vote@")} == {"vote@2", "vote@2_ties_lost"}
    assert sum(body["n"] for body in server.asked) == first + 5, "fewer votes are read from those that stand"


def test_no_server_is_needed_when_all_stands(started: Start, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert started("--k", "1") == 0
    server.close()
    assert started("--k", "1") == 0
    assert "all 2 preferences stand already (judged on 20" in capsys.readouterr().out


def test_a_judge_that_is_gone_at_the_stored_prompt_is_not_asked_for_more(
    started: Start, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started("--k", "1") == 0
    server.reply, asked = (lambda body: failure(401, "revoked")), len(server.asked)
    assert started("--k", "2") == 1
    assert len(server.asked) == asked + 1
    assert "the judge was gone when it was asked a stored prompt again: " in capsys.readouterr().err


def test_a_second_data_set_does_not_overwrite_the_first(
    started: Start, server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started("--k", "0") == 0
    before, asked = (tmp_path / "out" / "table.json").read_text(), len(server.asked)
    other = rows(tmp_path / "other.jsonl", *ROWS[2:4])
    assert started("--k", "0", "--data", other) == 2
    assert f"holds the results on {tmp_path}/data.jsonl, which would be lost; choose another folder" in capsys.readouterr().err
    assert ((tmp_path / "out" / "table.json").read_text(), len(server.asked)) == (before, asked)


@pytest.mark.parametrize(
    ("data", "folder"),
    [
        (["a/b.jsonl"], "m/a-b"),
        (["b.jsonl", "c.jsonl"], "m/b+c"),
        (["bench:reward-bench", "hf:my/set", "tiny:1:2", "d.jsonl"], "m/reward-bench+my-set+tiny-1-2+more"),
    ],
)
def test_each_data_set_has_a_folder(data: list[str], folder: str) -> None:
    arguments = parser().parse_intermixed_args(["--model", "m", "--data", *data])
    assert default_folder(arguments) == f"evaluations/{folder}"


def test_a_judge_that_is_the_same_is_told_so(
    started: Start, server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started("--k", "0") == 0
    assert started("--k", "1") == 0
    read = capsys.readouterr().out
    assert "gives the stored answer to p" in read
    assert "WARNING" not in read
    (line,) = [json.loads(line) for line in (tmp_path / "out" / FILE).read_text().splitlines()]
    assert (line["probe"]["same_text"], line["probe"]["fingerprint"], line["probe"]["stored_fingerprint"]) == (
        True,
        "fp-1",
        "fp-1",
    )


@pytest.mark.parametrize(("fingerprint", "words"), [("fp-2", ""), ("fp-1", "Well. ")])
def test_a_judge_that_changed_under_its_name_is_said_everywhere(
    started: Start,
    server: FakeServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fingerprint: str,
    words: str,
) -> None:
    assert started("--k", "0") == 0
    server.reply = lambda body: edition(fingerprint, body, words)
    assert started("--k", "1") == 0
    read = capsys.readouterr().out
    said = "gives another answer to a stored greedy prompt" if words else "has another system_fingerprint"
    assert f"WARNING    the served judge {said} than on 20" in read
    assert f"(system_fingerprint fp-1 -> {fingerprint})" in read
    table = written(tmp_path / "out")
    assert any(said in note for note in table["notes"])
    assert said in (tmp_path / "out" / "report.html").read_text()
    assert set(table["answers"]["fingerprints"]) == {"fp-1", fingerprint}
    assert started("--k", "1") == 0
    assert said in capsys.readouterr().out, "and whenever the figures are read"


def test_unparsed_judgements_are_on_the_page_and_in_the_table(
    started: Start, server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = lambda body: edition("fp", body) if "q one" in str(body) else (200, cut("Analysis: <b>both"), {})
    assert started("--k", "0") == 0
    read = capsys.readouterr().out
    assert "unparsed   2 of 4: 2 x cut at the limit (raise rollout.max_new_tokens)" in read
    assert "p2, greedy, cut at the limit: Analysis: <b>both" in read
    assert written(tmp_path / "out")["answers"]["reasons"] == {"cut at the limit": 2}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Analysis: &lt;b&gt;both" in page
    assert "2 of 4 judgements did not parse: 2 x cut at the limit" in page


def cut(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": "length"}]}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--timeout-s", "0"), "--endpoint: concurrency 16, tries 5, timeout_s 0.0: each must be above 0"),
        (("--requests-per-minute", "-1"), "give 0 for no limit"),
        (("--endpoint", "", "--tries", "2"), "--tries is of an endpoint; give --endpoint, too, or leave it out"),
    ],
)
def test_limits_without_sense_are_refused(
    started: Start, capsys: pytest.CaptureFixture[str], option: tuple[str, ...], message: str
) -> None:
    assert started(*option) == 2
    assert message in capsys.readouterr().err
