"""A served judge that misbehaves in some way, and the whole command: what is sent, what a person reads, the exit status, the
requests spent; and what a second start makes of it once the server behaves."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from launch.evaluate import main
from launch.judging import endpoint_tries, request_pace
from tests.launch.evaluation import ROWS, reply, rows
from tests.launch.judging.fake_server import FakeServer, Reply
from tests.launch.judging.misbehaviours import MISBEHAVIOURS


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits between tries, as short as they can be."""
    monkeypatch.setattr(endpoint_tries, "RETRY_S", 0.001)
    monkeypatch.setattr(request_pace, "PAUSES_S", (0.005, 0.01))
    monkeypatch.setattr(request_pace, "FIRST_SPACING_S", 0.001)


@pytest.fixture
def started(judge_server: FakeServer, tmp_path: Path) -> Callable[..., int]:
    """The evaluation of two pairs by the server, greedily in both orders."""
    data = rows(tmp_path / "data.jsonl", *ROWS[:2])
    usual = ["--endpoint", judge_server.url, "--model", "judge", "--data", data, "--out", str(tmp_path / "out")]
    return lambda *more: main([*usual, "--k", "0", "tracking.mode=disabled", *more])


def test_there_are_forty_of_them() -> None:
    assert len(MISBEHAVIOURS) >= 40


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_a_judge_that_misbehaves(
    name: str, started: Callable[..., int], judge_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    case = MISBEHAVIOURS[name]
    judge_server.reply = lambda body: case.reply(judge_server.asked, body)
    status = started(*case.options)
    read = capsys.readouterr()
    assert (status, len(judge_server.asked)) == (case.status, case.requests), read.out + read.err
    assert case.says in read.out + read.err
    assert f"asked {case.requests} requests, those that failed among them" in read.out
    last = judge_server.asked[-1]
    assert not set(case.lacks) & last.keys()
    assert {field: last.get(field) for field in case.holds} == case.holds
    judge_server.reply = lambda body: reply({"n": 1, "seed": 1, "temperature": 0, **body})
    assert started(*case.options) == 0
    again = capsys.readouterr().out
    if case.status == 0:
        assert "all 2 preferences stand already" in again
    else:
        assert "judged 2 of 2 preferences" in again


def test_a_page_at_the_address_of_a_judge_is_not_asked_for_ever(
    started: Callable[..., int], judge_server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = [{"id": f"p{i}", "prompt": f"q {i}", "chosen": "good", "rejected": "bad"} for i in range(30)]
    judge_server.reply = lambda body: (200, b"<html>log in</html>", {})
    assert started("--data", rows(tmp_path / "many.jsonl", *many), "--concurrency", "1") == 1
    assert "judged 0 of 30 preferences, which are kept; then the judge was gone: " in capsys.readouterr().err
    assert len(judge_server.asked) == endpoint_tries.GONE_AFTER


FEW = ("errors without end", "a revoked key", "one vote that fails", "max_tokens", "empty")  # the others take a minute together
KINDS = [pytest.param(name, marks=() if name in FEW else pytest.mark.full) for name in MISBEHAVIOURS]


def evaluate_in_child(arguments: list[str], variables: dict[str, str]) -> None:
    """Runs in a process of its own, whose waits are as short as here."""
    os.environ.update(variables)
    endpoint_tries.RETRY_S, request_pace.PAUSES_S, request_pace.FIRST_SPACING_S = 0.001, (0.005, 0.01), 0.001
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        status = main(arguments)
    os._exit(status)


@pytest.mark.parametrize("name", KINDS)
def test_a_kill_in_the_middle_of_each_kind_loses_nothing_that_was_answered(
    name: str, judge_server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first preference is answered and on disk; the second one meets the misbehaviour, and a SIGKILL at its second request
    (the first, where the kind has one alone). Behind it, the server behaves."""
    case, out = MISBEHAVIOURS[name], tmp_path / "out"
    data = rows(tmp_path / "data.jsonl", ROWS[0] | {"id": "x"}, ROWS[1] | {"id": "y"})  # in this order in the mixture
    waves = ["--k", "2", "rollout.max_groups=1", "rollout.samples=2", "tracking.mode=disabled"]  # a preference a wave
    usual = ["--endpoint", judge_server.url, "--model", "judge", "--data", data, "--out", str(out)]
    arguments = [*usual, *waves, *case.options]
    met: list[dict[str, Any]] = []
    kill_at = min(2, case.requests)

    def dies(body: dict[str, Any]) -> Reply:
        if "q one" in str(body["messages"]):
            return reply(body)
        with judge_server.lock:
            met.append(body)
            place = len(met)
        if place == kill_at:
            os.kill(child.pid or 0, signal.SIGKILL)
        return case.reply(met, body)

    judge_server.reply = dies
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["launch.evaluate", "openai", __name__])
    child = context.Process(target=evaluate_in_child, args=(arguments, {"NO_PROXY": "127.0.0.1"}))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    assert len(met) >= kill_at
    kept = [json.loads(line)["id"] for line in (out / "judgements.jsonl").read_text().splitlines()[1:]]
    assert kept == ["x"]
    judge_server.reply, before = (lambda body: reply({"n": 1, "seed": 1, "temperature": 0, **body})), len(judge_server.asked)
    assert main(arguments) == 0
    assert "1 of 2 preferences are in judgements.jsonl already" in capsys.readouterr().out
    first = [body for body in judge_server.asked[before:] if "q one" in str(body["messages"])]
    assert len(first) == 1, "a stored prompt, to see whether the judge is the same"
    written = json.loads((out / "table.json").read_text())
    assert (written["failed"], written["subsets"]["overall"]["rows"], written["answers"]["unanswered"]) == ({}, 2, 0)
