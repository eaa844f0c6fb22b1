"""Judgements: what a completion says, read strictly where it counts (scores) and leniently elsewhere (text).

A completion has three labelled parts, `Specific Criteria:` (missing where no principles were asked for), `Analysis:`
and `Scores:`; the scores are the **last** `\\boxed{a, b, ...}` of the completion, in the order in which the responses
were shown.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args

Reason = Literal["empty", "no_box", "unclosed_box", "empty_box", "not_integers", "wrong_count", "out_of_range"]
REASONS: tuple[Reason, ...] = get_args(Reason)

# Possessive and bounded quantifiers only: no string makes these patterns backtrack.
_BOX = re.compile(r"\\boxed[ \t]*+\\*+\{")
_LABEL = re.compile(
    r"^[ \t>#*_\-]*+(?:\d{1,3}[.)][ \t*_]*+)?+"
    r"(specific[ \t]++criteria|analysis|scores)[*_ \t]*+:[*_]*+",
    re.IGNORECASE | re.MULTILINE | re.ASCII,
)
_BRACE = re.compile(r"[{}]")
_SPACING = re.compile(r"\\[,;:! ]|~|\s")
_WRAPPER = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\\?\{([^{}]*+)\}")
_INTEGER = re.compile(r"-?[0-9]+")


class ScoreRange(Enum):
    """The scores that a prompt asks for, both ends included."""

    GRADED = (1, 10)
    VERDICT = (0, 1)  # a single verifiable response, in training

    @property
    def low(self) -> int:
        return self.value[0]

    @property
    def high(self) -> int:
        return self.value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A parsed completion: scores in shown order; principles and critique are "" where the part is absent."""

    principles: str
    critique: str
    scores: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseFailure:
    """Why a completion gives no scores: `reason` to be counted, `detail` to be read."""

    reason: Reason
    detail: str


def training_scale(n: int) -> ScoreRange:
    """0/1 for a single response, 1..10 otherwise: in training, and where a run judges greedily by the training rule. Votes, and
    whatever `launch/evaluate.py` asks, are GRADED for every n."""
    return ScoreRange.VERDICT if n == 1 else ScoreRange.GRADED


def parse(completion: str, n: int, *, low: int = 1, high: int = 10) -> Judgement | ParseFailure:
    """The judgement in `completion`: n integers in low..high in its last box. Never raises; linear time."""
    if not completion.strip():
        return ParseFailure(reason="empty", detail="the completion is blank")
    boxes = list(_BOX.finditer(completion))
    if not boxes:
        return ParseFailure(reason="no_box", detail=r"no \boxed{...} in the completion")
    box = boxes[-1]
    content = _closed(completion, box.end())
    if content is None:
        return ParseFailure(reason="unclosed_box", detail=r"the last \boxed{ is never closed")
    scores = _scores(content, n, low, high)
    if isinstance(scores, ParseFailure):
        return scores
    principles, critique = _parts(completion[: box.start()])
    return Judgement(principles=principles, critique=critique, scores=scores)


def write(judgement: Judgement) -> str:
    """The judgement in the form that the prompt asks for; `parse` reads it back."""
    boxed = ", ".join(str(score) for score in judgement.scores)
    return f"Specific Criteria: {judgement.principles}\nAnalysis: {judgement.critique}\nScores: \\boxed{{{boxed}}}"


def unshuffle(scores: Sequence[int], permutation: Sequence[int]) -> tuple[int, ...]:
    """Scores in shown order -> the preference's own order: restored[permutation[i]] = scores[i]."""
    if len(scores) != len(permutation) or sorted(permutation) != list(range(len(scores))):
        raise ValueError(f"{tuple(permutation)} is not a permutation of {len(scores)} scores")
    restored = [0] * len(scores)
    for shown, own in enumerate(permutation):
        restored[own] = scores[shown]
    return tuple(restored)


def _closed(text: str, start: int) -> str | None:
    """The text from `start` up to the brace that closes the one before it."""
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : brace.start()]
    return None


def _scores(content: str, n: int, low: int, high: int) -> tuple[int, ...] | ParseFailure:
    """The n integers of a box; LaTeX spacing, \\text{} wrappers and one pair of brackets are allowed."""
    bare = _SPACING.sub(" ", _WRAPPER.sub(r"\1", content)).strip(" \\")
    if bare[:1] + bare[-1:] in ("[]", "()"):
        bare = bare[1:-1]
    if not bare.strip():
        return ParseFailure(reason="empty_box", detail="the last box is empty")
    items = [item.strip() for item in bare.split(",")]
    for item in items:
        if not _INTEGER.fullmatch(item):
            return ParseFailure(reason="not_integers", detail=f"{item[:40]!a} is not an integer")
    if len(items) != n:
        return ParseFailure(reason="wrong_count", detail=f"{len(items)} scores for {n} responses")
    for item in items:
        if len(item) > 9 or not low <= int(item) <= high:
            return ParseFailure(reason="out_of_range", detail=f"{item[:40]} is not in {low}..{high}")
    return tuple(int(item) for item in items)


def _parts(text: str) -> tuple[str, str]:
    """(principles, critique) of the text before the box. The principles run to the first `Analysis:` behind
    them, the critique to the last `Scores:`, as a critique may well speak of scores on the way."""
    labels = [(match.group(1).lower().split()[0], match) for match in _LABEL.finditer(text)]
    end = next((match.start() for name, match in reversed(labels) if name == "scores"), len(text))
    inside = [(name, match) for name, match in labels if match.end() <= end]
    criteria = next((match for name, match in inside if name == "specific"), None)
    floor = criteria.end() if criteria else 0
    analysis = next((match for name, match in inside if name == "analysis" and match.start() >= floor), None)
    principles = text[criteria.end() : analysis.start() if analysis else end] if criteria else ""
    critique = text[analysis.end() : end] if analysis else ""
    return principles.strip(), critique.strip()
