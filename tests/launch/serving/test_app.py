"""What callers get over HTTP: verdicts, refusals with their status, keys, limits, and what operators ask."""

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from buffer.connection import Address
from launch.serving import metrics
from launch.serving.door import Keys, read_keys
from tests.launch.serving.small_server import BAD, GOOD, SmallServer, until

PAIR = {"query": "q", "responses": [BAD, GOOD]}
JUDGE = "/v1/judge"


def posted(server: SmallServer, body: Any, **how: Any) -> Any:
    return asyncio.run(server.post(JUDGE, body, **how))


def got(server: SmallServer, path: str, **how: Any) -> Any:
    async def get() -> Any:
        async with server.client() as client:
            return await client.get(path, **how)

    return asyncio.run(get())


def test_a_verdict_as_it_is_sent(address: Address) -> None:
    answer = posted(SmallServer(address), PAIR)
    assert answer.status_code == 200
    body = answer.json()
    assert [each["score"] for each in body["responses"]] == [2, 9]
    assert [each["votes"] for each in body["responses"]] == [[2] * 4, [9] * 4]
    assert body["votes"] == {"asked": 4, "cast": 4, "unparsable": 0, "cut": 0}
    assert (body["model"], body["policy_version"]) == ("small", 7)
    assert body["judgements"][0]["principles"] == "1. accuracy (100%)"
    assert body["usage"]["completion_tokens"] == 16
    named = {"scores", "principles", "critique", "order", "failure", "meta", "voted", "tokens", "version"}
    assert set(body["judgements"][0]) == named


def test_messages_are_a_query(address: Address) -> None:
    server = SmallServer(address)
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]
    assert posted(server, {"messages": messages, "responses": [GOOD]}).status_code == 200
    asked = "".join(map(chr, next(iter(server.engine.asked))[0]))
    assert "User: q\n\nAssistant: r" in asked


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "responses"),
        ({"query": "q", "responses": []}, 422, "responses"),
        ({"query": "q", "messages": [], "responses": ["r"]}, 422, "query"),
        ({"messages": [], "responses": ["r"]}, 422, "messages"),
        ({"query": "q", "responses": ["r"], "k": 65}, 422, "k"),
        ({"query": "q", "responses": ["r"], "typo": 1}, 422, "typo"),
        ({"query": "q", "responses": [1]}, 422, "responses.0"),
        ({"query": "q" * 3000, "responses": ["r"]}, 413, None),
        ({"query": "q", "responses": ["unreadable"]}, 503, None),
    ],
)
def test_a_refusal_has_its_status_and_no_number(address: Address, body: Any, status: int, field: str | None) -> None:
    answer = posted(SmallServer(address), body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)
    assert set(answer.json()) == {"error"}


def test_half_a_surrogate_pair_is_no_text(address: Address) -> None:
    async def ask() -> Any:
        async with SmallServer(address).client() as client:
            return await client.post(JUDGE, content=b'{"query": "\\ud800", "responses": ["r"]}')

    assert asyncio.run(ask()).status_code == 422


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"query": NaN}', b"[" * 100_000])
def test_what_is_no_json_is_refused(address: Address, content: bytes) -> None:
    async def ask() -> Any:
        async with SmallServer(address).client() as client:
            return await client.post(JUDGE, content=content, headers={"content-type": "application/json"})

    answer = asyncio.run(ask())
    assert answer.status_code in (400, 422)


def test_another_content_under_a_key_is_a_conflict(address: Address) -> None:
    server = SmallServer(address)
    assert posted(server, PAIR | {"idempotency_key": "k"}).status_code == 200
    assert posted(server, PAIR | {"idempotency_key": "k", "query": "other"}).status_code == 409


