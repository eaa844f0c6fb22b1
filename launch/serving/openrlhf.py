"""OpenRLHF's remote reward: `--reward.remote_url http://HOST:PORT/get_reward`.

    {"query": [prompt + response], "prompts": [prompt], "labels": [any]} ─▶ a member of the cohort of its prompt
    ─▶ {"rewards": [1..10], "scores": [0..1], "extra_logs": {name: [number]}}

One sample a request, no ids and no key of a group. It waits 180 s and tries five times, a second apart, whatever the error is;
then the sample goes without a reward and only a line in its log says so. `extra_logs` become tensors: numbers alone.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from grm.preferences import conversation
from grm.templated import response_of, turns_of
from launch.serving.errors import BadRequest
from launch.serving.protocol import CohortMember, JudgeService, MemberVerdict
from launch.serving.wire_route import PAUSE_S, WireRoute, held


class Samples(BaseModel):
    """What OpenRLHF sends. Fields of later versions are passed over."""

    query: list[str] = Field(min_length=1)
    """Prompt and response of each sample, decoded with special tokens."""
    prompts: list[str] = Field(min_length=1)
    """The templated prompt of each."""
    labels: list[Any] = []
    """The data row's label of each: not read, since whether it may be shown is the judge's own setting."""


class Rewards(BaseModel):
    """What OpenRLHF reads."""

    rewards: list[float]
    """Mean score 1..10 of each sample."""
    scores: list[float]
    """The same in 0..1, by which it filters."""
    extra_logs: dict[str, list[float]]
    """Numbers for its log."""
    request_hash: list[str]
    """Of the verdict of each."""


class OpenRLHFRoute(WireRoute):
    """OpenRLHF's status of what makes no sense."""

    bad_request = 400
    names: ClassVar[Mapping[str, str]] = {"query": "prompts", "response": "query"}


def openrlhf(service: JudgeService, *, pause_s: float = PAUSE_S) -> APIRouter:
    """Returns the route."""
    router = APIRouter(route_class=OpenRLHFRoute, tags=["OpenRLHF"])

    @router.post("/get_reward")
    async def get_reward(request: Request, samples: Samples) -> Rewards:
        """Waits for the cohort of each sample."""
        limit = service.served().deadline_s
        members = members_of(samples, request.state.tenant)
        asked = (held(service.member, each, limit, pause_s=pause_s) for each in members)
        return rewards_of(await asyncio.gather(*asked))

    return router


def members_of(samples: Samples, tenant: str) -> list[CohortMember]:
    """Returns a member of a cohort for each sample.

    Raises:
        BadRequest: The lists differ in length, or nobody can tell where a response begins.
    """
    if len(samples.query) != len(samples.prompts):
        raise BadRequest("prompts: give one for each query", field="prompts")
    members = []
    for number, (query, prompt) in enumerate(zip(samples.query, samples.prompts, strict=True)):
        response = response_of(query, prompt) if prompt else None
        if response is None:
            problem = "does not begin with its prompt, nor with the end of it, and no assistant's turn can be told in it"
            raise BadRequest(f"query.{number}: {problem}", field=f"query.{number}")
        turns = turns_of(prompt)
        members.append(CohortMember(tenant=tenant, query=conversation(turns) if turns else prompt, response=response))
    return members


def rewards_of(verdicts: list[MemberVerdict]) -> Rewards:
    """Returns the rewards. Example: a mean score of 7.3 is the reward 7.3 and the score (7.3 - 1) / 9 = 0.7."""
    logs = {
        "share": [each.share for each in verdicts],
        "votes": [float(each.verdict.cast) for each in verdicts],
        "votes_unparsable": [float(each.verdict.unparsable) for each in verdicts],
        "votes_cut": [float(each.verdict.cut) for each in verdicts],
        "cohort_missing": [float(each.verdict.missing) for each in verdicts],
        "policy_version": [float(each.verdict.policy_version) for each in verdicts],
    }
    return Rewards(
        rewards=[each.score for each in verdicts],
        scores=[(each.score - 1) / 9 for each in verdicts],
        extra_logs=logs,
        request_hash=[each.verdict.request_hash for each in verdicts],
    )
