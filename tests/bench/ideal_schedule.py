"""The steps/s of a run in which only generation and training take time (a simulation): what a bound on staleness leaves.

Groups are issued, claimed, selected and trained by the rules of a run (`learner/selection.py`), in the order of their numbers,
on as many places as all engines have together.
"""

import heapq
from collections.abc import Callable

from learner.selection import ReadyGroup, select_or_wait


def ideal_rate(
    *,
    length_s: Callable[[int], float],
    trainable: Callable[[int], bool],
    places: int,
    batch: int,
    eta: int,
    train_s: float,
    steps: int,
    skipped: int,
) -> float:
    """Return steps/s from version `skipped` to version `steps`.

    Args:
        length_s: seconds that a group spends in its place, by its number.
        trainable: whether a group has a gradient, by its number.
        places: groups that are generated at a time.
        batch: groups of a step.
        eta: bound on staleness.
        train_s: seconds of a step.
        steps: to take.
        skipped: of them, at the start, which do not count.

    >>> each = dict(length_s=lambda group: 1.0, trainable=lambda group: True, places=4, batch=4, train_s=1.0)
    >>> ideal_rate(eta=0, steps=20, skipped=4, **each), ideal_rate(eta=1, steps=20, skipped=4, **each)
    (0.5, 1.0)
    """
    now, version, issued, began = 0.0, 0, 0, 0.0
    trained_at: float | None = None  # when the step under way ends
    outstanding, ready = dict[int, int](), dict[int, ReadyGroup]()
    line, running = list[int](), list[tuple[float, int]]()
    training: tuple[int, ...] = ()
    while version < steps:
        while len(outstanding) < (eta + 1) * batch:
            outstanding[issued] = version
            line.append(issued)
            issued += 1
        while line and len(running) < places:
            group = line.pop(0)
            heapq.heappush(running, (now + length_s(group), group))
        if trained_at is None:
            waiting = {group: at for group, at in outstanding.items() if group not in training}
            choice = select_or_wait(list(ready.values()), waiting, version, batch, eta)
            for group in choice.filtered:
                del outstanding[group], ready[group]
            if choice.train:
                training, trained_at = choice.train, now + train_s
                for group in training:
                    del ready[group]
            if choice.filtered or choice.train:
                continue
        if trained_at is not None and (not running or trained_at <= running[0][0]):
            now, trained_at, version = trained_at, None, version + 1
            for group in training:
                del outstanding[group]
            training = ()
            if version == skipped:
                began = now
        else:
            now, group = heapq.heappop(running)
            ready[group] = ReadyGroup(group=group, issued_at=outstanding[group], trainable=trainable(group))
    return (steps - skipped) / (now - began)
