"""Judge with a model that is served elsewhere, behind an OpenAI-compatible endpoint (vLLM, llama.cpp, a hosted one).

    endpoint = Endpoint("http://host:8000/v1", "my-model")
    endpoint.check()           the door: address, key and model, within DOOR_S
    endpoint.judge(asks)       asks ─▶ at most `concurrency` requests at a time ─▶ answers, or an error for an ask; in order
    endpoint.close()

The key is OPENAI_API_KEY; where that is not set it is "none", which a local server does not look at. It goes into the
request's header and nowhere else: every error text is rid of it, and of control characters, whatever the server wrote.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from launch.judging.protocol import Answer, Ask, NotJudged
from launch.monitoring.plain_text import clean
from launch.monitoring.redaction import redacted

if TYPE_CHECKING:  # imported where a client is made: it costs a second that a run without an endpoint need not pay
    from openai import APIConnectionError, APIError, APIStatusError

DOOR_S = 10.0  # a server that has not listed its models by then will not judge either
QUOTED = 300  # characters of the server's own words in an error
NAMED = 10  # models that the error about an unknown one names


SPECIAL = re.compile(r"<\|([^|\n]{1,64})\|>")  # how most tokenizers write their special tokens


class EndpointError(NotJudged):
    """What was asked of which endpoint and model, what came of it in the server's own words, and what to do."""


class _Refused(EndpointError):
    """HTTP 400 or 422: the server understood and will not do it."""


class _Response(Protocol):
    """What is read of openai's raw response."""

    @property
    def content(self) -> bytes: ...
    @property
    def text(self) -> str: ...


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    completion_tokens: Annotated[int, Field(ge=0, le=2**53)] | None = None  # more would not go into a mean


class _Completion(BaseModel):
    """The part of a chat completion that is read; servers differ in the rest."""

    choices: list[_Choice]
    usage: _Usage | None = None


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


Shape = TypeVar("Shape", _Completion, _Models)


