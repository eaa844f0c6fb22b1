"""A fake judge, and the collections of its judgements that several tests make."""

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grm.preferences import Preference, Question
from grm.prompts import template
from launch.judging import votes
from launch.judging.protocol import Answer, Judge, JudgeRequest, NotJudged
from launch.judging.vote_plan import VotePlan

SHOWN = re.compile(r"\[The Begin of Response \d+\]\n(.*)\n\[The End of Response")
SCORES = {f"answer {i}": i + 1 for i in range(10)}
SETTINGS = {"model": "m", "k": 3, "temperature": 0.5}


def vote_plan_of(**changes: Any) -> VotePlan:
    base = {"template": template("compact"), "k": 3, "temperature": 0.5, "max_new_tokens": 64, "seed": 1, "wave": 2}
    return VotePlan(**(base | changes))


def preference(name: str, n: int = 2, query: str = "which?") -> Preference:
    """Response i of its own order is "answer i", which the fake judge scores i + 1."""
    return Preference(
        question=Question(id=name, query=query, responses=tuple(f"answer {i}" for i in range(n))), label=n - 1, subset="s"
    )


PREFERENCES = [preference("a"), preference("b", 3), preference("c", 1), preference("d", 4), preference("e")]


@dataclass(kw_only=True)
class FakeJudge:
    """In place of a model: scores shown responses by their text, words depend on message, seed and sample."""

    failing: str = "\0"
    """A text in the messages that get no answer."""
    broken: str = "\0"
    """A text in the messages whose answer has no scores."""
    waves: int = 10**6
    """Calls that it answers before it is interrupted."""
    asked: list[JudgeRequest] = field(default_factory=list)
    """All that it was asked."""
    sizes: list[int] = field(default_factory=list)
    """How much it was asked in each call."""

    def escape_special_tokens(self, text: str) -> str:
        return text.replace("END", "E-N-D")

    def judge(self, requests: Sequence[JudgeRequest]) -> list[tuple[Answer, ...] | NotJudged]:
        if len(self.sizes) == self.waves:
            raise KeyboardInterrupt
        self.sizes.append(len(requests))
        self.asked += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request: JudgeRequest) -> tuple[Answer, ...] | NotJudged:
        if self.failing in request.message:
            return NotJudged("the server said no; ask again")
        scores = ", ".join(str(SCORES[text]) for text in SHOWN.findall(request.message))
        box = "no scores" if self.broken in request.message else f"\\boxed{{{scores}}}"
        return tuple(
            Answer(text=f"{digest(request.message)} {request.seed} {i}\nScores: {box}", tokens=5 + i, finish="stop")
            for i in range(request.samples)
        )


def digest(message: str) -> int:
    return zlib.crc32(message.encode())


def collect(
    folder: Path, judge: Judge, preferences: Sequence[Preference] = PREFERENCES, **changes: Any
) -> list[dict[str, Any]]:
    """The rows for k = 3, two preferences a wave, unless `changes` says otherwise."""
    settings, note = changes.pop("settings", SETTINGS), changes.pop("note", lambda line: None)
    return votes.collect(
        judge, vote_plan_of(**changes), preferences, path=folder / "judgements.jsonl", settings=settings, note=note
    )


def stored(folder: Path, name: str = "judgements.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]
