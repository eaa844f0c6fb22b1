"""What the server keeps, as JSON: the question that the members of a cohort agree on, an answer, a verdict.

VerdictRequest ─▶ question_bytes ─▶ (Redis) ─▶ Asked        Answer ◀─▶ bytes        Verdict | refusal ◀─▶ bytes
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from grm.preferences import Question, question_id
from grm.scored import Judgement
from launch.judging.protocol import Answer
from launch.serving.errors import ServingError, TooLarge, Unjudged
from launch.serving.protocol import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is asked about responses, beside them."""

    query: str
    """The query."""
    votes: int
    """k."""
    meta: bool
    """Whether the meta-RM chooses which of them vote."""
    criteria: tuple[str, ...] = ()
    """Principles of the caller's."""
    reference: str = ""
    """A right answer."""
    id: str = ""
    """What orders and sampling depend on; "": the question."""

    def to_bytes(self) -> bytes:
        """Returns it as JSON; equal ones are equal bytes."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> "Asked":
        """Returns what `to_bytes` wrote."""
        row = json.loads(text)
        return cls(**{**row, "criteria": tuple(row["criteria"])})

    def question(self, responses: Sequence[str]) -> Question:
        """Returns it as a judge is asked."""
        name = self.id or question_id(self.query, responses, reference=self.reference, criteria=self.criteria)
        return Question(id=name, query=self.query, responses=tuple(responses), reference=self.reference, criteria=self.criteria)

    def hash(self, responses: Sequence[str]) -> str:
        """Returns what tells requests apart, in hexadecimal."""
        return sha256(json.dumps([self.to_bytes().decode(), *responses]).encode()).hexdigest()


def answer_bytes(answer: Answer) -> bytes:
    """Returns an answer as JSON: what a judgement is read of."""
    return json.dumps(
        {"text": answer.text, "tokens": answer.tokens, "finish": answer.finish, "version": answer.version}
    ).encode()


def answer_of(text: bytes) -> Answer:
    """Returns what `answer_bytes` wrote."""
    return Answer(**json.loads(text))


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What a cohort came to."""

    slots: tuple[int, ...]
    """The slot of each response of the verdict."""
    verdict: Verdict | None
    """The verdict; None where it was refused."""
    refusal: str = ""
    """`too_large`: for the context of the judge. `unjudged`: no judgement could be read. "": there is a verdict."""
    why: str = ""
    """Its message."""

    def to_bytes(self) -> bytes:
        """Returns it as JSON."""
        return json.dumps({**asdict(self)}).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> "Settled":
        """Returns what `to_bytes` wrote."""
        row = json.loads(text)
        verdict = None if row["verdict"] is None else _verdict(row["verdict"])
        return cls(slots=tuple(row["slots"]), verdict=verdict, refusal=row["refusal"], why=row["why"])

    def require(self) -> Verdict:
        """Returns the verdict. Raises the refusal where there is none."""
        if self.verdict is None:
            raise self._error()
        return self.verdict

    def _error(self) -> ServingError:
        return TooLarge(self.why) if self.refusal == "too_large" else Unjudged(self.why, final=True)


def _verdict(row: dict[str, Any]) -> Verdict:
    judgements = tuple(_judgement(each) for each in row.pop("judgements"))
    numbers: dict[str, Any] = {name: tuple(row.pop(name)) for name in ("scores", "totals", "shares")}
    return Verdict(judgements=judgements, **numbers, **row)


def _judgement(row: dict[str, Any]) -> Judgement:
    scores = None if row["scores"] is None else tuple(row["scores"])
    return Judgement(**{**row, "scores": scores, "order": tuple(row["order"])})
