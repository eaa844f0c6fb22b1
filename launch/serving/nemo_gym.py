"""A resources server of NeMo-Gym, as NeMo-RL asks one: its cohort protocol (`genrm_compare`).

    POST /verify {responses_create_params, response, _ng_group_id, _ng_group_attempt, _ng_rollout_index, principle?, …}
         ─▶ a member, held until its cohort is judged ─▶ the same body and `reward`
    POST /aggregate_metrics {verify_responses} ─▶ means of the rewards that were judged, of each task and of all
    POST /compare {conversation_history, response_objs, principle?} ─▶ {rewards, comparison_results, metrics}

    the same slot, the same response    200, the stored reward          judgements that cannot be read   200 with mask fields
    the same slot, another response     409                             no verdict now                   held, then 503
    coordinates that make no sense      422

The scale is that of the judge, 1..10.
"""

import itertools
import statistics
from collections.abc import Mapping
from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from grm.preferences import conversation
from launch.serving.errors import BadRequest, Unjudged
from launch.serving.gym_metrics import Aggregated, AggregateRequest, aggregated
from launch.serving.protocol import CohortMember, JudgeService, MemberVerdict, Verdict, VerdictRequest
from launch.serving.wire_route import PAUSE_S, WireRoute, content_text, echoed, held, turns

LONGEST_REASON = 2000  # characters of `failure_reason`


class CreateParams(BaseModel):
    """The request that the policy answered."""

    model_config = ConfigDict(extra="allow")

    input: str | list[dict[str, Any]]
    """The query, or a conversation."""
    instructions: str | None = None
    """The system's turn, where it stands apart."""


class PolicyResponse(BaseModel):
    """A response object of OpenAI's Responses, of which the text of its messages is read."""

    model_config = ConfigDict(extra="allow")

    output: list[dict[str, Any]]
    """Messages, reasoning, calls of tools."""


class VerifyRequest(BaseModel):
    """A rollout. Whatever else it holds comes back in the answer."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    responses_create_params: CreateParams
    """What the policy was asked."""
    response: PolicyResponse
    """What it answered."""
    group: str | None = Field(default=None, alias="_ng_group_id", min_length=1)
    """Key of its cohort; None: the query is the key."""
    attempt: StrictInt = Field(default=0, alias="_ng_group_attempt", ge=0)
    """Which try at the cohort it is."""
    slot: StrictInt | None = Field(default=None, alias="_ng_rollout_index", ge=0)
    """Its place in the cohort."""
    principle: str | None = None
    """What the judge is to go by."""


class CompareRequest(BaseModel):
    """Responses that are all there."""

    conversation_history: list[dict[str, Any]] = Field(min_length=1)
    """The turns before the responses."""
    response_objs: list[PolicyResponse]
    """The responses."""
    principle: str | None = None
    """What the judge is to go by."""


class Compared(BaseModel):
    """What `/compare` answers."""

    rewards: list[float]
    """Mean score 1..10 of each response."""
    comparison_results: list[dict[str, float]]
    """Neighbours in each judgement that voted: `score_1`, `score_2`, and `ranking` (see `ranking`)."""
    metrics: dict[str, float]
    """Of the scores and the votes."""


class GymRoute(WireRoute):
    """A route with NeMo-Gym's names."""

    names: ClassVar[Mapping[str, str]] = {
        "query": "responses_create_params.input",
        "slot": "_ng_rollout_index",
        "attempt": "_ng_group_attempt",
    }


def nemo_gym(service: JudgeService, *, pause_s: float = PAUSE_S) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(route_class=GymRoute, tags=["NeMo-Gym"])

    @router.post("/verify")
    async def verify(request: Request, rollout: VerifyRequest) -> Response:
        """Waits for the rollout's cohort; the answer is the request with `reward`, or with mask fields."""
        member, body = member_of(rollout, request.state.tenant), await request.json()
        try:
            seen = await held(service.member, member, service.served().deadline_s, pause_s=pause_s)
        except Unjudged as error:
            if not error.final:
                raise
            return echoed(body | masked(error.message))
        return echoed(body | rewarded(rollout, seen))

    @router.post("/compare")
    async def compare(request: Request, asked: CompareRequest) -> Compared:
        """Judges responses that are all there."""
        if not asked.response_objs:
            return Compared(rewards=[], comparison_results=[], metrics={})
        verdict_request = request_of(asked, request.state.tenant)
        return compared(await held(service.judge, verdict_request, service.served().deadline_s, pause_s=pause_s))

    @router.post("/aggregate_metrics")
    async def aggregate_metrics(asked: AggregateRequest) -> Aggregated:
        """Sums up a collection of rollouts; NeMo-Gym's agents ask for it at the end of one."""
        return aggregated(asked.verify_responses)

    @router.post("/seed_session")
    async def seed_session() -> dict[str, Any]:
        """Nothing is kept for a session."""
        return {}

    @router.get("/reverify_mode")
    async def reverify_mode() -> str:
        """A rollout may be verified again: it gets the verdict that it got, while that is kept."""
        return "stateless"

    return router


