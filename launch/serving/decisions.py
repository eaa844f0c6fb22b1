"""Typed questions about an input, with probabilities: `/v1/decisions`, as the openai client 3.54 asks them.

    choice     the input is the query, the choices are the responses   ─▶ share of the votes that each won
    score      a conversation's last answer, or the input, on levels   ─▶ histogram of the votes, score = Σ i·p
    predicate  the same, yes or no                                     ─▶ share of the votes above the middle

A question costs k votes, all of them are judged at the same time, and one that gets no verdict is answered as a refusal. The
critiques travel in a field of their own, which the official client keeps.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from grm.preferences import conversation
from launch.serving.chat import check_model
from launch.serving.errors import BadRequest, ServingError, Unjudged
from launch.serving.protocol import Calibration, JudgeService, Verdict, VerdictRequest
from launch.serving.shares import Shares, calibration_of, described_levels, of_choice, of_levels, of_yes
from launch.serving.wire_route import PAUSE_S, OpenAIRoute, held, turns

MOST_QUESTIONS = 200
ANSWERING = "assistant"


class Strict(BaseModel):
    """What has no other fields."""

    model_config = ConfigDict(extra="forbid")


class Option(Strict):
    """A choice."""

    value: StrictStr | StrictBool
    """What is answered."""
    description: str | None = None
    """The response that the judge reads; None: the value itself."""


class Level(Strict):
    """A level of a score."""

    label: str
    """Its name."""
    description: str | None = None
    """What it means."""


class Predicate(Strict):
    """A yes or no."""

    type: Literal["predicate"]
    """As it says."""
    instructions: str
    """What is asked."""
    name: str | None = None
    """Comes back in the answer."""


class Choice(Strict):
    """One of several."""

    type: Literal["choice"]
    """As it says."""
    instructions: str
    """By what to choose."""
    choices: list[Option] = Field(min_length=2, max_length=255)
    """The options, with distinct values."""
    name: str | None = None
    """Comes back in the answer."""


class Score(Strict):
    """A place on levels."""

    type: Literal["score"]
    """As it says."""
    instructions: str
    """What is scored."""
    levels: list[Level] = Field(min_length=2, max_length=10)
    """Worst first."""
    name: str | None = None
    """Comes back in the answer."""


Question = Annotated[Predicate | Choice | Score, Field(discriminator="type")]


class Decision(Strict):
    """What is asked. A field that is not named here is refused."""

    model: str
    """Name of the judge."""
    input: str | list[dict[str, Any]]
    """A text, or the messages of a conversation."""
    questions: list[Question] = Field(min_length=1, max_length=MOST_QUESTIONS)
    """What is asked of it."""
    safety_identifier: str | None = Field(default=None, max_length=128)
    """Passed over, like the two below."""
    prompt_cache_key: str | None = None
    """Prompts are shared by their content."""
    prompt_cache_options: dict[str, Any] | None = None
    """Likewise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question as the judge gets it."""

    query: str
    """The query."""
    responses: tuple[str, ...]
    """What is judged."""
    criteria: tuple[str, ...]
    """By what."""
    reference: str = ""
    """A right answer."""


Outcome = Verdict | Unjudged


class DecisionRoute(OpenAIRoute):
    """A route with the names of decisions."""

    names: ClassVar[Mapping[str, str]] = {"query": "input", "responses": "questions", "criteria": "questions"}


def decisions(service: JudgeService, *, pause_s: float = PAUSE_S) -> APIRouter:
    """Returns the route."""
    router = APIRouter(route_class=DecisionRoute, tags=["Decisions"])

    @router.post("/v1/decisions")
    async def decide(request: Request, decision: Decision) -> dict[str, Any]:
        """Answers each question by votes."""
        check_model(decision.model, service)
        asked = [asked_of(decision.input, each, place) for place, each in enumerate(decision.questions)]
        outcomes = await verdicts_on(asked, request.state.tenant, service, pause_s=pause_s)
        known = service.served().calibration
        answers = [answer_of(each, outcome, known) for each, outcome in zip(decision.questions, outcomes, strict=True)]
        return {"model": decision.model, "answers": answers, "usage": usage_of(outcomes)}

    return router


async def verdicts_on(asked: Sequence[Asked], tenant: str, service: JudgeService, *, pause_s: float) -> list[Outcome]:
    """Returns the verdict on each question, or why it has none.

    Raises:
        ServingError: None of them has a verdict, or one of them is no question for this server.
    """
    requests = [
        VerdictRequest(
            tenant=tenant, query=each.query, responses=each.responses, criteria=each.criteria, reference=each.reference
        )
        for each in asked
    ]
    limit = service.served().deadline_s
    outcomes = await asyncio.gather(*(_outcome(service, each, limit, pause_s) for each in requests))
    refusals = [each for each in outcomes if isinstance(each, Unjudged)]
    if len(refusals) == len(outcomes):
        raise refusals[0]
    return outcomes


async def _outcome(service: JudgeService, request: VerdictRequest, limit_s: float, pause_s: float) -> Outcome:
    try:
        return await held(service.judge, request, limit_s, pause_s=pause_s)
    except Unjudged as error:
        return error


def asked_of(given: str | list[dict[str, Any]], question: Predicate | Choice | Score, place: int) -> Asked:
    """Returns what the judge is asked. BadRequest for an input without text, or choices with one value twice."""
    said = [("user", given)] if isinstance(given, str) else turns(given, "input")
    if not said:
        raise BadRequest("input: give a text, or one message or more", field="input")
    if isinstance(question, Choice):
        values = [(type(each.value), each.value) for each in question.choices]
        if len(set(values)) < len(values):
            raise BadRequest("two choices have one value", field=f"questions.{place}.choices")
        texts = tuple(_shown(each) for each in question.choices)
        return Asked(query=conversation(said), responses=texts, criteria=(question.instructions,))
    asked = [question.instructions]
    if isinstance(question, Score):
        asked.append(
            described_levels(
                [f"{each.label}: {each.description}" if each.description else each.label for each in question.levels]
            )
        )
    return on_one(said, asked)


def on_one(said: Sequence[tuple[str, str]], asked: Sequence[str]) -> Asked:
    """Returns a question about one text: a conversation's last answer, by what is asked; or the text, as the answer to it."""
    if len(said) > 1 and said[-1][0] == ANSWERING:
        return Asked(query=conversation(said[:-1]), responses=(said[-1][1],), criteria=tuple(asked))
    return Asked(query="\n\n".join(asked), responses=(conversation(said),), criteria=())


