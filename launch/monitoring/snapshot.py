"""A run at one moment, as Redis tells it to any process, whatever the driver is stuck in; and the same as rows of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from buffer.stream_state import Client, Queue, claims
from buffer.ledger import Ledger
from buffer.heartbeat import Beat, beats
from buffer.streams import ServerError
from launch.monitoring.plain_text import clean

PART_HEAD = ("part", "process", "pulse", "doing", "version", "done")
QUEUE_HEAD = ("stream", "read by", "waiting", "pending", "oldest claim", "dead letters")


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """beats: by part. outstanding: {group: issue version}. version: of the published policy. fates: see `Ledger`.
    failure: what Redis answered instead of all this, "" when it told."""

    run_id: str
    beats: Mapping[str, Beat] = field(default_factory=dict)
    queues: Sequence[Queue] = ()
    outstanding: Mapping[int, int] = field(default_factory=dict)
    version: int = 0
    fates: Mapping[str, int] = field(default_factory=dict)
    failure: str = ""

    def queue(self, stream: str, reader: str) -> Queue:
        found = [queue for queue in self.queues if (queue.stream, queue.reader) == (stream, reader)]
        return found[0] if found else Queue(stream=stream, reader=reader)

    def parts(self, role: str) -> list[Beat]:
        """The parts `role`-0, `role`-1, …"""
        numbers = {name: name.removeprefix(f"{role}-") for name in self.beats}
        own = [name for name, number in numbers.items() if number.isdigit()]
        return [self.beats[name] for name in sorted(own, key=lambda name: int(numbers[name]))]


def read(client: Client, run_id: str) -> Seen:
    """What Redis tells about the run."""
    ledger = Ledger(client, run_id)
    try:
        return Seen(
            run_id=run_id,
            beats=beats(client, run_id),
            queues=claims(client, run_id),
            outstanding=ledger.outstanding(),
            version=ledger.version(),
            fates=ledger.fates(),
        )
    except ServerError as error:
        return Seen(run_id=run_id, failure=str(error))


def standing(seen: Seen) -> str:
    """The outstanding groups by the version that they were issued at."""
    issued = Counter(seen.outstanding.values())
    said = [f"{issued[u]} of version {u} (staleness {seen.version - u})" for u in sorted(issued)]
    return f"{groups(len(seen.outstanding))} outstanding" + (f": {', '.join(said)}" if said else "")


def part_rows(seen: Seen) -> list[tuple[str, ...]]:
    """By PART_HEAD, without control characters: what a part says of itself came over the network."""
    return [_part_row(seen.beats[name]) for name in sorted(seen.beats)]


def _part_row(beat: Beat) -> tuple[str, ...]:
    doing = clean(beat.doing) + (f", {seconds(beat.stuck_s)} without progress" if beat.stuck_s >= 1 else "")
    process = clean(f"{beat.pid}@{beat.host}")
    return clean(beat.name), process, f"{seconds(beat.age_s)} ago", doing, str(beat.version), str(beat.done)


def queue_rows(seen: Seen) -> list[tuple[str, ...]]:
    """By QUEUE_HEAD."""
    return [
        (queue.stream, clean(queue.reader), str(queue.waiting), str(queue.pending), _oldest(queue), str(queue.dead))
        for queue in seen.queues
    ]


def _oldest(queue: Queue) -> str:
    if not queue.claims:
        return ""
    claim = queue.claims[0]
    again = f", claimed {claim.deliveries} times" if claim.deliveries > 1 else ""
    return clean(f"group {claim.group}: {claim.owner}, {seconds(claim.age_s)} ago{again}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose columns stand below one another."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]


def groups(count: int) -> str:
    return f"{count} group{'s' * (count != 1)}"


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
