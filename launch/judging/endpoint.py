"""Judge with a model that is served elsewhere, behind an OpenAI-compatible endpoint (vLLM, llama.cpp, a hosted one).

    endpoint = Endpoint("http://host:8000/v1", "my-model")
    endpoint.check()           address, key and model, within CHECK_S
    endpoint.judge(requests)       at most `concurrency` HTTP requests at a time ─▶ answers, or an error for each; in order
    endpoint.close()

    request ─▶ its turn, again where that may help ─▶ fields that the server takes ─▶ exchange ─▶ answers
               (endpoint_tries.py, request_pace.py)   (request_fields.py)             (endpoint_client.py)

The very first request goes alone: what is refused about it is refused once, and a server that does not answer it is not asked
for more. A server that stops answering ends a call of `judge`, too: `EndpointGone`, and no further request of it is sent. The
next call asks again, for an outage may pass.

The key is OPENAI_API_KEY; where that is not set it is "none", which a local server ignores. It goes into the request's header
and nowhere else: it is removed from every error text, and so are control characters, whatever the server wrote. Prompts go to
the address that was given and to no other, and an answer is read up to a bound (`launch/judging/endpoint_http.py`).
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from launch.judging.endpoint_address import texts_of
from launch.judging.endpoint_answers import answers_of
from launch.judging.endpoint_client import EndpointClient, require_served
from launch.judging.endpoint_errors import EndpointError, RequestRefused
from launch.judging.endpoint_tries import Counted, EndpointTries, Spent
from launch.judging.openai_shapes import ChatCompletion
from launch.judging.protocol import Answer, Answered, JudgeRequest, NotJudged
from launch.judging.request_fields import Change, RequestFields
from launch.judging.request_pace import EndpointLimits
from launch.setup.prompt_source import SEEDS

__all__ = ["OWN_FIELDS", "Endpoint", "EndpointError", "EndpointLimits"]

OWN_FIELDS = ("model", "messages", "n", "seed", "temperature", "max_tokens", "max_completion_tokens", "stream")
CHECK_S = 10.0  # a server that has not listed its models by then will not judge either
CHARACTERS_PER_TOKEN = 4  # of a prompt, for tokens_per_minute; the server's own count corrects it
SPECIAL = re.compile(r"<\|([^|\n]{1,64})\|>")  # how most tokenizers write their special tokens


class Endpoint:
    """A `Judge` behind an OpenAI-compatible server. For one caller, outside of any event loop."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        limits: EndpointLimits | None = None,
        api_key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        note: Callable[[Change], None] | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: http://host:port/v1, with or without a slash at its end.
            model: Name of the served model.
            limits: How it may be asked; None: the defaults.
            api_key: None: OPENAI_API_KEY.
            extra_body: More fields of each request, as {"chat_template_kwargs": {"enable_thinking": false}}. None of them is
                sent unasked: servers may refuse a field that they do not know.
            note: Gets what is asked otherwise, as the server refuses it; None: nobody does.

        Raises:
            EndpointError: No request could be made of the address or the key.
        """
        self._model, self._limits = model, limits or EndpointLimits()
        self._extra_body = dict(extra_body or {})
        self._texts = texts_of(url, model, api_key=api_key)
        self._client = EndpointClient(self._texts, timeout_s=self._limits.timeout_s)
        self._fields = RequestFields(note or (lambda change: None))
        self._tries = EndpointTries(self._limits)
        self._runner = asyncio.Runner()  # one event loop for all calls: the client's connections belong to it

    @property
    def spent(self) -> Spent:
        """What was asked so far."""
        return self._tries.spent

    def check(self) -> None:
        """Raises EndpointError within CHECK_S, after a single try, where the server cannot be asked, or lists other models.

        A server that lists none at all may judge none the less; the first request will tell.
        """
        self._runner.run(self._check())

    def escape_special_tokens(self, text: str) -> str:
        """Returns the text in which whatever looks like a special token of some chat format is broken, visibly: the server's
        tokenizer is not known here."""
        return without_special_tokens(text)

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Answered]:
        """Returns `samples` answers for each request, in their order; an error stands for each that is missing, or for all.

        What an earlier call ended with is no reason not to ask.
        """
        self._tries.begin()
        return self._runner.run(self._judge_all(requests))

    def close(self) -> None:
        """End the connections; the endpoint cannot be used afterwards."""
        self._runner.run(self._client.close())
        self._runner.close()

    async def _check(self) -> None:
        await require_served(self._client, self._texts, self._model, limit_s=min(CHECK_S, self._limits.timeout_s))

    # ---- samples ---------------------------------------------------------------------------------------------------

    async def _judge_all(self, requests: Sequence[JudgeRequest]) -> list[Answered]:
        return await asyncio.gather(*(self._judge(request) for request in requests))

    async def _judge(self, request: JudgeRequest) -> Answered:
        """Ask for all samples in one request, then one by one for the missing ones: a server may ignore or refuse n."""
        answers: list[Answer | NotJudged] = []
        try:
            answers += await self._complete(request, n=request.samples, seed=request.seed)
        except RequestRefused as error:
            return error
        except EndpointError as error:
            if request.samples == 1 or self._tries.gone:
                return error
            answers.append(error)
        left = range(len(answers), request.samples)
        answers += await asyncio.gather(*(self._one(request, i) for i in left))
        return tuple(answers) if any(isinstance(each, Answer) for each in answers) else _first_error(answers)

    async def _one(self, request: JudgeRequest, place: int) -> Answer | NotJudged:
        try:
            (answer,) = await self._complete(request, n=1, seed=(request.seed + place) % SEEDS)
        except EndpointError as error:
            return error
        return answer

    async def _complete(self, request: JudgeRequest, *, n: int, seed: int) -> list[Answer]:
        """Returns at most n answers, as many as the server gives, and one at least."""
        async with self._tries.turn():
            return await self._several(request, n=n, seed=seed)

    async def _several(self, request: JudgeRequest, *, n: int, seed: int) -> list[Answer]:
        """Ask for n answers, or for one where the server gives one at a time: llama.cpp refuses n > 1, others ignore it."""
        answers: list[Answer] = []
        if n > 1 and not self._fields.single:
            with suppress(RequestRefused):  # for whatever reason: a single one meets any other, too
                answers = await self._tried(request, n=n, seed=seed)
            if len(answers) > 1:
                return answers
        answers = answers or await self._tried(request, n=1, seed=seed)
        if n > 1:
            self._fields.one_at_a_time()
        return answers

    async def _tried(self, request: JudgeRequest, *, n: int, seed: int) -> list[Answer]:
        """Returns the answers to a request, tried again where that may help."""
        tried, wanted = f"POST /chat/completions (n {n}, seed {seed})", self._wanted(request, n=n, seed=seed)
        sent: dict[str, Any] = {}

        async def send(counted: str) -> tuple[ChatCompletion, Counted]:
            nonlocal sent
            sent = self._fields.fitted(wanted)
            completion = await self._client.complete(counted, sent)
            usage = completion.usage
            return completion, (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else None

        def read(completion: ChatCompletion) -> list[Answer]:
            return answers_of(self._texts, tried, completion, n=n, alternatives=bool(request.alternatives))

        expected = len(request.message) // CHARACTERS_PER_TOKEN + n * request.max_new_tokens
        return await self._tries.tried(tried, expected, send, read, lambda words: self._fields.adapt(words, sent))

    def _wanted(self, request: JudgeRequest, *, n: int, seed: int) -> dict[str, Any]:
        """Returns the fields of a request; those that the caller adds come last."""
        told = {"logprobs": True, "top_logprobs": request.alternatives} if request.alternatives else {}
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": request.message}],
            "n": n,
            "seed": seed,
            "temperature": request.temperature,
            "max_tokens": request.max_new_tokens,
            **told,
            **self._extra_body,
        }


def without_special_tokens(text: str) -> str:
    """Returns the text in which whatever looks like a special token of some chat format is broken, visibly."""
    return SPECIAL.sub(r"<\\|\1|>", text)


def _first_error(answers: Sequence[Answer | NotJudged]) -> NotJudged:
    return next(each for each in answers if isinstance(each, NotJudged))
