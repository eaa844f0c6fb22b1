"""A run at one moment, as Redis shows it to any process, and the same as rows of text.

Redis is read directly, so the snapshot is there whatever the driver is stuck in.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from buffer.heartbeat import LastHeartbeat, last_heartbeats
from buffer.ledger import Ledger
from buffer.rollout_target import rollout_target
from buffer.stream_state import Client, Queue, newest_dead_reasons, read_queues
from buffer.streams import ServerError
from launch.monitoring.plain_text import clean

PROCESS_HEAD = ("process", "pid and host", "heartbeat", "activity", "version", "done")
QUEUE_HEAD = ("stream", "read by", "waiting", "pending", "oldest claim", "dead")

KINDS, LONGEST = 3, 300  # reasons of dead letters that are quoted, and characters of each


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSnapshot:
    """The heartbeats, streams and ledger of a run at one moment."""

    run_id: str
    """Id under which the streams live; a cold start has its own."""
    heartbeats: Mapping[str, LastHeartbeat] = field(default_factory=dict)
    """Last heartbeat of each process, by its name."""
    queues: Sequence[Queue] = ()
    """Each stream as each of its consumer groups sees it."""
    outstanding: Mapping[int, int] = field(default_factory=dict)
    """{group: version at issue} of the groups that are not settled yet."""
    version: int = 0
    """Version of the newest published policy."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """{outcome: groups}, see `Ledger.outcomes`."""
    rollout_target: int | None = None
    """Rollout workers that were asked for; None: as many as the configuration says."""
    dead_reasons: Sequence[str] = ()
    """Reasons of the newest dead letters, newest first."""
    failure: str = ""
    """Redis' error, when it could not be read; "" otherwise."""

    def queue(self, stream: str, reader: str) -> Queue:
        """Returns a stream as one consumer group sees it; an empty queue when there is none."""
        matching = (queue for queue in self.queues if (queue.stream, queue.reader) == (stream, reader))
        return next(matching, Queue(stream=stream, reader=reader))

    def processes(self, role: str) -> list[LastHeartbeat]:
        """Returns the heartbeats of `role`-0, `role`-1, … by ascending number."""
        numbers = {name: name.removeprefix(f"{role}-") for name in self.heartbeats}
        of_role = [name for name, number in numbers.items() if number.isdigit()]
        return [self.heartbeats[name] for name in sorted(of_role, key=lambda name: int(numbers[name]))]


def take_snapshot(client: Client, run_id: str) -> RunSnapshot:
    """Read the run's state from Redis; a server that fails is reported in `failure`."""
    ledger = Ledger(client, run_id)
    try:
        return RunSnapshot(
            run_id=run_id,
            heartbeats=last_heartbeats(client, run_id),
            queues=read_queues(client, run_id),
            outstanding=ledger.outstanding(),
            version=ledger.version(),
            outcomes=ledger.outcomes(),
            rollout_target=rollout_target(client, run_id),
            dead_reasons=newest_dead_reasons(client, run_id),
        )
    except ServerError as error:
        return RunSnapshot(run_id=run_id, failure=str(error))


def outstanding_text(snapshot: RunSnapshot) -> str:
    """Count the outstanding groups by their version at issue."""
    counts = Counter(snapshot.outstanding.values())
    by_version = [f"{counts[u]} of version {u} (staleness {snapshot.version - u})" for u in sorted(counts)]
    return f"{groups_text(len(snapshot.outstanding))} outstanding" + (f": {', '.join(by_version)}" if by_version else "")


def workers_text(snapshot: RunSnapshot) -> str:
    """Returns how many rollout workers there are beside how many were asked for; "" where these are the same."""
    there, target = len(snapshot.processes("rollout")), snapshot.rollout_target
    return "" if target in (None, there) else f"rollout workers: {there} there, {target} asked for"


def process_rows(snapshot: RunSnapshot) -> list[tuple[str, ...]]:
    """Returns a row by PROCESS_HEAD for each process, without control characters: heartbeats come over the network."""
    return [_process_row(snapshot.heartbeats[name]) for name in sorted(snapshot.heartbeats)]


def _process_row(heartbeat: LastHeartbeat) -> tuple[str, ...]:
    stuck = f", {seconds_text(heartbeat.stuck_s)} without progress" if heartbeat.stuck_s >= 1 else ""
    return (
        clean(heartbeat.name),
        clean(f"{heartbeat.pid}@{heartbeat.host}"),
        f"{seconds_text(heartbeat.age_s)} ago",
        clean(heartbeat.activity) + stuck,
        str(heartbeat.version),
        str(heartbeat.done),
    )


def queue_rows(snapshot: RunSnapshot) -> list[tuple[str, ...]]:
    """Returns a row by QUEUE_HEAD for each stream and consumer group."""
    return [
        (
            queue.stream,
            clean(queue.reader),
            str(queue.waiting),
            str(queue.pending),
            _oldest_claim_text(queue),
            str(queue.dead),
        )
        for queue in snapshot.queues
    ]


def reasons_text(reasons: Sequence[str]) -> str:
    """Returns the commonest reasons of dead letters with their numbers, those that differ in numbers alone taken together;
    cleaned, as a reason quotes what came in.

    >>> reasons_text(["group 8: too long", "group 7: too long", "not readable"])
    '2 x group 8: too long; 1 x not readable'
    """
    kinds = Counter(re.sub(r"\d+", "#", reason) for reason in reasons)
    examples = {re.sub(r"\d+", "#", reason): reason for reason in reversed(reasons)}
    return "; ".join(f"{count} x {clean(examples[kind])[:LONGEST]}" for kind, count in kinds.most_common(KINDS))


def _oldest_claim_text(queue: Queue) -> str:
    if not queue.claims:
        return ""
    claim = queue.claims[0]
    again = f", claimed {claim.deliveries} times" if claim.deliveries > 1 else ""
    return clean(f"group {claim.group}: {claim.owner}, {seconds_text(claim.age_s)} ago{again}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns lines whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]


def groups_text(count: int) -> str:
    return f"{count} group{'s' * (count != 1)}"


def seconds_text(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
