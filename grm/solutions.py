"""Verified solutions of problems, many to each problem, as one pair or one single response of each (pure).

    row: question, is_correct ─▶ of each question one right and one wrong row ─▶ pairs     (right, wrong)
                                                                               └▶ singles  one of the two, by a fair coin

Only the numbers of the two rows stay in memory for each question. Which rows they are is drawn by a hash of their numbers, so
that it does not depend on how many others there are.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from grm.mixing import mixing_place


@dataclass(slots=True, kw_only=True)
class Problem:
    """The drawn rows of one question; None where there is none."""

    right: int | None = None
    """Number of a row with a right solution."""
    wrong: int | None = None
    """Number of a row with a wrong one."""
    coin: bool = False
    """Heads: of the two the right one is the single response."""

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows that there are: (right, wrong), or one of them."""
        return tuple(row for row in (self.right, self.wrong) if row is not None)


def drawn(verdicts: Iterable[tuple[str, bool]], name: str) -> list[Problem]:
    """Return the problems with their drawn rows, in the order in which they come up first.

    Args:
        verdicts: Question and "is it correct" of each row.
        name: What the rows are called by: the draw depends on it.
    """
    problems: dict[bytes, Problem] = {}
    for row, (question, is_correct) in enumerate(verdicts):
        digest = hashlib.sha256(question.encode("utf-8", "surrogatepass")).digest()[:16]
        problem = problems.setdefault(digest, Problem(coin=bool(digest[0] & 1)))
        before = problem.right if is_correct else problem.wrong
        if before is None or mixing_place(f"{name}:{row}") < mixing_place(f"{name}:{before}"):
            if is_correct:
                problem.right = row
            else:
                problem.wrong = row
    return list(problems.values())


def pairs(problems: Sequence[Problem]) -> list[tuple[int, ...]]:
    """Return the rows of each problem, (right, wrong); one row alone where the other kind is missing.

    >>> pairs([Problem(right=4, wrong=7), Problem(wrong=5)])
    [(4, 7), (5,)]
    """
    return [problem.rows for problem in problems]


def singles(problems: Sequence[Problem]) -> list[tuple[int, ...]]:
    """Return one row of each problem: by its coin, or the only one that there is.

    >>> singles([Problem(right=4, wrong=7, coin=True), Problem(right=1, wrong=2), Problem(right=3)])
    [(4,), (2,), (3,)]
    """
    return [problem.rows[:1] if problem.coin else problem.rows[-1:] for problem in problems]
