"""Cold-start sampling (RFT): N_RFT judgements of each preference, and one more with a hint that names the best response.

    planned ─credit─▶ [prompts] ─▶ RolloutActor xN ─▶ [rollouts] ─▶ RewardActor ─▶ [experience] ─▶ verdicts ─▶ sampled.jsonl

`sampled.jsonl` holds a line per group and is the truth: a group that is in it is never sampled again, and the streams of an
interrupted try are not needed. Each group has a seed of its own, so a try that goes on samples what the first would have.
A line keeps the prompts *without* the hint: those, and nothing else, are what the policy is fine-tuned on (I6). The judgements
of a preference read `rollout.orders` orders of its responses in turn, the hinted one the second of them: rejection alone keeps
what a judge with a position bias said where the best stood in the favoured place.
"""

import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buffer import json_lines
from buffer.ledger import Cursor, Ledger, Offer
from buffer.messages import CodecError, ExperienceGroup, Prompt, decode, encode, view_numbers
from buffer.streams import EXPERIENCE, GRPO, Consumer
from configs.schema import Config
from grm.judgement import Judgement, parse_training
from grm.preferences import Preference
from grm.rejection import VERDICTS, Verdict, hinted_verdicts, is_kept, plain_verdicts, without_rambling
from launch.cluster.failures import RunFailed
from launch.cluster.supervision import SupervisedGroup, poll
from launch.cluster.training_actors import SamplingActors
from launch.driver.format_diagnosis import is_hopeless, of_completions
from launch.driver.outcome_watch import OutcomeWatch
from launch.judging.run_judgements import Unread
from launch.monitoring import diagnosis, jsonl_log
from launch.monitoring.console import ProgressDisplay
from launch.setup.prompt_source import Draft, PromptSource, sampling_seed
from launch.setup.tokenizer import Tokenizer

CLAIM = 64  # scored groups taken at a time
NOTE_S = 30.0  # between two log lines while no judgement is kept

Judged = tuple[int, tuple[int, ...], str, float, str]
"""A completion: number of the view that it read, token ids, text, reward, why it was not parsed ("" where it was)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One group to sample."""

    asked: Draft
    """The prompt that is sampled; it may hold the hint."""
    plain: Draft
    """The prompt without a hint, which the completions are learnt under."""
    hinted: bool
    """Whether `asked` holds the hint."""
    seed: int
    """Of the sampling."""

    @property
    def key(self) -> tuple[str, bool]:
        """What tells it from the other groups of the plan."""
        return self.asked.preference, self.hinted


def plan(config: Config, prompts: PromptSource, preferences: Sequence[Preference]) -> list[Planned]:
    """Returns all groups of the cold start, in order: a pure function of the config and the data.

    Args:
        config: The run's.
        prompts: The prompts of the preferences, in the same order. One that is too long is left out, with its hint or alone.
        preferences: The training preferences.
    """
    cold, seed = config.cold_start, config.run.seed
    order = list(range(len(preferences)))
    random.Random(f"cold-start/{seed}").shuffle(order)
    planned = []
    for index in order[: cold.preferences or None]:
        preference = preferences[index]
        name = preference.question.id
        salt = salt_of(config, name)
        if cold.samples and (plain := prompts.draft(index, salt, samples=cold.samples)):
            planned.append(Planned(asked=plain, plain=plain, hinted=False, seed=_seed(seed, name, False)))
        # The second order: fewer of an odd number of plain judgements have read it.
        if (
            cold.hinted
            and (plain := prompts.draft(index, salt, start=1))
            and (hinted := prompts.draft(index, salt, start=1, best=preference.label))
        ):
            planned.append(Planned(asked=hinted, plain=plain, hinted=True, seed=_seed(seed, name, True)))
    return planned


def salt_of(config: Config, preference: str) -> str:
    """Returns what the prompts of a preference are drawn with: the orders of its responses, and that of an example."""
    return f"cold-start/{config.run.seed}/{preference}"


def _seed(run: int, preference: str, hinted: bool) -> int:
    return sampling_seed(f"cold-start/{run}/{preference}/{hinted}")


