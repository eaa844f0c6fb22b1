"""The bottleneck of a run: every rule with a worked case, beside the healthy case that it must not fire on."""

from buffer.stream_state import Queue
from buffer.streams import PROMPTS, ROLLOUT
from configs.load import load
from launch.monitoring.diagnosis import Bottleneck, Thresholds, diagnose, thresholds
from launch.monitoring.snapshot import RunSnapshot
from tests.launch.monitoring.hand_made_run import (
    COLD_START,
    TRAINING,
    claim,
    experience,
    heartbeat,
    prompts,
    rollouts,
    run,
    without,
)


def bottleneck(snapshot: RunSnapshot, limits: Thresholds = TRAINING) -> Bottleneck:
    result = diagnose(snapshot, limits).bottleneck
    assert result is not None
    return result


def test_a_healthy_run_has_no_bottleneck() -> None:
    assert diagnose(run(), TRAINING).bottleneck is None


def test_redis_that_does_not_answer() -> None:
    result = bottleneck(RunSnapshot(run_id="tiny-1", failure="Redis at unix:///x is not reachable"))
    assert result == Bottleneck(process="Redis", reason="Redis at unix:///x is not reachable")


# ---- silent and stuck --------------------------------------------------------------------------------------------


def test_a_silent_driver_comes_before_the_processes_that_wait_for_it() -> None:
    result = bottleneck(run(heartbeat("driver", age_s=30), heartbeat("grpo-0", age_s=25)))
    assert result.process == "driver"
    assert "silent for 30 s (last activity: idle): killed, stopped or disconnected" in result.reason


def test_a_driver_that_has_long_been_busy_is_no_bottleneck() -> None:
    assert diagnose(run(heartbeat("driver", "wait for a step", stuck_s=600)), TRAINING).bottleneck is None


def test_a_silent_learner() -> None:
    assert diagnose(run(heartbeat("grpo-0", "train", age_s=19)), TRAINING).bottleneck is None
    result = bottleneck(run(heartbeat("grpo-0", "train", age_s=21)))
    assert result.process == "grpo-0"
    assert "last activity: train" in result.reason


def test_a_learner_that_hangs() -> None:
    assert diagnose(run(heartbeat("grpo-0", "train", stuck_s=59)), TRAINING).bottleneck is None
    result = bottleneck(run(heartbeat("grpo-0", "train", stuck_s=61)))
    assert result == Bottleneck(process="grpo-0", reason="stuck: no progress for 61 s (activity: train)")


def test_of_the_ranks_the_silent_one_is_named_not_those_that_wait_for_it_in_a_collective() -> None:
    ranks = (
        heartbeat("grpo-0", "train", stuck_s=300),
        heartbeat("grpo-1", "train", age_s=280),
        heartbeat("grpo-10", "train", stuck_s=301),
    )
    assert bottleneck(run(*ranks)).process == "grpo-1"


def test_of_the_stuck_ranks_the_one_that_is_stuck_for_longest() -> None:
    assert (
        bottleneck(run(heartbeat("grpo-0", "train", stuck_s=300), heartbeat("grpo-1", "train", stuck_s=301))).process
        == "grpo-1"
    )


def test_no_learner_at_all() -> None:
    result = bottleneck(without(run(), "grpo-0"))
    assert result.process == "the GRPO learner"
    assert "no heartbeat" in result.reason


# ---- the learner -------------------------------------------------------------------------------------------------


def test_an_idle_learner_with_enough_experience() -> None:
    scored = prompts(claim(2, "rollout-0"), claim(3, "rollout-0"))
    result = bottleneck(run(queues=(scored,)))
    assert result == Bottleneck(process="grpo-0", reason="idle: 2 scored groups are ready, enough for a step of 2")


def test_a_learner_that_trains_is_busy() -> None:
    result = bottleneck(run(heartbeat("grpo-0", "train"), queues=(prompts(claim(2, "rollout-0"), claim(3, "rollout-0")),)))
    assert (result.process, result.busy) == ("grpo-0", True)
    assert "busy (train)" in result.reason


def test_a_learner_with_too_little_experience_is_right_to_wait() -> None:
    assert diagnose(run(queues=(prompts(*(claim(group, "rollout-0") for group in (1, 2, 3))),)), TRAINING).bottleneck is None


def test_a_learner_is_right_to_wait_for_a_straggler_that_is_due_now() -> None:
    """Group 0 of version 6 must be trained at version 7, with eta = 1: without it no step may be taken (I2)."""
    late = {0: 6, 1: 7, 2: 7, 3: 7}
    straggling = prompts(claim(0, "rollout-0", since_s=90))
    result = bottleneck(run(queues=(straggling,), outstanding=late))
    assert result.process == "rollout-0"
    assert result.busy
    assert bottleneck(run(queues=(prompts(claim(3, "rollout-0")),), outstanding=late)).process == "grpo-0"