# ---- the door --------------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text("# who may ask\nalice 0123456789abcdef\nbob   fedcba9876543210  # a comment\n")
    return file


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_whoever_has_no_key_is_refused_and_tenants_share_nothing(address: Address, keys: Path) -> None:
    server = SmallServer(address, Keys(keys))
    for headers in ({}, bearer("wrong-wrong-wrong"), {"authorization": "Basic 0123456789abcdef"}):
        answer = posted(server, PAIR, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert got(server, "/metrics").status_code == 401
    assert [got(server, path).status_code for path in ("/healthz", "/readyz", "/", "/openapi.json")] == [200] * 4
    for key in ("0123456789abcdef", "fedcba9876543210"):
        assert posted(server, PAIR, headers=bearer(key)).status_code == 200
    assert sum(server.engine.asked.values()) == 8


def test_keys_that_change_count_without_a_restart(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.serving.door.READ_S", 0.0)
    read = Keys(keys)
    assert read.tenant("Bearer 0123456789abcdef") == "alice"
    keys.write_text("carol 0123456789abcdef-new\n")
    assert read.tenant("Bearer 0123456789abcdef-new") == "carol"
    keys.write_text("half a")
    assert read.tenant("Bearer 0123456789abcdef-new") == "carol", "a file that cannot be read changes nothing"
    keys.unlink()
    assert read.tenant("Bearer 0123456789abcdef-new") == "carol"


@pytest.mark.parametrize("text", ["", "alice", "alice short", "alice 0123456789abcdef more", "a/b 0123456789abcdef"])
def test_a_file_of_keys_that_cannot_be_used_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ValueError, match="TENANT KEY") as refused:
        read_keys(tmp_path / "keys")
    assert "0123456789abcdef" not in str(refused.value)


def test_a_body_over_the_limit_is_refused_before_it_is_read_whole(address: Address) -> None:
    server = SmallServer(address, most_bytes=1000)
    assert posted(server, PAIR | {"query": "q" * 1000}).status_code == 413

    async def stream() -> Any:
        async def chunks() -> Any:
            for _ in range(10):
                yield b"x" * 200

        async with server.client() as client:
            return await client.post(JUDGE, content=chunks())

    assert asyncio.run(stream()).status_code == 413


def test_more_requests_than_are_taken_are_refused_and_the_others_are_answered(address: Address) -> None:
    server = SmallServer(address, most_requests=2)
    server.engine.automatic = False

    async def ask() -> list[int]:
        first = [asyncio.create_task(server.post(JUDGE, PAIR | {"query": f"q{number}"})) for number in range(2)]
        await until(lambda: sum(server.engine.asked.values()) == 8)
        async with server.client() as client:
            refused, told = await client.post(JUDGE, json=PAIR), await client.get("/metrics")
        server.engine.finish()
        return [refused.status_code, told.status_code, *(answer.status_code for answer in await asyncio.gather(*first))]

    assert asyncio.run(ask()) == [429, 200, 200, 200], "metrics are told all the same"


def test_a_tenant_that_asks_too_often_is_refused(address: Address) -> None:
    server = SmallServer(address, rate=3.0)

    async def ask() -> list[int]:
        async with server.client() as client:
            return [(await client.get("/v1/served")).status_code for _ in range(5)]

    assert asyncio.run(ask()).count(429) == 2


def test_of_several_tenants_none_takes_all_the_room(address: Address, keys: Path) -> None:
    server = SmallServer(address, Keys(keys), most_requests=4)
    server.engine.automatic = False
    alice, bob = bearer("0123456789abcdef"), bearer("fedcba9876543210")

    async def ask() -> list[int]:
        waiting = [asyncio.create_task(server.post(JUDGE, PAIR | {"query": f"q{n}"}, headers=alice)) for n in range(3)]
        await until(lambda: sum(server.engine.asked.values()) == 12)
        refused = await server.post(JUDGE, PAIR, headers=alice)
        waiting.append(asyncio.create_task(server.post(JUDGE, PAIR, headers=bob)))
        await until(lambda: sum(server.engine.asked.values()) == 16)
        server.engine.finish()
        return [refused.status_code, *(answer.status_code for answer in await asyncio.gather(*waiting))]

    assert asyncio.run(ask()) == [429, 200, 200, 200, 200]


def test_a_server_that_stops_answers_what_is_under_way_and_refuses_the_rest(address: Address) -> None:
    server = SmallServer(address)
    server.engine.automatic = False

    async def ask() -> list[int]:
        waiting = asyncio.create_task(server.post(JUDGE, PAIR))
        await until(lambda: sum(server.engine.asked.values()) == 4)
        server.app.draining = True
        assert server.app.inside == 1
        refused = await server.post(JUDGE, PAIR)
        assert refused.json()["error"]["final"] is False
        async with server.client() as client:
            open_ones = [(await client.get(path)).status_code for path in ("/readyz", "/healthz")]
        server.engine.finish()
        return [refused.status_code, *open_ones, (await waiting).status_code]

    assert asyncio.run(ask()) == [503, 503, 200, 200]
    assert server.app.inside == 0


def asgi(server: SmallServer, *messages: dict[str, Any], path: str = JUDGE, length: str = "") -> Any:
    """Status, body and what came of a request whose connection the test plays; behind its messages it is silent."""
    sent, left = [], list(messages)
    headers = [(b"content-type", b"application/json")]
    headers += [(b"content-length", length.encode())] if length else []
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(server.app(scope, receive, send), 20))
    return (sent[0]["status"], json.loads(sent[1]["body"])) if sent else None


