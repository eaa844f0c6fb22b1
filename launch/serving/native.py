"""The server's own interface: POST /v1/judge, with all that a verdict says.

curl 127.0.0.1:8000/v1/judge --json '{"query": "Is the sky blue?", "responses": ["Yes, by day.", "No."]}'
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from launch.serving.errors import BadRequest
from launch.serving.protocol import JudgeService, Served, Verdict, VerdictRequest, query_text
from launch.serving.shares import calibration_of
from launch.serving.wire_route import WireRoute


class Message(BaseModel):
    """A turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: str
    content: str


class JudgeBody(BaseModel):
    """What is judged, and how."""

    model_config = ConfigDict(extra="forbid")

    query: str | None = Field(None, description="What the responses answer; or give messages.")
    messages: list[Message] | None = Field(None, description="The conversation that the responses answer.")
    responses: Annotated[list[str], Field(min_length=1, description="One or more, judged beside each other.")]
    k: int | None = Field(None, description="Judgements that vote; the server's own number where it is left out.")
    meta: bool | None = Field(None, description="Let the meta-RM choose the better half of the judgements.")
    criteria: list[str] = Field([], description="Principles to judge by.")
    reference: str = Field("", description="A right answer that the judge is shown.")
    deadline_s: float | None = Field(None, description="Answer within so many seconds, from the votes that are there by then.")
    id: str = Field("", description="What orders and sampling depend on; the question itself where it is left out.")
    idempotency_key: str = Field("", description="Another content under the same key is refused.")


class OneJudgement(BaseModel):
    """One judgement."""

    scores: list[float] | None = Field(description="Of each response, 1..10; null where it could not be read.")
    principles: str
    critique: str = Field(description="It numbers the responses from 1 in `order`.")
    order: list[int] = Field(description="order[shown place] = index of the response.")
    failure: str = Field(description='Why it could not be read; "" where it was.')
    meta: float | None = Field(description="The meta-RM's probability, 0..1, that it is right.")
    voted: bool
    tokens: int
    version: int


class OneResponse(BaseModel):
    """One response."""

    score: float = Field(description="Mean score 1..10 over the judgements that voted.")
    total: float = Field(description="Their sum.")
    share: float = Field(description="Share of the votes, 0..1, in which it is the best.")
    votes: list[float] = Field(description="Its score in each judgement that voted.")


class Votes(BaseModel):
    """How the votes went."""

    asked: int
    cast: int
    unparsable: int
    cut: int = Field(description="Cut off by the deadline.")


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int


class Measured(BaseModel):
    """How far the shares are probabilities, as `launch/evaluate.py` measured it of this judge."""

    votes: int
    brier: float = Field(description="Brier score, 0 (sure and right) to 1 (sure and wrong).")
    brier_interval: tuple[float, float]
    ece: float = Field(description="Expected calibration error, 0..1.")
    ece_interval: tuple[float, float]
    preferences: int = Field(description="Labelled preferences behind it.")
    data: list[str]
    policy_version: int = Field(description="Of the weights that were measured.")


class JudgeAnswer(BaseModel):
    """A verdict. What nobody judged has none: that is an error, never a number."""

    request_hash: str
    model: str
    policy_version: int
    responses: list[OneResponse]
    judgements: list[OneJudgement]
    votes: Votes
    usage: Usage
    calibration: Measured | None = Field(description="Of the shares; null where nobody measured such shares.")


class NativeRoute(WireRoute):
    """A route with the server's own names."""

    names: ClassVar[Mapping[str, str]] = {"votes": "k"}


def native(service: JudgeService) -> APIRouter:
    """Returns the routes of the server's own interface."""
    routes = APIRouter(route_class=NativeRoute, tags=["judge"])

    @routes.post("/v1/judge", summary="Judge responses beside each other")
    async def judge(body: JudgeBody, request: Request) -> JudgeAnswer:
        asked = VerdictRequest(
            tenant=request.state.tenant,
            query=_query(body),
            responses=tuple(body.responses),
            votes=body.k,
            meta=body.meta,
            criteria=tuple(body.criteria),
            reference=body.reference,
            deadline_s=body.deadline_s,
            id=body.id,
            idempotency_key=body.idempotency_key,
        )
        return answer_of(await service.judge(asked), service.served())

    return routes


def answer_of(verdict: Verdict, served: Served) -> JudgeAnswer:
    """Returns a verdict as it is sent."""
    known = calibration_of(verdict, served.calibration)
    rows: list[dict[str, Any]] = [asdict(each) for each in verdict.judgements]
    for row in rows:
        del row["text"]
    columns = list(zip(*verdict.vote_scores, strict=True))
    numbers = zip(verdict.scores, verdict.totals, verdict.shares, columns, strict=True)
    return JudgeAnswer(
        request_hash=verdict.request_hash,
        model=served.model,
        policy_version=verdict.policy_version,
        responses=[OneResponse(score=s, total=t, share=share, votes=list(v)) for s, t, share, v in numbers],
        judgements=[OneJudgement(**row) for row in rows],
        votes=Votes(asked=verdict.asked, cast=verdict.cast, unparsable=verdict.unparsable, cut=verdict.cut),
        usage=Usage(prompt_tokens=verdict.prompt_tokens, completion_tokens=verdict.completion_tokens),
        calibration=Measured(**asdict(known)) if known else None,
    )


def _query(body: JudgeBody) -> str:
    if (body.query is None) == (body.messages is None):
        raise BadRequest("query: give query or messages, one of them", field="query")
    if body.query is not None:
        return body.query
    return query_text([each.model_dump() for each in body.messages or ()], field="messages")
