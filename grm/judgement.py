"""Judgements: completions parsed strictly where it counts (scores) and leniently elsewhere (text).

A completion has three labelled sections, `Specific Criteria:` (missing if the prompt asks for no principles), `Analysis:` and
`Scores:`. The verdict is the box directly behind the **last** `Scores` label, in the order in which the responses were shown:

    <think> ... </think>            thoughts are cut out first: no verdict, and no label, stands in one
    Analysis: ... \\boxed{3} ...    a box anywhere else is no verdict
    **Scores:** $\\boxed{8, 2}$     the label at a line's head; between it and the box only spacing and ``* _ # > - $ ` ( [ \\``
    and so on                       what stands behind it changes nothing, but the judgement rambles (`Judgement.rest`)

`grm/lenient.py` reads what other people's judges write, for evaluation.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeVar

Reason = Literal[
    "empty",
    "cut_short",
    "no_scores",
    "no_box",
    "unclosed_box",
    "empty_box",
    "not_integers",
    "wrong_count",
    "out_of_range",
]
Score = TypeVar("Score", int, float)

# Possessive and bounded quantifiers only: no string makes these patterns backtrack.
_THOUGHT = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_LABEL = re.compile(  # at a line's head, with a colon or alone on its line
    r"^[ \t>#*_\-]*+(?:\d{1,3}[.)][ \t*_]*+)?+"
    r"(specific[ \t]++criteria|analysis|scores)[*_ \t\r]*+(?::[*_]*+|$)",
    re.IGNORECASE | re.MULTILINE | re.ASCII,
)
_BOX = re.compile(r"[\s>#*_$`(\[\\\-]*+(?<=\\)boxed[ \t]*+\\*+\{")  # with what may stand between the label and it
CLOSERS = " \t\r\n\f\v$*_.`)]}\\"  # what may close a box's line: nothing has been said with it
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
    scores: tuple[float, ...]
    """One score per response, in shown order: integers, unless a lenient reading met others."""
    rest: str = ""
    """What was said behind the first verdict, closing marks left out: more text, a thought, or the judgement once more."""

    @property
    def rambles(self) -> bool:
        """Whether the completion went on behind its verdict: no example to learn from."""
        return bool(self.rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseFailure:
    """A completion without usable scores."""

    reason: Reason
    """Why: the first problem that the parser meets."""


def training_score_range(n: int) -> ScoreRange:
    """Return 0/1 for a single response and 1..10 otherwise, as in training.

    Every evaluation, a run's own among them, asks for GRADED scores for every n.
    """
    return ScoreRange.VERDICT if n == 1 else ScoreRange.GRADED


def parse(completion: str, n: int, *, low: int = 1, high: int = 10) -> Judgement | ParseFailure:
    """Return the judgement in `completion`: n integers in low..high in the box behind its last `Scores` label.

    Never raises; linear time.
    """
    text = without_thoughts(completion)
    if not text.strip():
        return ParseFailure(reason="empty")
    labels = _labels(text)
    ends = _score_ends(labels)
    if not ends:
        return ParseFailure(reason="no_scores")
    box = _BOX.match(text, ends[-1])
    if box is None:
        return ParseFailure(reason="no_box")
    content = closed(text, box.end())
    if content is None:
        return ParseFailure(reason="unclosed_box")
    scores = _scores(content, n, low, high)
    if isinstance(scores, ParseFailure):
        return scores
    principles, critique = sections(text[: box.start()], labels)
    first = next(match for end in ends if (match := _BOX.match(text, end)))
    behind = first.end() + len(closed(text, first.end()) or "")  # its brace is a closing mark
    return Judgement(principles=principles, critique=critique, scores=scores, rest=completion[behind:].strip(CLOSERS))


def verdict_start(completion: str) -> int | None:
    """Return where the content of the box begins that `parse` reads; None where there is no such box."""
    text = without_thoughts(completion)
    ends = _score_ends(_labels(text))
    box = _BOX.match(text, ends[-1]) if ends else None
    return None if box is None else box.end()


def parse_training(completion: str, n: int, *, cut_short: bool) -> Judgement | ParseFailure:
    """Return the judgement as RL and the cold start read it: on the scale of training, and whole.

    A completion that was cut at the token limit is a failure whatever it says: its last words may be no verdict yet, and
    one that went on behind its verdict until it was cut shall not be learnt.
    """
    if cut_short:
        return ParseFailure(reason="cut_short")
    scale = training_score_range(n)
    return parse(completion, n, low=scale.low, high=scale.high)


def write(judgement: Judgement) -> str:
    """Return the completion of a judgement in the form that the prompt asks for: the inverse of `parse`."""
    criteria = f"Specific Criteria: {judgement.principles}\n" if judgement.principles else ""
    boxed = ", ".join(str(score) for score in judgement.scores)
    return f"{criteria}Analysis: {judgement.critique}\nScores: \\boxed{{{boxed}}}"


def without_thoughts(text: str) -> str:
    """Return a completion with its thoughts blanked, so that every other character keeps its place.

    `</think>` without an opening tag ends a thought that the prompt began: all before it is thought. `<think>` that is never
    closed swallows the rest.
    """
    head, thoughts, begun = 0, list[tuple[int, int]](), None
    for tag in _THOUGHT.finditer(text):
        if not tag.group(1):
            begun = tag.start() if begun is None else begun
        elif begun is None:
            head, thoughts = tag.end(), []
        else:
            thoughts.append((begun, tag.end()))
            begun = None
    if begun is not None:
        thoughts.append((begun, len(text)))
    pieces, at = [" " * head], head
    for start, end in thoughts:
        pieces += [text[at:start], " " * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


def ends_thought(text: str) -> bool:
    """Return whether a thought ends in a completion."""
    return any(tag.group(1) for tag in _THOUGHT.finditer(text))


def unshuffle(scores: Sequence[Score], permutation: Sequence[int]) -> tuple[Score, ...]:
    """Return scores in shown order in the preference's own order: own[permutation[i]] = scores[i]."""
    if len(scores) != len(permutation) or sorted(permutation) != list(range(len(scores))):
        raise ValueError(f"{tuple(permutation)} is not a permutation of {len(scores)} scores")
    shown = {own: position for position, own in enumerate(permutation)}
    return tuple(scores[shown[own]] for own in range(len(scores)))