def test_with_stale_drop_the_learner_waits_for_no_straggler() -> None:
    dropping = Thresholds(credit=4, batch=2, stale="drop", heartbeat_s=20, stuck_s=60, claim_s=10)
    straggling = run(queues=(prompts(claim(0, "rollout-0")),), outstanding={0: 6, 1: 7, 2: 7, 3: 7})
    assert bottleneck(straggling, dropping).process == "grpo-0"
    assert diagnose(straggling, TRAINING).bottleneck is None


def test_a_broken_staleness_bound_is_named() -> None:
    result = bottleneck(run(queues=(prompts(),), outstanding=dict.fromkeys(range(4), 3)))
    assert result.process == "grpo-0"
    assert "cannot all be trained in time" in result.reason


def test_where_not_all_groups_are_listed_the_learner_is_not_named() -> None:
    many = Queue(stream=PROMPTS, reader=ROLLOUT, waiting=0, pending=2, claims=(claim(3, "rollout-0"),))
    assert diagnose(run(queues=(many,)), TRAINING).bottleneck is None


# ---- the reward actor --------------------------------------------------------------------------------------------


def test_rollouts_that_stay_unclaimed() -> None:
    fresh = rollouts(unclaimed=(0, 1, 2), oldest_s=9)
    stale = rollouts(unclaimed=(0, 1, 2), oldest_s=11)
    rest = prompts(claim(3, "rollout-0"))
    assert diagnose(run(heartbeat("reward-0"), queues=(fresh, rest)), TRAINING).bottleneck is None
    result = bottleneck(run(heartbeat("reward-0"), queues=(stale, rest)))
    assert result == Bottleneck(process="reward-0", reason="idle: 3 groups unclaimed in rollouts, the oldest for 11 s")


def test_a_silent_reward_actor_with_rollouts_before_it() -> None:
    result = bottleneck(run(heartbeat("reward-0", age_s=40), queues=(rollouts(unclaimed=(0, 1, 2), oldest_s=39), prompts())))
    assert result.process == "reward-0"
    assert "silent for 40 s" in result.reason


def test_no_reward_actor_at_all() -> None:
    snapshot = without(run(queues=(rollouts(unclaimed=(0, 1, 2), oldest_s=39), prompts(claim(3, "rollout-0")))), "reward-0")
    result = bottleneck(snapshot)
    assert result.process == "the reward actor"
    assert "no heartbeat" in result.reason


def test_a_stuck_reward_actor_with_claims() -> None:
    stuck = heartbeat("reward-0", "score", stuck_s=70)
    result = bottleneck(
        run(stuck, queues=(rollouts(claim(0, "reward-0"), claim(1, "reward-0")), prompts(claim(2, "rollout-0"))))
    )
    assert result.process == "reward-0"
    assert result.reason == (
        "stuck: no progress for 70 s (activity: score); it holds 2 groups of rollouts, the oldest is group 0"
    )


def test_claims_that_are_not_renewed_though_their_owner_sends_heartbeats() -> None:
    old = rollouts(claim(0, "reward-0", age_s=12), claim(1, "reward-0"), claim(2, "reward-0"))
    result = bottleneck(run(queues=(old, prompts(claim(3, "rollout-0")))))
    assert result.process == "reward-0"
    assert "sends heartbeats, but does not renew its claims (for 12 s); it holds 3 groups" in result.reason


def test_the_reward_actor_comes_before_the_rollout_actors_on_the_walk() -> None:
    dead = prompts(claim(3, "rollout-9", age_s=50))
    result = bottleneck(run(heartbeat("reward-0"), queues=(rollouts(unclaimed=(0, 1, 2), oldest_s=11), dead)))
    assert result.process == "reward-0"


# ---- rollout actors ----------------------------------------------------------------------------------------------


def test_prompts_that_stay_unclaimed() -> None:
    left = prompts(claim(0, "rollout-0"), unclaimed=(1, 2, 3), oldest_s=12)
    result = bottleneck(run(heartbeat("rollout-1"), queues=(left,)))
    assert result == Bottleneck(process="rollout-1", reason="idle: 3 groups unclaimed in prompts, the oldest for 12 s")


def test_prompts_may_wait_while_all_rollout_actors_are_full() -> None:
    left = prompts(claim(0, "rollout-0"), unclaimed=(1, 2, 3), oldest_s=30)
    assert diagnose(run(queues=(left,)), TRAINING).bottleneck is None
    result = bottleneck(run(queues=(prompts(unclaimed=(0, 1, 2, 3), oldest_s=61),)))
    assert (result.process, result.busy) == ("the rollout actors", True)


def test_a_claim_of_an_owner_without_a_heartbeat() -> None:
    held = prompts(claim(0, "rollout-3", age_s=11), claim(1, "rollout-0"), claim(2, "rollout-3"), claim(3, "rollout-0"))
    result = bottleneck(run(queues=(held,)))
    assert result == Bottleneck(
        process="rollout-3",
        reason="no heartbeat, and its claims are orphaned (for 11 s); it holds 2 groups of prompts, the oldest is group 0",
    )
    just_died = prompts(claim(0, "rollout-3", age_s=4), *(claim(group, "rollout-0") for group in (1, 2, 3)))
    assert diagnose(run(queues=(just_died,)), TRAINING).bottleneck is None, "another process takes it over in a moment"


