"""A scalar reward model behind a server, asked as vLLM is: `/classify`, or `/pooling` where there is no such path.

    model = ScalarEndpoint("http://host:8000/v1", "my-reward-model")
    model.check()        address, key, name, and that it gives one number to a known chat, which tells it from another one
    model.score(chats)   a request for each, `concurrency` at a time ─▶ scores, or an error for each; in order
    model.close()

The server writes the chat with the model's own template. The paths are the server's, beside its /v1. What is tried again,
paced and given up is as with a judge (`endpoint_tries.py`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch.judging.endpoint import CHARACTERS_PER_TOKEN, CHECK_S, without_special_tokens
from launch.judging.endpoint_address import texts_of
from launch.judging.endpoint_client import EndpointClient, require_served
from launch.judging.endpoint_errors import EndpointError, EndpointGone
from launch.judging.endpoint_tries import Counted, EndpointTries, Spent
from launch.judging.protocol import NotJudged
from launch.judging.request_fields import Change, RequestFields
from launch.judging.request_pace import EndpointLimits
from launch.judging.scalar_scores import Chat, Score
from launch.judging.scalar_shapes import ScoreList

PATHS = ("/classify", "/pooling")
NO_PATH = (404, 405, 501)  # statuses of a path that a server does not have
KNOWN: Chat = ("Is it so?", "It is.")


class ScalarEndpoint:
    """A `ScalarModel` behind a server. For one caller, outside of any event loop."""

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
        """Connects to nothing yet. Arguments and errors as of `Endpoint`."""
        self._model, self._limits = model, limits or EndpointLimits()
        self._extra_body = dict(extra_body or {})
        self._texts = texts_of(url, model, api_key=api_key)
        self._client = EndpointClient(self._texts, timeout_s=self._limits.timeout_s)
        self._fields = RequestFields(note or (lambda change: None))
        self._tries = EndpointTries(self._limits)
        self._path = PATHS[0]
        self._runner = asyncio.Runner()  # one event loop for all calls: the client's connections belong to it

    @property
    def spent(self) -> Spent:
        """What was asked so far."""
        return self._tries.spent

    def check(self) -> Score:
        """Find the path. Returns the score of `KNOWN`, which is the same as long as the model is.

        Raises:
            EndpointError: The server has no path, lists other models, or gives several numbers.
        """
        return self._runner.run(self._check())

    def score(self, chats: Sequence[Chat]) -> list[Score | NotJudged]:
        """Returns a score for each chat, or why there is none."""
        self._tries.begin()
        return self._runner.run(self._score_all(chats))

    def close(self) -> None:
        """End the connections; the endpoint cannot be used afterwards."""
        self._runner.run(self._client.close())
        self._runner.close()

    async def _check(self) -> Score:
        await require_served(self._client, self._texts, self._model, limit_s=min(CHECK_S, self._limits.timeout_s))
        for path in PATHS:
            self._path = path
            try:
                return await self._tried(KNOWN)
            except EndpointGone as error:
                if error.status not in NO_PATH:
                    raise
                self._tries.begin()
        remedy = "serve a sequence classifier with one label, as by `vllm serve MODEL --runner pooling`"
        raise self._texts.error(f"POST {' and '.join(PATHS)}", "the server has no such path", remedy)

    async def _score_all(self, chats: Sequence[Chat]) -> list[Score | NotJudged]:
        return await asyncio.gather(*(self._score(chat) for chat in chats))

    async def _score(self, chat: Chat) -> Score | NotJudged:
        try:
            async with self._tries.turn():
                return await self._tried(chat)
        except EndpointError as error:
            return error

    async def _tried(self, chat: Chat) -> Score:
        tried, sent = f"POST {self._path}", dict[str, Any]()

        async def send(counted: str) -> tuple[ScoreList, Counted]:
            nonlocal sent
            sent = self._fields.fitted(self._wanted(chat))
            scores = await self._client.scores(counted, self._path, sent)
            return scores, None if scores.usage is None else (scores.usage.prompt_tokens or 0, 0)

        def read(scores: ScoreList) -> Score:
            numbers = scores.data[0].numbers
            if len(numbers) != 1:
                happened = f"the model gives {len(numbers)} numbers to a chat"
                raise self._texts.error(tried, happened, "serve a scalar reward model: a sequence classifier with one label")
            return Score(value=numbers[0], tokens=(scores.usage.prompt_tokens or 0) if scores.usage else 0)

        expected = sum(map(len, chat)) // CHARACTERS_PER_TOKEN
        return await self._tries.tried(tried, expected, send, read, lambda words: self._fields.adapt(words, sent))

    def _wanted(self, chat: Chat) -> dict[str, Any]:
        """Returns the fields of a request. The logit is asked for: a share of 0..1 rounds far from 1/2, and makes ties."""
        roles = ("user", "assistant") * (len(chat) // 2)
        messages = [{"role": role, "content": without_special_tokens(text)} for role, text in zip(roles, chat, strict=True)]
        return {"model": self._model, "messages": messages, "use_activation": False, **self._extra_body}
