"""Votes as the answers of a decision: shares of votes for a choice, for levels, for a yes (pure).

scores of a vote 1..10 ─▶ levels 0..L-1, equally far apart: round((s - 1) · (L - 1) / 9)        L = 10: s - 1
(6, 9, 9, 10), L = 10  ─▶ 5, 8, 8, 9 ─▶ shares (…, ¼ at 5, ½ at 8, ¼ at 9), score Σ i·p = 7.5 = mean - 1
"""

from collections.abc import Sequence
from dataclasses import dataclass

from launch.serving.protocol import Calibration, Verdict

MIDDLE = 5.5  # of 1..10: what is above it says yes


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Shares of votes for what may be answered; they sum to 1."""

    shares: tuple[float, ...]
    """One for each option or level."""
    read: float
    """Judgements that voted of those that were asked for, 0..1: the rest could not be read, or came too late."""

    @property
    def top(self) -> int:
        """The option with the most votes; of equals the first."""
        return max(range(len(self.shares)), key=lambda index: (self.shares[index], -index))

    @property
    def confidence(self) -> float:
        """Share of its votes in all that were asked for: what could not be read counts against it."""
        return self.shares[self.top] * self.read

    @property
    def mean(self) -> float:
        """Σ i·p over the options by their place: the score of levels."""
        return sum(index * share for index, share in enumerate(self.shares))


def of_choice(verdict: Verdict) -> Shares:
    """Returns the share of votes that each response won."""
    return Shares(shares=verdict.shares, read=_read(verdict))


def of_levels(verdict: Verdict, levels: int) -> Shares:
    """Returns the share of votes of each level, of a verdict on one response. `levels` is 2 or more."""
    votes = [level(scores[0], levels) for scores in verdict.vote_scores]
    return Shares(shares=tuple(votes.count(each) / len(votes) for each in range(levels)), read=_read(verdict))


def of_yes(verdict: Verdict) -> Shares:
    """Returns (no, yes) of a verdict on one response: the share of votes above the middle of the scale is the yes."""
    votes = [scores[0] > MIDDLE for scores in verdict.vote_scores]
    return Shares(shares=(votes.count(False) / len(votes), votes.count(True) / len(votes)), read=_read(verdict))


def level(score: float, levels: int) -> int:
    """Returns the level 0..levels-1 that is nearest to a score 1..10; a score between two is the upper one's."""
    return min(levels - 1, max(0, int((score - 1) * (levels - 1) / 9 + 0.5)))


def described_levels(labels: Sequence[str]) -> str:
    """Returns what the judge is told of levels, worst first: which scores each of them means."""
    scores = [[score for score in range(1, 11) if level(score, len(labels)) == place] for place in range(len(labels))]
    lines = (
        f"score {each[0]}: {label}" if len(each) == 1 else f"scores {each[0]} to {each[-1]}: {label}"
        for each, label in zip(scores, labels, strict=True)
    )
    return "Levels, worst first:\n" + "\n".join(lines)


def calibration_of(verdict: Verdict, known: Calibration | None) -> Calibration | None:
    """Returns the figures for the shares of a verdict; None where none were measured of such shares: of another number of
    votes, of those that a meta-RM chose or that a deadline left, or of one response."""
    counted = verdict.cast + verdict.unparsable == verdict.asked
    return known if known and counted and verdict.asked == known.votes and len(verdict.scores) > 1 else None


def _read(verdict: Verdict) -> float:
    return verdict.cast / verdict.asked
