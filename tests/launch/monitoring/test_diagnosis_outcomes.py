"""Groups of no use are named as what the learner waits for, while every process works."""

from dataclasses import replace

from launch.monitoring.diagnosis import Bottleneck, Thresholds, diagnose
from launch.monitoring.snapshot import RunSnapshot
from tests.launch.monitoring.hand_made_run import COLD_START, TRAINING, heartbeat, run


def bottleneck(snapshot: RunSnapshot, limits: Thresholds = TRAINING) -> Bottleneck:
    result = diagnose(snapshot, limits).bottleneck
    assert result is not None
    return result


def settled(**outcomes: int) -> RunSnapshot:
    return replace(run(), outcomes=outcomes, dead_reasons=("token 9 is too large", "token 8 is too large", "not readable"))


def test_dead_letters_are_named_with_their_reasons_while_all_processes_work() -> None:
    result = bottleneck(settled(issued=420, trained=8, dead_letter=412))
    assert (result.process, result.busy) == ("usable groups", True)
    assert result.reason == "412 of 420 groups became dead letters (2 x token 9 is too large; 1 x not readable)"
    assert diagnose(settled(trained=413, dead_letter=412), TRAINING).bottleneck is None
    assert diagnose(settled(dead_letter=5), TRAINING).bottleneck is None, "too few to tell"


def test_a_run_that_filters_all_of_its_groups_is_named() -> None:
    result = bottleneck(settled(issued=412, filtered=412))
    assert (result.process, result.busy) == ("informative groups", True)
    assert result.reason.startswith("412 of 412 groups were filtered")
    assert diagnose(settled(filtered=412, trained=2), TRAINING).bottleneck is None
    assert diagnose(settled(filtered=412), COLD_START).bottleneck is None, "there it means that nothing is kept, which is noted"


def test_a_silent_process_comes_before_the_groups_that_it_lost() -> None:
    snapshot = replace(run(heartbeat("rollout-0", "roll out", age_s=25)), outcomes={"dead_letter": 400})
    assert bottleneck(snapshot).process == "rollout-0"
