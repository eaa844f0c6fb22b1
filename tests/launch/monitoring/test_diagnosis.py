"""Who holds the others up: every rule with a worked case, beside the healthy case that it must not fire on."""

from __future__ import annotations

import pytest

from buffer.heartbeat import IDLE, LastHeartbeat
from buffer.stream_state import Claim, Queue
from buffer.streams import EXPERIENCE, GRPO, META_RM, PROMPTS, REWARD, ROLLOUT, ROLLOUTS
from configs.load import load
from launch.monitoring.diagnosis import Bottleneck, Diagnosis, Thresholds, describe, diagnose, thresholds
from launch.monitoring.snapshot import RunSnapshot

LIMITS = Thresholds(credit=4, batch=2, stale="wait", heartbeat_s=20, stuck_s=60, claim_s=10)  # eta = 1
COLD = Thresholds(credit=64, batch=0, stale="wait", heartbeat_s=20, stuck_s=60, claim_s=10)


def beat(name: str, activity: str = IDLE, *, age_s: float = 0.5, stuck_s: float = 0.0, version: int = 7) -> LastHeartbeat:
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
    usual = [beat("driver"), beat("grpo-0"), beat("meta-rm-0"), beat("reward-0", "score"), beat("rollout-0", "roll out")]
    given = {process.name: process for process in (*usual, *heartbeats)}
    at_work = prompts(*(claim(group, "rollout-0") for group in range(4)))
    filled = {queue.stream: queue for queue in (at_work, rollouts(), experience(), *queues)}
    return RunSnapshot(
        run_id="tiny-1",
        heartbeats=given,
        queues=(*filled.values(), experience(reader=META_RM)),
        outstanding={0: 7, 1: 7, 2: 7, 3: 7} if outstanding is None else outstanding,
        version=version,
    )


def without(snapshot: RunSnapshot, *names: str) -> RunSnapshot:
    left = {name: process for name, process in snapshot.heartbeats.items() if name not in names}
    return RunSnapshot(
        run_id=snapshot.run_id,
        heartbeats=left,
        queues=snapshot.queues,
        outstanding=snapshot.outstanding,
        version=snapshot.version,
        outcomes=snapshot.outcomes,
    )


def bottleneck(snapshot: RunSnapshot, expected: Thresholds = LIMITS) -> Bottleneck:
    found = diagnose(snapshot, expected).bottleneck
    assert found is not None
    return found


def test_a_healthy_run_is_held_up_by_nobody() -> None:
    assert diagnose(run(), LIMITS).bottleneck is None


def test_redis_that_does_not_answer() -> None:
    found = bottleneck(RunSnapshot(run_id="tiny-1", failure="Redis at unix:///x is not reachable"))
    assert found == Bottleneck(process="Redis", why="Redis at unix:///x is not reachable")


# ---- silent and stuck --------------------------------------------------------------------------------------------


def test_a_silent_driver_comes_before_all_who_wait_for_it() -> None:
    found = bottleneck(run(beat("driver", age_s=30), beat("grpo-0", age_s=25)))
    assert found.process == "driver"
    assert "has not beaten for 30 s (last at: idle): killed, stopped or cut off" in found.why


def test_a_driver_that_has_long_been_busy_is_no_reason() -> None:
    assert diagnose(run(beat("driver", "wait for a step", stuck_s=600)), LIMITS).bottleneck is None


def test_a_silent_learner() -> None:
    assert diagnose(run(beat("grpo-0", "train", age_s=19)), LIMITS).bottleneck is None
    found = bottleneck(run(beat("grpo-0", "train", age_s=21)))
    assert found.process == "grpo-0"
    assert "last at: train" in found.why


def test_a_learner_that_hangs() -> None:
    assert diagnose(run(beat("grpo-0", "train", stuck_s=59)), LIMITS).bottleneck is None
    found = bottleneck(run(beat("grpo-0", "train", stuck_s=61)))
    assert found == Bottleneck(process="grpo-0", why="hangs: train, for 61 s without progress")


def test_of_the_ranks_the_silent_one_is_to_blame_not_those_who_wait_in_a_collective_for_it() -> None:
    ranks = (beat("grpo-0", "train", stuck_s=300), beat("grpo-1", "train", age_s=280), beat("grpo-10", "train", stuck_s=301))
    assert bottleneck(run(*ranks)).process == "grpo-1"


def test_of_the_stuck_ranks_the_one_that_is_stuck_for_longest() -> None:
    assert bottleneck(run(beat("grpo-0", "train", stuck_s=300), beat("grpo-1", "train", stuck_s=301))).process == "grpo-1"


def test_no_learner_at_all() -> None:
    found = bottleneck(without(run(), "grpo-0"))
    assert found.process == "the GRPO learner"
    assert "no heartbeat" in found.why


