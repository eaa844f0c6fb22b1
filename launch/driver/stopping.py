"""A run that is asked to stop saves first: what its learners have learnt since their last checkpoint is not learnt again.

a signal ─▶ slices under way end ─▶ checkpoints of all learners ─▶ KeyboardInterrupt         a second signal: at once
"""

import time
from collections.abc import Callable, Sequence

from launch.cluster.actor_group import State
from launch.cluster.failures import CallFailed, RunFailed
from launch.cluster.stage_actors import StageActors
from launch.cluster.supervision import SupervisedGroup, poll


def save(
    learners: Sequence[SupervisedGroup],
    others: Sequence[SupervisedGroup],
    *,
    actors: StageActors,
    limit_s: float,
    note: Callable[[str], None],
) -> bool:
    """Let the groups end the slices that they have, then the learners write checkpoints.

    Args:
        learners: The learners. One that is being made again has nothing beyond its checkpoint.
        others: Groups whose last reports are taken as well.
        actors: The stage.
        limit_s: For the slices, and again for the checkpoints.
        note: Gets a sentence at the beginning, and one when it does not come to that.

    Returns:
        Whether the checkpoints are whole on disk.
    """
    note("stopping: checkpoints are written first (another signal, as Ctrl-C, stops at once)")
    deadline = time.monotonic() + limit_s
    try:
        while busy := [group for group in (*learners, *others) if group.group.state is State.READY and group.pending]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{', '.join(group.name for group in busy)} did not end a slice in {limit_s:.0f} s")
            poll(busy)
        ready = [group for group in learners if group.group.state is State.READY]
        refs = [rank.save.remote() for group in ready for rank in group.group.actors]
        actors.answers(refs, limit_s=limit_s, what="the checkpoints (waits.progress_s)")
    except (CallFailed, RunFailed, TimeoutError) as error:
        note(f"no checkpoint was written: {error}; what was learnt since the last one is learnt again")
        return False
    return len(ready) == len(learners)
