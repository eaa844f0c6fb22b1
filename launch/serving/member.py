"""The server's own interface to cohorts: POST /v1/member, one response of a group whose others come in requests of their own.

It answers once the group is judged, to each member alike. What is not given is as the server was started.
"""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from launch.serving.errors import BadRequest
from launch.serving.native import JudgeAnswer, Message, NativeRoute, answer_of
from launch.serving.protocol import CohortMember, JudgeService, MemberVerdict, Served, query_text


class MemberBody(BaseModel):
    """One response, and its place in a group."""

    model_config = ConfigDict(extra="forbid")

    query: str | None = Field(None, description="What the response answers; or give messages.")
    messages: list[Message] | None = Field(None, description="The conversation that the response answers.")
    response: str
    group: str = Field("", description="Key of the group; the query where it is left out.")
    attempt: int = Field(0, description="Which try at the group it is: another attempt is another group.")
    slot: int | None = Field(None, description="Its place in the group, from 0; the next free one where it is left out.")
    size: int | None = Field(None, description="Members of the group.")
    collect_s: float | None = Field(None, description="How long it waits for the others, in seconds.")
    k: int | None = Field(None, description="Judgements that vote; the same for all members, like the three below.")
    meta: bool | None = Field(None, description="Let the meta-RM choose the better half of the judgements.")
    criteria: list[str] = Field([], description="Principles to judge by.")
    reference: str = Field("", description="A right answer that the judge is shown.")
    deadline_s: float | None = Field(None, description="Answer within so many seconds, from the votes that are there by then.")


class MemberAnswer(JudgeAnswer):
    """The group's verdict, seen by one of its members."""

    group: str
    attempt: int
    slot: int
    place: int = Field(description="Where its response stands in `responses`.")
    size: int = Field(description="Members that were expected.")
    missing: int = Field(description="Those of them that did not come in time: the group was judged without them.")
    score: float = Field(description="Mean score 1..10 of its response.")
    total: float = Field(description="Its summed score.")
    share: float = Field(description="Its share of the votes, 0..1.")


def member(service: JudgeService) -> APIRouter:
    """Returns the route."""
    router = APIRouter(route_class=NativeRoute, tags=["judge"])

    @router.post("/v1/member", summary="Judge a response beside those that others send")
    async def join(body: MemberBody, request: Request) -> MemberAnswer:
        seen = await service.member(member_of(body, request.state.tenant))
        return seen_of(seen, service.served())

    return router


def member_of(body: MemberBody, tenant: str) -> CohortMember:
    """Returns a member of a cohort. BadRequest where it has both a query and messages, or neither."""
    if (body.query is None) == (body.messages is None):
        raise BadRequest("query: give query or messages, one of them", field="query")
    query = body.query
    if query is None:
        query = query_text([each.model_dump() for each in body.messages or ()], field="messages")
    names = ("response", "group", "attempt", "slot", "size", "collect_s", "meta", "reference", "deadline_s")
    more: dict[str, Any] = {name: getattr(body, name) for name in names}
    return CohortMember(tenant=tenant, query=query, votes=body.k, criteria=tuple(body.criteria), **more)


def seen_of(seen: MemberVerdict, served: Served) -> MemberAnswer:
    """Returns a member's verdict as it is sent."""
    own = {name: getattr(seen, name) for name in ("group", "attempt", "slot", "place", "score", "total", "share")}
    return MemberAnswer(
        **answer_of(seen.verdict, served).model_dump(), **own, size=seen.verdict.size, missing=seen.verdict.missing
    )