def missing(planned: Sequence[Planned], path: Path) -> list[Planned]:
    """Returns the groups that are not in `path` yet."""
    jsonl_log.repair(path)
    done = {(row["preference"], row["hinted"]) for _, row in json_lines.rows(path)}
    return [group for group in planned if group.key not in done]


def verdicts_of(group: Planned, judged: Sequence[Judged]) -> tuple[Verdict, ...]:
    """Returns the verdicts on all completions of a group, whoever wrote them."""
    return (hinted_verdicts if group.hinted else plain_verdicts)([reward for *_, reward, _ in judged])


def views_of(plain: Draft) -> list[int]:
    """Returns the number of the view that each completion of a group has read, in their order."""
    return view_numbers(view.samples for view in plain.views)


def row(plain: Draft, judged: Sequence[Judged], verdicts: Sequence[Verdict], *, hinted: bool) -> dict[str, Any]:
    """Returns a line of `sampled.jsonl`: completions of one preference, under the prompts that they are learnt under. What
    rambles is not kept."""
    n = len(plain.views[0].permutation)
    verdicts = without_rambling(verdicts, [_rambles(text, n) for _, _, text, _, _ in judged])
    return {
        "preference": plain.preference,
        "hinted": hinted,
        "views": [{"permutation": view.permutation, "prompt_ids": view.token_ids} for view in plain.views],
        "completions": [
            {"view": view, "ids": ids, "text": text, "reward": reward, "failure": failure, "verdict": verdict}
            for (view, ids, text, reward, failure), verdict in zip(judged, verdicts, strict=True)
        ],
    }


