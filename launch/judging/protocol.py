"""What a judge is asked and what it answers, for every kind of judge: our own engines (`engine_judge.py`), or a model that is
served elsewhere (`endpoint.py`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from grm.expected_scores import TokenChoice


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeRequest:
    """A user message to be answered. The same seed gives the same answers."""

    message: str
    """Text of the message, special tokens escaped."""
    samples: int
    """Answers to give, at least 1."""
    temperature: float
    """Of the sampling; 0 is greedy."""
    max_new_tokens: int
    """Tokens of an answer at most."""
    seed: int
    """Of the sampling."""
    alternatives: int = 0
    """Likeliest tokens to be told at each place of a score, with their log-probs; 0: none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A completion."""

    text: str
    """Its text."""
    tokens: int
    """Its length in tokens; 0 when the server does not say."""
    finish: Literal["stop", "length"]
    """Whether it ended by itself, or was cut at `max_new_tokens`."""
    version: int = 0
    """The newest policy version that produced one of its tokens; 0 where a judge has no versions."""
    choices: tuple[TokenChoice, ...] = ()
    """Its tokens with their alternatives, at least where a score may stand; empty where nobody asked."""
    thought: str = ""
    """What a served judge thought, where its server tells that apart from the text."""
    refused: bool = False
    """Whether the server says that the judge, or a filter, refused to answer."""
    prompt_tokens: int = 0
    """Tokens of the prompt that were counted for it; 0 when the server does not say, or counted them for another answer."""
    fingerprint: str = ""
    """Of the weights and the configuration of a served judge (`system_fingerprint`); "" where it does not say."""


class NotJudged(RuntimeError):
    """An item got no answer; the message says why and what to do. A value, so that the others are not lost with it."""


class JudgeGone(NotJudged):
    """The judge answers nothing any more, so that no further item is worth asking about."""


Answered = tuple[Answer | NotJudged, ...] | NotJudged
"""The answers to one request, `samples` of them, each of which may be missing on its own; or the error of the whole request."""


def one_by_one(answered: Answered, samples: int) -> tuple[Answer | NotJudged, ...]:
    """Returns what stands for each of the samples of a request: its answer, or its error."""
    return (answered,) * samples if isinstance(answered, NotJudged) else answered


class Judge(Protocol):
    """Answers in the order of the requests; a request that failed is there as its error."""

    def escape_special_tokens(self, text: str) -> str:
        """Returns a foreign text in which whatever the judge's tokenizer would read as a special token is broken."""
        ...

    def judge(self, requests: Sequence[JudgeRequest]) -> Sequence[Answered]:
        """Returns `samples` answers for each request, or the error that it ended with."""
        ...
