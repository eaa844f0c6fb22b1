"""What only Python asks of a judge: which of two responses is better. Scores and judgements are `grm/scored.py`."""

from dataclasses import dataclass

from grm.scored import Scored


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two responses beside each other."""

    winner: int | None
    """0: the first; 1: the second; None: a tie."""
    margin: float
    """Mean score of the first minus that of the second, -9..9."""
    scored: Scored
    """The scores."""
