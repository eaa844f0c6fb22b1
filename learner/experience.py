"""Rank 0's side of the experience stream: claim, decode, refuse what cannot be trained on, pass batches to the other ranks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgpack  # type: ignore[import-untyped]

from buffer.messages import CodecError, ExperienceGroup, decode
from buffer.streams import Consumer, Entry
from learner.prompt_groups import by_prompt

CLAIM = 64  # entries claimed at a time, at most
POLL_S = 1.0  # seconds that one claim blocks at most; then the intake looks at what else may have changed


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupLimits:
    """What a learner can train on."""

    max_bytes: int
    """Largest entry, in bytes."""
    vocabulary: int
    """Token ids are below this."""
    tokens: int
    """Longest sequence: a prompt and one of its completions, in tokens."""

    def check(self, group: ExperienceGroup) -> None:
        """Raise CodecError with the first limit that the group breaks."""
        longest = max(len(prompt) + max(map(len, completions)) for prompt, completions in by_prompt([group]))
        if longest > self.tokens:
            raise CodecError(f"completion_ids: a sequence of {longest} tokens, the limit is {self.tokens}")
        largest = max(max(ids) for ids in (*group.prompt_ids, *group.completion_ids))
        if largest >= self.vocabulary:
            raise CodecError(f"token id {largest} is not in the vocabulary of {self.vocabulary}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedGroup:
    """A group with the stream entry that it came in."""

    entry_id: str
    """Id of the entry, for its acknowledgement."""
    payload: bytes
    """The entry as it was sent; the other ranks decode it again."""
    group: ExperienceGroup
    """The decoded payload."""


class Reader:
    """A learner's consumer of `experience`: decoded groups out, undecodable entries to the dead letters.

    The learner is alone in its consumer group, so its claims never lapse: they end with an acknowledgement, or its next
    process claims them again under the same name.
    """

    def __init__(self, consumer: Consumer, limits: GroupLimits) -> None:
        self._consumer, self._limits = consumer, limits

    def fence(self, incarnation: int) -> None:
        """From now on claim only while the learner has no newer incarnation."""
        self._consumer.incarnation = incarnation

    def claim(self, seconds: float, *, count: int = CLAIM) -> list[ReceivedGroup]:
        """Return up to `count` groups: at once if any have arrived, else the first that arrive within `seconds`."""
        return self._decoded(self._consumer.claim(count, block_s=seconds))

    def claimed_before(self, *, behind: str = "") -> list[ReceivedGroup]:
        """Return what earlier processes of this learner claimed and never acknowledged.

        Args:
            behind: an entry id; only later entries are returned.
        """
        return self._decoded(self._consumer.own_pending(behind=behind))

    def acknowledge(self, entries: Sequence[str]) -> None:
        """Acknowledge these entry ids: they are never delivered again."""
        self._consumer.ack(entries)

    def _decoded(self, entries: Iterable[Entry]) -> list[ReceivedGroup]:
        received = []
        for entry in entries:
            try:
                group = decode(entry.payload, ExperienceGroup, max_bytes=self._limits.max_bytes)
                self._limits.check(group)
            except CodecError as error:
                self._consumer.dead_letter(entry, str(error))
                continue
            received.append(ReceivedGroup(entry_id=entry.id, payload=entry.payload, group=group))
        return received


class UnacknowledgedEntries:
    """Ids of the entries that were trained and not acknowledged, as no checkpoint on disk contains them (I3)."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}  # in the order of training

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, in the order of training."""
        return tuple(self._ids)

    def add(self, batch: Iterable[ReceivedGroup]) -> None:
        """Add the entries of a batch that was trained on."""
        self._ids |= dict.fromkeys(received.entry_id for received in batch)

    def remove(self, entries: Iterable[str]) -> None:
        """Forget entries that were acknowledged."""
        for entry in entries:
            del self._ids[entry]


def pack(batch: Sequence[ReceivedGroup]) -> bytes:
    """Return a batch as one message for the other ranks; empty for an empty batch."""
    return bytes(msgpack.packb([received.payload for received in batch])) if batch else b""


def unpack(message: bytes, max_bytes: int) -> list[ExperienceGroup]:
    """Return the groups of a message of `pack`, in its order."""
    payloads = msgpack.unpackb(message, max_bin_len=max_bytes)
    return [decode(payload, ExperienceGroup, max_bytes=max_bytes) for payload in payloads]
