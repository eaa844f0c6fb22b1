"""Finds the process that holds the others up.

    GRPO learner ◀─ waits for ─ reward actor ◀─ waits for ─ rollout actors ◀─ wait for ─ driver

The walk starts at the learner, goes backwards, and ends at the first process that others wait for and that makes no progress.

    raise TimeoutError(describe(diagnose_run(actors.redis, actors.address.run_id, config)))
"""

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
    groups_text,
    outstanding_text,
    process_rows,
    queue_rows,
    reasons_text,
    seconds_text,
    table,
    take_snapshot,
    workers_text,
)
from learner.selection import SELECTORS, ReadyGroup, StalenessError

DRIVER = "driver"  # its process name
REDIS = "Redis"
COLD_START = ".cold-start"  # suffix of a cold start's run id
JUDGING = "judge"  # activity of a rollout actor during an evaluation
LEAST_SETTLED = 32  # groups; fewer tell little about the data


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """The limits beyond which something counts as wrong."""

    credit: int
    """Groups outstanding at most."""
    batch: int
    """Groups per optimiser step; 0 where nothing is trained."""
    stale: str
    """How the learner selects groups: a key of `SELECTORS`."""
    heartbeat_s: float
    """Seconds since the last heartbeat after which a process counts as silent."""
    stuck_s: float
    """Seconds of activity without progress after which a process counts as stuck."""
    claim_s: float
    """Seconds that a claim may go unrenewed, and an entry unclaimed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bottleneck:
    """The process that the others wait for."""

    process: str
    """Its name, its role when no process of that role is running, or what the learner waits for while all processes work."""
    reason: str
    """What is wrong with it, or what it is busy with."""
    busy: bool = False
    """True when it makes progress, and the others wait for it all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """A snapshot of a run, and what holds it up."""

    snapshot: RunSnapshot
    """The state that the diagnosis rests on."""
    bottleneck: Bottleneck | None
    """None when no process holds the others up."""


def diagnose_run(client: Client, run_id: str, config: Config) -> Diagnosis:
    """Read the run's state from Redis, and find its bottleneck."""
    snapshot = take_snapshot(client, run_id)
    return diagnose(snapshot, thresholds(config, snapshot))


def thresholds(config: Config, snapshot: RunSnapshot) -> Thresholds:
    """Returns the thresholds of online RL, or of a cold start, whose experience the driver itself consumes."""
    sampling = snapshot.run_id.endswith(COLD_START)
    waits = config.waits
    return Thresholds(
        credit=len(snapshot.processes(ROLLOUT)) * config.sampling_credit if sampling else config.credit,
        batch=0 if sampling else config.grpo.batch_groups,
        stale=config.grpo.stale,
        heartbeat_s=waits.heartbeat_s,
        stuck_s=min(waits.hang_s, waits.progress_s / 2),  # a process stuck for half of a failed wait is its cause
        claim_s=config.redis.claim_timeout_s,
    )


def diagnose(snapshot: RunSnapshot, thresholds: Thresholds) -> Diagnosis:
    """Apply the rules in the order of the walk; the first one that finds a bottleneck decides."""
    walk = (_failed_server, _silent_driver, _learner, _reward_actor, _rollout_actors, _useless_groups, _unused_credit)
    results = (rule(snapshot, thresholds) for rule in (*walk, _remaining_processes))
    return Diagnosis(snapshot=snapshot, bottleneck=next((result for result in results if result is not None), None))


def describe(diagnosis: Diagnosis) -> str:
    """Write the report: the bottleneck, the outstanding groups, every process and every stream, and why groups were lost."""
    snapshot = diagnosis.snapshot
    if snapshot.failure:
        return f"run {snapshot.run_id}\n{verdict(diagnosis)}"
    head = [f"run {snapshot.run_id}: policy version {snapshot.version}, {outstanding_text(snapshot)}", verdict(diagnosis)]
    head += [text] if (text := workers_text(snapshot)) else []
    tables = [*table(PROCESS_HEAD, process_rows(snapshot)), "", *table(QUEUE_HEAD, queue_rows(snapshot))]
    dead = [f"\nnewest dead letters: {reasons_text(snapshot.dead_reasons)}"] if snapshot.dead_reasons else []
    return "\n".join([*head, "", *tables, *dead])


def verdict(diagnosis: Diagnosis) -> str:
    """Name the bottleneck in one line."""
    bottleneck = diagnosis.bottleneck
    if bottleneck is None:
        return "no bottleneck found"
    return clean(f"{'waiting for' if bottleneck.busy else 'held up by'} {bottleneck.process}: {bottleneck.reason}")