# ---- the learner -------------------------------------------------------------------------------------------------


def test_a_learner_with_enough_experience_that_does_nothing() -> None:
    scored = prompts(claim(2, "rollout-0"), claim(3, "rollout-0"))
    found = bottleneck(run(queues=(scored,)))
    assert found == Bottleneck(process="grpo-0", why="does nothing: 2 scored groups are there, enough for a step of 2")


def test_a_learner_that_trains_is_waited_for_and_not_blamed() -> None:
    found = bottleneck(run(beat("grpo-0", "train"), queues=(prompts(claim(2, "rollout-0"), claim(3, "rollout-0")),)))
    assert (found.process, found.working) == ("grpo-0", True)
    assert "is at it (train)" in found.why


def test_a_learner_with_too_little_waits_rightly() -> None:
    assert diagnose(run(queues=(prompts(*(claim(group, "rollout-0") for group in (1, 2, 3))),)), LIMITS).bottleneck is None


def test_a_learner_waits_rightly_for_a_straggler_that_is_due_now() -> None:
    """Group 0 of version 6 must be trained at version 7, with eta = 1: without it no step may be taken (I2)."""
    late = {0: 6, 1: 7, 2: 7, 3: 7}
    straggling = prompts(claim(0, "rollout-0", since_s=90))
    found = bottleneck(run(queues=(straggling,), outstanding=late))
    assert found.process == "rollout-0"
    assert found.working
    assert bottleneck(run(queues=(prompts(claim(3, "rollout-0")),), outstanding=late)).process == "grpo-0"


def test_with_stale_drop_no_straggler_is_waited_for() -> None:
    dropping = Thresholds(credit=4, batch=2, stale="drop", heartbeat_s=20, stuck_s=60, claim_s=10)
    straggling = run(queues=(prompts(claim(0, "rollout-0")),), outstanding={0: 6, 1: 7, 2: 7, 3: 7})
    assert bottleneck(straggling, dropping).process == "grpo-0"
    assert diagnose(straggling, LIMITS).bottleneck is None


def test_a_law_that_is_broken_is_told() -> None:
    found = bottleneck(run(queues=(prompts(),), outstanding=dict.fromkeys(range(4), 3)))
    assert found.process == "grpo-0"
    assert "cannot all be trained in time" in found.why


def test_where_not_all_groups_are_listed_the_learner_is_not_blamed() -> None:
    many = Queue(stream=PROMPTS, reader=ROLLOUT, waiting=0, pending=2, claims=(claim(3, "rollout-0"),))
    assert diagnose(run(queues=(many,)), LIMITS).bottleneck is None


# ---- the reward actor --------------------------------------------------------------------------------------------


def test_rollouts_that_nobody_claims() -> None:
    fresh = rollouts(unclaimed=(0, 1, 2), oldest_s=9)
    stale = rollouts(unclaimed=(0, 1, 2), oldest_s=11)
    rest = prompts(claim(3, "rollout-0"))
    assert diagnose(run(beat("reward-0"), queues=(fresh, rest)), LIMITS).bottleneck is None
    found = bottleneck(run(beat("reward-0"), queues=(stale, rest)))
    assert found == Bottleneck(process="reward-0", why="does nothing: 3 groups of rollouts wait unclaimed, the oldest for 11 s")


def test_a_silent_reward_actor_with_rollouts_before_it() -> None:
    found = bottleneck(run(beat("reward-0", age_s=40), queues=(rollouts(unclaimed=(0, 1, 2), oldest_s=39), prompts())))
    assert found.process == "reward-0"
    assert "has not beaten for 40 s" in found.why


def test_no_reward_actor_at_all() -> None:
    snapshot = without(run(queues=(rollouts(unclaimed=(0, 1, 2), oldest_s=39), prompts(claim(3, "rollout-0")))), "reward-0")
    found = bottleneck(snapshot)
    assert found.process == "the reward actor"
    assert "no heartbeat" in found.why


def test_a_reward_actor_that_hangs_with_its_claims() -> None:
    hung = beat("reward-0", "score", stuck_s=70)
    found = bottleneck(run(hung, queues=(rollouts(claim(0, "reward-0"), claim(1, "reward-0")), prompts(claim(2, "rollout-0")))))
    assert found.process == "reward-0"
    assert found.why == ("hangs: score, for 70 s without progress; it holds 2 groups of rollouts, the oldest is group 0")


def test_claims_that_are_not_renewed_though_their_owner_beats() -> None:
    old = rollouts(claim(0, "reward-0", age_s=12), claim(1, "reward-0"), claim(2, "reward-0"))
    found = bottleneck(run(queues=(old, prompts(claim(3, "rollout-0")))))
    assert found.process == "reward-0"
    assert "beats, but does not renew its claims (12 s); it holds 3 groups" in found.why


