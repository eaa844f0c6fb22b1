"""Who holds the others up.

    GRPO learner ◀─ waits for ─ reward actor ◀─ waits for ─ rollout actors ◀─ wait for ─ driver

The walk goes from the learner backwards and ends at the first part that others wait for and that does not do its work.

    raise TimeoutError(describe(gather(crew.redis, crew.address.run_id, config)))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buffer.stream_state import Client, Queue
from buffer.heartbeat import IDLE, Beat
from buffer.streams import EXPERIENCE, GRPO, PROMPTS, REWARD, ROLLOUT, ROLLOUTS
from configs.schema import Config
from launch.monitoring.plain_text import clean
from launch.monitoring.snapshot import (
    PART_HEAD,
    QUEUE_HEAD,
    Seen,
    groups,
    part_rows,
    queue_rows,
    read,
    seconds,
    standing,
    table,
)
from learner.selection import SELECTORS, ReadyGroup, StalenessError

DRIVER = "driver"
REDIS = "Redis"
COLD_START = ".cold-start"  # ends the run id of its streams
JUDGING = "judge"  # what a rollout actor does in an evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """From when on something is wrong.

    credit: groups outstanding at most. batch: groups per optimiser step; 0 where nothing is trained. stale: how they are
    selected. pulse_s: since a beat. stuck_s: busy without progress. claim_s: since a claim was renewed, and since an entry
    came that nobody claims.
    """

    credit: int
    batch: int
    stale: str
    pulse_s: float
    stuck_s: float
    claim_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Culprit:
    """working: it does its work, and the others wait for it all the same."""

    part: str
    why: str
    working: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """culprit: None when nobody waits for anybody in particular."""

    seen: Seen
    culprit: Culprit | None


def gather(client: Client, run_id: str, config: Config) -> Diagnosis:
    """What Redis tells about the run, and who holds it up."""
    seen = read(client, run_id)
    return diagnose(seen, limits(config, seen))


def limits(config: Config, seen: Seen) -> Limits:
    """Of online RL, or of the cold start, whose experience the driver itself takes in."""
    sampling = seen.run_id.endswith(COLD_START)
    waits = config.waits
    return Limits(
        credit=len(seen.parts(ROLLOUT)) * config.sampling_credit if sampling else config.credit,
        batch=0 if sampling else config.grpo.batch_groups,
        stale=config.grpo.stale,
        pulse_s=waits.pulse_s,
        stuck_s=min(waits.hang_s, waits.progress_s / 2),  # stuck for half of a wait that came to nothing: it is the reason
        claim_s=config.redis.claim_timeout_s,
    )


def diagnose(seen: Seen, limits: Limits) -> Diagnosis:
    """The first of the rules, in the order of the walk, that finds somebody."""
    rules = (_server, _driver, _learner, _reward, _rollouts, _credit, _others)
    culprit = next((found for rule in rules if (found := rule(seen, limits)) is not None), None)
    return Diagnosis(seen=seen, culprit=culprit)


def describe(diagnosis: Diagnosis) -> str:
    """One report: the culprit, the groups on their way, every part and every stream."""
    seen = diagnosis.seen
    if seen.failure:
        return f"run {seen.run_id}\n{verdict(diagnosis)}"
    head = [f"run {seen.run_id}: policy version {seen.version}, {standing(seen)}", verdict(diagnosis)]
    return "\n".join([*head, "", *table(PART_HEAD, part_rows(seen)), "", *table(QUEUE_HEAD, queue_rows(seen))])


def verdict(diagnosis: Diagnosis) -> str:
    culprit = diagnosis.culprit
    if culprit is None:
        return "held up by nobody"
    return clean(f"{'waiting for' if culprit.working else 'held up by'} {culprit.part}: {culprit.why}")


# ---- the walk ----------------------------------------------------------------------------------------------------


def _server(seen: Seen, limits: Limits) -> Culprit | None:
    return Culprit(part=REDIS, why=seen.failure) if seen.failure else None


def _driver(seen: Seen, limits: Limits) -> Culprit | None:
    """All parts get their work from it. How long it has been waiting says nothing: it waits for others."""
    beat = seen.beats.get(DRIVER)
    return Culprit(part=DRIVER, why=_silence(beat)) if beat is not None and beat.age_s > limits.pulse_s else None


def _learner(seen: Seen, limits: Limits) -> Culprit | None:
    if not limits.batch:
        queue = seen.queue(EXPERIENCE, GRPO)
        late = queue.oldest_s > limits.claim_s
        return Culprit(part=DRIVER, why=f"takes in no experience: {_unclaimed(queue)}") if late else None
    ranks = seen.parts(GRPO)
    if not ranks:
        return Culprit(part="the GRPO learner", why="has no pulse: it has not come up yet, or was ended")
    if sick := _sick(ranks, limits):
        return sick
    ready = _ready(seen, limits)
    if not ready:
        return None
    busy = next((rank for rank in ranks if rank.doing != IDLE), None)
    if busy is None:
        return Culprit(part=ranks[0].name, why=f"does nothing: {ready}")
    return Culprit(part=busy.name, why=f"is at it ({busy.doing}): {ready}", working=True)


def _ready(seen: Seen, limits: Limits) -> str:
    """Why the learner could take a step now; "" when it rightly waits, by its own rule of selection."""
    queues = (seen.queue(PROMPTS, ROLLOUT), seen.queue(ROLLOUTS, REWARD))
    elsewhere = {number for queue in queues for number in (*queue.unclaimed, *(claim.group for claim in queue.claims))}
    if len(elsewhere) < sum(queue.waiting + queue.pending for queue in queues):
        return ""  # not all are listed
    # Uninformative groups are released as they arrive; they are kept only while others are due, and then it waits.
    ready = [
        ReadyGroup(group=group, issued_at=u, informative=True)
        for group, u in seen.outstanding.items()
        if group not in elsewhere
    ]
    bound = limits.credit // limits.batch - 1
    try:
        choice = SELECTORS[limits.stale](ready, seen.outstanding, seen.version, limits.batch, bound)
    except StalenessError as error:
        return str(error)
    return f"{len(ready)} scored groups are there, enough for a step of {limits.batch}" if choice.train else ""


def _reward(seen: Seen, limits: Limits) -> Culprit | None:
    return _worker(seen.queue(ROLLOUTS, REWARD), seen.parts(REWARD), "the reward actor", seen, limits)


def _rollouts(seen: Seen, limits: Limits) -> Culprit | None:
    return _worker(seen.queue(PROMPTS, ROLLOUT), seen.parts(ROLLOUT), "the rollout actors", seen, limits)


def _worker(queue: Queue, parts: Sequence[Beat], role: str, seen: Seen, limits: Limits) -> Culprit | None:
    """Of those that should work on the queue, the one that does not."""
    if not queue.waiting + queue.pending:
        return None
    if held := _holder(queue, seen, limits):
        return held
    if queue.oldest_s > limits.claim_s:
        able = [beat for beat in parts if not _sick([beat], limits)]
        if not able:
            return _sick(parts, limits) or Culprit(part=role, why=f"no pulse: not come up yet, or ended; {_unclaimed(queue)}")
        if idle := [beat for beat in able if beat.doing == IDLE]:
            return Culprit(part=idle[0].name, why=f"does nothing: {_unclaimed(queue)}")
    longest = max(queue.claims, key=lambda claim: claim.since_s, default=None)
    if longest is not None and longest.since_s > limits.stuck_s:
        why = f"is slow, not stuck: group {longest.group} came into {queue.stream} {seconds(longest.since_s)} ago"
        return Culprit(part=longest.owner, why=why, working=True)
    if queue.oldest_s > limits.stuck_s:
        return Culprit(part=role, why=f"all busy and none stuck: {_unclaimed(queue)}", working=True)
    return None


def _holder(queue: Queue, seen: Seen, limits: Limits) -> Culprit | None:
    """Who holds an entry and will not finish it: sick, else not renewing it."""
    owners = [seen.beats[claim.owner] for claim in queue.claims if claim.owner in seen.beats]
    if sick := _sick(owners, limits):
        return Culprit(part=sick.part, why=f"{sick.why}; {_holding(queue, sick.part)}")
    for claim in queue.claims:
        if claim.age_s > limits.claim_s:
            beats = claim.owner in seen.beats
            why = "beats, but does not renew its claims" if beats else "has no pulse, nobody took its claims over"
            return Culprit(part=claim.owner, why=f"{why} ({seconds(claim.age_s)}); {_holding(queue, claim.owner)}")
    return None


def _holding(queue: Queue, owner: str) -> str:
    held = [claim.group for claim in queue.claims if claim.owner == owner]
    return f"it holds {groups(len(held))} of {queue.stream}, the oldest is group {held[0]}"


def _credit(seen: Seen, limits: Limits) -> Culprit | None:
    """There is credit and nothing on its way: the driver issues nothing, unless it waits for a judgement itself."""
    on_its_way = any(queue.waiting + queue.pending for queue in seen.queues if queue.stream != EXPERIENCE)
    if on_its_way or len(seen.outstanding) >= limits.credit:
        return None
    workers = [*seen.parts(ROLLOUT), *seen.parts(REWARD)]
    if sick := _sick(workers, limits):
        return sick
    if judging := [beat for beat in workers if beat.doing == JUDGING]:
        return Culprit(part=judging[0].name, why="is at an evaluation", working=True)
    return Culprit(part=DRIVER, why=f"issues no prompt: {len(seen.outstanding)} of {groups(limits.credit)} outstanding")


def _others(seen: Seen, limits: Limits) -> Culprit | None:
    """Whom nobody waits for at this moment, such as the meta-RM learner."""
    return _sick([beat for name, beat in seen.beats.items() if name != DRIVER], limits)


def _sick(parts: Iterable[Beat], limits: Limits) -> Culprit | None:
    """Who has been silent for longest, else who has been stuck for longest: it may be waiting for a silent one."""
    parts = list(parts)
    if silent := [beat for beat in parts if beat.age_s > limits.pulse_s]:
        worst = max(silent, key=lambda beat: beat.age_s)
        return Culprit(part=worst.name, why=_silence(worst))
    if stuck := [beat for beat in parts if beat.stuck_s > limits.stuck_s]:
        worst = max(stuck, key=lambda beat: beat.stuck_s)
        return Culprit(part=worst.name, why=f"hangs: {worst.doing}, for {seconds(worst.stuck_s)} without progress")
    return None


def _silence(beat: Beat) -> str:
    return f"has not beaten for {seconds(beat.age_s)} (last at: {beat.doing}): killed, stopped or cut off"


def _unclaimed(queue: Queue) -> str:
    waits = "waits" if queue.waiting == 1 else "wait"
    return f"{groups(queue.waiting)} of {queue.stream} {waits} unclaimed, the oldest for {seconds(queue.oldest_s)}"
