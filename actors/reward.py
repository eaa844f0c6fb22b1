"""The reward actor: joins rollouts with labels and scores them by the rule. Labels live here and nowhere else (I6).

[rollouts] ─claim─▶ parse, map the scores back through the permutation, rule ±1 ─hand off─▶ [experience]
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buffer.heartbeat import Heartbeat
from buffer.messages import CodecError, Completion, ExperienceGroup, RolloutGroup, decode, encode
from buffer.streams import EXPERIENCE, REWARD, ROLLOUTS, Address, Consumer, Entry, connect
from configs.schema import Config
from grm.judgement import Judgement, ParseFailure, parse, training_scale, unshuffle
from grm.preferences import Preference
from grm.rewards import rule_reward

CLAIM = 64  # groups taken at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A completion to grade: `permutation[shown position]` = index in the preference's own order."""

    preference: str
    permutation: tuple[int, ...]
    completion: Completion


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """A graded judgement, with all that a reader wants to see of it. scores: in the preference's own order, None when
    unparsable; failure: the reason then, else "". reward: the rule's. right: as evaluation counts it, the first
    maximum in shown order wins (n = 1: the rule)."""

    preference: str
    permutation: tuple[int, ...]
    query: str
    responses: tuple[str, ...]
    label: int
    principles: str
    critique: str
    text: str
    scores: tuple[int, ...] | None
    failure: str
    reward: float
    right: bool
    tokens: int
    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardReport:
    """What one slice scored. failures: completions by parse-failure reason; reward_sum: over `completions`."""

    groups: int
    lost: int
    completions: int
    reward_sum: float
    solved_all: int
    solved_none: int
    failures: dict[str, int]
    seconds: float


class RewardActor:
    """A consumer of `rollouts`. stacks: see `Heartbeat`."""

    def __init__(
        self, *, config: Config, name: str, address: Address, preferences: Iterable[Preference], stacks: str = ""
    ) -> None:
        self._config = config
        self._preferences = {p.question.id: p for p in preferences}
        self._inbox = Consumer(
            connect(address, timeout_s=config.waits.server_s),
            address.run_id,
            ROLLOUTS,
            REWARD,
            name,
            claim_timeout_s=config.redis.claim_timeout_s,
            max_deliveries=config.redis.max_deliveries,
        )
        self._held: list[str] = []  # entry ids that are being scored
        every_s, hang_s = config.heartbeat_interval_s, config.waits.hang_s
        self._heartbeat = Heartbeat(address, name, every_s=every_s, hang_s=hang_s, keep=self._renew, stacks=stacks)

    def ready(self) -> int:
        """Answers with the number of preferences it can score."""
        return len(self._preferences)

    def _renew(self) -> None:
        """Called by the heartbeat, in its thread."""
        self._inbox.renew(self._held)

    def work(self, seconds: float) -> RewardReport:
        """Score groups for about `seconds`, then report."""
        with self._heartbeat.activity("score"):
            return self._work(seconds)

    def _work(self, seconds: float) -> RewardReport:
        started = time.monotonic()
        failures: Counter[str] = Counter()
        groups = lost = completions = solved_all = solved_none = 0
        reward_sum = 0.0
        while (left := started + seconds - time.monotonic()) > 0:
            entries = self._inbox.claim(CLAIM, block_s=min(left, 0.5))
            self._held = [entry.id for entry in entries]
            self._heartbeat.progressed()
            for entry in entries:
                scored = self._score(entry)
                if scored is None:
                    continue
                if not self._inbox.hand_off(entry, EXPERIENCE, encode(scored)):
                    lost += 1
                    continue
                groups += 1
                self._heartbeat.done += 1
                self._heartbeat.progressed()
                completions += len(scored.rewards)
                reward_sum += sum(scored.rewards)
                solved_all += min(scored.rewards) > 0
                solved_none += max(scored.rewards) < 0
                failures.update(reason for reason in scored.failures if reason)
            self._held = []
        return RewardReport(
            groups=groups,
            lost=lost,
            completions=completions,
            reward_sum=reward_sum,
            solved_all=solved_all,
            solved_none=solved_none,
            failures=dict(failures),
            seconds=time.monotonic() - started,
        )

    def grade(self, judged: Sequence[Judged]) -> list[Grade]:
        """Grade completions of an evaluation. KeyError names a preference this actor was not given."""
        return [self._grade(j) for j in judged]

    def _score(self, entry: Entry) -> ExperienceGroup | None:
        """The scored group, or None when the entry went to the dead letters."""
        try:
            rollout = decode(entry.payload, RolloutGroup, max_bytes=self._config.max_entry_bytes)
        except CodecError as error:
            self._inbox.dead_letter(entry, f"rollout not readable: {error}")
            return None
        prompt = rollout.prompt
        preference = self._preferences.get(prompt.preference)
        if preference is None:
            self._inbox.dead_letter(entry, f"no label for preference {prompt.preference!r}")
            return None
        graded = [_apply_rule(preference, prompt.permutation, c.text) for c in rollout.completions]
        return ExperienceGroup(
            group=prompt.group,
            preference=prompt.preference,
            issued_at=prompt.issued_at,
            prompt_ids=prompt.token_ids,
            completion_ids=tuple(c.token_ids for c in rollout.completions),
            logprobs=tuple(c.logprobs for c in rollout.completions),
            versions=tuple(c.versions for c in rollout.completions),
            rewards=tuple(reward for _, _, reward in graded),
            failures=tuple(read.reason if isinstance(read, ParseFailure) else "" for read, _, _ in graded),
            truncated=tuple(c.finish == "length" for c in rollout.completions),
        )

    def _grade(self, judged: Judged) -> Grade:
        preference = self._preferences[judged.preference]
        read, scores, reward = _apply_rule(preference, judged.permutation, judged.completion.text)
        question = preference.question
        right = reward > 0
        if isinstance(read, Judgement) and len(question.responses) > 1:
            shown = read.scores.index(max(read.scores))
            right = judged.permutation[shown] == preference.label
        return Grade(
            preference=question.id,
            permutation=judged.permutation,
            query=question.query,
            responses=question.responses,
            label=preference.label,
            principles=read.principles if isinstance(read, Judgement) else "",
            critique=read.critique if isinstance(read, Judgement) else "",
            text=judged.completion.text,
            scores=scores,
            failure=read.reason if isinstance(read, ParseFailure) else "",
            reward=reward,
            right=right,
            tokens=len(judged.completion.token_ids),
            version=max(judged.completion.versions),
        )


def _apply_rule(
    preference: Preference, permutation: tuple[int, ...], text: str
) -> tuple[Judgement | ParseFailure, tuple[int, ...] | None, float]:
    """-> (what was read, the scores in the preference's own order or None, the rule's reward)."""
    n = len(preference.question.responses)
    scale = training_scale(n)
    read = parse(text, n, low=scale.low, high=scale.high)
    scores = unshuffle(read.scores, permutation) if isinstance(read, Judgement) else None
    return read, scores, rule_reward(scores, preference.label, n)
