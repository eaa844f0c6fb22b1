"""An evaluation that is counted: everything that terminal, table and page show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grm.aggregates import Aggregate
from grm.benchmarks import TableRow
from grm.statistics import Figure
from launch.judging.answer_quality import AnswerQuality


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """What an evaluation found."""

    rows: Sequence[TableRow]
    """The table; its last row is over all preferences."""
    named: Mapping[str, Any]
    """What was evaluated, by name: model, meta-RM, data, settings."""
    failed: Mapping[str, str]
    """{preference without an answer: the reason}."""
    quality: AnswerQuality
    """What the answers were like."""
    aggregates: Sequence[Aggregate] = ()
    """The figures of known benchmarks."""
    macro: dict[str, Figure] = field(default_factory=dict)
    """The mean over subsets of each figure; empty for one subset."""
    notes: Sequence[str] = ()
    """What was found out about a served judge on the way."""
    samples: Sequence[Mapping[str, Any]] = ()
    """The first judgements, parsed or not, to be read: rows as of `SampleJudgement`."""
