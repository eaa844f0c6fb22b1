"""What of a run's metrics calls for a person: a limit that is passed, said once until it is kept again.

| metric | alarm when, over so many steps | docs/metrics.md |
|---|---|---|
| `optim/skipped_steps` | it grows: a loss or gradient was not finite | Is it stable? |
| `loss/kl` | the mean is above 1 nat a token | Is it stable? |
| `off_policy/ess` | the mean is below 0.5 | Is it stable? |
| `parse/failure_rate` | the mean is above 0.3 | Is it learning? |
| `staleness/max` | it is above `grpo.max_staleness`, which cannot be | First look |

What is not a number keeps no limit. A run that takes no step at all is told of by the driver, which waits for it
(`waits.progress_s`).
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

WINDOW = 10  # steps over which a mean is taken


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """Something for a person to look at."""

    title: str
    """In a few words, as the subject of a mail."""
    text: str
    """What was measured, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """Where a metric's mean over `WINDOW` steps is too high, or too low."""

    metric: str
    """Its name."""
    bound: float
    """The limit."""
    above: bool
    """Whether it is too high above it; else too low below it."""
    title: str
    """Of the alarm."""
    remedy: str
    """What to do."""

    def is_passed(self, value: float) -> bool:
        """Whether a mean is beyond the limit, or not a number."""
        return not (value <= self.bound if self.above else value >= self.bound)

    def text(self, value: float) -> str:
        """Returns what is said of a mean that is beyond the limit."""
        where = f" over the last {WINDOW} steps, {'above' if self.above else 'below'} {self.bound:g}"
        return f"{self.metric} is {f'{value:.3g}{where}' if value == value else 'not a number'}: {self.remedy}"


LIMITS = (
    Limit(
        metric="loss/kl",
        bound=1.0,
        above=True,
        title="the policy moves far from its reference",
        remedy="lower grpo.lr, or raise grpo.beta",
    ),
    Limit(
        metric="off_policy/ess",
        bound=0.5,
        above=False,
        title="rollouts are far from the policy that learns from them",
        remedy="lower grpo.max_staleness; with 0 already, engine and learner compute different log-probabilities",
    ),
    Limit(
        metric="parse/failure_rate",
        bound=0.3,
        above=True,
        title="many judgements do not parse",
        remedy="if it was lower before, lower grpo.lr; else a cold start, or a larger rollout.max_new_tokens",
    ),
)


class Alarms:
    """Follows the metrics of the steps of a run."""

    def __init__(self, max_staleness: int) -> None:
        """Begins with no step.

        Args:
            max_staleness: The run's bound, in policy versions.
        """
        self._max_staleness = max_staleness
        self._last: dict[str, deque[float]] = {limit.metric: deque(maxlen=WINDOW) for limit in LIMITS}
        self._raised: set[str] = set()
        self._skipped: float | None = None

    def check(self, metrics: Mapping[str, float]) -> list[Alarm]:
        """Take the metrics of one step. Returns the alarms that it raises."""
        return [*self._passed(metrics), *self._not_finite(metrics), *self._too_stale(metrics)]

    def _passed(self, metrics: Mapping[str, float]) -> Iterator[Alarm]:
        for limit in LIMITS:
            last = self._last[limit.metric]
            if limit.metric in metrics:
                last.append(metrics[limit.metric])
            if len(last) < WINDOW:
                continue
            mean = sum(last) / WINDOW  # fmean refuses infinities of both signs
            if self._is_news(limit.metric, ill=limit.is_passed(mean)):
                yield Alarm(title=limit.title, text=limit.text(mean))

    def _not_finite(self, metrics: Mapping[str, float]) -> Iterator[Alarm]:
        skipped = metrics.get("optim/skipped_steps")
        if skipped is None:
            return
        before, self._skipped = self._skipped or 0.0, skipped
        if not skipped <= before:
            text = f"{skipped:g} batches were skipped since the learner started, as their loss or gradient was not finite"
            yield Alarm(title="a loss is not finite", text=f"{text}: lower grpo.lr, or set model.dtype=float32")

    def _too_stale(self, metrics: Mapping[str, float]) -> Iterator[Alarm]:
        stalest = metrics.get("staleness/max")
        if stalest is not None and self._is_news("staleness/max", ill=not stalest <= self._max_staleness):
            text = f"a trained group was {stalest:g} versions old, and grpo.max_staleness is {self._max_staleness}"
            yield Alarm(title="a group was staler than the bound", text=f"{text}: this cannot be; please report it")

    def _is_news(self, metric: str, *, ill: bool) -> bool:
        """Returns whether a metric is ill that was not ill when it was last looked at."""
        news = ill and metric not in self._raised
        (self._raised.add if ill else self._raised.discard)(metric)
        return news
