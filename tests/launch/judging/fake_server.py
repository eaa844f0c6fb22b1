"""A fake of an OpenAI-compatible server, to inject faults and to count what was asked: no model is behind it."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Reply = tuple[int, Any, dict[str, str]]  # status, body (bytes as they are, else JSON), headers


def completion(*texts: str | None, tokens: int | None = None, finish: str = "stop") -> Reply:
    """A chat completion with one choice a text."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish} for i, text in enumerate(texts)
    ]
    usage = {} if tokens is None else {"usage": {"prompt_tokens": 9, "completion_tokens": tokens}}
    return 200, {"object": "chat.completion", "choices": choices, **usage}, {}


def failure(status: int, message: str, **headers: str) -> Reply:
    return status, {"error": {"message": message, "type": "error"}}, headers


def echo(body: dict[str, Any]) -> Reply:
    """Heeds n, and seeds each choice as vLLM does."""
    texts = [f"{body['messages'][0]['content']} {body['seed'] + i}" for i in range(body["n"])]
    return completion(*texts, tokens=5 * body["n"])


def scored(*numbers: float, field: str = "probs", tokens: int = 9) -> Reply:
    """What vLLM's `/classify` says of one text; with `field` = "data" its `/pooling`."""
    return 200, {"object": "list", "data": [{"index": 0, field: list(numbers)}], "usage": {"prompt_tokens": tokens}}, {}


class FakeServer(ThreadingHTTPServer):
    """In place of an OpenAI-compatible server, to inject faults: no model behind it, `reply` decides what is said.

    A reply after `delay_s` seconds, or once `close` was called. `most` is how many requests were under way at a time."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply: Callable[[dict[str, Any]], Reply] = echo
        self.models: Reply = (200, {"object": "list", "data": [{"id": "judge"}, {"id": "other\x1b[2J"}]}, {})
        self.paths: dict[str, Callable[[dict[str, Any]], Reply]] = {}  # what other paths answer
        self.delay_s = 0.0
        self.ended = threading.Event()
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.encodings: list[str | None] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def close(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        assert isinstance(sys.exception(), ConnectionError), "only a client that waits no longer is expected here"


class Handler(BaseHTTPRequestHandler):
    server: FakeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        self.server.encodings.append(self.headers["Accept-Encoding"])
        self._note(self.server.models if self.path == "/v1/models" else failure(404, f"no {self.path} here"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.keys.append(self.headers["Authorization"])
            self.server.encodings.append(self.headers["Accept-Encoding"])
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        self.server.ended.wait(self.server.delay_s)
        missing = failure(404, f"no {self.path} here")
        answers = {"/v1/chat/completions": self.server.reply, **self.server.paths}
        reply = answers[self.path](body) if self.path in answers else missing
        with self.server.lock:
            self.server.now -= 1
        self._note(reply)

    def _note(self, reply: Reply) -> None:
        status, body, headers = reply
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        chunked = headers.get("Transfer-Encoding") == "chunked"
        length = {} if chunked else {"Content-Length": str(len(content))}
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **length, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if chunked else content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def judge_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A fake server, asked past any proxy and without a key."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    fake = FakeServer()
    yield fake
    fake.close()
