"""Snapshots of a run, made by hand."""

from dataclasses import replace

from buffer.heartbeat import IDLE, LastHeartbeat
from buffer.stream_state import Claim, Queue
from buffer.streams import EXPERIENCE, GRPO, META_RM, PROMPTS, REWARD, ROLLOUT, ROLLOUTS
from launch.monitoring.diagnosis import Thresholds
from launch.monitoring.snapshot import RunSnapshot

TRAINING = Thresholds(credit=4, batch=2, stale="wait", heartbeat_s=20, stuck_s=60, claim_s=10)  # eta = 1
COLD_START = Thresholds(credit=64, batch=0, stale="wait", heartbeat_s=20, stuck_s=60, claim_s=10)


def heartbeat(name: str, activity: str = IDLE, *, age_s: float = 0.5, stuck_s: float = 0.0, version: int = 7) -> LastHeartbeat:
    return LastHeartbeat(
        name=name, host="node-a", pid=4711, age_s=age_s, activity=activity, stuck_s=stuck_s, version=version, done=12, stacks=""
    )


def claim(group: int | None, owner: str, *, age_s: float = 1.0, since_s: float = 5.0, deliveries: int = 1) -> Claim:
    return Claim(id=f"1-{group}", group=group, owner=owner, age_s=age_s, since_s=since_s, deliveries=deliveries)


def prompts(*held: Claim, unclaimed: tuple[int, ...] = (), oldest_s: float = 0.0) -> Queue:
    return _queue(PROMPTS, ROLLOUT, held, unclaimed, oldest_s)


def rollouts(*held: Claim, unclaimed: tuple[int, ...] = (), oldest_s: float = 0.0) -> Queue:
    return _queue(ROLLOUTS, REWARD, held, unclaimed, oldest_s)


def experience(*held: Claim, unclaimed: tuple[int, ...] = (), oldest_s: float = 0.0, reader: str = GRPO) -> Queue:
    return _queue(EXPERIENCE, reader, held, unclaimed, oldest_s)


def _queue(stream: str, reader: str, held: tuple[Claim, ...], unclaimed: tuple[int, ...], oldest_s: float) -> Queue:
    return Queue(
        stream=stream,
        reader=reader,
        waiting=len(unclaimed),
        oldest_s=oldest_s,
        unclaimed=unclaimed,
        pending=len(held),
        claims=held,
    )


def run(
    *heartbeats: LastHeartbeat, queues: tuple[Queue, ...] = (), outstanding: dict[int, int] | None = None, version: int = 7
) -> RunSnapshot:
    """A run at version 7 with these processes besides healthy ones: four groups outstanding, all of them being rolled out."""
    usual = [
        heartbeat("driver"),
        heartbeat("grpo-0"),
        heartbeat("meta-rm-0"),
        heartbeat("reward-0", "score"),
        heartbeat("rollout-0", "roll out"),
    ]
    by_name = {process.name: process for process in (*usual, *heartbeats)}
    all_claimed = prompts(*(claim(group, "rollout-0") for group in range(4)))
    by_stream = {queue.stream: queue for queue in (all_claimed, rollouts(), experience(), *queues)}
    return RunSnapshot(
        run_id="tiny-1",
        heartbeats=by_name,
        queues=(*by_stream.values(), experience(reader=META_RM)),
        outstanding={0: 7, 1: 7, 2: 7, 3: 7} if outstanding is None else outstanding,
        version=version,
    )


def without(snapshot: RunSnapshot, *names: str) -> RunSnapshot:
    heartbeats = {name: process for name, process in snapshot.heartbeats.items() if name not in names}
    return replace(snapshot, heartbeats=heartbeats)
