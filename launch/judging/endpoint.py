"""Judge with a model that is served elsewhere, behind an OpenAI-compatible endpoint (vLLM, llama.cpp, a hosted one).

    endpoint = Endpoint("http://host:8000/v1", "my-model")
    endpoint.check()           address, key and model, within CHECK_S
    endpoint.judge(requests)       at most `concurrency` HTTP requests at a time ─▶ answers, or an error for a request; in order
    endpoint.close()

The key is OPENAI_API_KEY; where that is not set it is "none", which a local server ignores. It goes into the request's header
and nowhere else: it is removed from every error text, and so are control characters, whatever the server wrote. Prompts go to
the address that was given and to no other, and an answer is read up to a bound (`launch/judging/endpoint_http.py`).
"""

from __future__ import annotations  # openai is imported late: annotations name its classes

import asyncio
import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from launch.judging.openai_shapes import ChatCompletion, ModelList, RawResponse
from launch.judging.protocol import Answer, JudgeRequest, NotJudged
from launch.monitoring.plain_text import clean
from launch.setup.environment import variable
from launch.setup.prompt_source import SEEDS

if TYPE_CHECKING:  # imported where a client is made: it costs a second that a run without an endpoint need not pay
    from openai import APIConnectionError, APIError, APIStatusError

OWN_FIELDS = ("model", "messages", "n", "seed", "temperature", "max_tokens", "max_completion_tokens", "stream")
CHECK_S = 10.0  # a server that has not listed its models by then will not judge either
QUOTED = 300  # characters of the server's own text in an error
NAMED = 10  # models listed in the error about an unknown one
SPECIAL = re.compile(r"<\|([^|\n]{1,64})\|>")  # how most tokenizers write their special tokens


class EndpointError(NotJudged):
    """The message names endpoint, model and request, quotes the server, and says what to do."""


class _Refused(EndpointError):
    """HTTP 400 or 422: the server understood the request and refuses it."""


Shape = TypeVar("Shape", ChatCompletion, ModelList)


