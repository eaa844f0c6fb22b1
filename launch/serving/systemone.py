"""Typed questions about a state, with probabilities: `/v1/systemone`, as TypeSafe's and vLLM's servers answer them.

    {state: any JSON, instructions?, questions: {id: {type: noul | choice | score, instructions, criteria}}}
    ─▶ {answers: {id: {type, noul | choice | score, probabilities, confidence, legend?}}, usage, diagnostics}

verifiers' judge `decision` asks so: its state is {question, response, answer?}, and its score is on levels, worst first. Then
the question is the query, the response is judged, and the answer is the reference. Any other state is a text that is judged.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from grm.preferences import clean
from launch.serving.chat import check_model
from launch.serving.decisions import Asked, Outcome, behind, measured_of, on_one, usage_of, verdicts_on
from launch.serving.errors import BadRequest, ServingError, Unjudged
from launch.serving.protocol import Calibration, JudgeService
from launch.serving.shares import Shares, described_levels, of_choice, of_levels, of_yes
from launch.serving.wire_route import PAUSE_S, OpenAIRoute, echoed

MOST_QUESTIONS = 200


class Strict(BaseModel):
    """What has no other fields."""

    model_config = ConfigDict(extra="forbid")


class Noul(Strict):
    """A yes or no."""

    type: Literal["noul"]
    """As it says."""
    instructions: str
    """What is asked."""
    criteria: Any = None
    """What yes and no mean; shown as JSON."""


class Choice(Strict):
    """One of several."""

    type: Literal["choice"]
    """As it says."""
    instructions: str
    """By what to choose."""
    criteria: dict[str, str | None] = Field(min_length=2, max_length=255)
    """The options, each with what it means."""


class Score(Strict):
    """A place on levels."""

    type: Literal["score"]
    """As it says."""
    instructions: str
    """What is scored."""
    criteria: list[str] = Field(min_length=2, max_length=10)
    """The levels, worst first."""


Question = Annotated[Noul | Choice | Score, Field(discriminator="type")]


class SystemOne(BaseModel):
    """What is asked. Fields of other servers are passed over."""

    model: str | None = None
    """Name of the judge; None: the one that is served."""
    state: Any
    """What the questions are about."""
    instructions: str | None = None
    """Beside those of each question."""
    questions: dict[str, Question] = Field(min_length=1, max_length=MOST_QUESTIONS)
    """By an id of the caller's."""


class SystemOneRoute(OpenAIRoute):
    """A route with the names of this protocol."""

    names: ClassVar[Mapping[str, str]] = {"query": "state", "responses": "questions", "criteria": "questions"}


def systemone(service: JudgeService, *, pause_s: float = PAUSE_S) -> APIRouter:
    """Returns the route."""
    router = APIRouter(route_class=SystemOneRoute, tags=["Decisions"])

    @router.post("/v1/systemone")
    async def read(request: Request, asked: SystemOne) -> Response:
        """Answers each question by votes."""
        if asked.model is not None:
            check_model(asked.model, service)
        questions = [asked_of(asked, name, each) for name, each in asked.questions.items()]
        outcomes = await verdicts_on(questions, request.state.tenant, service, pause_s=pause_s)
        named = list(zip(asked.questions.items(), outcomes, strict=True))
        usage, known = usage_of(outcomes), service.served().calibration
        return echoed(
            {
                "model": service.served().model,
                "answers": {name: answer_of(question, outcome, known) for (name, question), outcome in named},
                "usage": {name: usage[name] for name in ("input_tokens", "output_tokens")},
                "diagnostics": {name: diagnostics_of(outcome) for (name, _), outcome in named},
            }
        )

    return router


def asked_of(asked: SystemOne, name: str, question: Noul | Choice | Score) -> Asked:
    """Returns what the judge is asked. BadRequest for a state that says nothing."""
    told = [each for each in (asked.instructions, question.instructions) if each]
    if isinstance(question, Choice):
        texts = tuple(f"{option}: {meaning}" if meaning else option for option, meaning in question.criteria.items())
        return Asked(query=_text(asked.state), responses=texts, criteria=tuple(told))
    if isinstance(question, Score):
        told.append(described_levels(question.criteria))
    elif question.criteria is not None:
        told.append(clean(json.dumps(question.criteria, ensure_ascii=False)))
    state = asked.state
    if isinstance(state, dict) and isinstance(state.get("question"), str) and isinstance(state.get("response"), str):
        reference = state.get("answer")
        return Asked(
            query=clean(state["question"]),
            responses=(clean(state["response"]),),
            criteria=tuple(told),
            reference=clean(reference) if isinstance(reference, str) else "",
        )
    return on_one([("user", _text(state))], told)


def answer_of(question: Noul | Choice | Score, outcome: Outcome, known: Calibration | None = None) -> dict[str, Any]:
    """Returns the answer to a question. `known` says how far shares of votes are probabilities."""
    if isinstance(outcome, ServingError):
        return {"type": "refusal", "reason": outcome.message}
    if isinstance(question, Noul):
        yes = of_yes(outcome)
        said: dict[str, Any] = {"noul": yes.shares[1], "probabilities": _by_name(("false", "true"), yes)}
        return {"type": "noul", **said, "confidence": yes.confidence, **behind(outcome)}
    if isinstance(question, Choice):
        shares = of_choice(outcome)
        options = tuple(question.criteria)
        said = {"choice": options[shares.top], "probabilities": _by_name(options, shares)}
        return {"type": "choice", **said, "confidence": shares.confidence, **measured_of(outcome, known), **behind(outcome)}
    shares = of_levels(outcome, len(question.criteria))
    places = tuple(map(str, range(len(question.criteria))))
    legend = dict(zip(places, question.criteria, strict=True))
    said = {"score": shares.mean, "probabilities": _by_name(places, shares), "legend": legend}
    return {"type": "score", **said, "confidence": shares.confidence, **behind(outcome)}


def diagnostics_of(outcome: Outcome) -> dict[str, Any]:
    """Returns what other servers say of a next token: here, the share of the judgements that voted."""
    if isinstance(outcome, Unjudged):
        return {"label_mass": 0.0, "argmax_is_label": False}
    return {"label_mass": outcome.cast / outcome.asked, "argmax_is_label": True}


def _by_name(names: tuple[str, ...], shares: Shares) -> dict[str, float]:
    return dict(zip(names, shares.shares, strict=True))


def _text(state: Any) -> str:
    """Returns a state as text: itself, or its JSON. BadRequest where it says nothing."""
    text = state if isinstance(state, str) else json.dumps(state, ensure_ascii=False, indent=1)
    if state in ("", None, {}, []):
        raise BadRequest("state: it is empty; give what the questions are about", field="state")
    return clean(text)
