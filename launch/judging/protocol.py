"""What is asked of a judge and what it answers, whoever it is: our own engines (`engines.py`), or a model that is served
elsewhere (`endpoint.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One user message to be answered `samples` times; temperature 0 is greedy. The same seed gives the same answers."""

    message: str
    samples: int
    temperature: float
    max_new_tokens: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A completion. tokens: its length, 0 when the server did not tell."""

    text: str
    tokens: int
    finish: Literal["stop", "length"]


class NotJudged(RuntimeError):
    """One item got no answer: says why and what to do. A value, so that the others are not lost with it."""


class JudgeLost(RuntimeError):
    """The judge itself failed, not an item: what was answered stands, and the rest can be asked later."""


class Judge(Protocol):
    """Answers in the order of the requests; a request that failed is there as its error.

    `escape_special_tokens` breaks in a foreign text what the judge's tokenizer would read as a special token.
    """

    def escape_special_tokens(self, text: str) -> str: ...
    def judge(self, asks: Sequence[Ask]) -> list[tuple[Answer, ...] | NotJudged]: ...