def member_of(rollout: VerifyRequest, tenant: str) -> CohortMember:
    """Returns a member of a cohort.

    Raises:
        BadRequest: A slot without a group, or a group without a slot; content that is no text.
    """
    if (rollout.group is None) != (rollout.slot is None):
        missing = "_ng_group_id" if rollout.group is None else "_ng_rollout_index"
        raise BadRequest(f"{missing}: give both the group and the place in it, or neither", field=missing)
    return CohortMember(
        tenant=tenant,
        query=query_of(rollout.responses_create_params),
        response=response_text(rollout.response),
        group=rollout.group or "",
        attempt=rollout.attempt,
        slot=rollout.slot,
        criteria=(rollout.principle,) if rollout.principle else (),
    )


def request_of(asked: CompareRequest, tenant: str) -> VerdictRequest:
    """Returns a request for a verdict. BadRequest for content that is no text."""
    return VerdictRequest(
        tenant=tenant,
        query=conversation(turns(asked.conversation_history, "conversation_history")),
        responses=tuple(response_text(each) for each in asked.response_objs),
        criteria=(asked.principle,) if asked.principle else (),
    )


def query_of(params: CreateParams) -> str:
    """Returns the query. Items that are no messages, as calls of tools, are passed over."""
    field = "responses_create_params.input"
    if isinstance(params.input, str):
        said = [("user", params.input)]
    else:
        said = turns([each for each in params.input if each.get("type", "message") == "message"], field)
    if not said:
        raise BadRequest(f"{field}: no message", field=field)
    return conversation([("system", params.instructions), *said] if params.instructions else said)


def response_text(response: PolicyResponse) -> str:
    """Returns the text of a response's messages; "" where it wrote none, which a judge may judge as well."""
    messages = [each for each in response.output if each.get("type") == "message"]
    return "\n\n".join(content_text(each.get("content"), "response.output") for each in messages)


def rewarded(rollout: VerifyRequest, seen: MemberVerdict) -> dict[str, Any]:
    """Returns the fields that a verdict adds to a rollout."""
    verdict = seen.verdict
    return {
        "reward": seen.score,
        "reward_score_raw": seen.score,
        "reward_share": seen.share,
        "_ng_group_attempt": rollout.attempt,
        "votes": verdict.cast,
        "votes_unparsable": verdict.unparsable,
        "votes_cut": verdict.cut,
        "cohort_size": verdict.size,
        "cohort_missing": verdict.missing,
        "policy_version": verdict.policy_version,
        "request_hash": verdict.request_hash,
    }


def masked(reason: str) -> dict[str, Any]:
    """Returns the fields of a rollout that was not judged: its reward of 0 fills a place, and the trainer leaves it out."""
    return {
        "reward": 0.0,
        "_ng_failure_class": "judge_failed",
        "_ng_failure_judge_error": reason[:LONGEST_REASON],
        "mask_sample": True,
        "failure_kind": "judge_failed",
        "failure_reason": reason[:LONGEST_REASON],
        "instance_config": {"mask_sample": True},
    }


def compared(verdict: Verdict) -> Compared:
    """Returns a verdict as comparisons of neighbours, in a circle as NeMo-Gym draws them."""
    n = len(verdict.scores)
    pairs = [(i, (i + 1) % n) for i in range(n)] if n > 2 else [(0, 1)][: n - 1]
    results = [
        {
            "response_i": i,
            "response_j": j,
            "judge_idx": vote,
            "score_1": scores[i],
            "score_2": scores[j],
            "ranking": ranking(scores[i], scores[j]),
        }
        for (vote, scores), (i, j) in itertools.product(enumerate(verdict.vote_scores), pairs)
    ]
    given = [each for scores in verdict.vote_scores for each in scores]
    metrics = {
        "mean_individual_score": statistics.fmean(given),
        "std_individual_score": statistics.pstdev(given),
        "votes": float(verdict.cast),
        "votes_unparsable": float(verdict.unparsable),
        "votes_cut": float(verdict.cut),
    }
    return Compared(rewards=list(verdict.scores), comparison_results=results, metrics=metrics)


def ranking(first: float, second: float) -> float:
    """Returns two scores as a ranking 1..6: 1 the first is much better, 6 the second; 3.5 where they are equal.

    By their difference d: 1 for d >= 5, 2 for d >= 2, 3 for d > 0, and 7 minus that where the second is better. (8, 7) -> 3.
    """
    d = abs(first - second)
    if d == 0:
        return 3.5
    step = 1.0 if d >= 5 else 2.0 if d >= 2 else 3.0
    return step if first > second else 7 - step