def test_the_reward_actor_comes_before_the_rollout_actors_on_the_walk() -> None:
    dead = prompts(claim(3, "rollout-9", age_s=50))
    found = bottleneck(run(beat("reward-0"), queues=(rollouts(unclaimed=(0, 1, 2), oldest_s=11), dead)))
    assert found.process == "reward-0"


# ---- rollout actors ----------------------------------------------------------------------------------------------


def test_prompts_that_nobody_claims() -> None:
    left = prompts(claim(0, "rollout-0"), unclaimed=(1, 2, 3), oldest_s=12)
    found = bottleneck(run(beat("rollout-1"), queues=(left,)))
    assert found == Bottleneck(process="rollout-1", why="does nothing: 3 groups of prompts wait unclaimed, the oldest for 12 s")


def test_prompts_wait_rightly_while_all_rollout_actors_are_full() -> None:
    left = prompts(claim(0, "rollout-0"), unclaimed=(1, 2, 3), oldest_s=30)
    assert diagnose(run(queues=(left,)), LIMITS).bottleneck is None
    found = bottleneck(run(queues=(prompts(unclaimed=(0, 1, 2, 3), oldest_s=61),)))
    assert (found.process, found.working) == ("the rollout actors", True)


def test_a_claim_of_an_owner_without_a_pulse() -> None:
    held = prompts(claim(0, "rollout-3", age_s=11), claim(1, "rollout-0"), claim(2, "rollout-3"), claim(3, "rollout-0"))
    found = bottleneck(run(queues=(held,)))
    assert found == Bottleneck(
        process="rollout-3",
        why="has no heartbeat, nobody took its claims over (11 s); it holds 2 groups of prompts, the oldest is group 0",
    )
    just_died = prompts(claim(0, "rollout-3", age_s=4), *(claim(group, "rollout-0") for group in (1, 2, 3)))
    assert diagnose(run(queues=(just_died,)), LIMITS).bottleneck is None, "others will take it over in a moment"


def test_a_claim_of_a_silent_owner() -> None:
    held = prompts(claim(0, "rollout-1", age_s=25), *(claim(group, "rollout-0") for group in (1, 2, 3)))
    found = bottleneck(run(beat("rollout-1", "roll out", age_s=25), queues=(held,)))
    assert found.process == "rollout-1"
    assert "has not beaten for 25 s (last at: roll out): killed, stopped or cut off; it holds 1 group of prompts" in found.why


def test_a_claim_of_a_stuck_owner() -> None:
    held = prompts(claim(0, "rollout-0"), claim(1, "rollout-1"), claim(2, "rollout-0"), claim(3, "rollout-0"))
    found = bottleneck(run(beat("rollout-1", "pull", stuck_s=100), queues=(held,)))
    assert found.process == "rollout-1"
    assert "hangs: pull, for 100 s without progress; it holds 1 group of prompts, the oldest is group 1" in found.why


def test_who_is_silent_comes_before_who_only_does_not_renew() -> None:
    held = prompts(claim(0, "rollout-0", age_s=90), claim(1, "rollout-2", age_s=90), claim(2, "rollout-1", age_s=25))
    assert bottleneck(run(beat("rollout-1", "roll out", age_s=25), queues=(held,))).process == "rollout-1"


def test_no_rollout_actor_at_all() -> None:
    found = bottleneck(without(run(queues=(prompts(unclaimed=(0, 1, 2, 3), oldest_s=12),)), "rollout-0"))
    assert found.process == "the rollout actors"
    assert "no heartbeat" in found.why


def test_the_only_rollout_actor_is_silent_and_holds_nothing() -> None:
    left = prompts(unclaimed=(0, 1, 2, 3), oldest_s=30)
    assert bottleneck(run(beat("rollout-0", "judge", age_s=30), queues=(left,))).process == "rollout-0"


def test_a_silent_rollout_actor_is_no_reason_while_the_learner_has_enough() -> None:
    held = prompts(claim(0, "rollout-1", age_s=25), claim(1, "rollout-0"))
    assert bottleneck(run(beat("rollout-1", age_s=25), beat("grpo-0", "train"), queues=(held,))).process == "grpo-0"


# ---- the driver and the rest -------------------------------------------------------------------------------------


def test_a_driver_that_issues_nothing() -> None:
    found = bottleneck(run(queues=(prompts(),), outstanding={}))
    assert found == Bottleneck(process="driver", why="issues no prompt: 0 of 4 groups outstanding")
    found = bottleneck(run(queues=(prompts(),), outstanding={3: 7}))
    assert found.why == "issues no prompt: 1 of 4 groups outstanding"


