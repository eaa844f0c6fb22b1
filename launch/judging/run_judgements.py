"""The held-out judgements of a run: each policy judges while its engines are up, and is counted once the meta-RM is trained.

votes/<when>.jsonl       ◀─ greedy judgements of each held-out preference; K votes on the first `eval.votes_limit`
votes/meta-<when>.jsonl  ◀─ the meta-RM's scores of those that are voted on
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from configs.schema import Config
from grm.benchmarks import TableRow, table
from grm.preferences import Preference
from launch.cluster.ray_cluster import Cluster
from launch.cluster.stage_actors import StageActors
from launch.judging import votes
from launch.judging.engine_judge import EngineJudge
from launch.judging.heldout import Evaluation, RunningEvaluation, evaluation
from launch.judging.meta_scores import meta_scores, start_scorers
from launch.judging.samples import WHOSE, When, sample_judgements
from launch.judging.shown import Shown
from launch.judging.vote_items import items
from launch.judging.vote_plan import VotePlan, vote_plan
from launch.judging.votes import Notify, Row
from launch.monitoring.console import ShowActivity, show_nothing
from launch.monitoring.tracker import SampleJudgement
from launch.setup.prompt_source import prompt_template
from launch.setup.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Unread:
    """A judgement that training would not read."""

    text: str
    """The completion."""
    reason: str
    """Why."""


class RunJudgements:
    """The policies of one run on the same preferences, with the same permutations."""

    def __init__(
        self,
        config: Config,
        preferences: Sequence[Preference],
        *,
        tokenizer: Tokenizer,
        folder: Path,
        note: Notify,
        show: ShowActivity = show_nothing,
    ) -> None:
        """Reads and writes nothing yet.

        Args:
            config: The run's.
            preferences: The held-out ones whose prompts fit.
            tokenizer: The policy's.
            folder: Of the files.
            note: Gets a few log lines.
            show: Gets how many preferences are judged, while somebody waits for it.
        """
        self._config, self._tokenizer, self._folder, self._note, self._show = config, tokenizer, folder, note, show
        self._preferences = list(preferences)
        self._voted = self._preferences[: config.eval.votes_limit or None]
        template = prompt_template(config)
        self._greedy = vote_plan(config, template, 0)
        self._votes = vote_plan(config, template, max(config.eval.votes, default=0))

    def evaluate(self, actors: StageActors, when: When, *, version: int) -> tuple[Evaluation, list[SampleJudgement]]:
        """Judge all preferences greedily under the stage's policy, but those that are on disk; with samples to show.

        Errors as of `EngineJudge.judge` and `heldout.evaluation`.
        """
        rows = self._collect(actors, self._greedy, self._preferences, when, version)
        count = self._config.tracking.samples
        return (
            evaluation(self._preferences, rows, when=when, version=version),
            sample_judgements(self._preferences, rows, when=when, version=version, count=count),
        )

    def as_during(self, when: When, *, version: int) -> Evaluation:
        """Returns the evaluation of a policy that was judged, over what `begin_evaluation` asks a policy in training about:
        the first `eval.during_limit` preferences, each in its first order."""
        preferences, known = self._preferences[: self._config.eval.during_limit], votes.rows_on_disk(self._file(when))
        found = [known[p.question.id] for p in preferences]
        rows = [{**row, "samples": votes.judgements(row, "greedy")[:1]} if "samples" in row else row for row in found]
        return evaluation(preferences, rows, when=when, version=version)

    def unread(self, when: When) -> Unread | None:
        """Returns a greedy judgement of a policy that training would not read; None where all of them are read."""
        for row in votes.rows_on_disk(self._file(when)).values():
            for sample in votes.judgements(row, "greedy"):
                if "error" not in sample and not sample["strict"]:
                    return Unread(text=sample["text"], reason=sample["failure"] or "read by the lenient parser alone")
        return None

    def begin_evaluation(self, actors: StageActors, *, version: int) -> RunningEvaluation:
        """Ask about the first `eval.during_limit` preferences greedily, waiting for nothing and writing nothing."""
        preferences = self._preferences[: self._config.eval.during_limit]
        judge = EngineJudge(self._config, actors=actors, tokenizer=self._tokenizer, version=version)
        plan = replace(self._greedy, both_orders=False, expected_scores=False)  # training waits for the engines
        asked = votes.requests_of(plan, preferences, judge.escape_special_tokens)
        pending = judge.begin([each.request for each in asked])
        return RunningEvaluation(plan, preferences, asked, pending, version=version, samples=self._config.tracking.samples)

    def vote(self, actors: StageActors, when: When, *, version: int) -> None:
        """Sample the votes of the stage's policy that are not on disk."""
        if self._votes.k:
            self._collect(actors, self._votes, self._voted, when, version)

    def count(self, cluster: Cluster, meta_model: Path | None) -> dict[str, TableRow]:
        """Count the votes of each policy that voted.

        Args:
            cluster: Where the meta-RM scores.
            meta_model: The meta-RM that chooses the votes of the guided figures; None: there are no guided figures.

        Returns:
            {when: the figures over the preferences that were voted on}.
        """
        if not self._votes.k:
            return {}
        scorers, tokenizer = list[Any](), None
        if meta_model is not None:
            scorers, tokenizer = start_scorers(cluster, self._config, str(meta_model))
        counted: dict[str, TableRow] = {}
        for when in get_args(When):
            counted |= self._count(when, scorers, tokenizer)
        if scorers:
            cluster.end(scorers)
        return counted

    def _collect(
        self, actors: StageActors, plan: VotePlan, preferences: Sequence[Preference], when: When, version: int
    ) -> list[Row]:
        self._folder.mkdir(exist_ok=True)
        shown = Shown(self._show, f"{'sampling votes of' if plan.k else 'judging'} {WHOSE[when]}", plan.wave, len(preferences))
        judge = EngineJudge(self._config, actors=actors, tokenizer=self._tokenizer, version=version, answered=shown.answered)
        settings = {"version": version, **self._votes.settings()}
        path = self._file(when)
        return votes.collect(judge, plan, preferences, path=path, settings=settings, note=self._note, show=shown.reached)

    def _count(self, when: When, scorers: Sequence[Any], tokenizer: Tokenizer | None) -> dict[str, TableRow]:
        """Returns {when: figures}, or nothing where no preference has votes."""
        known = votes.rows_on_disk(self._file(when))
        rows = [known.get(p.question.id, {}) for p in self._voted]
        voted = any(votes.judgements(row, "vote") for row in rows)
        if not voted and not all("error" in row for row in rows):
            return {}  # this policy was not judged, or greedily only
        meta: Mapping[str, Sequence[float]] = {}
        if tokenizer is not None:
            path, limit_s = self._folder / f"meta-{when}.jsonl", self._config.waits.judge_s
            meta = meta_scores(scorers, tokenizer, self._votes, self._voted, rows, path=path, timeout_s=limit_s)
        judged = items(self._voted, rows, meta, k=self._votes.k)
        if missed := [row["error"] for row in rows if "error" in row]:
            self._note(f"votes {when}: {len(missed)} of {len(rows)} preferences have none, and do not count: {missed[0]}")
        if not judged:
            return {}
        whole = [replace(item, subset="") for item in judged]  # a run reports no subsets
        return {when: table(whole, ks=self._config.eval.votes, seed=self._config.run.seed)[-1]}

    def _file(self, when: When) -> Path:
        return self._folder / f"{when}.jsonl"