def test_a_claim_of_a_silent_owner() -> None:
    held = prompts(claim(0, "rollout-1", age_s=25), *(claim(group, "rollout-0") for group in (1, 2, 3)))
    result = bottleneck(run(heartbeat("rollout-1", "roll out", age_s=25), queues=(held,)))
    assert result.process == "rollout-1"
    assert (
        "silent for 25 s (last activity: roll out): killed, stopped or disconnected; it holds 1 group of prompts"
        in result.reason
    )


def test_a_claim_of_a_stuck_owner() -> None:
    held = prompts(claim(0, "rollout-0"), claim(1, "rollout-1"), claim(2, "rollout-0"), claim(3, "rollout-0"))
    result = bottleneck(run(heartbeat("rollout-1", "pull", stuck_s=100), queues=(held,)))
    assert result.process == "rollout-1"
    assert "stuck: no progress for 100 s (activity: pull); it holds 1 group of prompts, the oldest is group 1" in result.reason


def test_a_silent_owner_comes_before_one_that_only_does_not_renew() -> None:
    held = prompts(claim(0, "rollout-0", age_s=90), claim(1, "rollout-2", age_s=90), claim(2, "rollout-1", age_s=25))
    assert bottleneck(run(heartbeat("rollout-1", "roll out", age_s=25), queues=(held,))).process == "rollout-1"


def test_no_rollout_actor_at_all() -> None:
    result = bottleneck(without(run(queues=(prompts(unclaimed=(0, 1, 2, 3), oldest_s=12),)), "rollout-0"))
    assert result.process == "the rollout actors"
    assert "no heartbeat" in result.reason


def test_the_only_rollout_actor_is_silent_and_holds_nothing() -> None:
    left = prompts(unclaimed=(0, 1, 2, 3), oldest_s=30)
    assert bottleneck(run(heartbeat("rollout-0", "judge", age_s=30), queues=(left,))).process == "rollout-0"


def test_a_silent_rollout_actor_is_no_bottleneck_while_the_learner_has_enough() -> None:
    held = prompts(claim(0, "rollout-1", age_s=25), claim(1, "rollout-0"))
    assert bottleneck(run(heartbeat("rollout-1", age_s=25), heartbeat("grpo-0", "train"), queues=(held,))).process == "grpo-0"


# ---- the driver and the rest -------------------------------------------------------------------------------------


def test_a_driver_that_issues_nothing() -> None:
    result = bottleneck(run(queues=(prompts(),), outstanding={}))
    assert result == Bottleneck(process="driver", reason="issues no prompts: 0 of 4 groups outstanding")
    result = bottleneck(run(queues=(prompts(),), outstanding={3: 7}))
    assert result.reason == "issues no prompts: 1 of 4 groups outstanding"


def test_a_driver_that_waits_for_an_evaluation_is_not_named() -> None:
    result = bottleneck(run(heartbeat("rollout-0", "judge"), queues=(prompts(),), outstanding={}))
    assert result == Bottleneck(process="rollout-0", reason="busy (evaluation)", busy=True)
    assert bottleneck(run(heartbeat("rollout-0", "judge", stuck_s=90), queues=(prompts(),), outstanding={})).busy is False


def test_the_meta_rm_is_named_when_nothing_else_holds_the_run_up() -> None:
    stuck = heartbeat("meta-rm-0", "train", stuck_s=90)
    assert bottleneck(run(stuck)).process == "meta-rm-0"
    assert bottleneck(run(stuck, heartbeat("grpo-0", "train", stuck_s=80))).process == "grpo-0"


# ---- the cold start ----------------------------------------------------------------------------------------------


def test_in_the_cold_start_no_learner_is_missing() -> None:
    assert diagnose(without(run(), "grpo-0", "meta-rm-0"), COLD_START).bottleneck is None


def test_in_the_cold_start_the_driver_consumes_the_experience() -> None:
    snapshot = without(run(queues=(experience(unclaimed=(9,), oldest_s=15),)), "grpo-0", "meta-rm-0")
    result = bottleneck(snapshot, COLD_START)
    assert result == Bottleneck(
        process="driver", reason="consumes no experience: 1 group unclaimed in experience, the oldest for 15 s"
    )


def test_limits_come_from_the_config() -> None:
    config = load("tiny", ["waits.hang_s=300", "waits.progress_s=100", "waits.heartbeat_s=5", "redis.claim_timeout_s=3"])
    assert thresholds(config, run()) == Thresholds(credit=16, batch=8, stale="wait", heartbeat_s=5, stuck_s=50, claim_s=3)
    cold = RunSnapshot(run_id="tiny-1.cold-start", heartbeats={name: heartbeat(name) for name in ("rollout-0", "rollout-5")})
    assert thresholds(config, cold) == Thresholds(credit=128, batch=0, stale="wait", heartbeat_s=5, stuck_s=50, claim_s=3)