class Endpoint:
    """`url` is http://host:port/v1, with or without a slash at its end. `timeout_s` is for one try; the wait between two
    tries is openai's (0.5 s, doubled up to 8 s, or what the server asks for). One caller; not within an event loop."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        concurrency: int = 16,
        timeout_s: float = 180.0,
        tries: int = 5,
        api_key: str | None = None,
    ) -> None:
        if concurrency < 1 or tries < 1 or not timeout_s > 0:
            raise ValueError(f"concurrency {concurrency}, tries {tries}, timeout_s {timeout_s}: each must be above 0")
        self._url, self._model = url.rstrip("/"), model
        self._timeout_s, self._tries = timeout_s, tries
        self._key = (api_key if api_key is not None else os.environ.get("OPENAI_API_KEY", "")).strip()
        self._check_address()
        from openai import AsyncOpenAI

        self._client = AsyncOpenAI(base_url=self._url, api_key=self._key or "none", timeout=timeout_s, max_retries=tries - 1)
        self._gate = asyncio.Semaphore(concurrency)
        self._runner = asyncio.Runner()  # one event loop for all calls: the client's connections belong to it

    def check(self) -> None:
        """EndpointError within DOOR_S, after a single try, unless the endpoint answers and serves the model."""
        self._runner.run(self._check())

    def escape_special_tokens(self, text: str) -> str:
        """Break what looks like a special token of some chat format, visibly: the server's tokenizer is not known here."""
        return SPECIAL.sub(r"<\\|\1|>", text)

    def judge(self, asks: Sequence[Ask]) -> list[tuple[Answer, ...] | NotJudged]:
        """In the order of `asks`, `samples` answers for each, or the error that it ended with after `tries` tries."""
        return self._runner.run(self._judge_all(asks))

    def close(self) -> None:
        """End the connections. The endpoint is of no use afterwards."""
        self._runner.run(self._client.close())
        self._runner.close()

    def _check_address(self) -> None:
        """Refuse what no request could be made of; a header takes printable ASCII, and its own error would quote the key."""
        try:
            parts = urlsplit(self._url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # brackets that do not close, a port that is no number
            sound = False
        if not sound or parts.query or parts.fragment:
            raise self._error("nothing was asked", "this is no address", "give it as http://host:port/v1")
        if not (self._key.isascii() and self._key.isprintable() and " " not in self._key):
            raise self._error("nothing was asked", "the key holds characters that no header takes", "set OPENAI_API_KEY anew")

    async def _check(self) -> None:
        limit_s = min(DOOR_S, self._timeout_s)
        client = self._client.with_options(max_retries=0, timeout=limit_s)
        models = await self._fetch("GET /models", client.models.with_raw_response.list(), _Models, limit_s=limit_s)
        known = sorted(model.id for model in models.data)
        if self._model not in known:
            named = ", ".join([*known[:NAMED], *(["…"] if len(known) > NAMED else [])])
            raise self._error(
                "GET /models",
                f"the server does not know this model, it knows {self._quote(named) or 'none'}",
                "give one of them as --model",
            )

    async def _judge_all(self, asks: Sequence[Ask]) -> list[tuple[Answer, ...] | NotJudged]:
        return await asyncio.gather(*(self._judge(ask) for ask in asks))

    async def _judge(self, ask: Ask) -> tuple[Answer, ...] | EndpointError:
        """All samples by one request; those that a server leaves out, because it heeds no n or refuses it, one by one."""
        try:
            try:
                answers = await self._complete(ask, n=ask.samples, seed=ask.seed)
            except _Refused:
                if ask.samples == 1:
                    raise
                answers = []  # llama.cpp refuses n > 1, vLLM does when greedy; any other reason is met again below
            for i in range(len(answers), ask.samples):
                answers += await self._complete(ask, n=1, seed=ask.seed + i)
        except EndpointError as error:
            return error
        return tuple(answers)

    async def _complete(self, ask: Ask, *, n: int, seed: int) -> list[Answer]:
        """At most n answers, as many as the server gives; for n = 1 exactly one."""
        tried = f"POST /chat/completions (n {n}, seed {seed})"
        async with self._gate:
            request = self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[{"role": "user", "content": ask.message}],
                n=n,
                seed=seed,
                temperature=ask.temperature,
                max_tokens=ask.max_new_tokens,
            )
            completion = await self._fetch(tried, request, _Completion, limit_s=self._tries * self._timeout_s)
        if n == 1 and not completion.choices:
            raise self._error(tried, "the answer holds no choice", "look into the server's log")
        used = completion.usage.completion_tokens if completion.usage else None
        return [
            Answer(
                text=choice.message.content or "",
                tokens=round((used or 0) / len(completion.choices)),
                finish="length" if choice.finish_reason == "length" else "stop",
            )
            for choice in completion.choices[:n]
        ]

    async def _fetch(self, tried: str, request: Awaitable[_Response], shape: type[Shape], *, limit_s: float) -> Shape:
        """The response as `shape`. `limit_s` bounds all tries together, so that a server that trickles cannot hold us."""
        from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

        # `from None`: what is chained would be printed with it, and holds the server's words as they came
        try:
            async with asyncio.timeout(limit_s):
                response = await request
        except (TimeoutError, APITimeoutError):
            raise self._late(tried, limit_s) from None
        except APIStatusError as error:
            raise self._status(tried, error) from None
        except APIConnectionError as error:
            raise self._unreached(tried, error) from None
        except APIError as error:
            raise self._error(f"{tried}, {_tries(error)}", self._quote(error.message), "look into the server's log") from None
        try:
            return shape.model_validate_json(response.content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"])) or "body"
            raise self._error(
                tried,
                f"the answer is not of the OpenAI form, {field}: {first['msg']}: {self._quote(response.text)}",
                "give the address of an OpenAI-compatible server, as http://host:port/v1",
            ) from None

    # ---- errors --------------------------------------------------------------------------------------------------

    def _late(self, tried: str, limit_s: float) -> EndpointError:
        within = f"{min(limit_s, self._timeout_s):g} s a try, {limit_s:g} s in all"
        return self._error(
            tried,
            f"the evaluation waited for the server, which did not answer ({within})",
            "see whether it is overloaded; lower the concurrency or raise timeout_s",
        )

    def _unreached(self, tried: str, error: APIConnectionError) -> EndpointError:
        return self._error(
            f"{tried}, {_tries(error)}",
            f"no connection: {self._quote(str(_innermost(error)))}",
            "start the server, or correct the address",
        )

    def _status(self, tried: str, error: APIStatusError) -> EndpointError:
        body = error.body
        said = body["message"] if isinstance(body, dict) and isinstance(body.get("message"), str) else error.response.text
        status = error.status_code
        return self._error(
            f"{tried}, {_tries(error)}",
            f"HTTP {status}: {self._quote(said) or '(no words)'}",
            self._remedy(status),
            kind=_Refused if status in (400, 422) else EndpointError,
        )

    def _remedy(self, status: int) -> str:
        if status in (401, 403):
            return "set OPENAI_API_KEY to a key that this server accepts"
        if status == 404 and not self._url.endswith("/v1"):
            return f"the address does not end in /v1: try {self._url}/v1"
        if status == 404:
            return "correct the address or the model"
        if status == 429:
            return "lower the concurrency, or wait for the quota"
        if status >= 500:
            return "look into the server's log, then run again"
        return "change what the server objects to (a prompt and its answer must fit the model's context)"

    def _error(self, tried: str, happened: str, remedy: str, *, kind: type[EndpointError] = EndpointError) -> EndpointError:
        return kind(self._safe(f"{self._url}, model {self._model}: {tried}: {happened}; {remedy}"))

    def _quote(self, words: str) -> str:
        """The first of the server's words; made safe before the cut, which could leave half of a key."""
        words = self._safe(words)
        return words if len(words) <= QUOTED else words[:QUOTED] + "…"

    def _safe(self, text: str) -> str:
        """One line without control characters, the key, or a password in a URL."""
        text = clean(text)
        return str(redacted(text.replace(self._key, "***") if self._key else text, {}))


def _innermost(error: BaseException) -> BaseException:
    """What the system said, below the layers that wrapped it."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return error


def _tries(error: APIError) -> str:
    """How often the client asked before it gave up, as its last request says."""
    count = int(error.request.headers.get("x-stainless-retry-count", 0)) + 1
    return f"{count} {'try' if count == 1 else 'tries'}"
