"""Judgements: completions parsed strictly where it counts (scores) and leniently elsewhere (text).

A completion has three labelled sections, `Specific Criteria:` (missing if the prompt asks for no principles), `Analysis:` and
`Scores:`; the scores are the **last** `\\boxed{a, b, ...}` of the completion, in the order in which the responses were shown.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Reason = Literal["empty", "no_box", "unclosed_box", "empty_box", "not_integers", "wrong_count", "out_of_range"]

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
        """The lowest score."""
        return self.value[0]

    @property
    def high(self) -> int:
        """The highest score."""
        return self.value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A parsed completion."""

    principles: str
    """Text of its section; "" if that is absent."""
    critique: str
    """Text of its section; "" if that is absent."""
    scores: tuple[int, ...]
    """One score per response, in shown order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseFailure:
    """A completion without usable scores."""

    reason: Reason
    """Why: the first problem that the parser meets."""


def training_score_range(n: int) -> ScoreRange:
    """Return 0/1 for a single response and 1..10 otherwise, as in training and in a run's greedy judgements.

    Votes, and every judgement of `launch/evaluate.py`, are GRADED for every n.
    """
    return ScoreRange.VERDICT if n == 1 else ScoreRange.GRADED


def parse(completion: str, n: int, *, low: int = 1, high: int = 10) -> Judgement | ParseFailure:
    """Return the judgement in `completion`: n integers in low..high in its last box. Never raises; linear time."""
    if not completion.strip():
        return ParseFailure(reason="empty")
    boxes = list(_BOX.finditer(completion))
    if not boxes:
        return ParseFailure(reason="no_box")
    box = boxes[-1]
    content = _closed(completion, box.end())
    if content is None:
        return ParseFailure(reason="unclosed_box")
    scores = _scores(content, n, low, high)
    if isinstance(scores, ParseFailure):
        return scores
    principles, critique = _sections(completion[: box.start()])
    return Judgement(principles=principles, critique=critique, scores=scores)


def write(judgement: Judgement) -> str:
    """Return the completion of a judgement in the form that the prompt asks for: the inverse of `parse`."""
    criteria = f"Specific Criteria: {judgement.principles}\n" if judgement.principles else ""
    boxed = ", ".join(str(score) for score in judgement.scores)
    return f"{criteria}Analysis: {judgement.critique}\nScores: \\boxed{{{boxed}}}"


def unshuffle(scores: Sequence[int], permutation: Sequence[int]) -> tuple[int, ...]:
    """Return scores in shown order in the preference's own order: own[permutation[i]] = scores[i]."""
    if len(scores) != len(permutation) or sorted(permutation) != list(range(len(scores))):
        raise ValueError(f"{tuple(permutation)} is not a permutation of {len(scores)} scores")
    own = [0] * len(scores)
    for shown_position, own_index in enumerate(permutation):
        own[own_index] = scores[shown_position]
    return tuple(own)


def _closed(text: str, start: int) -> str | None:
    """Return the text from `start` to the brace that closes the one before it; None if there is none."""
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : brace.start()]
    return None


def _scores(content: str, n: int, low: int, high: int) -> tuple[int, ...] | ParseFailure:
    """Return the n integers of a box; LaTeX spacing, \\text{} wrappers and one pair of brackets are allowed."""
    bare = _SPACING.sub(" ", _WRAPPER.sub(r"\1", content)).strip(" \\")
    if bare[:1] + bare[-1:] in ("[]", "()"):
        bare = bare[1:-1]
    if not bare.strip():
        return ParseFailure(reason="empty_box")
    items = [item.strip() for item in bare.split(",")]
    if not all(_INTEGER.fullmatch(item) for item in items):
        return ParseFailure(reason="not_integers")
    if len(items) != n:
        return ParseFailure(reason="wrong_count")
    if any(len(item) > 9 or not low <= int(item) <= high for item in items):
        return ParseFailure(reason="out_of_range")
    return tuple(int(item) for item in items)


def _sections(text: str) -> tuple[str, str]:
    """Return (principles, critique) of the text before the box.

    The principles end at the first `Analysis:` behind them, the critique at the last `Scores:`, as a critique may mention
    scores on the way.
    """
    labels = [(match.group(1).lower().split()[0], match) for match in _LABEL.finditer(text)]
    end = next((match.start() for name, match in reversed(labels) if name == "scores"), len(text))
    inside = [(name, match) for name, match in labels if match.end() <= end]
    criteria = next((match for name, match in inside if name == "specific"), None)
    floor = criteria.end() if criteria else 0
    analysis = next((match for name, match in inside if name == "analysis" and match.start() >= floor), None)
    principles = text[criteria.end() : analysis.start() if analysis else end] if criteria else ""
    critique = text[analysis.end() : end] if analysis else ""
    return principles.strip(), critique.strip()