def closed(text: str, start: int) -> str | None:
    """Return the text from `start`, behind an opening brace, to the brace that closes it; None if there is none."""
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : brace.start()]
    return None


def _labels(text: str) -> list[tuple[str, re.Match[str]]]:
    """Return the labels of a text: (specific, analysis or scores, its match)."""
    return [(match.group(1).lower().split()[0], match) for match in _LABEL.finditer(text)]


def _score_ends(labels: Sequence[tuple[str, re.Match[str]]]) -> list[int]:
    """Return where each `Scores` label ends."""
    return [match.end() for name, match in labels if name == "scores"]


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


def sections(text: str, labels: Sequence[tuple[str, re.Match[str]]]) -> tuple[str, str]:
    """Return (principles, critique) of the text before a verdict.

    The principles end at the first `Analysis` behind them, the critique at the last `Scores`, as a critique may mention scores
    on the way.

    Args:
        text: Up to the verdict, or longer.
        labels: Those in it: (specific, analysis or scores, its match).
    """
    end = next((match.start() for name, match in reversed(labels) if name == "scores"), len(text))
    inside = [(name, match) for name, match in labels if match.end() <= end]
    criteria = next((match for name, match in inside if name == "specific"), None)
    floor = criteria.end() if criteria else 0
    analysis = next((match for name, match in inside if name == "analysis" and match.start() >= floor), None)
    principles = text[criteria.end() : analysis.start() if analysis else end] if criteria else ""
    critique = text[analysis.end() : end] if analysis else ""
    return principles.strip(), critique.strip()
