"""What a judge says, as plain frozen values; and how judgements become scores. Pure functions.

judgements ─▶ those that may vote: all that were read, or the better half by the meta-RM ─▶ totals, scores, shares
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from grm import voting


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One judgement of a judge."""

    scores: tuple[float, ...] | None
    """A score 1..10 for each response, in the order in which you gave them; None where it could not be read."""
    principles: str
    """What it judged by, in its own words; "" where it says nothing."""
    critique: str
    """What it says about the responses, which it numbers from 1 in the order in which it saw them (`order`)."""
    text: str
    """The completion as it was written."""
    order: tuple[int, ...]
    """order[shown place] = index of the response."""
    failure: str = ""
    """Why it could not be read; "" where it was."""
    meta: float | None = None
    """The meta-RM's probability, 0..1, that it is right; None where no meta-RM was asked."""
    voted: bool = False
    """Whether it is counted in the scores."""
    tokens: int = 0
    """Its length in tokens; 0 where a served judge does not say, and for one that got no answer."""
    version: int = 0
    """The newest policy version that wrote one of its tokens; 0 where a judge has no versions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """The scores of the responses to one query."""

    scores: tuple[float, ...] | None
    """Mean score 1..10 of each response over the judgements that voted; None where nothing was judged."""
    totals: tuple[float, ...] | None
    """Their sum: the vote of arXiv:2504.02495. None likewise."""
    shares: tuple[float, ...] | None
    """Share of the votes, 0..1, in which each response is the best; a tie counts in equal parts. None likewise."""
    judgements: tuple[Judgement, ...]
    """All of them, in the order in which they were asked for."""
    spared: int = 0
    """Votes that were not asked for, as they could not change `best` (`early_stop`). All else is of the others alone."""
    error: str = ""
    """Why nothing was judged; "" where something was."""

    @property
    def best(self) -> int | None:
        """Index of the response with the one highest total; None for a tie, and where nothing was judged."""
        if self.totals is None:
            return None
        first, *others = voting.best(self.totals)
        return None if others else first

    @property
    def ranking(self) -> tuple[int, ...] | None:
        """Indices of the responses, the best first; of equals the earlier. None where nothing was judged."""
        totals = self.totals
        return None if totals is None else tuple(sorted(range(len(totals)), key=lambda index: -totals[index]))


def counted(judgements: Sequence[Judgement], meta: Sequence[float | None] | None = None) -> Scored:
    """Returns the vote of judgements.

    Args:
        judgements: At least one, with `voted` as it is by default.
        meta: The meta-RM's logit of each, None for one that was not given; then the better half of them votes
            (`grm.voting.guided_vote`). None: all vote.
    """
    scores = [judgement.scores for judgement in judgements]
    parsed = [each is not None for each in scores]
    if meta is None:
        voters = [index for index, read in enumerate(parsed) if read]
    else:
        logits = [0.0 if logit is None else logit for logit in meta]  # that of one that cannot be read is not looked at
        voters = voting.chosen(logits, parsed, voting.default_k_meta(len(judgements)))
    voting_scores = [scores[index] for index in voters]
    firsts = voting.majority(voting_scores)
    return Scored(
        scores=voting.average(voting_scores),
        totals=voting.vote(voting_scores),
        shares=None if firsts is None else tuple(votes / len(voters) for votes in firsts),
        judgements=tuple(
            replace(judgement, voted=index in voters, meta=None if logit is None else voting.sigmoid(logit))
            for index, (judgement, logit) in enumerate(zip(judgements, meta or [None] * len(judgements), strict=True))
        ),
        error="" if voters else _unread(judgements),
    )


def not_judged(error: str) -> Scored:
    """Returns what stands for a query that got no answer."""
    return Scored(scores=None, totals=None, shares=None, judgements=(), error=error)


def _unread(judgements: Sequence[Judgement]) -> str:
    reasons = ", ".join(sorted({judgement.failure for judgement in judgements}))
    begun = " ".join(judgements[0].text[:200].split())
    return f"none of {len(judgements)} judgements could be read ({reasons}); the first begins: {begun!r}"
