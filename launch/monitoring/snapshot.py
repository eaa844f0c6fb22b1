"""A run at one moment, as Redis tells it to any process, whatever the driver is stuck in; and the same as rows of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from buffer.heartbeat import LastHeartbeat, last_heartbeats
from buffer.ledger import Ledger
from buffer.stream_state import Client, Queue, read_queues
from buffer.streams import ServerError
from launch.monitoring.plain_text import clean

PROCESS_HEAD = ("process", "pid and host", "heartbeat", "activity", "version", "done")
QUEUE_HEAD = ("stream", "read by", "waiting", "pending", "oldest claim", "dead letters")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSnapshot:
    """heartbeats: by process. outstanding: {group: issue version}. version: of the published policy. outcomes: see `Ledger`.
    failure: what Redis answered instead of all this, "" when it told."""

    run_id: str
    heartbeats: Mapping[str, LastHeartbeat] = field(default_factory=dict)
    queues: Sequence[Queue] = ()
    outstanding: Mapping[int, int] = field(default_factory=dict)
    version: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    failure: str = ""

    def queue(self, stream: str, reader: str) -> Queue:
        found = [queue for queue in self.queues if (queue.stream, queue.reader) == (stream, reader)]
        return found[0] if found else Queue(stream=stream, reader=reader)

    def processes(self, role: str) -> list[LastHeartbeat]:
        """The processes `role`-0, `role`-1, …"""
        numbers = {name: name.removeprefix(f"{role}-") for name in self.heartbeats}
        own = [name for name, number in numbers.items() if number.isdigit()]
        return [self.heartbeats[name] for name in sorted(own, key=lambda name: int(numbers[name]))]


def take_snapshot(client: Client, run_id: str) -> RunSnapshot:
    """What Redis tells about the run."""
    ledger = Ledger(client, run_id)
    try:
        return RunSnapshot(
            run_id=run_id,
            heartbeats=last_heartbeats(client, run_id),
            queues=read_queues(client, run_id),
            outstanding=ledger.outstanding(),
            version=ledger.version(),
            outcomes=ledger.outcomes(),
        )
    except ServerError as error:
        return RunSnapshot(run_id=run_id, failure=str(error))


def outstanding_text(snapshot: RunSnapshot) -> str:
    """The outstanding groups by the version that they were issued at."""
    issued = Counter(snapshot.outstanding.values())
    said = [f"{issued[u]} of version {u} (staleness {snapshot.version - u})" for u in sorted(issued)]
    return f"{groups(len(snapshot.outstanding))} outstanding" + (f": {', '.join(said)}" if said else "")


def process_rows(snapshot: RunSnapshot) -> list[tuple[str, ...]]:
    """By PROCESS_HEAD, without control characters: what a process says of itself came over the network."""
    return [_process_row(snapshot.heartbeats[name]) for name in sorted(snapshot.heartbeats)]


def _process_row(beat: LastHeartbeat) -> tuple[str, ...]:
    activity = clean(beat.activity) + (f", {seconds(beat.stuck_s)} without progress" if beat.stuck_s >= 1 else "")
    process = clean(f"{beat.pid}@{beat.host}")
    return clean(beat.name), process, f"{seconds(beat.age_s)} ago", activity, str(beat.version), str(beat.done)


def queue_rows(snapshot: RunSnapshot) -> list[tuple[str, ...]]:
    """By QUEUE_HEAD."""
    return [
        (queue.stream, clean(queue.reader), str(queue.waiting), str(queue.pending), _oldest(queue), str(queue.dead))
        for queue in snapshot.queues
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