class Endpoint:
    """A `Judge` behind an OpenAI-compatible server. For one caller, outside of any event loop."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        concurrency: int = 16,
        timeout_s: float = 180.0,
        tries: int = 5,
        api_key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: http://host:port/v1, with or without a slash at its end.
            model: Name of the served model.
            concurrency: Requests at a time.
            timeout_s: For one try. The wait between two tries is openai's (0.5 s, doubled up to 8 s, or what the server sets).
            tries: For one request.
            api_key: None: OPENAI_API_KEY.
            extra_body: More fields of each request, as {"chat_template_kwargs": {"enable_thinking": false}}. None of them is
                sent unasked: servers may refuse a field that they do not know.

        Raises:
            ValueError: A number is not above 0.
            EndpointError: No request could be made of the address or the key.
        """
        if concurrency < 1 or tries < 1 or not timeout_s > 0:
            raise ValueError(f"concurrency {concurrency}, tries {tries}, timeout_s {timeout_s}: each must be above 0")
        self._url, self._model = url.rstrip("/"), model
        self._timeout_s, self._tries, self._extra_body = timeout_s, tries, dict(extra_body or {}) or None
        self._key = (api_key if api_key is not None else variable("OPENAI_API_KEY")).strip()
        self._check_address()
        from openai import AsyncOpenAI

        from launch.judging.endpoint_http import http_client

        self._client = AsyncOpenAI(
            base_url=self._url,
            api_key=self._key or "none",
            timeout=timeout_s,
            max_retries=tries - 1,
            http_client=http_client(),
        )
        self._gate = asyncio.Semaphore(concurrency)
        self._runner = asyncio.Runner()  # one event loop for all calls: the client's connections belong to it

    def check(self) -> None:
        """Raises EndpointError within CHECK_S, after a single try, unless the endpoint answers and serves the model."""
        self._runner.run(self._check())

    def escape_special_tokens(self, text: str) -> str:
        """Returns the text in which whatever looks like a special token of some chat format is broken, visibly: the server's
        tokenizer is not known here."""
        return SPECIAL.sub(r"<\\|\1|>", text)

    def judge(self, requests: Sequence[JudgeRequest]) -> list[tuple[Answer, ...] | NotJudged]:
        """Returns `samples` answers for each request, in their order, or the error that it ended with after `tries` tries."""
        return self._runner.run(self._judge_all(requests))

    def close(self) -> None:
        """End the connections; the endpoint cannot be used afterwards."""
        self._runner.run(self._client.close())
        self._runner.close()

    def _check_address(self) -> None:
        """Refuse an address or a key that no request can be made of. (A header takes printable ASCII; its own error would quote
        the key.)"""
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
        limit_s = min(CHECK_S, self._timeout_s)
        client = self._client.with_options(max_retries=0, timeout=limit_s)
        models = await self._fetch("GET /models", client.models.with_raw_response.list(), ModelList, limit_s=limit_s)
        known = sorted(model.id for model in models.data)
        if self._model not in known:
            named = ", ".join([*known[:NAMED], *(["…"] if len(known) > NAMED else [])])
            raise self._error(
                "GET /models",
                f"the server does not serve this model, it serves {self._quote(named) or 'none'}",
                "name one of them",
            )

    async def _judge_all(self, requests: Sequence[JudgeRequest]) -> list[tuple[Answer, ...] | NotJudged]:
        return await asyncio.gather(*(self._judge(request) for request in requests))

    async def _judge(self, request: JudgeRequest) -> tuple[Answer, ...] | EndpointError:
        """Ask for all samples in one request, then one by one for the missing ones: a server may ignore n."""
        try:
            try:
                answers = await self._complete(request, n=request.samples, seed=request.seed)
            except _Refused:
                if request.samples == 1:
                    raise
                answers = []  # llama.cpp refuses n > 1, vLLM does when greedy; any other reason is met again below
            for i in range(len(answers), request.samples):
                answers += await self._complete(request, n=1, seed=(request.seed + i) % SEEDS)
        except EndpointError as error:
            return error
        return tuple(answers)

    async def _complete(self, request: JudgeRequest, *, n: int, seed: int) -> list[Answer]:
        """Returns at most n answers, as many as the server gives; for n = 1 exactly one."""
        tried = f"POST /chat/completions (n {n}, seed {seed})"
        told: dict[str, Any] = {"logprobs": True, "top_logprobs": request.alternatives} if request.alternatives else {}
        async with self._gate:
            sent = self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[{"role": "user", "content": request.message}],
                n=n,
                seed=seed,
                temperature=request.temperature,
                max_tokens=request.max_new_tokens,
                **told,
                extra_body=self._extra_body,
            )
            completion = await self._fetch(tried, sent, ChatCompletion, limit_s=self._tries * self._timeout_s)
        if n == 1 and not completion.choices:
            raise self._error(tried, "the answer holds no choice", "look into the server's log")
        if request.alternatives and not all(choice.token_choices() for choice in completion.choices[:n]):
            remedy = "judge with our own engines, or set eval.expected_scores=false"
            raise self._error(tried, "the answer holds no log-probs of its tokens, which expected scores are made of", remedy)
        used = completion.usage.completion_tokens if completion.usage else None
        return [
            Answer(
                text=choice.message.content or "",
                tokens=round((used or 0) / len(completion.choices)),
                finish="length" if choice.finish_reason == "length" else "stop",
                choices=choice.token_choices() if request.alternatives else (),
            )
            for choice in completion.choices[:n]
        ]

    async def _fetch(self, tried: str, request: Awaitable[RawResponse], shape: type[Shape], *, limit_s: float) -> Shape:
        """Returns the response as `shape`. `limit_s` bounds all tries together, also where a server trickles."""
        from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

        from launch.judging.endpoint_http import ResponseRefused

        # `from None`: a chained error would be printed too, and holds the server's text unredacted
        try:
            async with asyncio.timeout(limit_s):
                response = await request
        except (TimeoutError, APITimeoutError):
            raise self._late(tried, limit_s) from None
        except ResponseRefused as refused:
            raise self._error(tried, self._quote(refused.problem), refused.remedy) from None
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
            f"the server did not answer in time ({within})",
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
        text = body["message"] if isinstance(body, dict) and isinstance(body.get("message"), str) else error.response.text
        status = error.status_code
        return self._error(
            f"{tried}, {_tries(error)}",
            f"HTTP {status}: {self._quote(text) or '(no text)'}",
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
        """Returns the beginning of the server's text; made safe before the cut, which could leave half of a key."""
        words = self._safe(words)
        return words if len(words) <= QUOTED else words[:QUOTED] + "…"

    def _safe(self, text: str) -> str:
        """Returns one line without control characters, secrets of the environment, a password in a URL, or the key."""
        text = clean(text)
        return text.replace(self._key, "***") if self._key else text


def _innermost(error: BaseException) -> BaseException:
    """Returns the system's own error, below the layers that wrapped it."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return error


def _tries(error: APIError) -> str:
    """Returns how often the client tried before it gave up, from its last request."""
    count = int(error.request.headers.get("x-stainless-retry-count", 0)) + 1
    return f"{count} {'try' if count == 1 else 'tries'}"
