"""Rank 0's side of the experience stream: claim, decode, keep what is ready, and tally what was seen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import msgpack  # type: ignore[import-untyped]

from buffer.messages import CodecError, ExperienceGroup, decode
from buffer.streams import Consumer, Entry

CLAIM = 64
"""Entries claimed at a time, at most."""

LOOK_S = 1.0
"""How long one look at the stream blocks, in seconds; what else may have changed is looked at after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupLimits:
    """What a learner can train on: bytes of an entry, token ids below ``vocabulary``, ``tokens`` per sequence."""

    max_bytes: int
    vocabulary: int
    tokens: int

    def check(self, group: ExperienceGroup) -> None:
        """CodecError naming the first limit that the group breaks."""
        longest = len(group.prompt_ids) + max(map(len, group.completion_ids))
        if longest > self.tokens:
            raise CodecError(f"completion_ids: a sequence of {longest} tokens, the limit is {self.tokens}")
        largest = max(max(ids) for ids in (group.prompt_ids, *group.completion_ids))
        if largest >= self.vocabulary:
            raise CodecError(f"token id {largest} is not in the vocabulary of {self.vocabulary}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedGroup:
    """A group with the stream entry that brought it."""

    entry_id: str
    payload: bytes
    group: ExperienceGroup


class Reader:
    """A learner's consumer of ``experience``: decoded groups out, poison entries to the dead letters.

    The learner is alone in its consumer group, so its claims never lapse: they end with an acknowledgement, or are
    claimed again by its next process under the same name.
    """

    def __init__(self, consumer: Consumer, limits: GroupLimits) -> None:
        self._consumer, self._limits = consumer, limits

    def fence(self, incarnation: int) -> None:
        """From now on this reader claims only while there is no newer incarnation of the learner."""
        self._consumer.incarnation = incarnation

    def claim(self, seconds: float, *, count: int = CLAIM) -> list[ReceivedGroup]:
        """Up to ``count`` groups: at once if any have arrived, else whatever comes first within ``seconds``."""
        return self._decoded(self._consumer.claim(count, block_s=seconds))

    def claimed_before(self, *, behind: str = "") -> list[ReceivedGroup]:
        """What this learner had claimed and not acknowledged when it was last alive. behind: an entry's id; only later ones."""
        return self._decoded(self._consumer.own_pending(behind=behind))

    def acknowledge(self, entries: Sequence[str]) -> None:
        """These entry ids need never come back."""
        self._consumer.ack(entries)

    def _decoded(self, entries: Iterable[Entry]) -> list[ReceivedGroup]:
        arrived = []
        for entry in entries:
            try:
                group = decode(entry.payload, ExperienceGroup, max_bytes=self._limits.max_bytes)
                self._limits.check(group)
            except CodecError as error:
                self._consumer.dead_letter(entry, str(error))
                continue
            arrived.append(ReceivedGroup(entry_id=entry.id, payload=entry.payload, group=group))
        return arrived


@dataclass(kw_only=True, slots=True)
class GroupStats:
    """What arrived since the last report: every group counts, trained on or not, so nothing here is biased."""

    rewards: list[float] = field(default_factory=list)
    failures: int = 0
    groups: int = 0
    solved_all: int = 0
    solved_none: int = 0
    dropped_lengths: list[int] = field(default_factory=list)

    def add(self, group: ExperienceGroup) -> None:
        self.groups += 1
        self.rewards += group.rewards
        self.failures += sum(1 for reason in group.failures if reason)
        if not group.informative:
            self.solved_all += group.rewards[0] > 0
            self.solved_none += group.rewards[0] <= 0

    def metrics(self) -> dict[str, float]:
        """reward/mean, reward/solved_{all,none} (shares of groups), parse/failure_rate, length/dropped (tokens)."""
        metrics = {}
        if self.groups:
            metrics = {
                "reward/mean": fmean(self.rewards),
                "reward/solved_all": self.solved_all / self.groups,
                "reward/solved_none": self.solved_none / self.groups,
                "parse/failure_rate": self.failures / len(self.rewards),
            }
        if self.dropped_lengths:
            metrics["length/dropped"] = fmean(self.dropped_lengths)
        return metrics


def pack(payloads: Sequence[bytes]) -> bytes:
    """Payloads of a batch as one message for the other ranks; never empty."""
    return bytes(msgpack.packb(list(payloads)))


def unpack(message: bytes, max_bytes: int) -> list[ExperienceGroup]:
    """The groups of ``pack``, in its order."""
    payloads = msgpack.unpackb(message, max_bin_len=max_bytes)
    return [decode(payload, ExperienceGroup, max_bytes=max_bytes) for payload in payloads]