# ---- the rules, in the order of the walk -------------------------------------------------------------------------


def _failed_server(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    return Bottleneck(process=REDIS, reason=snapshot.failure) if snapshot.failure else None


def _silent_driver(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    """All processes get their work from the driver. A long wait of its own means nothing: it waits for others."""
    heartbeat = snapshot.heartbeats.get(DRIVER)
    if heartbeat is None or heartbeat.age_s <= thresholds.heartbeat_s:
        return None
    return Bottleneck(process=DRIVER, reason=_silence_text(heartbeat))


def _learner(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    if not thresholds.batch:
        return _driver_as_consumer(snapshot, thresholds)
    ranks = snapshot.processes(GRPO)
    if not ranks:
        return Bottleneck(process="the GRPO learner", reason="no heartbeat: it is still starting, or has ended")
    if unhealthy := _worst(ranks, thresholds):
        return unhealthy
    ready = _ready_step_text(snapshot, thresholds)
    if not ready:
        return None
    busy = next((rank for rank in ranks if rank.activity != IDLE), None)
    if busy is None:
        return Bottleneck(process=ranks[0].name, reason=f"idle: {ready}")
    return Bottleneck(process=busy.name, reason=f"busy ({busy.activity}): {ready}", busy=True)


def _driver_as_consumer(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    """In a cold start the driver consumes the experience."""
    queue = snapshot.queue(EXPERIENCE, GRPO)
    late = queue.oldest_s > thresholds.claim_s
    return Bottleneck(process=DRIVER, reason=f"consumes no experience: {_unclaimed_text(queue)}") if late else None


def _ready_step_text(snapshot: RunSnapshot, thresholds: Thresholds) -> str:
    """Returns why the learner could take a step now, by its own selection rule; "" when it is right to wait."""
    queues = (snapshot.queue(PROMPTS, ROLLOUT), snapshot.queue(ROLLOUTS, REWARD))
    in_queues = {number for queue in queues for number in (*queue.unclaimed, *(claim.group for claim in queue.claims))}
    if len(in_queues) < sum(queue.waiting + queue.pending for queue in queues):
        return ""  # not all are listed
    # The learner settles uninformative groups as they arrive. It keeps them only while others are due, and then it waits.
    ready = [
        ReadyGroup(group=group, issued_at=u, trainable=True)
        for group, u in snapshot.outstanding.items()
        if group not in in_queues
    ]
    bound = thresholds.credit // thresholds.batch - 1
    try:
        choice = SELECTORS[thresholds.stale](ready, snapshot.outstanding, snapshot.version, thresholds.batch, bound)
    except StalenessError as error:
        return str(error)
    return f"{len(ready)} scored groups are ready, enough for a step of {thresholds.batch}" if choice.train else ""


def _reward_actor(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    queue, processes = snapshot.queue(ROLLOUTS, REWARD), snapshot.processes(REWARD)
    return _consumer(queue, processes, "the reward actor", snapshot, thresholds)


def _rollout_actors(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    queue, processes = snapshot.queue(PROMPTS, ROLLOUT), snapshot.processes(ROLLOUT)
    return _consumer(queue, processes, "the rollout actors", snapshot, thresholds)


def _useless_groups(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    """Every process works, and nothing comes of it: most groups became dead letters, or not one could be trained on."""
    settled = {outcome: snapshot.outcomes.get(outcome, 0) for outcome in ("trained", "filtered", "dropped", "dead_letter")}
    total, dead = sum(settled.values()), settled["dead_letter"]
    if total < max(thresholds.credit, LEAST_SETTLED):
        return None
    if 2 * dead > total:
        reason = f"{dead} of {groups_text(total)} became dead letters ({reasons_text(snapshot.dead_reasons)})"
        return Bottleneck(process="usable groups", reason=reason, busy=True)
    if thresholds.batch and not settled["trained"]:
        reason = f"{settled['filtered']} of {groups_text(total)} were filtered, as all rewards of each were equal, none trained"
        return Bottleneck(process="informative groups", reason=reason, busy=True)
    return None


def _unused_credit(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    """With credit left and no group under way, the driver issues nothing, unless an evaluation is what it waits for."""
    under_way = any(queue.waiting + queue.pending for queue in snapshot.queues if queue.stream != EXPERIENCE)
    if under_way or len(snapshot.outstanding) >= thresholds.credit:
        return None
    workers = [*snapshot.processes(ROLLOUT), *snapshot.processes(REWARD)]
    if unhealthy := _worst(workers, thresholds):
        return unhealthy
    if judging := [worker for worker in workers if worker.activity == JUDGING]:
        return Bottleneck(process=judging[0].name, reason="busy (evaluation)", busy=True)
    outstanding = f"{len(snapshot.outstanding)} of {groups_text(thresholds.credit)} outstanding"
    return Bottleneck(process=DRIVER, reason=f"issues no prompts: {outstanding}")


def _remaining_processes(snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    """Processes that no other waits for at this moment; the meta-RM learner is one."""
    return _worst((heartbeat for name, heartbeat in snapshot.heartbeats.items() if name != DRIVER), thresholds)


# ---- what the rules share ----------------------------------------------------------------------------------------


def _consumer(
    queue: Queue, processes: Sequence[LastHeartbeat], role: str, snapshot: RunSnapshot, thresholds: Thresholds
) -> Bottleneck | None:
    """Of the processes that should work on the queue, find the one that does not."""
    if not queue.waiting + queue.pending:
        return None
    if owner := _failing_owner(queue, snapshot, thresholds):
        return owner
    if queue.oldest_s > thresholds.claim_s:
        healthy = [process for process in processes if not _worst([process], thresholds)]
        if not healthy:
            missing = f"no heartbeat: still starting, or ended; {_unclaimed_text(queue)}"
            return _worst(processes, thresholds) or Bottleneck(process=role, reason=missing)
        if idle := [process for process in healthy if process.activity == IDLE]:
            return Bottleneck(process=idle[0].name, reason=f"idle: {_unclaimed_text(queue)}")
    longest = max(queue.claims, key=lambda claim: claim.since_s, default=None)
    if longest is not None and longest.since_s > thresholds.stuck_s:
        reason = f"slow, not stuck: group {longest.group} entered {queue.stream} {seconds_text(longest.since_s)} ago"
        return Bottleneck(process=longest.owner, reason=reason, busy=True)
    if queue.oldest_s > thresholds.stuck_s:
        return Bottleneck(process=role, reason=f"all busy and none stuck: {_unclaimed_text(queue)}", busy=True)
    return None


def _failing_owner(queue: Queue, snapshot: RunSnapshot, thresholds: Thresholds) -> Bottleneck | None:
    """Find an owner of a claim that will not finish it: one that is silent or stuck, else one that stopped renewing it."""
    owners = [snapshot.heartbeats[claim.owner] for claim in queue.claims if claim.owner in snapshot.heartbeats]
    if worst := _worst(owners, thresholds):
        return Bottleneck(process=worst.process, reason=f"{worst.reason}; {_claims_text(queue, worst.process)}")
    for claim in queue.claims:
        if claim.age_s > thresholds.claim_s:
            alive = claim.owner in snapshot.heartbeats
            state = "sends heartbeats, but does not renew its claims" if alive else "no heartbeat, and its claims are orphaned"
            reason = f"{state} (for {seconds_text(claim.age_s)}); {_claims_text(queue, claim.owner)}"
            return Bottleneck(process=claim.owner, reason=reason)
    return None


def _worst(processes: Iterable[LastHeartbeat], thresholds: Thresholds) -> Bottleneck | None:
    """Find the process that is silent for longest, else the one stuck for longest: it may be waiting for a silent one."""
    processes = list(processes)
    if silent := [process for process in processes if process.age_s > thresholds.heartbeat_s]:
        worst = max(silent, key=lambda process: process.age_s)
        return Bottleneck(process=worst.name, reason=_silence_text(worst))
    if stuck := [process for process in processes if process.stuck_s > thresholds.stuck_s]:
        worst = max(stuck, key=lambda process: process.stuck_s)
        return Bottleneck(
            process=worst.name, reason=f"stuck: no progress for {seconds_text(worst.stuck_s)} (activity: {worst.activity})"
        )
    return None


def _silence_text(heartbeat: LastHeartbeat) -> str:
    since = seconds_text(heartbeat.age_s)
    return f"silent for {since} (last activity: {heartbeat.activity}): killed, stopped or disconnected"


def _unclaimed_text(queue: Queue) -> str:
    return f"{groups_text(queue.waiting)} unclaimed in {queue.stream}, the oldest for {seconds_text(queue.oldest_s)}"


def _claims_text(queue: Queue, owner: str) -> str:
    claimed = [claim.group for claim in queue.claims if claim.owner == owner]
    return f"it holds {groups_text(len(claimed))} of {queue.stream}, the oldest is group {claimed[0]}"
