"""The HTTP app of one worker: the door, the interfaces, and what operators ask.

Door ─▶ /v1/judge and the interfaces      ─▶ JudgeService
        /healthz /readyz /metrics / /docs
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Security
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from launch.serving import metrics
from launch.serving.door import Door, Keys, error_body
from launch.serving.errors import ServingError, Unjudged
from launch.serving.protocol import Interface, JudgeService
from launch.serving.refusals import Refusal, without_others
from launch.serving.settings import ServerSettings

Ready = Callable[[], Awaitable[None]]
Ages = Callable[[], Awaitable[Sequence[float]]]
Others = Callable[[], Awaitable[Mapping[str, str]]]
READY_S = 5.0  # in which a server that could judge says so


def make_app(
    service: JudgeService,
    interfaces: Sequence[Interface],
    *,
    settings: ServerSettings,
    keys: Keys,
    ready: Ready,
    ages: Ages,
    others: Others,
) -> Door:
    """Returns the app.

    Args:
        service: Judges.
        interfaces: Whose routes it has.
        settings: As the server was started.
        keys: Who may ask.
        ready: Raises a `ServingError` where it could not judge now.
        ages: Seconds that each cohort without a verdict is old, the oldest first.
        others: What each other node of the server counted, by its name.
    """
    key = Security(HTTPBearer(auto_error=False, description="A key of the server's file of keys, where it has one."))
    app = _App(title="SPCT reward server", description="Judges responses, for trainers, evaluators and people.", version="1")
    app.add_exception_handler(ServingError, _refused)
    app.add_exception_handler(HTTPException, _not_served)
    app.add_exception_handler(Exception, _failed)
    for interface in interfaces:
        app.include_router(interface(service), dependencies=[key])
    app.include_router(_operation(service, key, ready=ready, ages=ages, others=others))
    return Door(app, settings=settings, keys=keys)


def _operation(service: JudgeService, key: Any, *, ready: Ready, ages: Ages, others: Others) -> APIRouter:
    """Returns what operators ask, and the page. Arguments as of `make_app`; `key` is what a route that needs one depends on."""
    router = APIRouter()
    unready: Any = {503: {"description": "It could not judge now", "model": Refusal}}
    keyed: Any = {401: {"description": "No key, or none that is known", "model": Refusal}}

    @router.get("/healthz", tags=["operation"], summary="Whether this process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", tags=["operation"], summary="Whether it could judge now", responses=unready)
    async def readyz() -> dict[str, str]:
        try:
            async with asyncio.timeout(READY_S):
                await ready()
        except TimeoutError:
            raise Unjudged(f"the store of verdicts does not answer within {READY_S:.0f} s", final=False) from None
        return {"status": "ok"}

    @router.get(
        "/metrics",
        tags=["operation"],
        summary="For Prometheus",
        response_class=PlainTextResponse,
        responses=keyed | unready,
        dependencies=[key],
    )
    async def exposed() -> Response:
        old = await ages()
        text = metrics.exposition(open_cohorts=len(old), oldest_s=max(old, default=0.0), others=await others())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @router.get("/v1/served", tags=["operation"], summary="What is served", responses=keyed, dependencies=[key])
    async def served() -> dict[str, Any]:
        return asdict(service.served())

    @router.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(files("launch.serving").joinpath("page.html").read_text(encoding="utf-8"))

    return router


class _App(FastAPI):
    """Its description names the refusals that there are."""

    def openapi(self) -> dict[str, Any]:
        return without_others(super().openapi())


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    return JSONResponse(error_body(error), status_code=error.status)


async def _not_served(request: Request, error: Exception) -> Response:
    """Says in our words that there is no such route, or that it takes another method."""
    assert isinstance(error, HTTPException)
    what = {404: "there is no such route; /docs has them all", 405: "this route takes another method"}
    body = {"type": "not_found", "message": what.get(error.status_code, error.detail), "field": None}
    return JSONResponse({"error": body}, status_code=error.status_code, headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    message = f"an error of the server's own; its log has it as request {request.state.request_id}"
    return JSONResponse({"error": {"type": "internal", "message": message, "field": None}}, status_code=500)
