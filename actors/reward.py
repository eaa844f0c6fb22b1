"""The reward actor: joins rollouts with labels and scores them by the rule. It alone joins labels to training rollouts (I6).

[rollouts] ─claim─▶ parse, map the scores back through the permutation that was read, rule ─hand off─▶ [experience]
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from buffer.heartbeat import Heartbeat
from buffer.messages import CodecError, ExperienceGroup, RolloutGroup, decode, encode
from buffer.streams import EXPERIENCE, REWARD, ROLLOUTS, Address, Consumer, Entry, connect
from configs.schema import Config
from grm.judgement import ParseFailure, parse_training, unshuffle
from grm.own_rules import load_rule
from grm.preferences import Preference
from grm.rewards import JudgedCompletion, Rule, paper_rule, pick

CLAIM = 64  # groups taken at a time
BLOCK_S = 0.5  # longest wait for a group


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardReport:
    """What one slice scored. Rewards themselves reach the log by way of the learner, which sees every group."""

    completions: int
    """Completions of the groups handed on."""
    lost: int
    """Groups that another worker had handed on first."""


class RewardActor:
    """A consumer of `rollouts`."""

    def __init__(
        self, *, config: Config, name: str, address: Address, preferences: Iterable[Preference], stacks: str = ""
    ) -> None:
        """Joins the streams.

        Args:
            config: The run's.
            name: Of this worker, unique in the run.
            address: Of the stage's streams.
            preferences: Those whose labels it joins.
            stacks: See `Heartbeat`.
        """
        self._config, self._rule = config, load_rule(config.grpo.reward)
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
        self._heartbeat = Heartbeat(address, name, every_s=every_s, hang_s=hang_s, renew_claims=self._renew, stacks=stacks)

    def ready(self) -> int:
        """Answers with the number of preferences that it can score."""
        return len(self._preferences)

    def work(self, seconds: float) -> RewardReport:
        """Score groups for about `seconds`, then report."""
        deadline = time.monotonic() + seconds
        completions = lost = 0
        with self._heartbeat.activity("score"):
            while (left := deadline - time.monotonic()) > 0:
                entries = self._inbox.claim(CLAIM, block_s=min(left, BLOCK_S))
                self._held = [entry.id for entry in entries]
                self._heartbeat.progressed()
                for entry in entries:
                    group = self._score(entry)
                    payload = None if group is None else self._encode(entry, group)
                    if group is None or payload is None:
                        continue  # a dead letter
                    if self._inbox.hand_off(entry, EXPERIENCE, payload):
                        completions += len(group.rewards)
                        self._heartbeat.done += 1
                    else:
                        lost += 1
                    self._heartbeat.progressed()
                self._held = []
        return RewardReport(completions=completions, lost=lost)

    def _renew(self) -> None:
        """Called by the heartbeat, in its thread."""
        self._inbox.renew(self._held)

    def _score(self, entry: Entry) -> ExperienceGroup | None:
        """Returns the scored group, or None when the entry went to the dead letters."""
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
        judged = [
            apply_rule(preference, permutation, completion.text, cut_short=completion.finish == "length", rule=self._rule)
            for permutation, completion in zip(prompt.permutations, rollout.completions, strict=True)
        ]
        return ExperienceGroup(
            group=prompt.group,
            preference=prompt.preference,
            issued_at=prompt.issued_at,
            responses=len(preference.question.responses),
            prompt_ids=tuple(view.token_ids for view in prompt.views),
            samples=tuple(view.samples for view in prompt.views),
            completion_ids=tuple(c.token_ids for c in rollout.completions),
            logprobs=tuple(c.logprobs for c in rollout.completions),
            versions=tuple(c.versions for c in rollout.completions),
            rewards=tuple(verdict.reward for verdict in judged),
            failures=tuple(verdict.failure for verdict in judged),
            truncated=tuple(c.finish == "length" for c in rollout.completions),
            picks=tuple(verdict.pick for verdict in judged),
            places=tuple(verdict.place for verdict in judged),
        )

    def _encode(self, entry: Entry, group: ExperienceGroup) -> bytes | None:
        """Returns the payload, or None when the entry went to the dead letters."""
        try:
            return encode(group, max_bytes=self._config.max_entry_bytes)
        except CodecError as error:
            reason = f"a scored group that cannot be handed on ({error}): raise redis.max_entry_mb"
            self._inbox.dead_letter(entry, reason)
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleVerdict:
    """What a completion comes to."""

    reward: float
    """The rule's."""
    failure: str = ""
    """Why it was not parsed; "" where it was."""
    pick: int | None = None
    """The response with the one highest score, in the preference's own order; None where there is none."""
    place: int | None = None
    """Where that response was shown."""


def apply_rule(
    preference: Preference, permutation: tuple[int, ...], text: str, *, cut_short: bool, rule: Rule = paper_rule
) -> RuleVerdict:
    """Returns what a completion comes to that has read the responses in this order.

    Whoever wrote it: the cold start's teacher is judged by it as well.

    Args:
        preference: With its label.
        permutation: permutation[shown place] = index of the response in the preference's own order.
        text: The completion.
        cut_short: Whether it was cut at the token limit, which makes it unparsable.
        rule: What rewards it.
    """
    n = len(preference.question.responses)
    read = parse_training(text, n, cut_short=cut_short)
    case = partial(JudgedCompletion, label=preference.label, n=n, completion=text)
    if isinstance(read, ParseFailure):
        return RuleVerdict(reward=rule(case(scores=None, failure=read.reason)), failure=read.reason)
    scores = unshuffle(read.scores, permutation)
    best = pick(scores)
    place = None if best is None else permutation.index(best)
    reward = rule(case(scores=scores, principles=read.principles, critique=read.critique))
    return RuleVerdict(reward=reward, pick=best, place=place)
