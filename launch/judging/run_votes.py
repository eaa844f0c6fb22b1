"""The votes of a run: each policy is polled while its engines are up, and counted once the meta-RM is trained.

votes/<when>.jsonl  ◀─ K judgements of each held-out preference        votes/meta-<when>.jsonl  ◀─ the meta-RM
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.schema import Config
from grm.benchmarks import TableRow, table
from grm.preferences import Preference
from launch.cluster.ray_cluster import Cluster
from launch.cluster.stage_actors import StageActors
from launch.judging import votes
from launch.judging.engine_judge import EngineJudge
from launch.judging.heldout import When
from launch.judging.votes import Notify
from launch.monitoring import jsonl_log
from launch.setup.prompt_source import prompt_template
from launch.setup.tokenizer import Tokenizer
from learner.meta_scorer import MetaScorer


class RunVotes:
    """The policies of one run on the same preferences, with the same permutations."""

    def __init__(self, config: Config, preferences: Sequence[Preference], *, folder: Path, note: Notify) -> None:
        self._config, self._folder, self._note = config, folder, note
        self._preferences = preferences[: config.eval.votes_limit or None]
        self._poll = votes.vote_plan(config, prompt_template(config), max(config.eval.votes))

    def poll(self, actors: StageActors, tokenizer: Tokenizer, when: When, *, version: int) -> None:
        """Judge with the actors's policy; what is on disk already is not judged again."""
        self._folder.mkdir(exist_ok=True)
        judge = EngineJudge(self._config, actors=actors, tokenizer=tokenizer, version=version)
        settings = {"version": version, "k": self._poll.k, "temperature": self._poll.temperature, "seed": self._poll.seed}
        votes.collect(
            judge, self._poll, self._preferences, path=self._folder / f"{when}.jsonl", settings=settings, note=self._note
        )

    def count(self, cluster: Cluster, meta_model: Path | None) -> dict[str, TableRow]:
        """{when: the figures of that policy over all preferences}; meta_model chooses who votes in the guided ones."""
        scorer = tokenizer = None
        if meta_model is not None:
            scorer = cluster.remote(MetaScorer, {}, gpu=True, config=self._config, model_path=str(meta_model))
            tokenizer = Tokenizer(str(meta_model))
            cluster.await_all({scorer.ready.remote(): "the meta-RM"})
        counted: dict[str, TableRow] = {}
        polled: tuple[When, ...] = ("before", "cold_start", "after")
        for when in polled:
            if (self._folder / f"{when}.jsonl").exists():
                counted |= self._count(when, scorer, tokenizer)
        if scorer is not None:
            cluster.end([scorer])
        return counted

    def _count(self, when: When, scorer: Any, tokenizer: Tokenizer | None) -> dict[str, TableRow]:
        """{when: figures}, or nothing where no preference has votes."""
        known = {row["id"]: row for row in jsonl_log.repair_and_read(self._folder / f"{when}.jsonl")[1:]}
        rows = [known[p.question.id] for p in self._preferences]
        meta: Mapping[str, Sequence[float]] = {}
        if tokenizer is not None:
            meta = votes.meta_scores(
                scorer,
                tokenizer,
                self._poll,
                self._preferences,
                rows,
                path=self._folder / f"meta-{when}.jsonl",
                timeout_s=self._config.waits.judge_s,
            )
        found = votes.items(self._preferences, rows, meta)
        if missed := [row["error"] for row in rows if "error" in row]:
            self._note(f"votes {when}: {len(missed)} of {len(rows)} preferences have none, and do not count: {missed[0]}")
        if not found:
            return {}
        whole = [replace(item, subset="") for item in found]  # a run reports no subsets
        return {when: table(whole, ks=self._config.eval.votes, seed=self._config.run.seed)[-1]}