def answer_of(question: Predicate | Choice | Score, outcome: Outcome, known: Calibration | None = None) -> dict[str, Any]:
    """Returns the answer to a question. `known` says how far shares of votes are probabilities."""
    if isinstance(outcome, ServingError):
        return {"type": "refusal", "name": question.name, "reason": outcome.message}
    answer: dict[str, Any] = {"type": question.type, "name": question.name}
    if isinstance(question, Predicate):
        yes = of_yes(outcome)
        answer |= {"probability": yes.shares[1], "confidence": yes.confidence}
    elif isinstance(question, Choice):
        shares = of_choice(outcome)
        values = [each.value for each in question.choices]
        listed = [{"value": value, "probability": share} for value, share in zip(values, shares.shares, strict=True)]
        answer |= {"choice": values[shares.top], "probabilities": listed, "confidence": shares.confidence}
        answer |= measured_of(outcome, known)
    else:
        shares = of_levels(outcome, len(question.levels))
        answer |= {"score": shares.mean, "probabilities": _levels(question, shares), "confidence": shares.confidence}
    return answer | behind(outcome)


def measured_of(verdict: Verdict, known: Calibration | None) -> dict[str, Any]:
    """Returns how far the shares of a choice are probabilities, where that was measured."""
    found = calibration_of(verdict, known)
    return {"calibration": asdict(found)} if found else {}


def behind(verdict: Verdict) -> dict[str, Any]:
    """Returns what stands behind an answer: how many votes, and each judgement."""
    return {
        "votes": {"asked": verdict.asked, "cast": verdict.cast, "unparsable": verdict.unparsable, "cut": verdict.cut},
        "judgements": [
            {
                "principles": each.principles,
                "critique": each.critique,
                "scores": None if each.scores is None else list(each.scores),
                "order": list(each.order),
                "meta": each.meta,
                "voted": each.voted,
                "failure": each.failure,
            }
            for each in verdict.judgements
        ],
        "policy_version": verdict.policy_version,
        "request_hash": verdict.request_hash,
    }


def usage_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns the tokens of all verdicts. All that a judge writes is reasoning."""
    read = sum(each.prompt_tokens for each in outcomes if isinstance(each, Verdict))
    written = sum(each.completion_tokens for each in outcomes if isinstance(each, Verdict))
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": written},
        "total_tokens": read + written,
    }


def _shown(option: Option) -> str:
    if option.description:
        return option.description
    return option.value if isinstance(option.value, str) else str(option.value).lower()


def _levels(question: Score, shares: Shares) -> list[dict[str, Any]]:
    pairs = enumerate(zip(question.levels, shares.shares, strict=True))
    return [{"value": place, "label": each.label, "probability": share} for place, (each, share) in pairs]
