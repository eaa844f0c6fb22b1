"""The judge as a plain model, for callers that bring their own prompt: verifiers, SkyRL, ROLL, OpenEnv.

    POST /v1/chat/completions {model, messages, n?, temperature?, max_tokens?, seed?} ─▶ choices
    GET  /v1/models ─▶ the judge, and how its probabilities are made

No template of ours stands around the messages, and no vote is counted. A field that would change the answer and that is not
supported is refused: an answer that ignores it would be another one than was asked for.
"""

import time
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from grm.preferences import clean, conversation
from launch.serving.errors import BadRequest, ModelUnknown
from launch.serving.protocol import ChatAnswer, ChatRequest, JudgeService
from launch.serving.wire_route import PAUSE_S, OpenAIRoute, held, turns

IGNORED = ("user", "metadata", "safety_identifier", "store", "prompt_cache_key", "service_tier", "stream_options")
HOW = (
    "Probabilities are shares of the votes of k sampled judgements, not masses of a next token: steps of 1/k. "
    "Scores are 1..10; the tokens of critiques are counted as reasoning tokens."
)


class Completion(BaseModel):
    """A chat completion's request."""

    model_config = ConfigDict(extra="allow")

    model: str
    """Name of the judge, as in `/v1/models`."""
    messages: list[dict[str, Any]] = Field(min_length=1)
    """The conversation."""
    n: int = Field(default=1, ge=1)
    """Answers."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Of the sampling; 1 where it is not given."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens of an answer at most."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The same; counts more."""
    seed: int | None = None
    """Of the sampling."""
    top_p: float | None = None
    """1 alone."""
    stream: Literal[False] | None = None
    """Answers come whole."""


class ChatRoute(OpenAIRoute):
    """A route with the names of chat completions."""

    names: ClassVar[Mapping[str, str]] = {"samples": "n", "message": "messages"}


def chat(service: JudgeService, *, pause_s: float = PAUSE_S) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(route_class=ChatRoute, tags=["OpenAI"])

    @router.post("/v1/chat/completions")
    async def complete(request: Request, asked: Completion) -> dict[str, Any]:
        """Answers as a plain model."""
        check_model(asked.model, service)
        chat_request = request_of(asked, request.state.tenant)
        answer = await held(service.chat, chat_request, service.served().deadline_s, pause_s=pause_s)
        return completion_of(answer, asked.model, identity=uuid.uuid4().hex, now=int(time.time()))

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Names the judge."""
        served = service.served()
        described = {
            "votes": served.votes,
            "meta_rm": served.meta,
            "probabilities": HOW,
            "policy_version": served.policy_version,
        }
        return {
            "object": "list",
            "data": [{"id": served.model, "object": "model", "created": 0, "owned_by": "spct", **described}],
        }

    return router


def check_model(name: str, service: JudgeService) -> None:
    """ModelUnknown where a request names another model than the served one."""
    served = service.served().model
    if name != served:
        raise ModelUnknown(f"model: there is no model of that name here; this server has {served!r}", field="model")


def request_of(asked: Completion, tenant: str) -> ChatRequest:
    """Returns what the judge is asked.

    Raises:
        BadRequest: A field that is not supported and would change the answer; content that is no text.
    """
    unsupported = [name for name, value in (asked.model_extra or {}).items() if name not in IGNORED and not _idle(value)]
    if asked.top_p not in (None, 1.0):
        unsupported.append("top_p")
    if unsupported:
        field = clean(sorted(unsupported)[0][:100])
        raise BadRequest(f"{field}: this server does not support it; leave it out, or ask the model's own server", field=field)
    return ChatRequest(
        tenant=tenant,
        message=conversation(turns(asked.messages, "messages")),
        samples=asked.n,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        seed=asked.seed,
    )


def _idle(value: Any) -> bool:
    """Returns whether a field says what is so without it: `logprobs: false`, `stop: null`, `frequency_penalty: 0`."""
    return value in (None, False, 0, [], {}) or value == {"type": "text"}


def completion_of(answer: ChatAnswer, model: str, *, identity: str, now: int) -> dict[str, Any]:
    """Returns a chat completion. `identity` is any text, `now` is in seconds."""
    written = sum(each.tokens for each in answer.answers)
    return {
        "id": f"chatcmpl-{identity}",
        "object": "chat.completion",
        "created": now,
        "model": model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": each.text},
                "finish_reason": each.finish,
                "logprobs": None,
            }
            for index, each in enumerate(answer.answers)
        ],
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": answer.prompt_tokens + written,
        },
    }
