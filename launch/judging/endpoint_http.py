"""The HTTP client of an endpoint, anybody's maybe: it follows no redirect, unpacks nothing and reads no more than a bound.

    request ─▶ server ─▶ status and headers ─▶ refused, or body ─▶ counted while it is read ─▶ openai's client

Imported where a client is made: openai and what it needs take a second to import.
"""

from collections.abc import AsyncIterator

import httpx2
from openai import DefaultAsyncHttpxClient

ANSWER_BYTES = 8 << 20  # 32 answers of 32,000 tokens in 8 bytes each; with 16 requests at a time 128 MiB at most


class ResponseRefused(Exception):
    """A response that is not read."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def http_client() -> httpx2.AsyncClient:
    """Returns openai's own client, bounded. Its `ResponseRefused` is neither wrapped by openai nor tried again."""
    return DefaultAsyncHttpxClient(
        follow_redirects=False, headers={"Accept-Encoding": "identity"}, event_hooks={"response": [_bound]}
    )


async def _bound(response: httpx2.Response) -> None:
    """Refuse a response by its head, or let its body be counted; nothing of the body has been read yet."""
    if 300 <= response.status_code < 400:
        place = response.headers.get("location") or "a place that it does not name"
        raise ResponseRefused(
            f"HTTP {response.status_code}: the server redirects to {place}, where nothing was sent",
            "give that address yourself if you trust it",
        )
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):  # a few bytes may unpack to more than fits in memory
        raise ResponseRefused(
            f"the server packed its answer ({encoding}), though `identity` was asked for",
            "turn compression off in the server or in the proxy before it",
        )
    if not isinstance(response.stream, httpx2.AsyncByteStream):
        raise TypeError(f"the client of an endpoint reads in an event loop, not {type(response.stream).__name__}")
    response.stream = _CountedStream(response.stream)


class _CountedStream(httpx2.AsyncByteStream):
    """A body that ends in `ResponseRefused` where it is longer than ANSWER_BYTES."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        count = 0
        async for chunk in self._body:
            count += len(chunk)
            if count > ANSWER_BYTES:
                raise ResponseRefused(
                    f"the server's answer is longer than {ANSWER_BYTES >> 20} MiB",
                    "ask for fewer or shorter judgements at once (--k, rollout.max_new_tokens), or see what answers there",
                )
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()
