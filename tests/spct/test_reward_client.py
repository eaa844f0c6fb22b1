"""The client of a reward server: what it asks again, what it raises, and that it needs nothing but Python."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from spct import reward_client
from spct.reward_client import NoVerdict, RewardClient
from tests.fakes import SkippingClock

Reply = tuple[int, bytes]


class Scripted(ThreadingHTTPServer):
    """In place of a reward server: it answers with what the test has put there, and ends a connection for None."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[Reply | None] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        assert isinstance(sys.exception(), ConnectionError), "only a client that waits no longer is expected here"


class Handler(BaseHTTPRequestHandler):
    server: Scripted
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        reply = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        self.close_connection = True
        if reply is None:
            return
        status, body = reply
        self.send_response(status)
        promised = len(body) + (5 if body.endswith(b"CUT") else 0)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Scripted]:
    running = Scripted()
    yield running
    running.shutdown()
    running.server_close()


def client(server: Scripted, wait_s: float = 30.0) -> RewardClient:
    return RewardClient(url=server.url, wait_s=wait_s, pause_s=0.005)


def error(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"type": "Unjudged", "message": message, **more}}).encode()


def test_what_passes_is_asked_again_until_there_is_a_verdict(server: Scripted) -> None:
    server.replies = [
        (503, error("no replica")),
        None,
        (429, error("busy")),
        (408, error("the body did not come whole")),
        (500, b"Internal Server Error"),
        (404, b"Path '/v1/judge' not found. Ping http://127.0.0.1:8000/-/routes for available routes."),
        (502, b"<html>"),
        (200, b'{"a": CUT'),
        (200, b'{"a": 1}'),
    ]
    assert client(server).post("/v1/judge", {"query": "q"}) == {"a": 1}
    assert server.asked == [{"query": "q"}] * 9, "the same request each time: the server knows it"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((422, error("responses: give one or more")), "HTTP 422: responses: give one or more"),
        ((409, error("another response has the slot")), "HTTP 409: another response"),
        ((401, b"who are you"), "HTTP 401: who are you"),
        ((503, error("none of 8 judgements could be read", final=True)), "HTTP 503: none of 8 judgements"),
        ((200, b"<html>"), "the answer is no JSON"),
        ((404, b'{"detail": "Not Found"}'), "HTTP 404: Not Found"),
    ],
)
def test_what_asking_again_does_not_help_is_raised_at_once(server: Scripted, reply: Reply, message: str) -> None:
    server.replies = [reply]
    with pytest.raises(NoVerdict, match=message):
        client(server).post("/v1/judge", {})
    assert len(server.asked) == 1


def test_after_its_time_it_says_what_the_server_said_last(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_client, "time", SkippingClock())
    server.replies = [(503, error("no replica runs"))]
    with pytest.raises(NoVerdict, match=r"/v1/judge: no verdict within 30 s; the last answer: HTTP 503: no replica runs"):
        client(server).post("/v1/judge", {})
    assert len(server.asked) > 2
    server.shutdown()
    server.server_close()
    with pytest.raises(NoVerdict, match="the last answer: ConnectionRefusedError"):
        client(server).post("/v1/judge", {})


@pytest.mark.parametrize("cut", [TimeoutError("timed out"), HTTPException("the answer came too slowly")])
def test_a_last_try_that_its_time_cuts_off_does_not_hide_what_the_server_said(
    server: Scripted, monkeypatch: pytest.MonkeyPatch, cut: Exception
) -> None:
    clock, tries = SkippingClock(), list[float]()

    def once(self: RewardClient, connect: Any, left_s: float, path: str, payload: bytes, ends: float) -> tuple[int, bytes]:
        tries.append(left_s)
        if len(tries) == 1:
            return 503, error("no replica runs")
        clock.sleep(left_s)
        raise cut

    monkeypatch.setattr(reward_client, "time", clock)
    monkeypatch.setattr(RewardClient, "_once", once)
    with pytest.raises(NoVerdict, match="the last answer: HTTP 503: no replica runs"):
        client(server).post("/v1/judge", {})
    assert len(tries) == 2


def test_no_time_out_of_ours_can_be_taken_for_one_of_python() -> None:
    assert not issubclass(NoVerdict, TimeoutError), "AReaL makes a reward of 0 of a TimeoutError"


def test_keys_and_addresses(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    server.replies = [(200, b"1")]
    RewardClient(url=server.url + "/", key="mine").post("/v1/judge", {})
    monkeypatch.setenv("SPCT_REWARD_URL", server.url)
    monkeypatch.setenv("SPCT_REWARD_KEY", "theirs")
    RewardClient().post("/v1/judge", {})
    assert server.keys == ["Bearer mine", "Bearer theirs"]
    monkeypatch.delenv("SPCT_REWARD_URL")
    for url in ("", "localhost:8000", "ftp://host"):
        with pytest.raises(ValueError, match=r"address of the reward server: .*as http://host:8000"):
            RewardClient(url=url).post("/v1/judge", {})


def test_hundreds_wait_at_a_time_in_one_event_loop() -> None:
    """A group whose members wait for each other must not wait for threads."""
    came = threading.Barrier(200)

    class Group(Handler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            came.wait(30)
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Length", "1")
            self.end_headers()
            self.wfile.write(b"1")

    server = Scripted()
    server.RequestHandlerClass, server.request_queue_size = Group, 256
    server.socket.listen(256)

    async def ask() -> list[Any]:
        return await asyncio.gather(*(client(server).post_async("/v1/member", {}) for _ in range(200)))

    assert asyncio.run(ask()) == [1] * 200
    server.shutdown()
    server.server_close()


def test_it_needs_nothing_but_python() -> None:
    """In an environment without a single package, and nothing of a run is imported."""
    script = (
        "import sys\n"
        "import spct.trl, spct.verl, spct.swift, spct.areal, spct.slime\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    root = Path(__file__).resolve().parents[2]
    bare = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert bare.stdout.strip() == "['__main__', 'grm', 'spct']"