def test_a_body_that_does_not_come_is_not_waited_for(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.serving.door.BODY_S", 0.05)
    status, body = asgi(SmallServer(address), {"type": "http.request", "body": b"{", "more_body": True})
    assert (status, body["error"]["type"]) == (408, "too_slow")


def test_who_goes_away_before_the_request_is_whole_asked_for_nothing(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = SmallServer(address)
    part = {"type": "http.request", "body": json.dumps(PAIR).encode(), "more_body": True}
    assert asgi(server, part, {"type": "http.disconnect"}) is None
    assert not server.engine.asked
    assert [record.args["status"] for record in caplog.records if record.name == "spct.requests"] == [499]


def test_a_length_beyond_all_numbers_is_too_large(address: Address) -> None:
    assert asgi(SmallServer(address), length="9" * 5000)[0] == 413


# ---- operation -------------------------------------------------------------------------------------------------------


def test_logs_name_requests_and_hold_no_text_and_no_key(address: Address, keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = SmallServer(address, Keys(keys))
    answer = posted(server, PAIR | {"query": "secret question"}, headers=bearer("0123456789abcdef") | {"x-request-id": "r-1"})
    assert answer.headers["x-request-id"] == "r-1"
    (row,) = [record.args for record in caplog.records if record.name == "spct.requests"]
    assert {name: row[name] for name in ("request", "tenant", "route", "status")} == {
        "request": "r-1",
        "tenant": "alice",
        "route": JUDGE,
        "status": 200,
    }
    assert "body" not in row
    for private in ("secret question", GOOD, "0123456789abcdef"):
        assert private not in caplog.text


def test_a_fault_of_ours_is_answered_and_logged_without_the_text(
    address: Address, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    server = SmallServer(address)

    async def broken(*_: object) -> None:
        raise ValueError("secret question")

    monkeypatch.setattr(server.core, "judge", broken)
    answer = posted(server, PAIR, headers={"x-request-id": "r-2"})
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "type": "internal",
        "message": "an error of the server's own; its log has it as request r-2",
        "field": None,
    }
    fault, row = (record.args for record in caplog.records if record.name == "spct.requests")
    assert (fault["request"], fault["error"], row["status"]) == ("r-2", "ValueError", 500)
    assert any("test_app.py" in frame for frame in fault["frames"])
    assert "secret question" not in caplog.text


def test_a_route_that_there_is_not_is_refused_as_all_else(address: Address) -> None:
    server = SmallServer(address)
    for path, status in (("/nowhere", 404), (JUDGE, 405)):
        answer = got(server, path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, "not_found")


def test_a_request_id_that_is_no_name_is_replaced(address: Address) -> None:
    given = posted(SmallServer(address), PAIR, headers={"x-request-id": "a\tb"}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{16}", given)


def test_metrics_count_requests_votes_and_tokens(address: Address) -> None:
    server = SmallServer(address)
    before = values(got(server, "/metrics").text)
    posted(server, PAIR)
    posted(server, {"query": "q", "responses": ["unreadable"]})
    after = values(got(server, "/metrics").text)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown['spct_serving_requests_total{route="/v1/judge",status="200"}'] == 1
    assert grown['spct_serving_requests_total{route="/v1/judge",status="503"}'] == 1
    assert grown['spct_serving_votes_total{outcome="cast"}'] == 4
    assert grown['spct_serving_votes_total{outcome="unparsable"}'] == 4
    assert grown['spct_serving_verdicts_total{outcome="judged"}'] == 1
    assert grown['spct_serving_verdicts_total{outcome="unjudged"}'] == 1
    assert grown['spct_serving_tokens_total{kind="completion"}'] == 32
    assert after["spct_serving_cohorts_open"] == 0


def values(text: str) -> dict[str, float]:
    """Of the one node that there is."""
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    own = rf'(,node="{metrics.NODE}"(?=}})|node="{metrics.NODE}",|{{node="{metrics.NODE}"}})'
    return {re.sub(own, "", name): float(value) for name, _, value in rows}


def test_metrics_are_those_of_all_nodes_by_name(address: Address) -> None:
    """Whichever HTTP worker is asked: none passes its own node off as the whole server."""
    server = SmallServer(address)
    posted(server, PAIR)
    server.elsewhere = {
        "other": "# HELP spct_serving_votes_total v\n# TYPE spct_serving_votes_total counter\n"
        'spct_serving_votes_total{outcome="cast"} 1000.0\n'
        "# HELP spct_serving_requests_inside r\n# TYPE spct_serving_requests_inside gauge\nspct_serving_requests_inside 3.0\n"
    }
    text = got(server, "/metrics").text
    rows = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert rows['spct_serving_votes_total{node="other",outcome="cast"}'] == "1000.0"
    assert float(rows[f'spct_serving_votes_total{{node="{metrics.NODE}",outcome="cast"}}']) >= 4
    assert rows['spct_serving_requests_inside{node="other"}'] == "3.0"
    assert text.count("# TYPE spct_serving_votes_total counter") == 1
    assert "spct_serving_cohorts_open 0.0" in text, "the store knows of all"


def test_the_dashboard_asks_for_metrics_that_there_are(address: Address) -> None:
    exposed = got(SmallServer(address), "/metrics").text
    there = set(re.findall(r"^# TYPE (\S+)", exposed, re.MULTILINE))
    board = (Path(metrics.__file__).parent / "grafana.json").read_text()
    asked = {re.sub("_(total|bucket|sum|count)$", "", name) for name in re.findall(rf"{metrics.PREFIX}\w+", board)}
    assert asked
    assert asked <= {re.sub("_total$", "", name) for name in there}
    json.loads(board)


def test_a_store_that_is_away_makes_it_unready_and_no_number(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    from buffer.connection import ServerError

    server = SmallServer(address)

    def away(*_: object, **__: object) -> None:
        raise ServerError("gone")

    monkeypatch.setattr(server.cohorts, "look", away)
    monkeypatch.setattr(server.cohorts, "join", away)
    assert got(server, "/readyz").status_code == 503
    assert got(server, "/healthz").status_code == 200
    answer = posted(server, PAIR)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unjudged")


def test_the_interface_is_described(address: Address) -> None:
    described = got(SmallServer(address), "/openapi.json").json()
    assert JUDGE in described["paths"]
    route = described["paths"][JUDGE]["post"]
    assert set(route["responses"]) == {"200", "401", "408", "409", "413", "422", "429", "503"}
    assert route["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Refusal")
    assert route["security"] == [{"HTTPBearer": []}]
    assert "400" in described["paths"]["/v1/decisions"]["post"]["responses"]
    assert described["components"]["schemas"]["JudgeAnswer"]["properties"]["responses"]


def test_the_page_is_whole(address: Address) -> None:
    page = got(SmallServer(address), "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "/v1/judge" in page.text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text), "nothing of others is fetched"
