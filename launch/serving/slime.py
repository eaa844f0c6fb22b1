"""The remote reward of slime and of Miles: `--rm-type remote_rm --rm-url http://HOST:PORT/slime`.

    {"prompt": text or messages, "response": text, "label": any} ─▶ a member of the cohort of its prompt ─▶ 7.3

The whole body of the answer is the reward: a number, or an object of which `--reward-key` names one. So there are two routes:
`/slime` answers with the mean score alone, `/slime/verdict` with an object. slime waits 120 s and tries ten times; Miles waits
300 s and tries once; then an exception ends the rollout.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from pydantic import BaseModel

from grm.preferences import conversation
from launch.serving.errors import BadRequest
from launch.serving.protocol import CohortMember, JudgeService, MemberVerdict
from launch.serving.wire_route import PAUSE_S, WireRoute, held, turns


class Sample(BaseModel):
    """What slime and Miles send. Fields of later versions are passed over."""

    prompt: str | list[dict[str, Any]]
    """The prompt, or the messages of a conversation."""
    response: str
    """The response."""
    label: Any = None
    """The data row's label: not read, as OpenRLHF's."""


class SlimeVerdict(BaseModel):
    """What `--reward-key` may name."""

    score: float
    """Mean score 1..10."""
    total: float
    """Summed score."""
    share: float
    """Share of the votes won, 0..1."""
    votes: int
    """Judgements that voted."""
    votes_unparsable: int
    """Judgements that could not be read."""
    votes_cut: int
    """Judgements that the deadline cut off."""
    cohort: int
    """Responses that were judged beside each other."""
    short: bool
    """Whether some were missing."""
    policy_version: int
    """Newest policy version behind the votes."""
    request_hash: str
    """Of what was judged."""


class SlimeRoute(WireRoute):
    """A route with slime's names."""

    names: ClassVar[Mapping[str, str]] = {"query": "prompt"}


def slime(service: JudgeService, *, pause_s: float = PAUSE_S) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(route_class=SlimeRoute, tags=["slime, Miles"])

    async def verdict_on(request: Request, sample: Sample) -> MemberVerdict:
        member = member_of(sample, request.state.tenant)
        return await held(service.member, member, service.served().deadline_s, pause_s=pause_s)

    @router.post("/slime")
    async def slime_reward(request: Request, sample: Sample) -> float:
        """Returns the mean score."""
        return (await verdict_on(request, sample)).score

    @router.post("/slime/verdict")
    async def slime_verdict(request: Request, sample: Sample) -> SlimeVerdict:
        """Returns the mean score with all that stands behind it."""
        return verdict_of(await verdict_on(request, sample))

    return router


def member_of(sample: Sample, tenant: str) -> CohortMember:
    """Returns a member of the cohort of its prompt. BadRequest for messages that are no texts."""
    if isinstance(sample.prompt, str):
        query = sample.prompt
    elif sample.prompt:
        query = conversation(turns(sample.prompt, "prompt"))
    else:
        raise BadRequest("prompt: no message; give at least one, or a text", field="prompt")
    return CohortMember(tenant=tenant, query=query, response=sample.response)


def verdict_of(seen: MemberVerdict) -> SlimeVerdict:
    """Returns a member's part of a verdict."""
    verdict = seen.verdict
    return SlimeVerdict(
        score=seen.score,
        total=seen.total,
        share=seen.share,
        votes=verdict.cast,
        votes_unparsable=verdict.unparsable,
        votes_cut=verdict.cut,
        cohort=len(verdict.scores),
        short=verdict.short,
        policy_version=verdict.policy_version,
        request_hash=verdict.request_hash,
    )