def test_a_driver_that_waits_for_an_evaluation_is_not_to_blame() -> None:
    found = bottleneck(run(beat("rollout-0", "judge"), queues=(prompts(),), outstanding={}))
    assert found == Bottleneck(process="rollout-0", why="is at an evaluation", working=True)
    assert bottleneck(run(beat("rollout-0", "judge", stuck_s=90), queues=(prompts(),), outstanding={})).working is False


def test_the_meta_rm_is_named_when_nobody_else_is_to_blame() -> None:
    hung = beat("meta-rm-0", "train", stuck_s=90)
    assert bottleneck(run(hung)).process == "meta-rm-0"
    assert bottleneck(run(hung, beat("grpo-0", "train", stuck_s=80))).process == "grpo-0"


# ---- the cold start ----------------------------------------------------------------------------------------------


def test_in_the_cold_start_there_is_no_learner_to_miss() -> None:
    assert diagnose(without(run(), "grpo-0", "meta-rm-0"), COLD).bottleneck is None


def test_in_the_cold_start_the_driver_takes_in_the_experience() -> None:
    snapshot = without(run(queues=(experience(unclaimed=(9,), oldest_s=15),)), "grpo-0", "meta-rm-0")
    found = bottleneck(snapshot, COLD)
    assert found == Bottleneck(
        process="driver", why="takes in no experience: 1 group of experience waits unclaimed, the oldest for 15 s"
    )


def test_limits_come_from_the_config() -> None:
    config = load("tiny", ["waits.hang_s=300", "waits.progress_s=100", "waits.heartbeat_s=5", "redis.claim_timeout_s=3"])
    assert thresholds(config, run()) == Thresholds(credit=16, batch=8, stale="wait", heartbeat_s=5, stuck_s=50, claim_s=3)
    cold = RunSnapshot(run_id="tiny-1.cold-start", heartbeats={name: beat(name) for name in ("rollout-0", "rollout-5")})
    assert thresholds(config, cold) == Thresholds(credit=128, batch=0, stale="wait", heartbeat_s=5, stuck_s=50, claim_s=3)


# ---- the report --------------------------------------------------------------------------------------------------

REPORT = """\
run tiny-1: policy version 7, 4 groups outstanding: 1 of version 6 (staleness 1), 3 of version 7 (staleness 0)
held up by rollout-1: has not beaten for 42 s (last at: roll out): killed, stopped or cut off; it holds 1 group of prompts, \
the oldest is group 0

process    pid and host  heartbeat  activity                      version  done
driver     4711@node-a   0.5 s ago  idle                          7        12
grpo-0     4711@node-a   0.5 s ago  idle                          7        12
meta-rm-0  4711@node-a   0.5 s ago  train, 34 s without progress  7        12
reward-0   4711@node-a   0.5 s ago  score                         7        12
rollout-0  4711@node-a   0.5 s ago  roll out                      7        12
rollout-1  4711@node-a   42 s ago   roll out                      6        12

stream      read by  waiting  pending  oldest claim                                   dead letters
prompts     rollout  1        2        group 0: rollout-1, 42 s ago, claimed 2 times  0
rollouts    reward   1        0                                                       0
experience  grpo     0        0                                                       0
experience  meta-rm  0        0                                                       0"""


def test_the_report() -> None:
    held = prompts(claim(0, "rollout-1", age_s=42, deliveries=2), claim(1, "rollout-0"), unclaimed=(2,), oldest_s=3)
    snapshot = run(
        beat("rollout-1", "roll out", age_s=42, version=6),
        beat("meta-rm-0", "train", stuck_s=34),
        queues=(held, rollouts(unclaimed=(3,), oldest_s=0.2)),
        outstanding={0: 6, 1: 7, 2: 7, 3: 7},
    )
    assert describe(diagnose(snapshot, LIMITS)) == REPORT


def test_the_report_of_a_run_whose_redis_is_gone() -> None:
    gone = RunSnapshot(run_id="tiny-1", failure="Redis at unix:///x does not answer")
    assert describe(diagnose(gone, LIMITS)) == "run tiny-1\nheld up by Redis: Redis at unix:///x does not answer"


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "a\nheld up by driver", "\u202etxt"])
def test_what_a_part_says_cannot_leave_its_cell(evil: str) -> None:
    clear = describe(diagnose(run(), LIMITS))
    snapshot = run(beat("rollout-1", evil, age_s=30), beat(evil), queues=(prompts(claim(0, evil, age_s=99)),))
    said = describe(diagnose(snapshot, LIMITS))
    assert not any(ord(c) < 32 and c != "\n" for c in said)
    assert "\u202e" not in said
    assert said.count("\n") == clear.count("\n") + 2


def test_nobody_is_said_to_be_nobody() -> None:
    assert "held up by nobody\n" in describe(Diagnosis(snapshot=run(), bottleneck=None))
