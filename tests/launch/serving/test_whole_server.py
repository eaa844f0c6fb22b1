"""A whole server, started as a user does: Ray Serve, real engines, the tiny base; asked over HTTP, killed, and stopped."""

import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from grm.sources import load as load_preferences
from launch.judging.prepared_judge import prepare
from launch.serving.calibration import measured
from tests.launch.serving.server_processes import HTTP_WORKER, JUDGE, Server, kill, set_options
from tests.launch.whole_run import LENGTHS, evaluate_to_end, mentioning

COUNT, K = 6, 4
PAIRS = [preference.question for preference in load_preferences(f"tinyheld:3:{COUNT}").preferences]
SETTINGS = (*LENGTHS, "rollout.kv_cache_mb=64", "eval.temperature=1.0")


def judge(server: Server, number: int, **more: Any) -> httpx.Response:
    question = PAIRS[number]
    body = {"query": question.query, "responses": list(question.responses), "id": question.id} | more
    return httpx.post(f"{server.url}/v1/judge", json=body, timeout=120)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = set_options(SETTINGS)
    with Server(tmp_path_factory.mktemp("served") / "server", "--k", str(K), *options) as made:
        yield made


@pytest.mark.full
def test_its_judgements_are_those_of_an_evaluation_to_the_last_score(server: Server) -> None:
    found = [judge(server, number).json() for number in range(COUNT)]
    out = server.folder / "evaluated"
    options = ["--config", "tiny", "--model", "tiny", "--data", f"tinyheld:3:{COUNT}", "--k", str(K), "--out", str(out)]
    evaluate_to_end(server.folder, *options, "rollout.kv_cache_mb=64", "eval.temperature=1.0", timeout_s=200)
    lines = [json.loads(line) for line in (out / "judgements.jsonl").read_text().splitlines()[1:]]
    evaluated = {row["id"]: [sample for sample in row["samples"] if sample["kind"] == "vote"] for row in lines}
    for question, answer in zip(PAIRS, found, strict=True):
        votes = evaluated[question.id]
        assert [each["scores"] for each in answer["judgements"]] == [vote["scores"] for vote in votes]
        assert [each["order"] for each in answer["judgements"]] == [vote["permutation"] for vote in votes]
        assert [each["tokens"] for each in answer["judgements"]] == [vote["tokens"] for vote in votes]
    assert any(each["scores"] for answer in found for each in answer["judgements"])
    served = prepare("tiny", model="", meta_rm="", engine="vllm", device="cpu", seed=0, overrides=SETTINGS)
    known = measured(out, served, votes=K)
    whole = json.loads((out / "table.json").read_text())["subsets"]["overall"]["figures"]
    assert (known.brier, known.ece) == (whole[f"brier@{K}"]["value"], whole[f"ece@{K}"]["value"])


@pytest.mark.full
def test_a_judge_and_a_worker_that_are_killed_lose_no_cohort_and_the_verdicts_stay(server: Server) -> None:
    before = [judge(server, number).json() for number in range(COUNT)]
    answers: dict[int, httpx.Response] = {}

    def ask(number: int) -> None:
        while True:  # as a trainer does
            try:
                answers[number] = judge(server, number % COUNT, id=f"killed-{number}", deadline_s=100)
            except httpx.TransportError:
                continue
            if answers[number].status_code not in (500, 503):  # 500: Serve's own, where the worker died that held the request
                return

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for caller in callers:
        caller.start()
    server.wait_for(lambda: len(answers) > 2)
    (pid,) = server.processes(JUDGE)
    kill(pid)
    kill(server.processes(HTTP_WORKER)[0])
    for caller in callers:
        caller.join(200)
    assert sorted(answers) == list(range(24))
    assert {answer.status_code for answer in answers.values()} == {200}
    assert [judge(server, number).json() for number in range(COUNT)] == before, "what was judged stays"


@pytest.mark.full
def test_a_request_under_way_is_answered_before_it_stops_and_nothing_is_left(server: Server) -> None:
    answers: list[httpx.Response] = []

    def ask(number: int) -> None:
        answers.append(judge(server, number % COUNT, id=f"last-{number}", k=64))

    def under_way() -> bool:
        text = httpx.get(f"{server.url}/metrics", timeout=60).text
        return any(line.startswith("spct_serving_cohorts_open ") and not line.endswith(" 0.0") for line in text.splitlines())

    def wait_for_another() -> None:
        body = {"query": "q", "response": "r", "group": "short", "size": 2}
        answers.append(httpx.post(f"{server.url}/v1/member", json=body, timeout=120))

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    callers.append(threading.Thread(target=wait_for_another))
    for caller in callers:
        caller.start()
    server.wait_for(under_way)
    server.process.send_signal(signal.SIGTERM)
    for caller in callers:
        caller.join(120)
    assert [answer.status_code for answer in answers] == [200] * 17
    assert [each.json()["missing"] for each in answers if "missing" in each.json()] == [1], "judged without the other one"
    assert server.process.wait(60) == 0, server.log.read_text()
    assert server.log.read_text().endswith("stopped\n")
    assert "retries" not in server.log.read_text(), "Ray Serve's controller is not told to end itself"
    assert not mentioning(str(server.folder)), "no process outlives the server"