class Sampling:
    """Samples what is planned and not on disk yet, through the streams of a stage."""

    def __init__(
        self,
        config: Config,
        *,
        actors: SamplingActors,
        planned: Sequence[Planned],
        tokenizer: Tokenizer,
        path: Path,
        progress: ProgressDisplay,
    ) -> None:
        """Takes over a stage whose actors are ready.

        Args:
            config: The run's.
            actors: The stage.
            planned: All groups of the cold start.
            tokenizer: The policy's.
            path: The file of sampled groups.
            progress: Gets log lines.
        """
        self._config, self._actors, self._tokenizer, self._path, self._progress = config, actors, tokenizer, path, progress
        self._groups = missing(planned, path)
        self._all, self._written = len(planned), len(planned) - len(self._groups)
        self._ledger = Ledger(actors.redis, actors.address.run_id)
        self._inbox = Consumer(
            actors.redis, actors.address.run_id, EXPERIENCE, GRPO, "cold-start", claim_timeout_s=None, max_deliveries=None
        )
        self._workers = [
            SupervisedGroup(group, on_report=_ignore_report, restarts=config.cluster.restarts, note=progress.note)
            for group in actors.groups
        ]
        self._arrived = self._noted = time.monotonic()
        self._outcome_watch = OutcomeWatch(actors.redis, actors.address.run_id)
        self._judged = self._kept = self._unparsed = 0  # judgements of this try

    def run(self) -> None:
        """Sample until every group is on disk or in the dead letters.

        Raises:
            RunFailed: An actor group died too often, every group became a dead letter, or no judgement is read.
            TimeoutError: No scored group came within `waits.progress_s`.
        """
        self._progress.activity("cold start: sampling judgements", done=self._written, total=self._all)
        for worker in self._workers:
            worker.work()
        while self._issue():
            for worker in poll(self._workers):
                worker.work()
            self._actors.watch()
            self._collect()
            self._outcome_watch.check(self._credit)
            self._check_progress()
        if dead := self._outcome_watch.dead():
            text = f"{dead} groups of the cold start became dead letters: {self._outcome_watch.dead_reasons()}"
            if not self._written:
                raise RunFailed(f"all {text}")
            self._progress.note(text)

    @property
    def _credit(self) -> int:
        """Groups outstanding at most."""
        return len(self._actors.rollout_groups) * self._config.sampling_credit

    def _issue(self) -> bool:
        """Offer as many groups as there is credit for. Returns whether any is still under way."""
        credit, outstanding = self._credit, len(self._ledger.outstanding())
        at = self._ledger.cursor().group
        offers = [self._offer(at + i) for i in range(min(credit - outstanding, len(self._groups) - at))]
        return self._ledger.issue(offers, version=0, limit=credit) + outstanding > 0

    def _offer(self, number: int) -> Offer:
        group = self._groups[number]
        prompt = Prompt(
            group=number,
            preference=group.asked.preference,
            views=group.asked.views,
            issued_at=0,
            seed=group.seed,
        )
        payload = encode(prompt, max_bytes=self._config.max_entry_bytes)
        return Offer(group=number, payload=payload, after=Cursor(group=number + 1, index=number + 1))

    def _collect(self) -> None:
        """Onto disk first, then acknowledged: a kill in between samples nothing twice."""
        for entry in self._inbox.claim(CLAIM, block_s=0.0):
            try:
                scored = decode(entry.payload, ExperienceGroup, max_bytes=self._config.max_entry_bytes)
            except CodecError as error:
                self._inbox.dead_letter(entry, str(error))
                continue
            row = self._row(scored)
            jsonl_log.append(self._path, [row])
            kept = sum(is_kept(completion["verdict"]) for completion in row["completions"])
            self._ledger.release([scored.group], outcome="trained" if kept else "filtered", entries=[entry.id])
            self._written += 1
            self._judged, self._kept = self._judged + len(scored.failures), self._kept + kept
            self._unparsed += sum(map(bool, scored.failures))
            self._arrived = time.monotonic()
            self._show(scored)
        self._ledger.trim()
        if self._judged and not self._kept and time.monotonic() - self._noted > NOTE_S:
            self._note_none_kept()

    def _show(self, scored: ExperienceGroup) -> None:
        """Show how many groups are on disk.

        Raises:
            RunFailed: Of many judgements not one was read: the others will not be either.
        """
        self._progress.activity("cold start: sampling judgements", done=self._written, total=self._all)
        if is_hopeless(self._judged, self._judged - self._unparsed):
            text, reason = self._tokenizer.decode(scored.completion_ids[0]), scored.failures[0]
            raise RunFailed(of_completions(self._config, self._judged, Unread(text=text, reason=reason)))

    def _note_none_kept(self) -> None:
        """Note that nothing is kept: it may be seen long before the end."""
        self._noted = time.monotonic()
        none = f"none of {self._judged} judgements is kept ({self._unparsed / self._judged:.0%} did not parse)"
        self._progress.note(f"cold start: {self._written} of {self._all} groups sampled, {none}")

    def _row(self, scored: ExperienceGroup) -> dict[str, Any]:
        group, texts = self._groups[scored.group], map(self._tokenizer.decode, scored.completion_ids)
        ended = map(self._tokenizer.ended, scored.completion_ids)
        judged = list(zip(views_of(group.plain), ended, texts, scored.rewards, scored.failures, strict=True))
        return row(group.plain, judged, verdicts_of(group, judged), hinted=group.hinted)

    def _check_progress(self) -> None:
        limit = self._config.waits.progress_s
        if time.monotonic() - self._arrived > limit:
            report = diagnosis.describe(diagnosis.diagnose_run(self._actors.redis, self._actors.address.run_id, self._config))
            raise TimeoutError(
                f"the cold start waited {limit:.0f} s for a scored group (waits.progress_s); {self._written} of {self._all} are"
                f" on disk\n{report}"
            )


def _rambles(text: str, n: int) -> bool:
    read = parse_training(text, n, cut_short=False)
    return isinstance(read, Judgement) and read.rambles


def _ignore_report(report: object) -> None:
    """What was sampled is read from the stream; the report of a slice only shows that the worker lives."""


def verdict_counts(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Returns the number of judgements of each verdict."""
    counts = Counter(completion["verdict"] for row in rows for completion in row["completions"])
    return {verdict: counts[verdict] for verdict in VERDICTS}
