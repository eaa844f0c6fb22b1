"""Which ready groups to train on, release or wait for: the learner's side of I2 (pure, standard library).

B = groups per optimiser step, eta = bound on staleness, v = the learner's version, u = a group's issue version. A
group must be trained at a version of at most u + eta, its deadline. One step is taken per version, so of the groups
that are still outstanding after the step from version v, those with a deadline of at most d must fit into the steps
taken at the versions v + 1 .. d:

    for every d >= v:   #{left, u + eta <= d} <= (d - v) * B                                            (I2)

(d = v is part of the law: it leaves no slot, so a group that is due now is never left behind.) The driver keeps at
most (eta + 1) * B groups outstanding, each issued at the version of its time, which makes the law satisfiable at
every version: waiting always ends as soon as the stragglers that it waits for are ready or released.

Example with B = 2, eta = 1, v = 1. Outstanding: groups 0 and 1, issued at u = 0, so due at version 1; groups 2 and 3,
issued at u = 1, so due at version 2. Ready: 0, 2, 3.

    train (0, 2)?   leaves 1 and 3.   d = 1: one group is due (1), (1 - 1) * 2 = 0 slots   -> 1 > 0, wait for group 1
    1 arrives: train (0, 1).   leaves 2 and 3.   d = 1: 0 <= 0;   d = 2: 2 groups <= (2 - 1) * 2 slots   -> train
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass


class StalenessError(RuntimeError):
    """More groups are due than can be trained in time, so the bound on staleness cannot hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyGroup:
    """A scored group that waits for the learner."""

    group: int
    """Its number."""
    issued_at: int
    """Policy version u at its issue."""
    trainable: bool
    """Whether it may be trained on: its rewards differ (std r > 0), or `grpo.filter` is false."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What becomes of the ready groups now, as group numbers; those in none of the three stay ready."""

    train: tuple[int, ...] = ()
    """B groups in the order (u, group), never in order of arrival; empty: wait."""
    filtered: tuple[int, ...] = ()
    """Released because they carry no policy gradient."""
    dropped: tuple[int, ...] = ()
    """Released because they are over the bound (`stale: drop` only)."""


Selector = Callable[[Sequence[ReadyGroup], Mapping[int, int], int, int, int], Choice]
"""Returns the choice for (ready, outstanding, version, batch, bound), see `select_or_wait`."""


def select_or_wait(ready: Sequence[ReadyGroup], outstanding: Mapping[int, int], version: int, batch: int, bound: int) -> Choice:
    """Choose for `stale: wait`: no group is dropped, and trained staleness is v - u <= eta always.

    Groups that are not trainable are released at once if they are not yet due. Those that are due now are released only
    when *all* groups due now are ready: at eta = 0 this is the synchronous loop that refills in rounds (sample B, drop
    the uninformative, sample as many again, ...), whatever order the groups arrive in.

    The B oldest trainable groups are trained if what is then left satisfies the law (I2) above; otherwise the learner
    waits for the straggler that stands in the way.

    Args:
        ready: scored groups.
        outstanding: issue version u of *every* group that was issued and not yet trained, filtered, dropped or
            dead-lettered, the ready ones included.
        version: v.
        batch: B.
        bound: eta.

    Raises:
        StalenessError: more groups are due by some version than the steps up to it can train.
    """
    if not _in_time(outstanding.values(), version - 1, batch, bound):
        raise StalenessError(
            f"{len(outstanding)} groups are outstanding at version {version}, issued at {_stats(outstanding)}: with"
            f" grpo.batch_groups = {batch} and grpo.max_staleness = {bound} they cannot all be trained in time. The"
            f" driver must issue each group at the current version and keep at most {(bound + 1) * batch} outstanding"
        )
    due = {group for group, issued_at in outstanding.items() if issued_at + bound <= version}
    settled = due <= {item.group for item in ready}
    filtered = _ordered(item for item in ready if not item.trainable and (settled or item.group not in due))
    train = _ordered(item for item in ready if item.trainable)[:batch]
    gone = {*filtered, *train}
    left = [issued_at for group, issued_at in outstanding.items() if group not in gone]
    if len(train) < batch or not _in_time(left, version, batch, bound):
        return Choice(filtered=filtered)
    return Choice(train=train, filtered=filtered)


def select_or_drop(ready: Sequence[ReadyGroup], outstanding: Mapping[int, int], version: int, batch: int, bound: int) -> Choice:
    """Choose for `stale: drop`: never wait for a straggler; drop trainable groups with v - u > eta instead.

    Same arguments as `select_or_wait`. Faster when completion lengths vary a lot, at the price of a bias: what is dropped
    is what took long, so its lengths are reported beside the trained ones.
    """
    del outstanding
    trainable = [item for item in ready if item.trainable]
    fresh = _ordered(item for item in trainable if version - item.issued_at <= bound)
    return Choice(
        train=fresh[:batch] if len(fresh) >= batch else (),
        filtered=_ordered(item for item in ready if not item.trainable),
        dropped=_ordered(item for item in trainable if version - item.issued_at > bound),
    )


SELECTORS: dict[str, Selector] = {"wait": select_or_wait, "drop": select_or_drop}


def _in_time(issued: Iterable[int], version: int, batch: int, bound: int) -> bool:
    """Return whether (I2) holds: for every d >= version, #{u + eta <= d} <= (d - version) * B. Checked at each deadline."""
    deadlines = sorted(issued_at + bound for issued_at in issued)
    return all(count <= (deadline - version) * batch for count, deadline in enumerate(deadlines, start=1))


def _ordered(items: Iterable[ReadyGroup]) -> tuple[int, ...]:
    return tuple(item.group for item in sorted(items, key=lambda item: (item.issued_at, item.group)))


def _stats(outstanding: Mapping[int, int]) -> str:
    counts: dict[int, int] = {}
    for issued_at in sorted(outstanding.values()):
        counts[issued_at] = counts.get(issued_at, 0) + 1
    return ", ".join(f"version {issued_at}: {count}" for issued_at, count in counts.items())
