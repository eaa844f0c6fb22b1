"""How often what died is made again: the one rule, for actor groups and for the fine-tuning.

died ─┬─▶ counted ─┬─ in a row: since it got further than in all tries before    ─┐
      │            └─ of one error: over the whole run, whatever came in between ─┴▶ over `cluster.restarts`: RunFailed
      └─▶ of a final error: RunFailed at once
"""

from collections import Counter

from launch.cluster.failures import CallFailed, FinalError, RunFailed


class Tries:
    """Counts the deaths of an actor group, or of the fine-tuning.

    Steps that are done again are no progress: a learner that dies at each checkpoint repeats the steps before it, and would be
    tried for ever. And an error that comes again counts, even where it gets on in between.

    Example: `Tries("the GRPO learner", 2)`. It reaches versions 1, 2, 3 and dies: try 1 of 2. It reaches 1, 2, 3 again and
    dies: try 2 of 2. It reaches 1, 2, 3 once more and dies: RunFailed. Had it reached 4, the next death would be the first.
    """

    def __init__(self, name: str, limit: int) -> None:
        """Args:
        name: Of what died, for people.
        limit: Deaths that are mended, in a row or of one error.
        """
        self._name, self._limit = name, limit
        self._in_a_row = 0
        self._furthest = 0
        self._errors: Counter[str] = Counter()  # by signature
        self.mended = 0
        """Deaths that were mended so far."""

    def reached(self, point: int) -> None:
        """Note how far it is: a learner's version, a worker's completions. Beyond all earlier tries, deaths are forgiven."""
        if point > self._furthest:
            self._furthest, self._in_a_row = point, 0

    def died(self, error: CallFailed) -> str:
        """Count a death. Returns which try the next one is, in words.

        Raises:
            RunFailed: There is none left, or the error is final. It has the error in its message.
        """
        if isinstance(error, FinalError):
            raise RunFailed(f"{self._name} failed: {error}") from error
        self._in_a_row += 1
        same = 0
        if error.signature:
            self._errors[error.signature] += 1
            same = self._errors[error.signature]
        bound = f"(cluster.restarts = {self._limit})"
        if self._in_a_row > self._limit:
            raise RunFailed(
                f"{self._name} failed {self._in_a_row} times in a row and got no further in between {bound};"
                f" the last time: {error}"
            ) from error
        if same > self._limit:
            raise RunFailed(f"{self._name} failed {same} times with the same error {bound}: {error}") from error
        self.mended += 1
        return f"try {max(self._in_a_row, same)} of {self._limit}"
