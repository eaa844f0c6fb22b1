"""The report of a diagnosis, as a person reads it."""

from dataclasses import replace

import pytest

from launch.monitoring.diagnosis import Diagnosis, describe, diagnose
from launch.monitoring.snapshot import RunSnapshot
from tests.launch.monitoring.hand_made_run import TRAINING, claim, heartbeat, prompts, rollouts, run

REPORT = """\
run tiny-1: policy version 7, 4 groups outstanding: 1 of version 6 (staleness 1), 3 of version 7 (staleness 0)
held up by rollout-1: silent for 42 s (last activity: roll out): killed, stopped or disconnected; it holds 1 group of prompts, \
the oldest is group 0

process    pid and host  heartbeat  activity                      version  done
driver     4711@node-a   0.5 s ago  idle                          7        12
grpo-0     4711@node-a   0.5 s ago  idle                          7        12
meta-rm-0  4711@node-a   0.5 s ago  train, 34 s without progress  7        12
reward-0   4711@node-a   0.5 s ago  score                         7        12
rollout-0  4711@node-a   0.5 s ago  roll out                      7        12
rollout-1  4711@node-a   42 s ago   roll out                      6        12

stream      read by  waiting  pending  oldest claim                                   dead
prompts     rollout  1        2        group 0: rollout-1, 42 s ago, claimed 2 times  0
rollouts    reward   1        0                                                       0
experience  grpo     0        0                                                       0
experience  meta-rm  0        0                                                       0"""


def test_the_report() -> None:
    held = prompts(claim(0, "rollout-1", age_s=42, deliveries=2), claim(1, "rollout-0"), unclaimed=(2,), oldest_s=3)
    snapshot = run(
        heartbeat("rollout-1", "roll out", age_s=42, version=6),
        heartbeat("meta-rm-0", "train", stuck_s=34),
        queues=(held, rollouts(unclaimed=(3,), oldest_s=0.2)),
        outstanding={0: 6, 1: 7, 2: 7, 3: 7},
    )
    assert describe(diagnose(snapshot, TRAINING)) == REPORT


def test_the_report_says_when_other_workers_than_those_there_were_asked_for() -> None:
    there = len(run().processes("rollout"))
    line = f"rollout workers: {there} there, {there + 1} asked for"
    assert line in describe(diagnose(replace(run(), rollout_target=there + 1), TRAINING)).splitlines()
    for target in (there, None):
        assert "asked for" not in describe(diagnose(replace(run(), rollout_target=target), TRAINING))


def test_the_report_quotes_the_reasons_of_dead_letters() -> None:
    snapshot = replace(run(), dead_reasons=["group 8: too\x1b[2J long", "group 7: too\x1b[2J long", "not readable"])
    last = describe(diagnose(snapshot, TRAINING)).splitlines()[-1]
    assert last.startswith("newest dead letters: 2 x group 8: too")
    assert last.endswith("; 1 x not readable")
    assert "\x1b" not in last


def test_the_report_of_a_run_whose_redis_is_gone() -> None:
    gone = RunSnapshot(run_id="tiny-1", failure="Redis at unix:///x does not answer")
    assert describe(diagnose(gone, TRAINING)) == "run tiny-1\nheld up by Redis: Redis at unix:///x does not answer"


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "a\nheld up by driver", "\u202etxt"])
def test_what_a_heartbeat_holds_cannot_leave_its_cell(evil: str) -> None:
    clear = describe(diagnose(run(), TRAINING))
    snapshot = run(heartbeat("rollout-1", evil, age_s=30), heartbeat(evil), queues=(prompts(claim(0, evil, age_s=99)),))
    report = describe(diagnose(snapshot, TRAINING))
    assert not any(ord(c) < 32 and c != "\n" for c in report)
    assert "\u202e" not in report
    assert report.count("\n") == clear.count("\n") + 2


def test_the_report_of_a_run_without_a_bottleneck() -> None:
    assert "\nno bottleneck found\n" in describe(Diagnosis(snapshot=run(), bottleneck=None))
