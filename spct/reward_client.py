"""A reward server that is asked over HTTP, by the standard library alone: any trainer's environment can import this.

a question ─▶ POST /v1/judge ─▶ 200: a verdict                      one answer, whatever was lost on the way:
                             ─▶ 408, 429, 500 to 504, no connection   the server gives the same request the same verdict,
                                ─▶ asked again, until `wait_s`        so asking again costs no votes
                             ─▶ anything else ─▶ NoVerdict
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ADDRESS, KEY = "SPCT_REWARD_URL", "SPCT_REWARD_KEY"  # environment variables, where no argument names them
PASSING = (408, 429, 500, 502, 503, 504)  # not now; 500 is what Ray Serve answers where the process of a request has died
NO_APP = b"/-/routes for available routes."  # the end of Ray Serve's own 404, while a server starts or stops
LONGEST_ANSWER = 64 << 20  # bytes of a verdict with all its critiques
MOST_PAUSE_S = 10.0
NOT_ASKED = "it was not asked"


class NoVerdict(RuntimeError):
    """The server gave no verdict. It is no TimeoutError: AReaL makes a reward of 0 of one of those."""


@dataclass(frozen=True, kw_only=True)
class RewardClient:
    """A reward server. Any number of threads and event loops may ask it at a time."""

    url: str = ""
    """Its address, as `http://host:8000`; "" for the variable SPCT_REWARD_URL."""
    key: str = ""
    """Bearer key; "" for the variable SPCT_REWARD_KEY, or none."""
    wait_s: float = 600.0
    """How long one question may take with all that is asked again, in seconds."""
    pause_s: float = 0.5
    """Pause before the first time that it is asked again, in seconds; each further one is twice as long, up to 10 s."""

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Returns the JSON that the server answers with.

        Raises:
            NoVerdict: It refused the question, or gave no verdict within `wait_s`.
            ValueError: No address, or one that is no http(s) address.
        """
        payload = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        connect, prefix, shown = self._place()
        ends, pause, problem = time.monotonic() + self.wait_s, self.pause_s, NOT_ASKED
        while True:
            left = ends - time.monotonic()
            if left <= 0:
                raise NoVerdict(f"{shown}{path}: no verdict within {self.wait_s:.0f} s; the last answer: {problem}")
            try:
                status, answer = self._once(connect, left, prefix + path, payload, ends)
            except (OSError, http.client.HTTPException) as error:
                if problem == NOT_ASKED or time.monotonic() < ends:  # else our time cut it: what was said before explains more
                    problem = f"{type(error).__name__}: {error}"
            else:
                if status == 200:
                    return _json(answer, f"{shown}{path}")
                problem, final = _reason(answer)
                problem = f"HTTP {status}: {problem}"
                passing = status in PASSING or (status == 404 and answer.endswith(NO_APP))
                if final or not passing:
                    raise NoVerdict(f"{shown}{path}: {problem}")
            time.sleep(max(0.0, min(pause * random.uniform(0.5, 1.0), ends - time.monotonic())))
            pause = min(2 * pause, MOST_PAUSE_S)

    async def post_async(self, path: str, body: Mapping[str, Any]) -> Any:
        """As `post`, in an event loop. A thread waits for each question: a pool would hold up a group that is not whole."""
        return await asyncio.wrap_future(in_thread(lambda: self.post(path, body)))

    def _place(self) -> tuple[Callable[[float], http.client.HTTPConnection], str, str]:
        """Returns what connects, the path before each route, and the address as it may be shown."""
        address = self.url or os.environ.get(ADDRESS, "")
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"address of the reward server: {address!r}; give url=, or {ADDRESS}, as http://host:8000")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        host, port = parts.hostname, parts.port
        shown = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
        return (lambda timeout: kind(host, port, timeout=timeout)), parts.path.rstrip("/"), shown

    def _once(
        self, connect: Callable[[float], http.client.HTTPConnection], left_s: float, path: str, payload: bytes, ends: float
    ) -> tuple[int, bytes]:
        """Returns status and body. OSError or HTTPException when there is no whole answer by `ends`."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := self.key or os.environ.get(KEY, ""):
            headers["Authorization"] = f"Bearer {key}"
        with contextlib.closing(connect(left_s)) as connection:
            connection.request("POST", path, payload, headers)
            socket = connection.sock  # which getresponse takes away, to close it behind the body
            response = connection.getresponse()
            chunks, size = [], 0
            while chunk := response.read1(1 << 16):
                chunks.append(chunk)
                size += len(chunk)
                if size > LONGEST_ANSWER:
                    raise http.client.HTTPException(f"the answer is longer than {LONGEST_ANSWER >> 20} MiB")
                if (left := ends - time.monotonic()) <= 0:
                    raise http.client.HTTPException("the answer came too slowly")
                socket.settimeout(left)
            if response.length:  # read1 says nothing of what is missing
                raise http.client.IncompleteRead(b"", response.length)
            return response.status, b"".join(chunks)


def in_thread(call: Callable[[], Any]) -> "Future[Any]":
    """Returns a future of the call, which runs in a thread of its own. The thread never keeps a process from ending."""
    future: Future[Any] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except BaseException as error:  # whoever waits gets it
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="spct-reward", daemon=True).start()
    return future


def _json(answer: bytes, where: str) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        raise NoVerdict(f"{where}: the answer is no JSON: {answer[:100]!r}; is this a reward server?") from None


def _reason(answer: bytes) -> tuple[str, bool]:
    """Returns what an error body says, on one line of at most 500 characters, and whether it will say so for ever."""
    try:
        body = json.loads(answer)
    except ValueError:
        body = answer.decode("utf-8", "replace")
    final = False
    for name in ("error", "detail", "message"):
        if isinstance(body, dict):
            final = final or body.get("final") is True
            body = body.get(name, body)
    return " ".join(str(body).split())[:500], final
