"""What the routes of all interfaces share: errors in a caller's shape, refusals that are held back, and text in parts.

body ─▶ a model of pydantic ─▶ route ─▶ held(service, until the server's deadline) ─▶ an answer
        └─ BadRequest           └─▶ ServingError ─▶ its status and {"error": {...}}
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from grm.preferences import clean
from launch.serving.door import error_body
from launch.serving.errors import BadRequest, ServingError, TooMany, Unjudged
from launch.serving.protocol import ChatRequest, CohortMember, VerdictRequest
from launch.serving.refusals import OpenAIRefusal, Refusal, described, refused, renamed

R = TypeVar("R", VerdictRequest, CohortMember, ChatRequest)
T = TypeVar("T")
TEXT_PARTS = ("text", "input_text", "output_text")
PAUSE_S = 0.5  # before the core is asked again; twice as long each time, up to MOST_PAUSE_S
MOST_PAUSE_S = 5.0
GRACE_S = 5.0


class WireRoute(APIRoute):
    """A route whose errors say what was wrong, without the caller's text."""

    bad_request = BadRequest.status
    """Status of what makes no sense, where a protocol has one of its own."""
    refusal_model: type[BaseModel] = Refusal
    """Body of a refusal."""
    names: ClassVar[Mapping[str, str]] = {}
    """What callers write for fields of the core that have another name there."""

    def __init__(self, *args: Any, responses: Mapping[int | str, Any] | None = None, **more: Any) -> None:
        """Takes what `APIRoute` takes, and describes how it refuses."""
        super().__init__(*args, responses={**described(self.bad_request, self.refusal_model), **(responses or {})}, **more)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                return self.refusal(refused(error.errors(), self._body_model()))
            except HTTPException:  # the one that FastAPI raises here: bytes that are no text
                return self.refusal(BadRequest("body: it is no JSON"))
            except ServingError as error:
                return self.refusal(renamed(error, self.names))
            except asyncio.CancelledError:  # the server stops, and would answer 500; nobody listens where a caller has gone
                return self.refusal(Unjudged("the server stops; ask again", final=False))

        return handle

    def refusal(self, error: ServingError) -> Response:
        """Returns the answer to a request without one."""
        status = self.bad_request if isinstance(error, BadRequest) else error.status
        return JSONResponse(self.error_body(error), status)

    def error_body(self, error: ServingError) -> dict[str, Any]:
        """Returns the body of a refusal."""
        return error_body(error)

    def _body_model(self) -> Any:
        return self.body_field.field_info.annotation if self.body_field is not None else None


class OpenAIRoute(WireRoute):
    """A route whose errors are those of OpenAI's interfaces."""

    bad_request = 400
    refusal_model = OpenAIRefusal

    def error_body(self, error: ServingError) -> dict[str, Any]:
        """Returns OpenAI's error object."""
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return {"error": {"message": error.message, "type": kind, "param": error.field or None, "code": type(error).__name__}}


async def held(
    ask: Callable[[R], Awaitable[T]], request: R, limit_s: float, *, pause_s: float = PAUSE_S, grace_s: float = GRACE_S
) -> T:
    """Returns what the core answers to a request, asking again where it says "not now", until `limit_s` has passed.

    Callers spend their few tries in seconds when they are refused at once, and train without a reward then. What the core is
    asked again costs no new votes: it knows the request.

    Args:
        ask: A method of the core.
        request: What it is asked.
        limit_s: How long it may take, in seconds.
        pause_s: Before it is asked again, in seconds; twice as long each time, up to `MOST_PAUSE_S`.
        grace_s: Beyond the limit, for an answer from the votes that are there; then nothing is waited for.

    Raises:
        ServingError: At once what asking again does not help; else the last one, at the limit.
    """
    ends = time.monotonic() + limit_s
    try:
        async with asyncio.timeout(limit_s + grace_s):
            while True:
                try:
                    return await ask(request)
                except (TooMany, Unjudged) as error:
                    if time.monotonic() >= ends or (isinstance(error, Unjudged) and error.final):
                        raise
                await asyncio.sleep(min(pause_s, ends - time.monotonic()))
                pause_s = min(2 * pause_s, max(MOST_PAUSE_S, pause_s))
                request = replace(request, deadline_s=max(ends - time.monotonic(), grace_s / 2))
    except TimeoutError:
        raise Unjudged(f"the core gave no answer within {limit_s + grace_s:.0f} s", final=False) from None


def content_text(content: Any, field: str) -> str:
    """Returns a message's content as text: one, or the texts of its parts.

    Raises:
        BadRequest: A part is no text, as an image.
    """
    if isinstance(content, str):
        return clean(content)
    if not isinstance(content, list):
        raise BadRequest(f"{field}: give a text, or a list of parts", field=field)
    for each in content:
        if not isinstance(each, dict) or each.get("type") not in TEXT_PARTS or not isinstance(each.get("text"), str):
            raise BadRequest(f"{field}: a part that is no text; a judge reads text", field=field)
    return clean("".join(each["text"] for each in content))


def turns(messages: Sequence[Mapping[str, Any]], field: str) -> list[tuple[str, str]]:
    """Returns messages as (role, content). BadRequest where one has no role, or content that is no text."""
    found = []
    for number, each in enumerate(messages):
        role = each.get("role")
        if not isinstance(role, str):
            raise BadRequest(f"{field}.{number}.role: give a text", field=f"{field}.{number}.role")
        found.append((role, content_text(each.get("content"), f"{field}.{number}.content")))
    return found


def echoed(body: Any) -> Response:
    """Returns an answer that holds what a caller sent, to the last character.

    Raises:
        BadRequest: A number in it is not finite, which JSON cannot say.
    """
    try:
        text = json.dumps(body, allow_nan=False)  # ASCII, so that half of a surrogate pair comes back as it came
    except (ValueError, RecursionError):
        raise BadRequest("body: a number that is not finite, or lists that are nested too deeply") from None
    return Response(text, media_type="application/json")
