"""Held-out evaluation: the greedy judgements of a policy, counted by `grm.benchmarks` as those of any other judge.

An evaluation is a vote with k = 0: the same prompts, permutations, scale and figures (votes.py). Its accuracy is the figure
`greedy` over the preferences of two responses or more: a tie for the best is split, an unparsable judgement is wrong. Single
responses have a ROC-AUC in its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from grm.benchmarks import TableRow, table
from grm.preferences import Preference
from launch.cluster.failures import RunFailed
from launch.judging.engine_judge import PendingRequests
from launch.judging.samples import When, sample_judgements
from launch.judging.vote_items import items
from launch.judging.vote_plan import Asked, VotePlan
from launch.judging.votes import Row, judgements, rows_of
from launch.monitoring.tracker import SampleJudgement


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What the greedy judgements of one policy are worth."""

    when: When
    """Before training, after the cold start, during training or after it."""
    version: int
    """Policy version that it was asked at."""
    newest_version: int
    """The newest policy version that contributed a token: above `version` when weights were pulled meanwhile (eta > 0),
    below it only when the learner went back to a checkpoint."""
    rows: int
    """Preferences judged."""
    accuracy: float | None
    """0..1 over the preferences of n >= 2 responses; None where there are none."""
    auc: float | None
    """ROC-AUC, 0..1, of the scores of single responses (n = 1); None where there are none of both labels."""
    parse_rate: float
    """Share of the judgements that were read, 0..1."""
    strict_parse_rate: float | None = None
    """Share, 0..1, that the strict parser of training read, too; None in rows of older runs, which knew no other."""
    consistency: float | None = None
    """Share of the preferences, 0..1, whose judgements in both orders name the same single best response; None where only one
    order was asked."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Evaluation":
        """Returns what `row` wrote. Older runs wrote fields that no longer exist; they are passed over. Newer fields have a
        default."""
        return cls(**{field.name: row[field.name] for field in fields(cls) if field.name in row})

    @property
    def figure(self) -> float | None:
        """What policies are compared by: the accuracy, or where there are single responses alone the ROC-AUC."""
        return self.auc if self.accuracy is None else self.accuracy

    def metrics(self) -> dict[str, float]:
        """Returns the figures by the names of `METRICS`."""
        values = {
            "eval/accuracy@1": self.accuracy,
            "eval/auc@1": self.auc,
            "eval/consistency@1": self.consistency,
            "eval/strict_parse_rate@1": self.strict_parse_rate,
        }
        return {
            "eval/version": self.version,
            "eval/newest_version": self.newest_version,
            "eval/parse_rate@1": self.parse_rate,
            **{name: value for name, value in values.items() if value is not None},
        }

    def row(self) -> dict[str, Any]:
        """Returns it as it is on disk: what a resumed run needs of it."""
        return asdict(self)

    def describe(self) -> str:
        """Returns its figures as a sentence."""
        known = {"accuracy": self.accuracy, "AUC of single responses": self.auc, "parsed": self.parse_rate}
        known["same best in both orders"] = self.consistency
        figures = ", ".join(f"{name} {value:.1%}" for name, value in known.items() if value is not None)
        return f"{figures} of {self.rows} held-out preferences"


def evaluation(preferences: Sequence[Preference], rows: Sequence[Row], *, when: When, version: int) -> Evaluation:
    """Count the greedy judgements of each row.

    Args:
        preferences: The judged ones.
        rows: Their rows, in the same order.
        when: See `Evaluation`.
        version: See `Evaluation`.

    Raises:
        RunFailed: None of them got an answer.
    """
    greedy = [{**row, "samples": judgements(row, "greedy")} if "samples" in row else row for row in rows]
    judged = [replace(item, subset="") for item in items(preferences, greedy, {})]
    if not judged:
        raise RunFailed(f"the {when} evaluation got no answer to {len(rows)} preferences; the first error: {rows[0]['error']}")
    figures = table(judged, ks=(), resamples=1)[-1]  # the value alone is kept: no interval is needed
    return Evaluation(
        when=when,
        version=version,
        newest_version=max(sample["version"] for row in greedy for sample in judgements(row, "greedy")),
        rows=len(judged),
        accuracy=_value(figures, "greedy"),
        auc=_value(figures, "auc_greedy"),
        parse_rate=figures.figures["parse_rate"].value,
        strict_parse_rate=_value(figures, "strict_parse_rate"),
        consistency=_value(figures, "consistency"),
    )


def _value(row: TableRow, name: str) -> float | None:
    return row.figures[name].value if name in row.figures else None


class RunningEvaluation:
    """An evaluation while training goes on: the rollout actors judge beside the groups that they roll out."""

    def __init__(
        self,
        plan: VotePlan,
        preferences: Sequence[Preference],
        asked: Sequence[Asked],
        pending: PendingRequests,
        *,
        version: int,
        samples: int,
    ) -> None:
        """Takes over requests that were begun.

        Args:
            plan: How it is judged.
            preferences: What is judged.
            asked: What was asked about them.
            pending: The requests.
            version: Policy version at the start.
            samples: Judgements to keep as samples.
        """
        self._plan, self._preferences, self._asked, self._pending = plan, preferences, asked, pending
        self._version, self._samples = version, samples

    def advance(self) -> tuple[Evaluation, list[SampleJudgement]] | None:
        """Returns the evaluation with samples to show, or None while answers are missing. Errors as of
        `PendingRequests.advance`."""
        answers = self._pending.advance(0.0)
        if answers is None:
            return None
        by_id = rows_of(self._plan, self._preferences, self._asked, answers, {})
        rows = [by_id[p.question.id] for p in self._preferences]
        return (
            evaluation(self._preferences, rows, when="during", version=self._version),
            sample_judgements(self._preferences, rows, when="during", version=self._version, count=self._samples),
        )
