"""A judge behind a reward server: whole groups, or one response of a group whose others come from elsewhere.

ServedJudge.score_many(questions) ─▶ POST /v1/judge, all of them at once ─▶ Scored: None and an error where nothing was judged
ServedJudge.member(query, response, group=…) ─▶ POST /v1/member ─▶ Seen, once the group is judged; NoVerdict where it is not
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from grm.preferences import Question
from grm.scored import Judgement, Scored, not_judged
from spct.judge import Query, question
from spct.reward_client import NoVerdict, RewardClient, in_thread


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A group's verdict, seen by one of its responses. All of it are numbers."""

    score: float
    """Mean score 1..10 of the response."""
    share: float
    """Share of the votes that it won, 0..1."""
    votes: float
    """Judgements that voted."""
    votes_unparsable: float
    """Judgements that could not be read."""
    votes_cut: float
    """Judgements that the deadline cut off."""
    cohort_missing: float
    """Responses of the group that did not come in time."""
    policy_version: float
    """The newest policy version behind the votes."""


@dataclass(frozen=True, kw_only=True)
class ServedJudge:
    """A judge behind a server, and how it is asked."""

    client: RewardClient = field(default_factory=RewardClient)
    """The server."""
    deadline_s: float | None = None
    """In which it is to answer from the votes that it has by then, in seconds; None: as it was started."""

    def score_many(self, questions: Sequence[Question], *, votes: int | None = None, meta: bool | None = None) -> list[Scored]:
        """Returns the scores of each question, in order; None and an error for one that was not judged.

        Args:
            questions: Each is judged by itself, all of them at the same time.
            votes: Judgements of each; None: as the server was started.
            meta: Whether the meta-RM chooses which of them vote; None: where the server has one.
        """
        bodies = [self._body(each, k=votes, meta=meta, responses=list(each.responses)) for each in questions]
        asked = [in_thread(partial(self.client.post, "/v1/judge", body)) for body in bodies]
        wait(asked)
        scored = []
        for future in asked:
            try:
                scored.append(scored_of(future.result()))
            except NoVerdict as error:
                scored.append(not_judged(str(error)))
        return scored

    async def member(
        self,
        query: Query,
        response: str,
        *,
        group: str = "",
        size: int | None = None,
        votes: int | None = None,
        meta: bool | None = None,
    ) -> Seen:
        """Waits until the group of a response is judged, and returns what the verdict says of it.

        Args:
            query: As of `spct.Judge.score`.
            response: The response.
            group: Key of the group; "": the query is the key.
            size: Responses of the group; None: as the server was started.
            votes: As of `score_many`.
            meta: As of `score_many`.

        Raises:
            NoVerdict: The group was not judged.
        """
        asked = question(query, [response])
        more = {"response": response, "group": group or None, "size": size}
        return seen_of(await self.client.post_async("/v1/member", self._body(asked, k=votes, meta=meta, **more)))

    def _body(self, asked: Question, **more: Any) -> dict[str, Any]:
        """Returns the request; what is None or empty is left to the server."""
        body = {
            "query": asked.query,
            "criteria": list(asked.criteria),
            "reference": asked.reference,
            "deadline_s": self.deadline_s,
            **more,
        }
        return {name: value for name, value in body.items() if value not in (None, "", []) or name in ("query", "response")}


def scored_of(answer: Mapping[str, Any]) -> Scored:
    """Returns the verdict in the JSON of `/v1/judge`. NoVerdict where it is none."""
    try:
        responses = answer["responses"]
        return Scored(
            scores=tuple(float(each["score"]) for each in responses),
            totals=tuple(float(each["total"]) for each in responses),
            shares=tuple(float(each["share"]) for each in responses),
            judgements=tuple(_judgement(each) for each in answer["judgements"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NoVerdict(f"the answer is no verdict ({type(error).__name__}: {error}); is this a reward server?") from None


def seen_of(answer: Mapping[str, Any]) -> Seen:
    """Returns the verdict in the JSON of `/v1/member`. NoVerdict where it is none."""
    try:
        return Seen(
            score=float(answer["score"]),
            share=float(answer["share"]),
            votes=float(answer["votes"]["cast"]),
            votes_unparsable=float(answer["votes"]["unparsable"]),
            votes_cut=float(answer["votes"]["cut"]),
            cohort_missing=float(answer["size"] - len(answer["responses"])),
            policy_version=float(answer["policy_version"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NoVerdict(f"the answer is no verdict ({type(error).__name__}: {error}); is this a reward server?") from None


def _judgement(said: Mapping[str, Any]) -> Judgement:
    scores = said["scores"]
    return Judgement(
        scores=None if scores is None else tuple(map(float, scores)),
        principles=said["principles"],
        critique=said["critique"],
        text=said.get("text", ""),
        order=tuple(said["order"]),
        failure=said["failure"],
        meta=said["meta"],
        voted=said["voted"],
        tokens=said.get("tokens", 0),
        version=said.get("version", 0),
    )
