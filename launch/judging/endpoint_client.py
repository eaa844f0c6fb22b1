"""One HTTP exchange with an endpoint: sent, waited for, read as what it should be, or an error of a kind.

body ─▶ openai's client, bounded (`endpoint_http.py`) ─▶ status ─▶ shape ─▶ ChatCompletion or ModelList
                                                           └─ endpoint_errors.py ◀─┘
"""

from __future__ import annotations  # openai is imported late: annotations name its classes

import asyncio
import time
from collections.abc import Awaitable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from launch.judging.endpoint_errors import EndpointError, EndpointGone, ErrorTexts, MayPass, said
from launch.judging.openai_shapes import ChatCompletion, ModelList, RawResponse
from launch.judging.scalar_shapes import ScoreList

if TYPE_CHECKING:
    from openai import APIStatusError

Shape = TypeVar("Shape", ChatCompletion, ModelList, ScoreList)
NAMED = 10  # models listed in the error about an unknown one


class EndpointClient:
    """The connections to one server. For one event loop."""

    def __init__(self, texts: ErrorTexts, *, timeout_s: float) -> None:
        """Connects to nothing yet. `timeout_s` bounds each exchange, also where a server trickles."""
        from openai import AsyncOpenAI

        from launch.judging.endpoint_http import http_client

        self._texts, self._timeout_s = texts, timeout_s
        self._client = AsyncOpenAI(
            base_url=texts.url, api_key=texts.key or "none", timeout=timeout_s, max_retries=0, http_client=http_client()
        )

    async def complete(self, tried: str, fields: Mapping[str, Any]) -> ChatCompletion:
        """Send a chat request of these fields. Raises EndpointError; `tried` names the request in it."""
        own = {name: fields[name] for name in ("model", "messages")}
        more = {name: value for name, value in fields.items() if name not in own}
        sent = self._client.chat.completions.with_raw_response.create(**own, extra_body=more)
        return await self._fetch(tried, sent, ChatCompletion, limit_s=self._timeout_s)

    async def scores(self, tried: str, path: str, fields: Mapping[str, Any]) -> ScoreList:
        """Send a request for scores to a path of the server, beside its /v1. Raises EndpointError; `tried` names it there."""
        import httpx2  # beside openai, which takes a second to import

        root = self._texts.url.removesuffix("/v1")
        sent = self._client.post(f"{root}{path}", cast_to=httpx2.Response, body=dict(fields))
        return await self._fetch(tried, sent, ScoreList, limit_s=self._timeout_s)

    async def models(self, *, limit_s: float) -> ModelList:
        """Ask which models are served. Raises EndpointError."""
        client = self._client.with_options(timeout=limit_s)
        return await self._fetch("GET /models", client.models.with_raw_response.list(), ModelList, limit_s=limit_s)

    async def close(self) -> None:
        """End the connections."""
        await self._client.close()

    async def _fetch(self, tried: str, request: Awaitable[RawResponse], shape: type[Shape], *, limit_s: float) -> Shape:
        from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

        from launch.judging.endpoint_http import ResponseRefused

        texts = self._texts
        # `from None`: a chained error would be printed too, and holds the server's text unredacted
        try:
            async with asyncio.timeout(limit_s):
                response = await request
        except (TimeoutError, APITimeoutError):
            raise texts.late(tried, limit_s) from None
        except ResponseRefused as refused:
            raise texts.error(tried, texts.quote(refused.problem), refused.remedy) from None
        except APIStatusError as error:
            wait_s = asked_wait_s(error)
            raise texts.status(tried, error.status_code, said(error.response.content), wait_s=wait_s) from None
        except APIConnectionError as error:
            raise texts.unreached(tried, error) from None
        except APIError as error:
            raise texts.error(tried, texts.quote(error.message), "look into the server's log") from None
        return self._read(tried, response.content, shape)

    def _read(self, tried: str, content: bytes, shape: type[Shape]) -> Shape:
        texts, body = self._texts, content.removeprefix(b"\xef\xbb\xbf").lstrip()
        try:
            return shape.model_validate_json(body)
        except ValidationError as error:
            inside = error_inside(texts, tried, body)
            if inside is not None:
                raise inside from None
            if body.startswith(b"data:"):
                remedy = "switch streaming off in the server or in the proxy before it"
                raise texts.error(tried, "the server streams its answer, though nobody asked for it", remedy) from None
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"])) or "body"
            quoted = texts.quote(content.decode("utf-8", "replace"))
            raise texts.error(
                tried,
                f"the answer is not of the OpenAI form, {field}: {first['msg']}: {quoted}",
                "give the address of an OpenAI-compatible server, as http://host:port/v1",
            ) from None


async def require_served(client: EndpointClient, texts: ErrorTexts, model: str, *, limit_s: float) -> None:
    """Raises EndpointError within `limit_s`, after a single try, where the server cannot be asked, or lists other models.

    A server that lists none at all may judge none the less; the first request will tell.
    """
    try:
        listed = await client.models(limit_s=limit_s)
    except EndpointGone as error:
        if error.status in (404, 405) and texts.url.endswith("/v1"):
            return
        raise
    known = sorted(each.id for each in listed.data)
    if known and model not in known:
        named = ", ".join([*known[:NAMED], *(["…"] if len(known) > NAMED else [])])
        happened = f"the server does not serve this model, it serves {texts.quote(named)}"
        raise texts.error("GET /models", happened, "name one of them")


def error_inside(texts: ErrorTexts, tried: str, body: bytes) -> EndpointError | None:
    """Return the error that an answer of HTTP 200 holds in place of choices; None where it holds none.

    A code that is an HTTP status counts as that status. Any other error may pass.
    """
    if b'"error"' not in body[:2000] or b'"choices"' in body[:2000]:
        return None
    return named_error(texts, tried, body)


def named_error(texts: ErrorTexts, tried: str, body: bytes) -> EndpointError:
    """Return the error of a body that stands in an answer of HTTP 200."""
    words = said(body)
    if words.code.isdigit() and 400 <= int(words.code) < 600:
        return texts.status(tried, int(words.code), words)
    happened = f"HTTP 200 with an error inside: {texts.quote(words.text) or '(no text)'}"
    return MayPass(texts.text(tried, happened, "look into the server's log, then run again"))


def asked_wait_s(error: APIStatusError) -> float | None:
    """Return how many seconds the server asks to wait (`Retry-After-Ms`, `Retry-After` in seconds or as a date); None where it
    does not say."""
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
