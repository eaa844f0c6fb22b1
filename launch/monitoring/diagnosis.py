"""Who holds the others up.

    GRPO learner ◀─ waits for ─ reward actor ◀─ waits for ─ rollout actors ◀─ wait for ─ driver

The walk goes from the learner backwards and ends at the first process that others wait for and that does not do its work.

    raise TimeoutError(describe(diagnose_run(actors.redis, actors.address.run_id, config)))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buffer.heartbeat import IDLE, LastHeartbeat
from buffer.stream_state import Client, Queue
from buffer.streams import EXPERIENCE, GRPO, PROMPTS, REWARD, ROLLOUT, ROLLOUTS
from configs.schema import Config
from launch.monitoring.plain_text import clean
from launch.monitoring.snapshot import (
    PROCESS_HEAD,
    QUEUE_HEAD,
    RunSnapshot,
    groups,
    outstanding_text,
    process_rows,
    queue_rows,
    seconds,
    table,
    take_snapshot,
)
from learner.selection import SELECTORS, ReadyGroup, StalenessError

DRIVER = "driver"
REDIS = "Redis"
COLD_START = ".cold-start"  # ends the run id of its streams
JUDGING = "judge"  # what a rollout actor does in an evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """From when on something is wrong.

    credit: groups outstanding at most. batch: groups per optimiser step; 0 where nothing is trained. stale: how they are
    selected. heartbeat_s: since a beat. stuck_s: busy without progress. claim_s: since a claim was renewed, and since an entry
    came that nobody claims.
    """

    credit: int
    batch: int
    stale: str
    heartbeat_s: float
    stuck_s: float
    claim_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Bottleneck:
    """working: it does its work, and the others wait for it all the same."""

    process: str
    why: str
    working: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """bottleneck: None when nobody waits for anybody in particular."""

    snapshot: RunSnapshot
    bottleneck: Bottleneck | None


def diagnose_run(client: Client, run_id: str, config: Config) -> Diagnosis:
    """What Redis tells about the run, and who holds it up."""
    snapshot = take_snapshot(client, run_id)
    return diagnose(snapshot, thresholds(config, snapshot))


def thresholds(config: Config, snapshot: RunSnapshot) -> Thresholds:
    """Of online RL, or of the cold start, whose experience the driver itself takes in."""
    sampling = snapshot.run_id.endswith(COLD_START)
    waits = config.waits
    return Thresholds(
        credit=len(snapshot.processes(ROLLOUT)) * config.sampling_credit if sampling else config.credit,
        batch=0 if sampling else config.grpo.batch_groups,
        stale=config.grpo.stale,
        heartbeat_s=waits.heartbeat_s,
        stuck_s=min(waits.hang_s, waits.progress_s / 2),  # stuck for half of a wait that came to nothing: it is the reason
        claim_s=config.redis.claim_timeout_s,
    )


def diagnose(snapshot: RunSnapshot, thresholds: Thresholds) -> Diagnosis:
    """The first of the rules, in the order of the walk, that finds somebody."""
    rules = (_server, _driver, _learner, _reward, _rollouts, _credit, _others)
    bottleneck = next((found for rule in rules if (found := rule(snapshot, thresholds)) is not None), None)
    return Diagnosis(snapshot=snapshot, bottleneck=bottleneck)


def describe(diagnosis: Diagnosis) -> str:
    """One report: the bottleneck, the groups on their way, every process and every stream."""
    snapshot = diagnosis.snapshot
    if snapshot.failure:
        return f"run {snapshot.run_id}\n{verdict(diagnosis)}"
    head = [f"run {snapshot.run_id}: policy version {snapshot.version}, {outstanding_text(snapshot)}", verdict(diagnosis)]
    return "\n".join([*head, "", *table(PROCESS_HEAD, process_rows(snapshot)), "", *table(QUEUE_HEAD, queue_rows(snapshot))])


def verdict(diagnosis: Diagnosis) -> str:
    bottleneck = diagnosis.bottleneck
    if bottleneck is None:
        return "held up by nobody"
    return clean(f"{'waiting for' if bottleneck.working else 'held up by'} {bottleneck.process}: {bottleneck.why}")


# ---- the walk ----------------------------------------------------------------------------------------------------


def _server(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    return Bottleneck(process=REDIS, why=snapshot.failure) if snapshot.failure else None


def _driver(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    """All processes get their work from it. How long it has been waiting says nothing: it waits for others."""
    beat = snapshot.heartbeats.get(DRIVER)
    return Bottleneck(process=DRIVER, why=_silence(beat)) if beat is not None and beat.age_s > thresholds.heartbeat_s else None


def _learner(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    if not thresholds.batch:
        queue = snapshot.queue(EXPERIENCE, GRPO)
        late = queue.oldest_s > thresholds.claim_s
        return Bottleneck(process=DRIVER, why=f"takes in no experience: {_unclaimed(queue)}") if late else None
    ranks = snapshot.processes(GRPO)
    if not ranks:
        return Bottleneck(process="the GRPO learner", why="has no heartbeat: it has not come up yet, or was ended")
    if sick := _sick(ranks, thresholds):
        return sick
    ready = _ready(snapshot, thresholds)
    if not ready:
        return None
    busy = next((rank for rank in ranks if rank.activity != IDLE), None)
    if busy is None:
        return Bottleneck(process=ranks[0].name, why=f"does nothing: {ready}")
    return Bottleneck(process=busy.name, why=f"is at it ({busy.activity}): {ready}", working=True)


def _ready(snapshot: RunSnapshot, thresholds: Thresholds) -> str:
    """Why the learner could take a step now; "" when it rightly waits, by its own rule of selection."""
    queues = (snapshot.queue(PROMPTS, ROLLOUT), snapshot.queue(ROLLOUTS, REWARD))
    elsewhere = {number for queue in queues for number in (*queue.unclaimed, *(claim.group for claim in queue.claims))}
    if len(elsewhere) < sum(queue.waiting + queue.pending for queue in queues):
        return ""  # not all are listed
    # Uninformative groups are released as they arrive; they are kept only while others are due, and then it waits.
    ready = [
        ReadyGroup(group=group, issued_at=u, informative=True)
        for group, u in snapshot.outstanding.items()
        if group not in elsewhere
    ]
    bound = thresholds.credit // thresholds.batch - 1
    try:
        choice = SELECTORS[thresholds.stale](ready, snapshot.outstanding, snapshot.version, thresholds.batch, bound)
    except StalenessError as error:
        return str(error)
    return f"{len(ready)} scored groups are there, enough for a step of {thresholds.batch}" if choice.train else ""


def _reward(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    return _worker(snapshot.queue(ROLLOUTS, REWARD), snapshot.processes(REWARD), "the reward actor", snapshot, thresholds)


def _rollouts(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    return _worker(snapshot.queue(PROMPTS, ROLLOUT), snapshot.processes(ROLLOUT), "the rollout actors", snapshot, thresholds)


def _worker(
    queue: Queue, processes: Sequence[LastHeartbeat], role: str, snapshot: RunSnapshot, thresholds: Thresholds
) -> Bottleneck | None:
    """Of those that should work on the queue, the one that does not."""
    if not queue.waiting + queue.pending:
        return None
    if held := _holder(queue, snapshot, thresholds):
        return held
    if queue.oldest_s > thresholds.claim_s:
        able = [beat for beat in processes if not _sick([beat], thresholds)]
        if not able:
            return _sick(processes, thresholds) or Bottleneck(
                process=role, why=f"no heartbeat: not come up yet, or ended; {_unclaimed(queue)}"
            )
        if idle := [beat for beat in able if beat.activity == IDLE]:
            return Bottleneck(process=idle[0].name, why=f"does nothing: {_unclaimed(queue)}")
    longest = max(queue.claims, key=lambda claim: claim.since_s, default=None)
    if longest is not None and longest.since_s > thresholds.stuck_s:
        why = f"is slow, not stuck: group {longest.group} came into {queue.stream} {seconds(longest.since_s)} ago"
        return Bottleneck(process=longest.owner, why=why, working=True)
    if queue.oldest_s > thresholds.stuck_s:
        return Bottleneck(process=role, why=f"all busy and none stuck: {_unclaimed(queue)}", working=True)
    return None


def _holder(queue: Queue, snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    """Who holds an entry and will not finish it: sick, else not renewing it."""
    owners = [snapshot.heartbeats[claim.owner] for claim in queue.claims if claim.owner in snapshot.heartbeats]
    if sick := _sick(owners, thresholds):
        return Bottleneck(process=sick.process, why=f"{sick.why}; {_holding(queue, sick.process)}")
    for claim in queue.claims:
        if claim.age_s > thresholds.claim_s:
            beats = claim.owner in snapshot.heartbeats
            why = "beats, but does not renew its claims" if beats else "has no heartbeat, nobody took its claims over"
            return Bottleneck(process=claim.owner, why=f"{why} ({seconds(claim.age_s)}); {_holding(queue, claim.owner)}")
    return None


def _holding(queue: Queue, owner: str) -> str:
    held = [claim.group for claim in queue.claims if claim.owner == owner]
    return f"it holds {groups(len(held))} of {queue.stream}, the oldest is group {held[0]}"


def _credit(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    """There is credit and nothing on its way: the driver issues nothing, unless it waits for a judgement itself."""
    on_its_way = any(queue.waiting + queue.pending for queue in snapshot.queues if queue.stream != EXPERIENCE)
    if on_its_way or len(snapshot.outstanding) >= thresholds.credit:
        return None
    workers = [*snapshot.processes(ROLLOUT), *snapshot.processes(REWARD)]
    if sick := _sick(workers, thresholds):
        return sick
    if judging := [beat for beat in workers if beat.activity == JUDGING]:
        return Bottleneck(process=judging[0].name, why="is at an evaluation", working=True)
    return Bottleneck(
        process=DRIVER, why=f"issues no prompt: {len(snapshot.outstanding)} of {groups(thresholds.credit)} outstanding"
    )


def _others(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    """Whom nobody waits for at this moment, such as the meta-RM learner."""
    return _sick([beat for name, beat in snapshot.heartbeats.items() if name != DRIVER], thresholds)


def _sick(processes: Iterable[LastHeartbeat], thresholds: Thresholds) -> Bottleneck | None:
    """Who has been silent for longest, else who has been stuck for longest: it may be waiting for a silent one."""
    processes = list(processes)
    if silent := [beat for beat in processes if beat.age_s > thresholds.heartbeat_s]:
        worst = max(silent, key=lambda beat: beat.age_s)
        return Bottleneck(process=worst.name, why=_silence(worst))
    if stuck := [beat for beat in processes if beat.stuck_s > thresholds.stuck_s]:
        worst = max(stuck, key=lambda beat: beat.stuck_s)
        return Bottleneck(process=worst.name, why=f"hangs: {worst.activity}, for {seconds(worst.stuck_s)} without progress")
    return None


def _silence(beat: LastHeartbeat) -> str:
    return f"has not beaten for {seconds(beat.age_s)} (last at: {beat.activity}): killed, stopped or cut off"


def _unclaimed(queue: Queue) -> str:
    waits = "waits" if queue.waiting == 1 else "wait"
    return f"{groups(queue.waiting)} of {queue.stream} {waits} unclaimed, the oldest for {seconds(queue.oldest_s)}"
